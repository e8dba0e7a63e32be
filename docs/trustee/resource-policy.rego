# Resource policy: a key is released to affirming evidence of one TPM, and to nothing else.
#
# Trustee's own default policy releases every resource to every evidence but `sample`: to any machine with any TPM. It has to be
# replaced before the first key is uploaded.

package policy

import rego.v1

default allow := false

allow if {
	data.plugin == "resource"

	count(input.submods) > 0

	# In this form a device without a status does not pass as one that affirms.
	every device in input.submods {
		device["ear.status"] == "affirming"
	}

	# Each machine gets its own key and no other.
	evidence := input.submods.cpu0["ear.veraison.annotated-evidence"]
	evidence.tpm.ak_public in owners[path]
}

# repository/type/tag; a list of the three in newer versions of Trustee, a text that begins with a slash in older ones.
path := concat("/", data["resource-path"]) if is_array(data["resource-path"])

path := trim_prefix(data["resource-path"], "/") if is_string(data["resource-path"])

# The attestation keys (`cvm-unlock attest --show-ak`) of the machines that may open a volume, by the path of its key.
owners := {
	"default/disk/00000000-0000-0000-0000-000000000000": ["MIIB..."],
}
