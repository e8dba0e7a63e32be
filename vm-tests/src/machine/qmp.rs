//! QEMU's control channel: commands, their answers, and events. Only QEMU speaks here, not the guest, so what
//! it says about the end of the machine is what happened.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// An open control channel.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    messages: Receiver<Value>,
    events: Vec<Value>,
}

impl Qmp {
    /// Connects as soon as QEMU listens, and leaves its greeting behind.
    ///
    /// # Errors
    /// When QEMU does not listen, or answers with an error.
    pub fn connect(socket: &Path) -> Result<Self> {
        let started = Instant::now();
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if started.elapsed() > LIMIT => return Err(error).context("Connecting to QEMU"),
                Err(_) => sleep(Duration::from_millis(20)),
            }
        };
        let (sender, messages) = channel();
        let reader = BufReader::new(stream.try_clone()?);
        spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                let Ok(message) = serde_json::from_str(&line) else { continue };
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let mut qmp = Self { stream, messages, events: Vec::new() };
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs one command.
    ///
    /// # Errors
    /// When QEMU refuses it or does not answer.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        writeln!(self.stream, "{}", json!({"execute": command, "arguments": arguments}))?;
        loop {
            let message =
                self.messages.recv_timeout(LIMIT).with_context(|| format!("{command}: no answer"))?;
            if let Some(error) = message.get("error") {
                bail!("{command}: {error}");
            }
            if let Some(answer) = message.get("return") {
                return Ok(answer.clone());
            }
            self.events.push(message);
        }
    }

    /// Why the machine stopped, in QEMU's words, once it has: `guest-shutdown`, `guest-reset`, …
    pub fn shutdown_reason(&mut self) -> Option<String> {
        self.events.extend(self.messages.try_iter());
        let shutdown = self.events.iter().find(|event| event.get("event") == Some(&json!("SHUTDOWN")))?;
        shutdown.pointer("/data/reason").and_then(Value::as_str).map(str::to_owned)
    }
}

const LIMIT: Duration = Duration::from_secs(20);
