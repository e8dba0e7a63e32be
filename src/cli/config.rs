//! `config`: check, show or apply the configuration where an image is built.

use super::action::Action;
use super::common::Common;
use super::output::{print, print_json};
use crate::base::error::Error;
use crate::config::{Config, RootMount};

pub(super) fn run(common: &Common, action: Action) -> Result<u8, Error> {
    let config = common.configuration()?;
    match action {
        Action::Check => {
            if config.policy.require_authentic && config.trusts_nobody() {
                log::warn!(
                    "No volume will open: policy.require_authentic is set, and authentic names neither owner keys \
                     nor volume keys, and no key broker vouches for one"
                );
            }
            print("The configuration is valid\n")
        }
        Action::Show => print_json(&config),
        Action::MountUnit => print(&mount_unit(&config.root)),
        Action::Needs => print(needs(&config)),
    }
}

/// What the initramfs needs beside us.
const fn needs(config: &Config) -> &'static str {
    if config.kbs.is_some() { "network\n" } else { "" }
}

/// `sysroot.mount` for the mapped root volume.
fn mount_unit(root: &RootMount) -> String {
    format!(
        "# Written when this initramfs was built. Nothing found at boot changes what is mounted as root.\n\
         [Unit]\n\
         Description=Root file system on the unlocked volume\n\
         DefaultDependencies=no\n\
         Requires=cvm-unlock.service\n\
         After=cvm-unlock.service initrd-root-device.target\n\
         Before=initrd-root-fs.target umount.target\n\
         Conflicts=umount.target\n\
         OnFailure=cvm-unlock-fail.service\n\
         OnFailureJobMode=replace-irreversibly\n\
         \n\
         [Mount]\n\
         What=/dev/mapper/root\n\
         Where=/sysroot\n\
         Type={}\n\
         Options={}\n",
        root.fstype.as_str(),
        root.options.as_str()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_is_needed_for_key_brokers_only() {
        assert_eq!(needs(&Config::default()), "");
        let kbs =
            r#"{"kbs": {"servers": [{"url": "https://kbs.example", "spki": "SPKI"}], "resource": "a/b/c"}}"#;
        let config = Config::parse(kbs.replace("SPKI", &"5a".repeat(32)).as_bytes()).unwrap();
        assert_eq!(needs(&config), "network\n");
    }

    #[test]
    fn root_is_the_mapped_volume_and_nothing_else() {
        let unit = mount_unit(&RootMount::default());
        assert!(unit.contains("\nWhat=/dev/mapper/root\nWhere=/sysroot\nType=auto\nOptions=rw\n"));
        assert!(unit.contains("\nRequires=cvm-unlock.service\n"));
    }
}
