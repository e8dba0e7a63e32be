//! The floors of this crate: a file imports from lower floors and from its own, and no files import each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// From the ground up: modules of the crate's root.
const FLOORS: &[&[&str]] = &[
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
    let floor = |module: &str| {
        let root = module.split("::").next().unwrap_or_default();
        let floor = FLOORS.iter().position(|floor| floor.contains(&root));
        floor.unwrap_or_else(|| panic!("{module} has no floor"))
    };
    for (from, imports) in graph(&sources()) {
        for to in imports {
            assert!(floor(&to) <= floor(&from), "{from} imports {to}");
        }
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let graph = graph(&sources());
    assert!(graph.len() > 60, "only {} files were found", graph.len());
    assert_eq!(circle(&graph), None);
}

#[test]
fn a_circle_is_found_and_named() {
    let sources = |last: &str| {
        let files = [
            ("", "pub mod a;\npub mod b;\npub mod c;\n"),
            ("a", "use crate::b::Thing;\n"),
            ("b", "use crate::{\n    c::{One, Two},\n};\n"),
            ("c", last),
        ];
        BTreeMap::from(files.map(|(name, text)| (name.to_owned(), text.to_owned())))
    };
    assert_eq!(circle(&graph(&sources("// as crate::a does\n"))), None);
    let found = |last| circle(&graph(&sources(last)));
    assert_eq!(found("fn f() { crate::a::run() }\n").as_deref(), Some("a > b > c > a"));
    assert_eq!(found("use crate::hex;\n").as_deref(), Some(" > a > b > c > "), "what the root defines");
}

/// Every file of the crate, by its module's path. The root is the empty path.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = BTreeMap::from([("forge".to_owned(), String::new())]);
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).unwrap().with_extension("");
            let name = name.to_str().unwrap().replace('/', "::");
            let name = name.strip_suffix("::mod").unwrap_or(&name);
            let name = if name == "lib" { "" } else { name };
            if name != "floors" {
                sources.insert(name.to_owned(), fs::read_to_string(path).unwrap());
            }
        }
    }
    sources
}

/// For each file, the files that it imports from, and its submodules.
fn graph(sources: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    let imports = |name: &String, text: &String| {
        let code: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let code = code.join("\n");
        assert!(!code.replace("use super::*;", "").contains("super::"), "{name} has a path of `super`");
        let mut imports: BTreeSet<_> =
            paths_behind(&code, "crate::").iter().map(|path| file_of(path, sources)).collect();
        if name == "main" {
            let paths = paths_behind(&code, "vm_tests::");
            imports.extend(paths.iter().map(|path| file_of(path, sources)));
        }
        let submodules = code.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
        imports.extend(submodules.map(|module| [name, module].join("::").trim_start_matches(':').to_owned()));
        imports.remove(name);
        imports
    };
    sources.iter().map(|(name, text)| (name.clone(), imports(name, text))).collect()
}

/// The paths that follow a prefix in some code, with nested braces written out.
fn paths_behind(code: &str, prefix: &str) -> Vec<String> {
    code.split(prefix).skip(1).flat_map(|rest| expand(rest).0).collect()
}

/// The paths at the start of some code, and what follows them.
fn expand(code: &str) -> (Vec<String>, &str) {
    let end = code.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(code.len());
    let (path, mut rest) = code.split_at(end);
    let Some(inner) = rest.strip_prefix('{').filter(|_| path.is_empty() || path.ends_with("::")) else {
        return (vec![path.to_owned()], rest);
    };
    let mut paths = Vec::new();
    rest = inner.trim_start();
    while !rest.is_empty() && !rest.starts_with('}') {
        let (found, more) = expand(rest);
        assert!(more.len() < rest.len(), "no path at `{rest}`");
        paths.extend(found.iter().map(|found| format!("{path}{found}")));
        rest = more.trim_start_matches([',', ' ', '\n']);
    }
    (paths, rest.get(1..).unwrap_or_default())
}

/// The file that defines what a path names: that of the longest path of a module in it.
fn file_of(path: &str, sources: &BTreeMap<String, String>) -> String {
    let mut words: Vec<_> = path.split("::").collect();
    while !words.is_empty() && !sources.contains_key(&words.join("::")) {
        words.pop();
    }
    words.join("::")
}

/// A circle of imports, if there is one.
fn circle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<String> {
    fn visit<'a>(
        graph: &'a BTreeMap<String, BTreeSet<String>>,
        name: &'a str,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<String> {
        if let Some(start) = way.iter().position(|visited| *visited == name) {
            return Some([way.get(start..)?, &[name]].concat().join(" > "));
        }
        if !done.contains(name) {
            way.push(name);
            let found = graph.get(name).into_iter().flatten().find_map(|next| visit(graph, next, way, done));
            if found.is_some() {
                return found;
            }
            way.pop();
            done.insert(name);
        }
        None
    }
    let mut done = BTreeSet::new();
    graph.keys().find_map(|name| visit(graph, name, &mut Vec::new(), &mut done))
}
