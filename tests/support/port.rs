//! TCP ports of 127.0.0.1 for tests that run side by side.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::Mutex;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket};

/// Two listeners on consecutive ports, and the first port: for the data and the control channel of a TPM. No
/// pair is returned twice, so that a test may close the listeners and have an emulator bind the ports.
pub fn pair() -> (u16, TcpListener, TcpListener) {
    static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let data = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = data.local_addr().unwrap().port();
        let Some(Ok(control)) = port.checked_add(1).map(|next| TcpListener::bind(("127.0.0.1", next))) else {
            continue;
        };
        let mut taken = TAKEN.lock().unwrap();
        if [port - 1, port, port + 1].iter().all(|port| !taken.contains(port)) {
            taken.insert(port);
            return (port, data, control);
        }
    }
}

/// A port that refuses connections: bound until the process ends, without a listener.
pub fn closed() -> u16 {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let address: SockaddrIn = getsockname(socket.as_raw_fd()).unwrap();
    let _ = socket.into_raw_fd();
    address.port()
}
