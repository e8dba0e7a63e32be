//! SPECIFICATION.md names a test for each promise: here each name is held against the source.

use std::path::Path;

#[test]
fn every_promise_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| {
        std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let scenarios = read("vm-tests/src/scenarios/mod.rs");
    let text = read("SPECIFICATION.md");
    let mut checked = 0;
    for row in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| #")) {
        let tests = row.trim_end_matches(" |").rsplit('|').next().unwrap();
        for name in tests.split('`').skip(1).step_by(2).filter(|name| *name != "tests/run") {
            let found = match (name.split_once("::"), name.strip_prefix("vm: ")) {
                (Some((file, test)), _) => read(file).contains(&format!("fn {test}(")),
                (None, Some(scenario)) => scenarios.contains(&format!("name: \"{scenario}\"")),
                (None, None) => false,
            };
            assert!(found, "no such test: {name}");
            checked += 1;
        }
    }
    assert!(checked > 40, "only {checked} names were found in SPECIFICATION.md");
}
