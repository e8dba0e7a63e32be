//! Checks that documents refer to what is in the tree: links, paths, tests and scenarios.

use std::path::{Path, PathBuf};

use super::files::{read, sources};
use super::specification::exists;

#[test]
fn every_relative_link_leads_to_a_file() {
    let mut links = 0;
    for document in documents() {
        let folder = document.parent().unwrap();
        let text = read(document.to_str().unwrap());
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let file = target.split('#').next().unwrap();
            assert!(root().join(folder).join(file).exists(), "{}: {target}", document.display());
            links += 1;
        }
    }
    assert!(links > 50, "only {links} links were found");
}

#[test]
fn every_path_and_every_test_that_a_document_names_exists() {
    let scenarios: String = sources("vm-tests/src").into_iter().map(|(_, text)| text).collect();
    let mut named = 0;
    for document in documents() {
        for word in quoted(&read(document.to_str().unwrap())) {
            let place = format!("{}: `{word}`", document.display());
            if let Some(scenario) = word.strip_prefix("vm: ").filter(|scenario| *scenario != "NAME") {
                assert!(scenarios.contains(&format!("name: \"{scenario}\"")), "{place}");
            } else if word.contains("::") && (word.starts_with("tests/") || word.starts_with("src/")) {
                assert!(word.contains("FILE") || exists(&word), "{place}");
            } else if FOLDERS.iter().any(|folder| word.starts_with(folder)) && is_path(&word) {
                assert!(root().join(&word).exists(), "{place}");
            } else {
                continue;
            }
            named += 1;
        }
    }
    assert!(named > 350, "only {named} names were found");
}

/// All Markdown files of the repository, from its root.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in root().join(&folder).read_dir().unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let path = folder.join(&name);
            if root().join(&path).is_dir() {
                if !name.starts_with('.') && !["target", "out"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    found
}

/// The text in backquotes, outside of code blocks.
fn quoted(text: &str) -> Vec<String> {
    let prose: Vec<_> = text.lines().filter(|line| !line.starts_with("    ")).collect();
    prose.join(" ").split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A path without a placeholder.
fn is_path(word: &str) -> bool {
    !word.contains(|c: char| c.is_whitespace() || c.is_ascii_uppercase() || "*{<…".contains(c))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The first parts of paths in the repository.
const FOLDERS: [&str; 6] = ["src/", "tests/", "vm-tests/", "docs/", "fuzz/", "dracut-module/"];
