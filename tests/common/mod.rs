//! What several of the black-box tests need.
#![allow(dead_code)]

pub mod swtpm;
