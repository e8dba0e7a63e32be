//! Refuses EFI variables that systemd obeys and nobody measures. Firmware variables are untrusted: with
//! `SystemdOptions` the host adds words to systemd's command line, with `HibernateLocation` it has the kernel
//! load a memory image.

use std::fs;
use std::io;
use std::path::Path;

use crate::base::error::failures;

/// Refuses the machine's firmware below `root` if one of the variables is set. Without efivarfs systemd
/// cannot read them either.
///
/// # Errors
/// `efi-variable-set`, or `efi-variables-unreadable` where the system refuses.
pub fn refuse_if_set(root: &Path) -> Result<(), SystemdVariableError> {
    let entries = match fs::read_dir(root.join(FOLDER)) {
        Err(error) if absent(&error) => return Ok(()),
        entries => entries.map_err(SystemdVariableError::Read)?,
    };
    for entry in entries {
        let name = entry.map_err(SystemdVariableError::Read)?.file_name();
        if let Some(variable) = obeyed(name.as_encoded_bytes()) {
            return Err(SystemdVariableError::Set(variable));
        }
    }
    Ok(())
}

/// The variable of a file's name in efivarfs (`NAME-GUID`, Documentation/filesystems/efivarfs.rst), if
/// systemd obeys it. A vendor GUID other than systemd's makes no difference: nobody else has variables of
/// these names.
fn obeyed(name: &[u8]) -> Option<&'static str> {
    OBEYED.into_iter().find(|variable| {
        let rest = name.get(variable.len()..);
        name.get(..variable.len()).is_some_and(|start| start.eq_ignore_ascii_case(variable.as_bytes()))
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"-"))
    })
}

/// Why the firmware is refused.
#[derive(Debug, thiserror::Error)]
pub enum SystemdVariableError {
    /// A variable is set.
    #[error("The EFI variable {0} is set: systemd obeys it, and it is not measured")]
    Set(&'static str),
    /// The operating system's error.
    #[error("Reading the names of the EFI variables")]
    Read(#[source] io::Error),
}

failures! { SystemdVariableError:
    Self::Set(_) => "efi-variable-set", Refused,
        "Remove the variable below /sys/firmware/efi/efivars, and find out who set it";
    Self::Read(_) => "efi-variables-unreadable", Os, "";
}

fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

const FOLDER: &str = "sys/firmware/efi/efivars";
/// systemd(1) and systemd-hibernate-resume-generator(8). Upper and lower case are one for a file system that
/// folds them.
const OBEYED: [&str; 2] = ["SystemdOptions", "HibernateLocation"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Failure;

    /// systemd's vendor GUID of these variables.
    const GUID: &str = "8cf2644b-4b0b-428f-9387-6d876050dc67";

    fn slug(variables: &[&str]) -> Option<&'static str> {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(FOLDER);
        fs::create_dir_all(&folder).unwrap();
        variables.iter().for_each(|name| fs::write(folder.join(name), [7, 0, 0, 0]).unwrap());
        refuse_if_set(root.path()).err().map(|error| error.slug())
    }

    #[test]
    fn a_variable_that_systemd_obeys_is_refused_whatever_its_vendor() {
        for variable in OBEYED {
            assert_eq!(slug(&[&format!("{variable}-{GUID}")]), Some("efi-variable-set"), "{variable}");
            assert_eq!(
                slug(&[&format!("{variable}-00000000-0000-0000-0000-000000000000")]),
                Some("efi-variable-set")
            );
            assert_eq!(
                slug(&["Boot0000-x", &format!("{}-x", variable.to_lowercase())]),
                Some("efi-variable-set")
            );
        }
    }

    #[test]
    fn other_variables_and_machines_without_efi_are_normal() {
        let loader = "LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
        assert_eq!(slug(&[loader, "SystemdOptionsX-x", "Systemd-x", "HibernateLocatio-n"]), None);
        assert!(refuse_if_set(tempfile::tempdir().unwrap().path()).is_ok());
    }

    #[test]
    fn names_that_cannot_be_read_are_no_permission() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(FOLDER);
        fs::create_dir_all(folder.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(&folder, &folder).unwrap();
        assert_eq!(refuse_if_set(root.path()).unwrap_err().slug(), "efi-variables-unreadable");
    }
}
