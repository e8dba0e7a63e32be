//! Policies.

pub mod literal;
pub mod pcrs;
