//! Classifies TSS return codes, whatever the command. Pure.

/// The classes that we distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RcClass {
    /// The TCTI or the kernel's device failed, or the answer is not a TPM's. The library accepts no command
    /// afterwards.
    Transport,
    /// Retry later; the command was not executed.
    Transient,
    /// Dictionary attack lockout.
    Lockout,
    /// No room for an object or a session.
    Memory,
    /// `TPM2_Startup` is missing.
    NotStarted,
    /// The session's policy digest is not the object's.
    PolicyFailed,
    /// A PCR changed since `TPM2_PolicyPCR`.
    PcrChanged,
    /// The private part does not decrypt, or does not belong to the public part.
    Integrity,
    /// Nothing at that handle.
    Handle,
    /// An object of the wrong type.
    Type,
    /// The authorisation is wrong.
    Auth,
    /// An algorithm, curve, key size or value that this TPM does not implement.
    Unsupported,
    /// The TPM could not do it.
    Failure,
    /// A signature does not verify.
    Signature,
    /// The response's HMAC is wrong.
    Forged,
    /// Anything else.
    Other,
}

impl RcClass {
    /// The class of a TSS return code: bits 16 to 23 are the layer, and below is a TPM response code (TPM 2.0
    /// Part 2, 6.6).
    #[must_use]
    pub const fn of(rc: u32) -> Self {
        let code = rc & 0xffff;
        match (rc >> 16) & 0xff {
            LAYER_TPM | LAYER_RESOURCE_MANAGER_TPM if code & FORMAT_ONE != 0 => Self::format_one(code),
            LAYER_TPM | LAYER_RESOURCE_MANAGER_TPM => Self::format_zero(code),
            LAYER_ESYS if code == RSP_AUTH_FAILED => Self::Forged,
            LAYER_ESYS | LAYER_SYS
                if matches!(code, BAD_SEQUENCE | MALFORMED | NO_ROOM_FOR_IT | TOO_SHORT) =>
            {
                Self::Transport
            }
            LAYER_TCTI | LAYER_RESOURCE_MANAGER => Self::Transport,
            _ => Self::Other,
        }
    }

    const fn format_zero(code: u32) -> Self {
        match code {
            0x100 => Self::NotStarted,                                // TPM_RC_INITIALIZE
            0x101 => Self::Failure,                                   // TPM_RC_FAILURE
            0x128 => Self::PcrChanged,                                // TPM_RC_PCR_CHANGED
            0x901..=0x906 => Self::Memory, // CONTEXT_GAP, OBJECT_MEMORY, SESSION_MEMORY, MEMORY, *_HANDLES
            0x908 | 0x90a | 0x920 | 0x922 | 0x923 => Self::Transient, // YIELDED, TESTING, NV_RATE, RETRY, NV_UNAVAILABLE
            0x921 => Self::Lockout,                                   // TPM_RC_LOCKOUT
            _ => Self::Other,
        }
    }

    /// Bits 0 to 5 are the error. Bit 6 and the upper nibble only name a handle, session or parameter.
    const fn format_one(code: u32) -> Self {
        match code & 0x3f {
            0x03 | 0x04 | 0x09 | 0x0d | 0x12 | 0x16 | 0x26 => Self::Unsupported, // HASH, VALUE, MODE, KDF, SCHEME, SYMMETRIC, CURVE
            0x0a => Self::Type,
            0x0b => Self::Handle,
            0x0e | 0x22 => Self::Auth,             // AUTH_FAIL, BAD_AUTH
            0x15 | 0x1f | 0x25 => Self::Integrity, // SIZE, INTEGRITY, BINDING
            0x1b => Self::Signature,
            0x1d => Self::PolicyFailed,
            _ => Self::Other,
        }
    }
}

const FORMAT_ONE: u32 = 0x80;
// Layers of a TSS return code (TSS 2.0 Overview and Common Structures, 2.4).
const LAYER_TPM: u32 = 0;
const LAYER_ESYS: u32 = 7;
const LAYER_SYS: u32 = 8;
const LAYER_TCTI: u32 = 10;
const LAYER_RESOURCE_MANAGER: u32 = 11;
const LAYER_RESOURCE_MANAGER_TPM: u32 = 12;
// Also 2.4.3: `TSS2_BASE_RC_BAD_SEQUENCE` (the connection broke earlier), `_MALFORMED_RESPONSE`,
// `_INSUFFICIENT_CONTEXT` (the answer claims to be longer than any answer), `_INSUFFICIENT_RESPONSE` and
// `_RSP_AUTH_FAILED`.
const BAD_SEQUENCE: u32 = 7;
const MALFORMED: u32 = 17;
const NO_ROOM_FOR_IT: u32 = 18;
const TOO_SHORT: u32 = 19;
const RSP_AUTH_FAILED: u32 = 27;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transient_codes_are_exactly_the_five() {
        let transient: Vec<u32> = (0..0x1000).filter(|rc| RcClass::of(*rc) == RcClass::Transient).collect();
        assert_eq!(transient, [0x908, 0x90a, 0x920, 0x922, 0x923]);
    }

    #[test]
    fn what_is_no_answer_is_a_broken_transport_and_a_value_that_cannot_be_sent_is_not() {
        // What tpm2-tss 4.1.3 returns for garbage on the wire, and for commands after it.
        for rc in [0x0008_0007, 0x0008_0011, 0x0008_0012, 0x0008_0013, 0x0007_0007] {
            assert_eq!(RcClass::of(rc), RcClass::Transport, "{rc:#x}");
        }
        for rc in [0x0007_000b, 0x0008_000b, 0x0008_0010, 0x0009_0006] {
            assert_eq!(RcClass::of(rc), RcClass::Other, "{rc:#x}");
        }
    }

    #[test]
    fn a_resource_managers_word_is_the_tpms() {
        assert_eq!(RcClass::of(0x000c_099d), RcClass::PolicyFailed);
        assert_eq!(RcClass::of(0x000b_000b), RcClass::Transport);
    }
}
