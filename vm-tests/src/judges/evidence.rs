//! What the guest's own tools wrote down, handed over on a raw disk as named pieces of text. Our report is
//! one more piece, to be compared with the others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::artefacts::tree::output_of;

/// Unpacked evidence.
#[derive(Debug, Clone)]
pub struct Evidence(PathBuf);

impl Evidence {
    /// Unpacks what the guest wrote; `None` if it wrote nothing.
    ///
    /// # Errors
    /// When what it wrote is not a complete archive.
    pub fn unpack(image: &Path, into: &Path) -> Result<Option<Self>> {
        let mut magic = [0_u8; 512];
        std::io::Read::read_exact(&mut fs::File::open(image)?, &mut magic)?;
        if magic.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        fs::create_dir_all(into)?;
        output_of(
            Command::new("tar").args(["--no-same-owner", "-xf"]).arg(image).arg("-C").arg(into),
            "tar",
        )?;
        Ok(Some(Self(into.to_owned())))
    }

    /// One piece.
    ///
    /// # Errors
    /// When the guest did not write it.
    pub fn text(&self, name: &str) -> Result<String> {
        let bytes = fs::read(self.0.join(name)).with_context(|| format!("The guest wrote no `{name}`"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether the piece is there.
    pub fn has(&self, name: &str) -> bool {
        self.0.join(name).exists()
    }

    /// The line of /proc/self/mountinfo about the root file system: which part of the file system is mounted
    /// there, and then its type, source and options.
    ///
    /// # Errors
    /// When there is none.
    pub fn root_mount(&self) -> Result<(String, Vec<String>)> {
        let text = self.text("mountinfo")?;
        let mount = text.lines().find_map(|line| {
            let (mount, filesystem) = line.split_once(" - ")?;
            let mount: Vec<_> = mount.split(' ').collect();
            let [_, _, _, part, "/", options, ..] = mount.as_slice() else { return None };
            let words = filesystem.split(' ').chain([*options]).map(str::to_owned).collect();
            Some(((*part).to_owned(), words))
        });
        mount.context("Nothing is mounted at /")
    }

    /// The source of the root file system.
    ///
    /// # Errors
    /// When there is none.
    pub fn root_source(&self) -> Result<String> {
        let (_, words) = self.root_mount()?;
        words.into_iter().nth(1).context("The root file system has no source")
    }

    /// Our report of the boot.
    ///
    /// # Errors
    /// When there is none.
    pub fn report(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.text("report/report.json")?)?)
    }

    /// A value that `blkid` printed about the mapping.
    ///
    /// # Errors
    /// When it printed none.
    pub fn blkid(&self, name: &str) -> Result<String> {
        let text = self.text("blkid")?;
        let value = text.split(' ').find_map(|word| word.strip_prefix(&format!("{name}=\"")));
        Ok(value
            .with_context(|| format!("blkid knows no {name}"))?
            .trim_end()
            .trim_end_matches('"')
            .to_owned())
    }

    /// A PCR as `tpm2_pcrread` printed it, in lower-case hexadecimal digits.
    ///
    /// # Errors
    /// When it is not in the piece.
    pub fn pcr(&self, piece: &str, index: u32) -> Result<String> {
        let text = self.text(piece)?;
        let value = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim().parse() == Ok(index)).then(|| value.trim().trim_start_matches("0x").to_lowercase())
        });
        value.with_context(|| format!("No PCR {index} in `{piece}`"))
    }
}

/// The time stamp, in brackets and in seconds, of the first line of a log with `text`.
///
/// # Errors
/// When there is none.
pub fn stamp(log: &str, text: &str) -> Result<f64> {
    let line = log.lines().find(|line| line.contains(text));
    let stamp = line.and_then(|line| line.split_once('[')?.1.split_once(']')?.0.trim().parse().ok());
    stamp.with_context(|| format!("No line with `{text}`"))
}
