//! Passes a linker script that drops unwind tables from the shipped executable.
//!
//! There a panic ends in abort (`panic = "abort"`), so nothing ever unwinds, and the tables for it are a
//! tenth of the file. Tests unwind, so other profiles keep them. Packed relative relocations (DT_RELR) need
//! glibc 2.36 where the executable is built.

fn main() {
    println!("cargo:rerun-if-changed={TABLES}");
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("PROFILE").as_deref() == Ok("release") {
        for argument in ["--no-eh-frame-hdr", &format!("-T,{TABLES}"), "-z,pack-relative-relocs"] {
            println!("cargo:rustc-link-arg-bins=-Wl,{argument}");
        }
    }
}

const TABLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/sysroot/no-unwind-tables.ld");
