//! A scenario's own network: the loopback of a network namespace, where key brokers and the name server
//! listen and where QEMU's router has its other end.
//!
//! Nothing in it reaches the host's network, and its ports are its own, so the addresses in measured
//! configurations can be constants.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::artefacts::cache::Cache;
use crate::artefacts::tree::Tree;
use crate::network::nameserver::NameServer;

/// A namespace with its loopback up and a name server at port 53, which knows one name.
#[derive(Debug)]
pub struct Wire {
    // First, so that it ends before the namespace's holder does.
    names: Option<NameServer>,
    holder: Child,
    resolvers: PathBuf,
}

impl Wire {
    /// Makes one.
    ///
    /// # Errors
    /// When the kernel or the tools refuse.
    pub fn new(cache: &Cache, tools: &Tree) -> Result<Self> {
        let resolvers = cache.socket("resolv.conf");
        fs::write(&resolvers, RESOLVERS)?;
        let mut command = tools.command_in(&["unshare", "--net", "--"], Path::new(""), "sh");
        command.args(["-c", HOLD]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().context("Making a network namespace")?;
        let mut line = String::new();
        let stdout = holder.stdout.take().context("The namespace's holder has no output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let mut this = Self { names: None, holder, resolvers };
        ensure!(line == "ready\n", "The namespace's holder did not become ready: `{line}`");
        this.names = Some(NameServer::start(File::open(this.path())?)?);
        Ok(this)
    }

    /// A command in the tree, on this network. It finds our name server in `/etc/resolv.conf`, so that QEMU's
    /// router hands the guest's questions to it.
    pub fn command(&self, tree: &Tree, program: &str) -> Command {
        let namespace = format!("--net={}", self.path().display());
        tree.command_in(&["nsenter", &namespace, "--"], &self.resolvers, program)
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder.id()).into()
    }

    /// What was asked of the name server so far, like `AAAA kbs.test`.
    pub fn questions(&self) -> Vec<String> {
        self.names.as_ref().map(NameServer::questions).unwrap_or_default()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        drop(self.names.take());
        // It may have ended by itself.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

const RESOLVERS: &str = "nameserver 127.0.0.1\nnameserver ::1\n";

/// Ends with its standard input.
const HOLD: &str = "busybox ip link set lo up && echo ready && exec cat";
