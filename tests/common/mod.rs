//! What several of the black-box tests need.
#![allow(dead_code, missing_docs)]

pub mod swtpm;
