//! The volume of a report: facts about a candidate come in, its members in the report go out.

use serde::{Deserialize, Serialize};

/// Which volume.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct VolumeReport {
    /// Device, or image file.
    pub device: String,
    /// UUID in the LUKS2 header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub luks_uuid: Option<String>,
    /// UUID of the GPT partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition_uuid: Option<String>,
    /// Token that opened it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<u32>,
    /// Keyslot that opened it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyslot: Option<u32>,
    /// Name of the mapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapping: Option<String>,
}
