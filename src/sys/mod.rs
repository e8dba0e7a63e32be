//! What the operating system offers only through raw calls. All of the project's `unsafe` is here.

#[expect(unsafe_code, reason = "nix has no device-mapper ioctls")]
pub mod dm;
pub mod memory;
