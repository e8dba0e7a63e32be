//! Which source file of a crate imports which, parsed from the text without its unit tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The files of a crate by module path; the crate's root has the empty path.
pub(crate) struct Sources(BTreeMap<String, String>);

/// For each file, the files that it imports from.
pub(crate) type Graph = BTreeMap<String, BTreeSet<String>>;

impl Sources {
    /// The files below a directory.
    pub(crate) fn below(root: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut directories = vec![root.to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(root).unwrap().with_extension("");
                let name = name.to_str().unwrap().replace('/', "::");
                if path.is_dir() {
                    directories.push(path);
                } else if path.extension().is_some_and(|kind| kind == "rs") && !name.ends_with("tests") {
                    let name = name.strip_suffix("::mod").unwrap_or(&name);
                    let name = if name == "lib" { "" } else { name };
                    files.insert(name.to_owned(), code(&fs::read_to_string(path).unwrap()));
                }
            }
        }
        Self(files)
    }

    /// Invented files, for tests.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(name, text)| ((*name).to_owned(), code(text))).collect())
    }

    /// The same with one more file, which imports nothing.
    pub(crate) fn with(mut self, name: &str) -> Self {
        self.0.insert(name.to_owned(), String::new());
        self
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The imports of each file. A re-exported name (`pub use`) counts as imported from the file that defines
    /// it.
    pub(crate) fn graph(&self) -> Graph {
        let imports = |(name, text): (&String, &String)| {
            let used = without_reexports(text);
            let mut imports: BTreeSet<_> =
                self.paths(name, &used).iter().map(|path| self.file_of(path, 0)).collect();
            imports.remove(name);
            (name.clone(), imports)
        };
        self.0.iter().map(imports).collect()
    }

    /// The absolute crate paths in some code of the module `name`.
    fn paths(&self, name: &str, code: &str) -> Vec<String> {
        let mut paths = Vec::new();
        for root in ["crate", "cvm_unlock", "vm_tests"] {
            paths.extend(behind(code, &format!("{root}::")));
        }
        let mut above = name.to_owned();
        for supers in 1.. {
            let prefix = "super::".repeat(supers);
            if !code.contains(&prefix) {
                break;
            }
            above = above.rsplit_once("::").map_or(String::new(), |(parent, _)| parent.to_owned());
            let longer = format!("super::{prefix}");
            let only = code.replace(&longer, "");
            paths.extend(behind(&only, &prefix).into_iter().map(|path| joined(&above, &path)));
        }
        // In its own `use`, a module names its children without a prefix.
        for line in code.split(';').filter_map(|item| item.trim_start().strip_prefix("use ")) {
            let (found, _) = expand(line);
            let child = |path: &String| {
                let first = path.split("::").next().unwrap_or_default();
                self.0.contains_key(&joined(name, first))
            };
            paths.extend(found.iter().filter(|path| child(path)).map(|path| joined(name, path)));
        }
        paths
    }

    /// The file that defines what a path names.
    fn file_of(&self, path: &str, depth: usize) -> String {
        let words: Vec<_> = path.split("::").collect();
        let length = (0..=words.len()).rev().find(|length| self.0.contains_key(&words[..*length].join("::")));
        let module = words[..length.unwrap_or(0)].join("::");
        let handed_on = words.get(length.unwrap_or(0)).and_then(|item| self.handed_on(&module, item));
        match handed_on {
            Some(origin) if depth < 8 => self.file_of(&origin, depth + 1),
            _ => module,
        }
    }

    /// The place from which a module re-exports an item.
    fn handed_on(&self, module: &str, item: &str) -> Option<String> {
        let text = self.0.get(module)?;
        let uses = reexports(text);
        let paths = uses.iter().flat_map(|tree| {
            let code = format!("use {tree};");
            self.paths(module, &code)
        });
        paths.into_iter().find(|path| path.rsplit("::").next() == Some(item))
    }
}

/// A circle of imports, if there is one.
pub(crate) fn circle(graph: &Graph) -> Option<String> {
    fn visit<'a>(
        graph: &'a Graph,
        name: &'a str,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<String> {
        if let Some(start) = way.iter().position(|visited| *visited == name) {
            return Some([&way[start..], &[name]].concat().join(" > "));
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

/// The text without comments and without the unit tests at its end.
fn code(text: &str) -> String {
    let code: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let tests = code.find("#[cfg(test)]\nmod tests {").or_else(|| code.find("#[cfg(test)]\npub(in"));
    tests.and_then(|end| code.get(..end)).unwrap_or(&code).to_owned()
}

/// The text after `pub use` and the like, up to the semicolon.
fn reexports(code: &str) -> Vec<&str> {
    let items = code.split_inclusive(';');
    let items = items.filter_map(|item| {
        let start = item.find("pub use ").or_else(|| item.find("pub(crate) use "))?;
        let item = item.get(start..)?;
        item.get(item.find("use ")? + 4..)?.strip_suffix(';')
    });
    items.collect()
}

fn without_reexports(code: &str) -> String {
    let mut rest = code.to_owned();
    for tree in reexports(code) {
        rest = rest.replacen(&format!("use {tree};"), "", 1);
    }
    rest
}

fn joined(module: &str, path: &str) -> String {
    if module.is_empty() { path.to_owned() } else { format!("{module}::{path}") }
}

/// The paths that follow a prefix in some code, with nested braces written out.
fn behind(code: &str, prefix: &str) -> Vec<String> {
    code.split(prefix).skip(1).flat_map(|rest| expand(rest).0).collect()
}

/// The paths at the start of some code, and what follows them.
fn expand(code: &str) -> (Vec<String>, &str) {
    let end = code.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(code.len());
    let (path, mut rest) = code.split_at(end);
    let Some(inner) = rest.strip_prefix('{').filter(|_| path.is_empty() || path.ends_with("::")) else {
        return (vec![path.trim_end_matches("::self").to_owned()], rest);
    };
    let mut paths = Vec::new();
    rest = inner.trim_start();
    while !rest.is_empty() && !rest.starts_with('}') {
        let (found, more) = expand(rest);
        assert!(more.len() < rest.len(), "no path at `{rest}`");
        paths
            .extend(found.iter().map(|found| format!("{path}{found}").trim_end_matches("::self").to_owned()));
        rest = more.trim_start_matches([',', ' ', '\n']);
    }
    (paths, rest.get(1..).unwrap_or_default())
}
