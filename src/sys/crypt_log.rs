//! Receives libcryptsetup's log messages, which would otherwise go to standard error.

use std::ffi::{CStr, c_char, c_int, c_void};

/// The callback for `crypt_set_log_callback`. Logs the library's errors as warnings and drops the rest.
pub(crate) extern "C" fn receive(level: c_int, message: *const c_char, _data: *mut c_void) {
    if level != CRYPT_LOG_ERROR || message.is_null() {
        return;
    }
    // SAFETY: libcryptsetup passes a NUL-terminated string that lives until the callback returns
    // (libcryptsetup.h, `crypt_set_log_callback`); it is not null by the test above, and it is copied before we return.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy().trim_end().to_owned();
    log::warn!("libcryptsetup: {text}");
}

/// `CRYPT_LOG_ERROR` of libcryptsetup.h.
const CRYPT_LOG_ERROR: c_int = 1;
