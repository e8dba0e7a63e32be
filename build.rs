//! What the linker leaves out of the shipped executable.
//!
//! A panic there ends in abort (`panic = "abort"`), so nothing ever unwinds: the tables for it, a tenth of the file, are
//! discarded. Tests unwind, so other profiles keep them. Relative relocations in their packed form (DT_RELR) need
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
