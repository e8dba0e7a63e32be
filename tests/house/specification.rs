//! Checks SPECIFICATION.md: every listed test exists, and every promise has one.

use std::collections::BTreeSet;

use super::files::{read, sources};

#[test]
fn every_promise_names_tests_that_exist() {
    let text = read("SPECIFICATION.md");
    let scenarios: String = sources("vm-tests/src").into_iter().map(|(_, text)| text).collect();
    let promises = promises(&text);
    for promise in &promises {
        assert!(!promise.tests.is_empty(), "{} has no test", promise.id);
        for test in &promise.tests {
            let found = match test.strip_prefix("vm: ") {
                Some(scenario) => scenarios.contains(&format!("name: \"{scenario}\"")),
                None => exists(test),
            };
            assert!(found, "{}: no such test: {test}", promise.id);
        }
    }
    let ids: BTreeSet<_> = promises.iter().map(|promise| promise.id).collect();
    assert_eq!(ids.len(), promises.len(), "two promises have the same number");
    let tests: usize = promises.iter().map(|promise| promise.tests.len()).sum();
    assert!(promises.len() >= PROMISES && tests >= TESTS, "{} promises, {tests} tests", promises.len());
}

struct Promise<'a> {
    id: &'a str,
    tests: Vec<&'a str>,
}

/// Paragraphs `**R1** …`, each with its list of tests: lines of the form ``- `test` ``.
fn promises(text: &str) -> Vec<Promise<'_>> {
    let mut promises: Vec<Promise<'_>> = Vec::new();
    let (_, text) = text.split_once("\n## ").expect("a heading");
    for line in text.lines() {
        if let Some((id, _)) = line.strip_prefix("**").and_then(|rest| rest.split_once("** ")) {
            promises.push(Promise { id, tests: Vec::new() });
        } else if let Some(test) = line.strip_prefix("- `") {
            let test = test.strip_suffix('`').unwrap_or_else(|| panic!("more than a test: {line}"));
            promises.last_mut().expect("a promise comes first").tests.push(test);
        }
    }
    promises
}

/// Whether `PATH::NAME` is a test of a Rust file or a function of a script.
pub(super) fn exists(test: &str) -> bool {
    let Some((path, name)) = test.split_once("::") else { return false };
    let source = read(path);
    if !path.ends_with(".rs") {
        return source.contains(&format!("\n{name}() {{\n"));
    }
    let lines: Vec<_> = source.lines().map(str::trim_start).collect();
    let declaration = format!("fn {name}(");
    let Some(at) = lines.iter().position(|line| line.starts_with(&declaration)) else { return false };
    lines[..at].iter().rev().take_while(|line| line.starts_with(['#', '/'])).any(|line| *line == "#[test]")
}

/// The present numbers, raised from time to time: fewer mean that some are not read.
const PROMISES: usize = 138;
const TESTS: usize = 296;
