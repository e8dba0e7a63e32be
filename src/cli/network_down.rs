//! `network-down`: takes down what was up for a key broker. Run by `cvm-unlock-network.service` only, before the root is switched.

use super::Common;
use crate::error::Error;

pub(super) fn run(common: &Common) -> Result<u8, Error> {
    super::only_in_initramfs(common, "network-down")?;
    crate::network::tear_down(&common.root)?;
    log::info!("The network is down again");
    Ok(0)
}
