//! The name server of a scenario's own network (RFC 1035): it knows one name, and remembers what it was
//! asked. QEMU's router passes the guest's questions on to it.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};

use crate::artefacts::addresses::{IPV4, IPV6, NAME};

/// A running name server; it ends with this value.
#[derive(Debug)]
pub struct NameServer {
    threads: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    questions: Mutex<Vec<String>>,
}

impl NameServer {
    /// Listens at port 53 of the loopback of a network namespace, IPv4 and IPv6.
    ///
    /// # Errors
    /// When it cannot.
    pub fn start(namespace: File) -> Result<Self> {
        // A thread of its own, as a namespace is left for ever by whoever enters another one.
        let binding = spawn(move || -> Result<Vec<UdpSocket>> {
            setns(namespace, CloneFlags::CLONE_NEWNET).context("Entering the network namespace")?;
            let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
            let bind = |address| UdpSocket::bind((address, 53)).context("Binding port 53");
            loopback.into_iter().map(bind).collect()
        });
        let sockets = binding.join().map_err(|_| anyhow::anyhow!("Binding port 53 panicked"))??;
        let shared = Arc::<Shared>::default();
        let (sender, ready) = channel();
        let mut threads = Vec::new();
        for socket in sockets {
            socket.set_read_timeout(Some(PATIENCE))?;
            let (shared, sender) = (Arc::clone(&shared), sender.clone());
            threads.push(spawn(move || {
                let _ = sender.send(());
                serve(&socket, &shared);
            }));
        }
        for _ in &threads {
            ready.recv()?;
        }
        Ok(Self { threads, shared })
    }

    /// What was asked so far, like `AAAA kbs.test`.
    pub fn questions(&self) -> Vec<String> {
        self.shared.questions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 1500];
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let Some(question) = buffer.get(..length).and_then(Question::parse) else { continue };
        shared.questions.lock().unwrap_or_else(PoisonError::into_inner).push(question.text());
        // Who is gone does not miss the answer.
        let _ = socket.send_to(&question.answer(), from);
    }
}

/// A question with what has to be repeated in the answer.
struct Question<'a> {
    id: [u8; 2],
    name: String,
    kind: u16,
    /// Name, type and class as they came.
    bytes: &'a [u8],
}

impl<'a> Question<'a> {
    /// A query with one question, whatever follows (EDNS); `None` for anything else.
    fn parse(message: &'a [u8]) -> Option<Self> {
        let (head, body) = message.split_first_chunk::<12>()?;
        let [id0, id1, flags, _, 0, 1, ..] = *head else { return None };
        let is_query = flags & 0b1111_1000 == 0;
        let (mut rest, mut labels) = (body, Vec::new());
        loop {
            let (length, more) = rest.split_first()?;
            // Compressed names (0b11 in front) are not used in questions.
            let (label, more) = more.split_at_checked(usize::from(*length))?;
            rest = more;
            if label.is_empty() {
                break;
            }
            labels.push(String::from_utf8_lossy(label).to_lowercase());
        }
        let (kind, rest) = rest.split_first_chunk::<2>()?;
        let (_class, rest) = rest.split_first_chunk::<2>()?;
        let bytes = body.get(..body.len() - rest.len())?;
        let (name, kind) = (labels.join("."), u16::from_be_bytes(*kind));
        is_query.then_some(Self { id: [id0, id1], name, kind, bytes })
    }

    fn text(&self) -> String {
        let kind = match self.kind {
            A => "A".to_owned(),
            AAAA => "AAAA".to_owned(),
            other => format!("TYPE{other}"),
        };
        format!("{kind} {}", self.name)
    }

    /// The address; none for other types of our name; that other names do not exist.
    fn answer(&self) -> Vec<u8> {
        let known = self.name == NAME;
        let data = match self.kind {
            A if known => IPV4.octets().to_vec(),
            AAAA if known => IPV6.octets().to_vec(),
            _ => Vec::new(),
        };
        let code = if known { 0 } else { NO_SUCH_NAME };
        let count = u8::from(!data.is_empty());
        // An authoritative response, with recursion asked for and available.
        let mut out = [&self.id[..], &[0b1000_0101, 0b1000_0000 | code, 0, 1, 0, count, 0, 0, 0, 0]].concat();
        out.extend(self.bytes);
        if let Ok(length) = u16::try_from(data.len())
            && length > 0
        {
            // The name of the question, its type, class IN, a minute.
            out.extend(
                [[0xc0, 12], self.kind.to_be_bytes(), [0, 1], [0, 0], [0, 60], length.to_be_bytes()].concat(),
            );
            out.extend(data);
        }
        out
    }
}

const A: u16 = 1;
const AAAA: u16 = 28;
const NO_SUCH_NAME: u8 = 3;
/// How long the server may take to notice that it should end.
const PATIENCE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label.as_bytes());
        }
        message.push(0);
        message.extend([kind.to_be_bytes(), [0, 1]].concat());
        message
    }

    #[test]
    fn one_name_has_two_addresses_and_no_other_name_exists() {
        for (name, kind, code, address) in [
            ("kbs.test", A, 0, IPV4.octets().to_vec()),
            ("KBS.test", AAAA, 0, IPV6.octets().to_vec()),
            ("kbs.test", 16, 0, Vec::new()),
            ("kbs.test.example", A, NO_SUCH_NAME, Vec::new()),
            ("other.test", AAAA, NO_SUCH_NAME, Vec::new()),
        ] {
            let message = query(name, kind);
            let answer = Question::parse(&message).unwrap().answer();
            assert_eq!(answer.get(..2), Some([0xab, 0xcd].as_slice()));
            assert_eq!(answer.get(3).unwrap() & 0xf, code, "{name}");
            assert!(answer.ends_with(&address), "{name}");
            assert_eq!(answer.get(7) == Some(&1), !address.is_empty(), "{name}");
        }
        assert_eq!(Question::parse(&query("Kbs.Test", AAAA)).unwrap().text(), "AAAA kbs.test");
    }

    #[test]
    fn what_is_no_question_is_not_answered() {
        let message = query("kbs.test", A);
        for length in 0..message.len() {
            assert!(Question::parse(message.get(..length).unwrap()).is_none(), "{length}");
        }
        let mut response = message.clone();
        *response.get_mut(2).unwrap() |= 0x80;
        assert!(Question::parse(&response).is_none());
        // EDNS behind the question.
        assert!(Question::parse(&[message, vec![0, 0, 41]].concat()).is_some());
    }
}
