//! What the world sees of a failure: a stable slug, an exit code and a hint. Stage errors come in, nothing else
//! goes out.
//!
//! Each stage has its own error enum whose variants say what we were doing. Here they only get the vocabulary
//! that scripts and fleet dashboards may rely on.

use std::error::Error as StdError;
use std::fmt;

/// Who or what is at fault; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The command line does not make sense.
    Usage,
    /// Bytes from a disk, an image or a file are not what they must be: the host lies, or the data is damaged.
    Data,
    /// Something that we need is not there: a TPM, a disk.
    Unavailable,
    /// A defect of ours, or of a library.
    Internal,
    /// The operating system refused an operation.
    Os,
    /// The TPM or the configuration refuses: the state of the machine is not the enrolled one.
    Refused,
    /// The configuration is wrong.
    Config,
}

impl Class {
    /// The process exit code, after `sysexits.h`.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 64,
            Self::Data => 65,
            Self::Unavailable => 69,
            Self::Internal => 70,
            Self::Os => 71,
            Self::Refused => 77,
            Self::Config => 78,
        }
    }
}

/// What each stage's error knows about itself.
pub trait Failure: StdError + Send + Sync + 'static {
    /// Stable, kebab-case name of the failure: an interface.
    fn slug(&self) -> &'static str;
    /// Who is at fault.
    fn class(&self) -> Class;
    /// What the operator can do about it; empty where the message says it all.
    fn hint(&self) -> &'static str {
        ""
    }
}

/// Any stage's failure on its way to the report and the exit code.
#[derive(Debug)]
pub struct Error(Box<dyn Failure>);

impl Error {
    /// Stable, kebab-case name of the failure.
    #[must_use]
    pub fn slug(&self) -> &'static str {
        self.0.slug()
    }

    /// Process exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.0.class().exit_code()
    }

    /// What the operator can do; may be empty.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        self.0.hint()
    }

    /// The message and its causes in one line, outermost first.
    #[must_use]
    pub fn chain(&self) -> String {
        chain(&*self.0)
    }
}

/// The message of any error and its causes in one line, outermost first.
#[must_use]
pub fn chain(error: &(impl StdError + ?Sized)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

impl<F: Failure> From<F> for Error {
    fn from(failure: F) -> Self {
        Self(Box::new(failure))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain())
    }
}
