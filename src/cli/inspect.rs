//! `inspect`: the facts of a volume.

use std::fmt::Write;
use std::path::PathBuf;

use super::common::{Common, lock_memory};
use super::given::Given;
use super::keys;
use super::options;
use super::output::{print, print_json};
use super::usage::UsageError;
use crate::base::error::Error;
use crate::provision::inspect::{Header, Inspection, KEY_BROKER, TokenFacts, inspect};

/// A request to inspect a volume.
#[derive(Debug)]
pub(super) struct Inspect {
    volume: PathBuf,
    /// Opens a keyslot, for the volume key's digest.
    key_file: Option<PathBuf>,
}

impl Inspect {
    pub(super) fn parse(given: &Given) -> Result<Self, UsageError> {
        Ok(Self { volume: given.volume()?, key_file: given.path(&options::UNLOCK_KEY_FILE) })
    }
}

pub(super) fn run(common: &Common, request: &Inspect) -> Result<u8, Error> {
    lock_memory();
    let config = common.configuration()?;
    let key = request.key_file.as_deref().map(keys::read).transpose()?;
    let found = inspect(&request.volume, &common.root, &config.allow_luks_flags, key.as_ref())?;
    if common.json {
        print_json(&found)?
    } else {
        print(&text(&found))?
    };
    Ok(found.refused.as_ref().map_or(0, |refused| refused.exit_code))
}

fn text(found: &Inspection) -> String {
    let mut out = String::new();
    let mut line = |label: &str, value: &str| {
        // Writing to a String cannot fail.
        let _infallible = writeln!(out, "{label:>14}: {value}");
    };
    line("volume", &found.volume.display().to_string());
    if let Some(uuid) = &found.partition_uuid {
        line("partition", uuid);
    }
    match (&found.refused, &found.header) {
        (Some(refused), _) => line("refused", &format!("{} [{}]", refused.message, refused.slug)),
        (None, Some(header)) => header_text(header, &mut line),
        (None, None) => {}
    }
    out
}

fn header_text(header: &Header, line: &mut impl FnMut(&str, &str)) {
    line("accepted", "the header is on the allow-list");
    line("LUKS UUID", &header.luks_uuid);
    if !header.label.is_empty() {
        line("label", &header.label);
    }
    line("header", &format!("two copies of {} bytes, sequence number {}", header.header_bytes, header.seqid));
    if let Some(condition) = header.condition {
        line("condition", &format!("one copy is not used [{condition}]"));
    }
    line(
        "data",
        &format!(
            "{}, key of {} bits, {} bytes from offset {} in sectors of {}",
            header.cipher,
            header.key_bytes.saturating_mul(8),
            header.data_bytes,
            header.data_offset,
            header.sector_size
        ),
    );
    if !header.flags.is_empty() {
        line("flags", &header.flags.join(", "));
    }
    for (number, slot) in &header.keyslots {
        let text = match &slot.refused {
            Some(refused) => format!("not for a boot: {} [{}]", refused.message, refused.slug),
            None => slot.kdf.clone().unwrap_or_default(),
        };
        line(&format!("keyslot {number}"), &text);
    }
    for (number, token) in &header.tokens {
        line(&format!("token {number}"), &token_text(token));
    }
    if let Some(digest) = &header.volume_key {
        line("volume key", &format!("{digest} (for authentic.volume_keys)"));
    }
}

fn token_text(token: &TokenFacts) -> String {
    let numbers = |pcrs: &[u8]| pcrs.iter().map(u8::to_string).collect::<Vec<_>>().join("+");
    let slots: Vec<_> = token.keyslots.iter().map(u32::to_string).collect();
    let mut text = format!("{} for keyslot {}", token.of.escape_debug(), slots.join(", "));
    let mut add = |part: &str| {
        text.push_str("; ");
        text.push_str(part);
    };
    if let Some(slug) = &token.refused {
        add(&format!("refused [{slug}]"));
    }
    if let Some(kind) = token.kind {
        add(kind);
        if !token.pcrs.is_empty() {
            add(&format!("PCRs {}", numbers(&token.pcrs)));
        }
        if !token.signed_pcrs.is_empty() {
            add(&format!("signed PCRs {}", numbers(&token.signed_pcrs)));
        }
        if let Some(bank) = &token.bank {
            add(bank);
        }
        if let Some(path) = &token.path {
            add(&path.escape_debug().to_string());
        }
        if kind != KEY_BROKER {
            add(if token.fenced { "single use" } else { "no PCR 15" });
        }
        add(if token.bound { "bound" } else { "not bound" });
        match &token.signer {
            Some(signer) => add(&format!("signed by {signer}")),
            None => add("not signed"),
        }
    }
    text
}
