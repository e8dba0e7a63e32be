//! Sits on the wire between the executable and an emulated TPM: forwards commands, counts them, and tampers
//! with some, as a bus, a driver, a busy TPM or a hostile host could.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::commands;
use super::port;
use super::swtpm::Swtpm;

/// A running interposer. Its threads end with the test's process.
pub struct Interposer {
    port: u16,
    sent: Arc<Mutex<Vec<&'static str>>>,
}

/// What to do to some commands of one kind.
pub struct Fault {
    command: &'static str,
    first: usize,
    times: usize,
    deed: Deed,
}

type Alteration = dyn Fn(&mut Vec<u8>) + Send + Sync;

/// What to do to a command.
#[derive(Clone)]
pub enum Deed {
    /// Answer with this response code, without the TPM.
    Code(u32),
    /// Answer with these bytes, without the TPM.
    Bytes(Vec<u8>),
    /// Close the connection, without the TPM.
    HangUp,
    /// Change the TPM's answer.
    Altered(Arc<Alteration>),
    /// Let the TPM execute another command first.
    After(Vec<u8>),
}

impl Fault {
    /// Every `command` (its name in the specification).
    pub fn on(command: &'static str, deed: Deed) -> Self {
        Self { command, first: 0, times: usize::MAX, deed }
    }

    /// The first one only.
    pub fn once(command: &'static str, deed: Deed) -> Self {
        Self { times: 1, ..Self::on(command, deed) }
    }

    /// The first `times` only.
    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// Changes one answer with `alter`.
    pub fn altered(command: &'static str, alter: impl Fn(&mut Vec<u8>) + Send + Sync + 'static) -> Self {
        Self::once(command, Deed::Altered(Arc::new(alter)))
    }

    fn applies_to(&self, command: &str, number: usize) -> bool {
        self.command == command && number >= self.first && number - self.first < self.times
    }
}

impl Interposer {
    /// Forwards commands from [`Interposer::device`] to `tpm`; to each, applies the first of `faults` that
    /// matches.
    pub fn new(tpm: &Swtpm, faults: Vec<Fault>) -> Self {
        let (port, data, control) = port::pair();
        let (tpm, sent) = (tpm.port(), Arc::new(Mutex::new(Vec::new())));
        let wire = Wire { tpm, faults, sent: Arc::clone(&sent) };
        thread::spawn(move || {
            for client in data.incoming() {
                // Either side may hang up at any time.
                let _ = wire.serve(client.unwrap());
            }
        });
        thread::spawn(move || {
            for client in control.incoming() {
                pass_on(client.unwrap(), TcpStream::connect(("127.0.0.1", tpm + 1)).unwrap());
            }
        });
        Self { port, sent }
    }

    /// The value for `--tpm2-device=`.
    pub fn device(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// The names of all commands received so far, in order.
    pub fn sent(&self) -> Vec<&'static str> {
        self.sent.lock().unwrap().clone()
    }

    /// How many of them were `command`.
    pub fn count(&self, command: &str) -> usize {
        self.sent().iter().filter(|sent| **sent == command).count()
    }
}

/// The data connection, on the thread's side.
struct Wire {
    tpm: u16,
    faults: Vec<Fault>,
    sent: Arc<Mutex<Vec<&'static str>>>,
}

impl Wire {
    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut tpm = TcpStream::connect(("127.0.0.1", self.tpm))?;
        loop {
            let command = message(&mut client)?;
            let name = commands::name(u32::from_be_bytes(command[6..10].try_into().unwrap()));
            let number = {
                let mut sent = self.sent.lock().unwrap();
                sent.push(name);
                sent.iter().filter(|other| **other == name).count() - 1
            };
            let fault = self.faults.iter().find(|fault| fault.applies_to(name, number));
            let answer = match fault.map(|fault| &fault.deed) {
                None => exchange(&mut tpm, &command)?,
                Some(Deed::Code(code)) => [&[0x80, 0x01, 0, 0, 0, 10][..], &code.to_be_bytes()].concat(),
                Some(Deed::Bytes(bytes)) => bytes.clone(),
                Some(Deed::HangUp) => return client.shutdown(Shutdown::Both),
                Some(Deed::Altered(alter)) => {
                    let mut answer = exchange(&mut tpm, &command)?;
                    alter(&mut answer);
                    answer
                }
                Some(Deed::After(before)) => {
                    exchange(&mut tpm, before)?;
                    exchange(&mut tpm, &command)?
                }
            };
            client.write_all(&answer)?;
            // A short answer would make the client wait for ever for the rest.
            if answer.len() < 6 || answer.len() < size_of(&answer) {
                return client.shutdown(Shutdown::Both);
            }
        }
    }
}

fn exchange(tpm: &mut TcpStream, command: &[u8]) -> std::io::Result<Vec<u8>> {
    tpm.write_all(command)?;
    message(tpm)
}

/// Reads a command or an answer: tag, size of the whole, and the rest.
fn message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; 10];
    stream.read_exact(&mut bytes)?;
    bytes.resize(size_of(&bytes), 0);
    stream.read_exact(&mut bytes[10..])?;
    Ok(bytes)
}

fn size_of(message: &[u8]) -> usize {
    u32::from_be_bytes(message[2..6].try_into().unwrap()).try_into().unwrap()
}

fn pass_on(client: TcpStream, tpm: TcpStream) {
    for (mut from, mut to) in [(client.try_clone().unwrap(), tpm.try_clone().unwrap()), (tpm, client)] {
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}
