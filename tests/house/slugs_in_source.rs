//! Collects the slugs of `src/`: rows of `failures!`, names of warnings, and `fn slug` of facts that are not
//! failures.

use std::collections::{BTreeMap, BTreeSet};

use cvm_unlock::base::error::Class;

use super::files::sources;
use super::rust_text::{inside, literals, split, without_comments_and_tests};

/// How the source uses one slug.
#[derive(Debug, Default)]
pub(super) struct Use {
    /// Exit codes of the failures with this slug; empty if it is a warning only.
    pub(super) codes: BTreeSet<u8>,
    /// Whether a warning or a fact has this slug of its own.
    pub(super) warning: bool,
    /// Hints of the failures with this slug.
    pub(super) hints: BTreeSet<String>,
    /// Whether a failure with this slug has a class that is not parsed here.
    pub(super) code_unknown: bool,
}

/// All slugs of `src/`.
#[derive(Debug, Default)]
pub(super) struct Slugs {
    /// By name.
    pub(super) uses: BTreeMap<String, Use>,
    /// Hints that replace those of an inner failure, whatever its slug.
    pub(super) other_hints: Vec<String>,
}

impl Slugs {
    /// Parses `src/`. Panics at an unknown form, so that nothing is missed.
    pub(super) fn read() -> Self {
        let mut slugs = Self::default();
        for (path, text) in sources("src") {
            if path.ends_with("/tests.rs") || path == MACRO {
                continue;
            }
            let text = without_comments_and_tests(&text);
            slugs.tables(&path, &text);
            slugs.warnings(&path, &text);
            slugs.functions(&path, &text);
            assert!(!text.contains("slug: \""), "{path}: a slug outside of all tables");
        }
        slugs
    }

    fn tables(&mut self, path: &str, text: &str) {
        for table in after(text, "failures!") {
            let rows =
                inside(table.strip_prefix(" { ").unwrap_or_else(|| panic!("{path}: failures! without {{")));
            let (_, rows) = rows.split_once(":\n").unwrap_or_else(|| panic!("{path}: a table of what?"));
            for row in split(rows, ';') {
                self.row(row).unwrap_or_else(|| panic!("{path}: not a row of failures!: {row}"));
            }
        }
    }

    fn row(&mut self, row: &str) -> Option<()> {
        let (pattern, facts) = row.split_once("=>")?;
        assert!(!split(pattern, '|').contains(&"_"), "a wildcard hides variants without a row: {row}");
        if let Some(inner) = facts.trim_start().strip_prefix("from ") {
            self.other_hints.extend(literals(inner));
            return Some(());
        }
        let [slug, class, hint] = *split(facts, ',') else { return None };
        let [slug, hint] = <[String; 2]>::try_from([literals(slug), literals(hint)].concat()).ok()?;
        let used = self.uses.entry(slug).or_default();
        used.codes.insert(class_named(class)?.exit_code());
        used.hints.extend(Some(hint).filter(|hint| !hint.is_empty()));
        Some(())
    }

    /// `Warning::new("slug", …)`, or with the slug of a failure or a fact.
    fn warnings(&mut self, path: &str, text: &str) {
        for arguments in after(text, "Warning::new(") {
            let name = split(inside(arguments), ',')[0];
            match &*literals(name) {
                [slug] => self.uses.entry(slug.clone()).or_default().warning = true,
                _ => assert!(name.ends_with("slug()") || name == "slug", "{path}: a warning named {name}"),
            }
        }
    }

    /// `fn slug` of facts with which no run fails.
    fn functions(&mut self, path: &str, text: &str) {
        for method in ["fn slug(self)", "fn slug(&self)"] {
            for (at, _) in text.match_indices(method) {
                let by_hand =
                    text[..at].rsplit("\nimpl ").next().is_some_and(|of| of.starts_with("Failure for "));
                assert!(
                    !by_hand || BY_HAND.iter().any(|room| path.starts_with(room)),
                    "{path}: use failures!"
                );
                let Some((_, body)) = text[at..].split_once('{') else { continue };
                for slug in literals(inside(body)) {
                    let used = self.uses.entry(slug).or_default();
                    if by_hand { used.code_unknown = true } else { used.warning = true }
                }
            }
        }
    }
}

/// The text after each `mark`.
fn after<'a>(text: &'a str, mark: &'static str) -> impl Iterator<Item = &'a str> {
    text.match_indices(mark).map(move |(at, _)| &text[at + mark.len()..])
}

fn class_named(name: &str) -> Option<Class> {
    use Class::{Config, Data, Internal, Os, Refused, Unavailable, Usage};
    [Usage, Data, Unavailable, Internal, Os, Refused, Config]
        .into_iter()
        .find(|class| format!("{class:?}") == name)
}

/// Defines the macro and its traits.
const MACRO: &str = "src/base/error.rs";

/// Files whose hint names a command, and so is not in a table.
const BY_HAND: [&str; 1] = ["src/cli/usage.rs"];
