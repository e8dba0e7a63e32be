//! The repository itself: tests that need neither the executable nor the C libraries.
#![cfg(test)]

mod dracut_module;
mod files;
mod fuzz_corpus;
mod rust_text;
mod slugs;
mod slugs_in_source;
mod specification;
