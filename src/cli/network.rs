//! `network-down` and `network-missing`: what the units of the initramfs ask of us about the network.

use super::command::Command;
use super::common::Common;
use crate::base::error::Error;

/// Takes down what was up for a key broker. Run by `cvm-unlock-network.service` only, before the root is
/// switched.
pub(super) fn down(common: &Common) -> Result<u8, Error> {
    common.only_in_initramfs(Command::NetworkDown)?;
    crate::network::tear_down(&common.root)?;
    log::info!("The network is down again");
    Ok(0)
}

/// Ends with 0 if the network is wanted and no key broker can be reached, with 1 if not. Run by
/// `cvm-unlock-network-manager.service` only, before each attempt.
pub(super) fn missing(common: &Common) -> Result<u8, Error> {
    common.only_in_initramfs(Command::NetworkMissing)?;
    let config = common.configuration()?;
    let endpoints = config.kbs.as_ref().map(|settings| settings.servers.endpoints()).unwrap_or_default();
    Ok(if crate::network::is_missing(&common.root, &endpoints)? { 0 } else { 1 })
}
