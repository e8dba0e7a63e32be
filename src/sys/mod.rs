//! Wraps raw calls to the operating system and C libraries. All of the project's `unsafe` is here.

#[cfg(feature = "native")]
#[expect(unsafe_code, reason = "a callback gets a C string")]
pub mod crypt_log;
#[expect(unsafe_code, reason = "nix has no device-mapper ioctls")]
pub mod dm;
#[expect(unsafe_code, reason = "nix has no interface ioctls")]
pub mod interface;
pub mod memory;
