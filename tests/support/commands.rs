//! Names of TPM commands in the TPM library specification (TPM 2.0 Part 2, 6.5.2, `TPM_CC`).

/// The name of a command code.
pub fn name(code: u32) -> &'static str {
    NAMES.iter().find(|(other, _)| *other == code).unwrap_or_else(|| panic!("command {code:#x}")).1
}

/// The names of several.
pub fn names(codes: &[u32]) -> Vec<&'static str> {
    codes.iter().copied().map(name).collect()
}

const NAMES: &[(u32, &str)] = &[
    (0x120, "EvictControl"),
    (0x131, "CreatePrimary"),
    (0x139, "DictionaryAttackLockReset"),
    (0x13a, "DictionaryAttackParameters"),
    (0x144, "Startup"),
    (0x153, "Create"),
    (0x156, "Import"),
    (0x157, "Load"),
    (0x158, "Quote"),
    (0x15e, "Unseal"),
    (0x165, "FlushContext"),
    (0x167, "LoadExternal"),
    (0x16a, "PolicyAuthorize"),
    (0x173, "ReadPublic"),
    (0x176, "StartAuthSession"),
    (0x177, "VerifySignature"),
    (0x17a, "GetCapability"),
    (0x17e, "PCR_Read"),
    (0x17f, "PolicyPCR"),
    (0x180, "PolicyRestart"),
    (0x182, "PCR_Extend"),
];
