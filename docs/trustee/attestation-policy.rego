# Attestation policy: what a machine has to prove before Trustee calls its evidence affirming.
#
# Evidence `tpm`, as `cvm-unlock` sends it from the initramfs: a quote over PCRs 0 to 23. Each line below closes a way in; leave
# none out. Reference values are lists, so that two versions of an image can be accepted at once.

package policy

import rego.v1

# What Trustee asks for. Without this rule it sets every claim to 0, and nothing ever affirms.
trust_claims := {
	"hardware": hardware,
	"executables": executables,
	"configuration": configuration,
}

# EAR trust tiers: 2 to 31 affirm, 32 to 95 warn, 96 and above contraindicate; the worst of the claims is the device's status.
default hardware := 97

default executables := 33

default configuration := 36

# Whose TPM: Trustee verifies that the quote was signed by the key that came with it, and not whose key that is. Anybody has
# some TPM, the host can emulate any number of them: only a registered attestation key means one of ours.
hardware := 2 if {
	input.tpm.ak_public in query_reference_value("trusted_aks")
}

# What was booted, and by whom it was vouched for: the UKI (4), the Secure Boot state and keys (7), the UKI's parts and the phase
# of the boot (11). 11 alone can be replayed by another system.
executables := 3 if {
	input.tpm.pcr04 in query_reference_value("tpm_pcr04")
	input.tpm.pcr07 in query_reference_value("tpm_pcr07")
	input.tpm.pcr11 in query_reference_value("tpm_pcr11")
}

# Not yet fenced: after an unlock PCR 15 is not zero any more, so that a booted system, or whoever broke into it, is not given the
# key a second time. No add-ons or credentials (12), no system extensions (13).
configuration := 2 if {
	input.tpm.pcr12 == zero
	input.tpm.pcr13 == zero
	input.tpm.pcr15 == zero
}

zero := "0000000000000000000000000000000000000000000000000000000000000000"
