//! What can be done with the configuration: the words after `config`.

/// What to do with the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Say whether it is valid.
    Check,
    /// Print it with all defaults filled in.
    Show,
    /// Print `sysroot.mount` for the initramfs.
    MountUnit,
    /// Print what the initramfs needs beside us, one word a line.
    Needs,
}

impl Action {
    pub(super) const ALL: &[Self] = &[Self::Check, Self::Show, Self::MountUnit, Self::Needs];

    /// What is missing where none is named.
    pub(super) const NEEDED: &str = "One of check, show, mount-unit and needs";

    /// As it is written on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Show => "show",
            Self::MountUnit => "mount-unit",
            Self::Needs => "needs",
        }
    }

    /// What the help says of it.
    pub(super) const fn help(self) -> &'static str {
        match self {
            Self::Check => "Say whether it is valid; unknown members are errors",
            Self::Show => "Print it with all defaults filled in",
            Self::MountUnit => "Print sysroot.mount as the dracut module installs it",
            Self::Needs => "Print what the initramfs needs, one word a line: network",
        }
    }

    /// The action of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|action| action.name() == name)
    }
}
