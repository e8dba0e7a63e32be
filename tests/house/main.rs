//! The repository itself: tests that need neither the executable nor the C libraries.
#![cfg(test)]

mod documents;
mod dracut_module;
mod files;
mod floors;
mod fuzz_corpus;
#[path = "../support/imports.rs"]
mod imports;
mod rust_text;
mod slugs;
mod slugs_in_source;
mod specification;
