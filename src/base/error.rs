//! What the world sees of a failure: a stable slug, an exit code and a hint.
//!
//! Each stage has its own error enum whose variants say what we were doing. One table per enum, `failures!`,
//! gives them the vocabulary that scripts and fleet dashboards may rely on.

use std::error::Error as StdError;
use std::fmt;

/// Who or what is at fault; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The command line does not make sense.
    Usage,
    /// Bytes from a disk, an image or a file are not what they must be: the host lies, or the data is
    /// damaged.
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
    fn hint(&self) -> &'static str;
}

/// Implements [`Failure`] for an error by one table: a row for each variant, with its slug, class and hint.
///
/// ```text
/// failures! { VolumeError:
///     Self::Open { .. } => "volume-not-opened", Os, "";
///     Self::Busy | Self::Locked => "volume-in-use", Os, "Another program holds it; try again";
///     Self::Header(source) => from source;
///     Self::Untried { source, .. } => from source, "Give the key of another keyslot";
/// }
/// ```
///
/// `from` leaves all three to an inner failure, or all but the hint. Write no `_` row, so that a variant
/// without a row does not compile. `docs/slugs.md` lists all slugs; `tests/house/slugs.rs` reads these tables
/// to check it.
macro_rules! failures {
    ($error:ident: $(
        $pattern:pat => $($slug:literal, $class:ident, $hint:literal)? $(from $inner:ident $(, $other:literal)?)?;
    )+) => {
        impl $crate::base::error::Failure for $error {
            fn slug(&self) -> &'static str {
                match self {$(
                    $pattern => { $($slug)? $($crate::base::error::Failure::slug($inner))? }
                )+}
            }

            fn class(&self) -> $crate::base::error::Class {
                match self {$(
                    $pattern => {
                        $($crate::base::error::Class::$class)? $($crate::base::error::Failure::class($inner))?
                    }
                )+}
            }

            fn hint(&self) -> &'static str {
                match self {$(
                    $pattern => {
                        $($hint)? $($crate::base::error::failures!(@hint $inner $($other)?))?
                    }
                )+}
            }
        }
    };
    (@hint $inner:ident) => { $crate::base::error::Failure::hint($inner) };
    (@hint $inner:ident $other:literal) => {{
        let _: &dyn $crate::base::error::Failure = $inner;
        $other
    }};
}
pub(crate) use failures;

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
