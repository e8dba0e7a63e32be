//! Which TPM to use: a device node, or the address of an emulator.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

use crate::base::error::failures;

/// A TPM to open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// `/dev/tpm0`, on which our nine commands are nine at the chip. If it is busy, the kernel's resource
    /// manager, which swaps our objects in and out around each command and makes them 27 (measured: `vm:
    /// tpm-nodes`).
    #[default]
    Auto,
    /// A device node.
    Path(PathBuf),
    /// swtpm's TCP socket; its control channel is at the next port.
    Swtpm {
        /// Host name or address.
        host: String,
        /// TCP port, not 0 and not 65535.
        port: u16,
    },
}

impl Device {
    /// The device nodes to try, in order; none for an emulator.
    #[must_use]
    pub fn nodes(&self) -> Vec<PathBuf> {
        match self {
            Self::Auto => vec![PathBuf::from(RAW), PathBuf::from(RESOURCE_MANAGER)],
            Self::Path(path) => vec![path.clone()],
            Self::Swtpm { .. } => Vec::new(),
        }
    }
}

/// Why a node could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenFault {
    /// Another process holds it; try the next node.
    Busy,
    /// It does not exist.
    Absent,
    /// Another error.
    Failed,
}

impl OpenFault {
    /// Classifies `error`.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ResourceBusy => Self::Busy,
            // ENODEV, ENXIO: a node without a driver behind it.
            io::ErrorKind::NotFound => Self::Absent,
            _ if matches!(error.raw_os_error(), Some(6 | 19)) => Self::Absent,
            _ => Self::Failed,
        }
    }
}

/// Whether `node` belongs to the kernel's resource manager, which keeps our objects apart from those of
/// others.
#[must_use]
pub fn is_managed(node: &Path) -> bool {
    node.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"tpmrm"))
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let error = || DeviceError(text.to_owned());
        if text == "auto" {
            return Ok(Self::Auto);
        }
        if text.starts_with('/') {
            return Ok(Self::Path(PathBuf::from(text)));
        }
        let options = match text.strip_prefix("swtpm") {
            Some("") => "",
            Some(rest) => rest.strip_prefix(':').ok_or_else(error)?,
            None => return Err(error()),
        };
        let (mut host, mut port) = (None, None);
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("host", value)) if host.is_none() && is_host(value) => host = Some(value.to_owned()),
                Some(("port", value)) if port.is_none() => port = Some(port_of(value).ok_or_else(error)?),
                _ => return Err(error()),
            }
        }
        Ok(Self::Swtpm {
            host: host.unwrap_or_else(|| DEFAULT_HOST.to_owned()),
            port: port.unwrap_or(DEFAULT_PORT),
        })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Swtpm { host, port } => write!(f, "swtpm:host={host},port={port}"),
        }
    }
}

fn is_host(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':');
    !text.is_empty() && text.len() <= 253 && text.bytes().all(allowed)
}

fn port_of(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| (1..u16::MAX).contains(port))
}

/// Not a TPM.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("TPM '{0}' is not understood")]
pub struct DeviceError(String);

failures! { DeviceError:
    Self { .. } => "tpm-device-syntax", Usage,
        "write auto, a device such as /dev/tpmrm0, or swtpm:host=HOST,port=PORT";
}

const RAW: &str = "/dev/tpm0";
const RESOURCE_MANAGER: &str = "/dev/tpmrm0";
/// swtpm's own defaults, which tpm2-tss's TCTI uses too.
const DEFAULT_HOST: &str = "localhost";
const DEFAULT_PORT: u16 = 2321;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn swtpm(host: &str, port: u16) -> Device {
        Device::Swtpm { host: host.to_owned(), port }
    }

    #[test]
    fn each_form_is_understood() {
        for (text, device) in [
            ("auto", Device::Auto),
            ("/dev/tpmrm0", Device::Path(PathBuf::from("/dev/tpmrm0"))),
            ("swtpm", swtpm("localhost", 2321)),
            ("swtpm:", swtpm("localhost", 2321)),
            ("swtpm:port=1234", swtpm("localhost", 1234)),
            ("swtpm:port=1234,host=127.0.0.1", swtpm("127.0.0.1", 1234)),
        ] {
            assert_eq!(text.parse(), Ok(device), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "tpm0",
            "swtpm4",
            "swtpm:port=0",
            "swtpm:port=65535",
            "swtpm:port=1,port=2",
            "swtpm:path=/x",
            "swtpm:host=a b",
            "swtpm:host=",
            "tabrmd",
            "device:/dev/tpm0",
        ] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_auto_has_a_second_choice() {
        assert_eq!(Device::Auto.nodes(), [Path::new("/dev/tpm0"), Path::new("/dev/tpmrm0")]);
        assert_eq!(Device::Path(PathBuf::from("/dev/tpm1")).nodes(), [Path::new("/dev/tpm1")]);
        assert!(is_managed(Path::new("/dev/tpmrm0")) && !is_managed(Path::new("/dev/tpm0")));
    }

    #[test]
    fn a_busy_device_is_not_an_absent_one() {
        for (errno, opening) in
            [(16, OpenFault::Busy), (2, OpenFault::Absent), (19, OpenFault::Absent), (13, OpenFault::Failed)]
        {
            assert_eq!(OpenFault::of(&io::Error::from_raw_os_error(errno)), opening);
        }
    }

    proptest! {
        #[test]
        fn what_is_understood_is_written_alike(text in "(auto|/dev/[a-z0-9]{1,8}|swtpm(:((host=[a-z.]{1,5}|port=[0-9]{1,5}),?){0,2})?)") {
            if let Ok(device) = text.parse::<Device>() {
                prop_assert_eq!(device.to_string().parse(), Ok(device));
            }
        }
    }
}
