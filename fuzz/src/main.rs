//! One executable for all fuzz targets: `CVM_FUZZ_TARGET` names the one that libFuzzer feeds.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

mod targets;

use targets::{ALL, Target};

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("CVM_FUZZ_TARGET").unwrap_or_default();
    let target = ALL.iter().find(|target| target.name == name);
    target.unwrap_or_else(|| panic!("CVM_FUZZ_TARGET names none of {:?}", ALL.map(|target| target.name)))
});

fuzz_target!(|input: &[u8]| {
    (TARGET.parse)(input);
});
