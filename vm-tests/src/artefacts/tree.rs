//! Debian trees, built by mmdebstrap with the host's apt configuration, and commands that run inside them.
//!
//! mmdebstrap checks the signatures of the Debian archive; nothing else here is verified.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::artefacts::cache::{Artefact, Cache, Key};
use crate::artefacts::suite::Suite;

/// A tree of files that programs can be run in.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
    shared: PathBuf,
}

impl Tree {
    /// Takes the tree at `root`; `shared` will be seen at the same place inside and outside.
    pub fn new(root: &Path, shared: &Path) -> Self {
        Self { root: root.to_owned(), shared: shared.to_owned() }
    }

    /// Where the tree lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A command in the tree. Its mounts are its own and it dies with us, so nothing is left
    /// behind whatever happens.
    pub fn command(&self, program: &str) -> Command {
        self.command_in(&[], Path::new(""), program)
    }

    /// A command in the tree, run by the words before it, with this file as `/etc/resolv.conf`.
    pub fn command_in(&self, before: &[&str], resolvers: &Path, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .args(before)
            .args(["unshare", "--mount", "--"])
            .args(["sh", "-c", ENTER, "sh"])
            .args([&self.root, &self.shared])
            .arg(resolvers)
            .arg(program)
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", "/root")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        command
    }

    /// Runs a program in the tree and returns what it printed.
    ///
    /// # Errors
    /// When it cannot be started or does not end with 0; its error output is in the message.
    pub fn run<A: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = A>) -> Result<String> {
        output_of(self.command(program).args(args), program)
    }
}

/// A file of the harness that goes into the guest.
pub fn guest_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guest").join(name)
}

/// Copies a tree into `path`, so that the cached one stays as it is.
///
/// # Errors
/// When the copy fails.
pub fn stage(tree: &Artefact, path: &Path) -> Result<PathBuf> {
    let staged = path.join("tree");
    copy(&tree.path, &staged)?;
    Ok(staged)
}

/// Copies a file or a directory with its attributes.
///
/// # Errors
/// When cp fails.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    output_of(
        Command::new("cp").args(["--archive", "--no-target-directory", "--reflink=auto"]).args([from, to]),
        "cp",
    )?;
    Ok(())
}

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// When it cannot be started or does not end with 0; its error output is in the message.
pub fn output_of(command: &mut Command, what: &str) -> Result<String> {
    let Output { status, stdout, stderr } = command.output().with_context(|| format!("Starting {what}"))?;
    if !status.success() {
        bail!(
            "{what} ended with {status}\n{}{}",
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        );
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// The programs that the harness itself uses: QEMU, swtpm, OVMF, image and signing tools.
///
/// # Errors
/// When mmdebstrap fails.
pub fn tools(cache: &Cache) -> Result<Tree> {
    let artefact = debian(cache, "tools", Suite::Trixie, TOOLS)?;
    Ok(Tree::new(&artefact.path, cache.root()))
}

/// A guest's distribution with these packages beside the usual ones: both its initramfs and its root file
/// system come from such a tree.
///
/// # Errors
/// When mmdebstrap fails.
pub fn guest_with(cache: &Cache, suite: Suite, more: &[&str]) -> Result<Artefact> {
    let packages = [suite.guest_packages().as_slice(), more].concat();
    debian(cache, "guest", suite, &packages)
}

/// A tree whose systemd-cryptenroll writes tokens on the host, against swtpm.
///
/// # Errors
/// When mmdebstrap fails.
pub fn writer(cache: &Cache, suite: Suite) -> Result<Tree> {
    match suite {
        Suite::Trixie => tools(cache),
        Suite::Bookworm | Suite::Sid => Ok(Tree::new(&guest_with(cache, suite, &[])?.path, cache.root())),
    }
}

/// Any other tree of a release.
///
/// # Errors
/// When mmdebstrap fails.
pub fn debian(cache: &Cache, noun: &str, suite: Suite, packages: &[&str]) -> Result<Artefact> {
    let key = Key::of(suite.name()).and(packages.join(",")).and(EXCLUDED.join(","));
    cache.artefact(noun, key, |path| {
        let mut command = mmdebstrap(packages)?;
        command.args([OsStr::new(suite.name()), path.as_os_str()]).arg(mirror()?);
        output_of(&mut command, "mmdebstrap").map(drop)
    })
}

/// Debian 12 with systemd from its backports: systemd-cryptenroll and what it needs for swtpm.
///
/// # Errors
/// When mmdebstrap fails.
pub fn backports(cache: &Cache) -> Result<Tree> {
    let key = Key::of("backports 1").and(BACKPORTS.join(",")).and(EXCLUDED.join(","));
    let artefact = cache.artefact("backports", key, |path| {
        let mut command = mmdebstrap(BACKPORTS)?;
        command.arg("--aptopt=APT::Default-Release \"bookworm-backports\"");
        command.args([OsStr::new("bookworm"), path.as_os_str()]);
        for suite in ["bookworm", "bookworm-backports"] {
            command.arg(format!("deb {} {suite} main", mirror()?));
        }
        output_of(&mut command, "mmdebstrap").map(drop)
    })?;
    Ok(Tree::new(&artefact.path, cache.root()))
}

fn mmdebstrap(packages: &[&str]) -> Result<Command> {
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--quiet", "--mode=root", "--variant=minbase"])
        .args(["--skip=check/qemu", "--aptopt=Apt::Install-Recommends \"false\""])
        .args(apt_options()?)
        .args(EXCLUDED.iter().map(|p| format!("--dpkgopt=path-exclude={p}")))
        .arg(format!("--include={}", packages.join(",")));
    Ok(command)
}

/// The mirror that the host's own apt uses for Debian's main archive.
fn mirror() -> Result<String> {
    let format = "$(LABEL)|$(COMPONENT)|$(REPO_URI)";
    let targets = output_of(
        Command::new("apt-get").args(["indextargets", "--format", format]),
        "apt-get indextargets",
    )?;
    let mirror = targets.lines().find_map(|line| line.strip_prefix("Debian|main|"));
    ensure!(mirror.is_some(), "The host's apt knows no Debian archive; run vm-tests/setup");
    mirror.map(str::to_owned).context("Unreachable: just ensured")
}

/// What the host's apt was told about reaching its mirror (proxies, clocks) holds for the trees.
fn apt_options() -> Result<Vec<String>> {
    let dump = output_of(Command::new("apt-config").args(["dump", "Acquire"]), "apt-config")?;
    Ok(dump
        .lines()
        .filter(|line| line.contains("::Proxy") || line.contains("Check-Valid-Until"))
        .map(|line| format!("--aptopt={}", line.trim_end_matches(';')))
        .collect())
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const TOOLS: &[&str] = &[
    "busybox-static",
    "cpio",
    "cryptsetup-bin",
    "dosfstools",
    "e2fsprogs",
    "gdisk",
    "libtss2-tcti-swtpm0t64",
    "mtools",
    "openssl",
    "ovmf",
    "python3-virt-firmware",
    "qemu-system-x86",
    "sbsigntool",
    "swtpm",
    "swtpm-tools",
    "systemd-boot-efi",
    "systemd-cryptsetup",
    "systemd-ukify",
    "tpm2-tools",
    "zstd",
];

const BACKPORTS: &[&str] = &[
    "cryptsetup-bin",
    "libtss2-esys-3.0.2-0",
    "libtss2-mu0",
    "libtss2-rc0",
    "libtss2-tcti-swtpm0",
    "systemd",
];

const EXCLUDED: &[&str] = &["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*"];

/// Arguments: tree, shared directory, a file to be seen as /etc/resolv.conf or nothing, program and its
/// arguments.
const ENTER: &str = r#"set -e
tree=$1 shared=$2 resolvers=$3; shift 3
for dir in dev proc sys; do mount --rbind "/$dir" "$tree/$dir"; done
mkdir -p "$tree$shared"
mount --bind "$shared" "$tree$shared"
if [ -n "$resolvers" ]; then
    [ -e "$tree/etc/resolv.conf" ] || : > "$tree/etc/resolv.conf"
    mount --bind "$resolvers" "$tree/etc/resolv.conf"
fi
exec chroot "$tree" "$@"
"#;
