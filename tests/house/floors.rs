//! Checks the floors of the house: a file imports from lower floors and from its own, no files import each
//! other in a circle, and parsers of foreign bytes import nothing but the ground floor. CONTRIBUTING.md says
//! why.

use std::path::Path;

use crate::imports::{Sources, circle};

/// The floors of the program, from the ground up.
const PROGRAM: &[&[&str]] = &[
    &["base", "forge"],
    &["sys", "format"],
    &["cryptsetup", "network", "discover"],
    &["tpm"],
    &["policy"],
    &["fence"],
    &["unseal"],
    &["attest"],
    &["prove"],
    &["activate"],
    &["report"],
    &["config"],
    &["boot", "provision"],
    &["cli"],
    &["", "main"],
];
/// The floors of the VM tests.
const VM_TESTS: &[&[&str]] = &[
    &["encoding", "forge", "progress"],
    &["artefacts"],
    &["network"],
    &["judges"],
    &["machine"],
    &["lab"],
    &["scenario"],
    &["scenarios"],
    &["bench", "runner"],
    &["", "main"],
];

#[test]
fn no_file_imports_from_a_higher_floor() {
    for (folder, floors) in [("src", PROGRAM), ("vm-tests/src", VM_TESTS)] {
        let floor = |module: &str| {
            let root = module.split("::").next().unwrap();
            let floor = floors.iter().position(|floor| floor.contains(&root));
            floor.unwrap_or_else(|| panic!("{folder}: {module} has no floor"))
        };
        for (from, imports) in sources(folder).graph() {
            for to in imports {
                assert!(floor(&to) <= floor(&from), "{folder}: {from} imports {to}");
            }
        }
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for (folder, least) in [("src", 180), ("vm-tests/src", 60)] {
        let sources = sources(folder);
        assert!(sources.len() > least, "{folder}: only {} files were found", sources.len());
        assert_eq!(circle(&sources.graph()), None, "{folder}");
    }
}

#[test]
fn what_parses_foreign_bytes_imports_base_and_nothing_else() {
    for (from, imports) in sources("src").graph() {
        if from.starts_with("format") {
            let foreign = imports.iter().find(|to| !to.starts_with("format") && !to.starts_with("base"));
            assert_eq!(foreign, None, "{from}");
        }
    }
}

#[test]
fn a_circle_is_found_and_named_through_re_exports_and_paths_of_super() {
    let found = |last: &str| {
        let sources = Sources::of(&[
            ("", "pub mod a;\npub mod b;\n"),
            ("a", "mod one;\nmod two;\npub use one::One;\n"),
            ("a::one", "use crate::{\n    b::{Thing, Other},\n};\n"),
            ("a::two", "use super::One;\n"),
            ("b", last),
        ]);
        circle(&sources.graph())
    };
    assert_eq!(found("// as crate::a::One does\n"), None);
    assert_eq!(found("#[cfg(test)]\nmod tests {\n    use crate::a::One;\n}\n"), None, "unit tests may");
    assert_eq!(found("use crate::a::One;\n").as_deref(), Some("a::one > b > a::one"));
    assert_eq!(found("fn f() { crate::a::two::run() }\n").as_deref(), Some("a::one > b > a::two > a::one"));
    assert_eq!(found("use super::a::one;\n").as_deref(), Some("a::one > b > a::one"));
}

fn sources(folder: &str) -> Sources {
    // vm-tests includes `forge` of the black-box tests by its path.
    Sources::below(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).with("forge")
}
