//! Why no single volume was chosen.

use crate::base::error::failures;

/// Why no single volume was chosen.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// Two volumes prove that they are ours.
    #[error("Both {} and {} prove to be the root volume", .0.display(), .1.display())]
    Several(std::path::PathBuf, std::path::PathBuf),
    /// The volumes before this one used up the limit of tokens.
    #[error("Volume not tried: a boot does not try as many tokens as all volumes have")]
    TooManyTokens,
    /// No candidate was found.
    #[error("There is no candidate for the root volume")]
    None,
}

failures! { SelectError:
    Self::Several(..) => "root-ambiguous", Data, "Detach the copy of the disk";
    Self::TooManyTokens => "tokens-too-many", Data, "Detach the disks that are not this machine's";
    Self::None => "root-not-found", Unavailable, "";
}
