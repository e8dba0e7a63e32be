//! The corpora from which fuzzing starts: each holds input that its parser accepts, so that the fuzzer gets
//! past the first checks. Each input and some thousand mutations of it run through the fuzzer's own targets
//! here; `fuzz/run` continues, guided by coverage.

#[path = "../../fuzz/src/targets.rs"]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use targets::ALL;

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    files.map(|file| file.unwrap().path()).collect()
}

#[test]
fn each_corpus_holds_inputs_that_parse_to_the_end() {
    for target in ALL {
        let accepted: Vec<_> =
            corpus(target.name).into_iter().filter(|file| (target.parse)(&fs::read(file).unwrap())).collect();
        assert!(!accepted.is_empty(), "{} accepts nothing of its corpus", target.name);
    }
    let folders = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")).unwrap();
    assert_eq!(folders.count(), ALL.len(), "a corpus without a target");
}

#[test]
fn what_real_tools_wrote_is_accepted_to_the_last_file() {
    for target in ALL {
        for file in corpus(target.name) {
            // Owner keys of other algorithms are not policy keys.
            let other = ["openssl-ec", "openssl-ed25519"].iter().any(|name| file.ends_with(name));
            assert_eq!((target.parse)(&fs::read(&file).unwrap()), !other, "{}", file.display());
        }
    }
}

#[test]
fn no_mutation_of_a_corpus_panics_or_breaks_what_the_targets_assert() {
    for target in ALL {
        let seeds: Vec<Vec<u8>> =
            corpus(target.name).into_iter().map(|file| fs::read(file).unwrap()).collect();
        let edit = (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..9), 0..9_usize);
        let input = (prop::sample::select(seeds), prop::collection::vec(edit, 1..4));
        let mut runner = TestRunner::new(Config { cases: CASES, ..Config::default() });
        let outcome = runner.run(&input, |(mut bytes, edits)| {
            for (place, insert, remove) in edits {
                let start = place.index(bytes.len() + 1);
                let end = (start + remove).min(bytes.len());
                bytes.splice(start..end, insert);
            }
            (target.parse)(&bytes);
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{}: {error}", target.name));
    }
}

/// Mutations of each corpus.
const CASES: u32 = 400;
