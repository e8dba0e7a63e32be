//! Checks that `docs/slugs.md` lists exactly the slugs of the source, each once, with its exit codes and
//! hints.

use std::collections::{BTreeMap, BTreeSet};

use super::files::read;
use super::slugs_in_source::Slugs;

#[test]
fn every_slug_stands_in_the_document_with_its_exit_codes_and_hints() {
    let text = read("docs/slugs.md");
    let rows = rows(&text);
    let source = Slugs::read();
    for (slug, used) in &source.uses {
        let row = rows.get(&**slug).unwrap_or_else(|| panic!("{slug} is not in docs/slugs.md"));
        assert!(used.code_unknown || row.codes == used.codes, "{slug}: exit codes are {:?}", used.codes);
        // A run may continue after a failure, and warn with its slug.
        assert!(row.warning || !used.warning, "{slug} is a warning");
        for hint in &used.hints {
            assert!(row.action.contains(hint), "{slug}: its hint is: {hint}");
        }
    }
    for slug in rows.keys() {
        assert!(source.uses.contains_key(*slug), "{slug} is not in src/");
    }
    for hint in &source.other_hints {
        assert!(text.contains(hint), "a hint that is not in docs/slugs.md: {hint}");
    }
}

#[test]
fn slugs_are_in_kebab_case() {
    for slug in Slugs::read().uses.keys() {
        let fits = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        assert!(slug.split('-').all(fits), "{slug}");
    }
}

/// A slug's row.
struct Row {
    codes: BTreeSet<u8>,
    warning: bool,
    action: String,
}

/// Lines ``| `slug` | exit codes, or warning, or both | meaning | what to do |``; a pipe in a cell is `\|`.
fn rows(text: &str) -> BTreeMap<&str, Row> {
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.split(" | ").collect();
        let [slug, exits, meaning, action] = *cells else { panic!("not four cells: {line}") };
        let slug = slug.strip_prefix("| `").and_then(|slug| slug.strip_suffix('`')).expect("a slug");
        let action = action.strip_suffix(" |").unwrap_or_else(|| panic!("no end: {line}"));
        assert!(!meaning.is_empty() && !action.is_empty(), "an empty cell: {line}");
        let mut row = Row { codes: BTreeSet::new(), warning: false, action: action.replace("\\|", "|") };
        for exit in exits.split(", ") {
            match exit.parse() {
                Ok(code) => _ = row.codes.insert(code),
                Err(_) if exit == "warning" => row.warning = true,
                Err(_) => panic!("neither an exit code nor a warning: {line}"),
            }
        }
        assert!(rows.insert(slug, row).is_none(), "{slug} stands there twice");
    }
    rows
}
