//! The repository itself: tests that need neither the executable nor the C libraries.
#![cfg(test)]

mod dracut_module;
mod fuzz_corpus;
mod specification;
