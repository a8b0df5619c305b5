//! Names of things a person writes in a plan, and the two sides of a split.
//!
//! Owns what a valid name is. Never looks anything up by name.

use std::fmt;
use std::sync::Arc;

/// Longest name accepted, in bytes: names become metric labels and file names.
pub const MAX_NAME_LEN: usize = 64;
/// Longest name of a signal, in bytes.
pub const MAX_SIGNAL_NAME_LEN: usize = 48;

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError(String);

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NameError {}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Reads a name: 1 to 64 of `a-z A-Z 0-9 _ - .`, beginning with a letter or a digit.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                check(text).map(|()| Self(Arc::from(text)))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type! {
    /// The name of a pool of endpoints.
    PoolName
}
name_type! {
    /// The name of a rollout.
    RolloutName
}
name_type! {
    /// The name of one stage of a rollout.
    StageName
}
name_type! {
    /// A role whose approval a stage may ask for.
    RoleName
}

/// The name of a signal or a business figure. Held in place, so that a metric stays a plain value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SignalName {
    bytes: [u8; MAX_SIGNAL_NAME_LEN],
    len: u8,
}

impl SignalName {
    /// Reads a name: 1 to 48 of `a-z A-Z 0-9 _ - .`, beginning with a letter or a digit.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check(text)?;
        if text.len() > MAX_SIGNAL_NAME_LEN {
            return Err(NameError(format!(
                "{text:?} is not a name of a signal: it is longer than {MAX_SIGNAL_NAME_LEN} bytes"
            )));
        }
        let mut bytes = [0; MAX_SIGNAL_NAME_LEN];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self {
            bytes,
            len: text.len() as u8,
        })
    }

    pub fn as_str(&self) -> &str {
        let text = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }
}

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// The side of the split a learner's hash puts him on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arm {
    Baseline,
    Canary,
}

impl Arm {
    pub const ALL: [Self; 2] = [Self::Baseline, Self::Canary];

    /// 0 for baseline, 1 for canary: the place of this arm in a `[T; 2]`.
    pub const fn index(self) -> usize {
        match self {
            Self::Baseline => 0,
            Self::Canary => 1,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Canary => "canary",
        }
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// Names are matched by people and machines alike, so the alphabet is the one that needs no
// quoting in a metric label, a URL path, a file name or a shell.
fn check(text: &str) -> Result<(), NameError> {
    let fault = |why: &str| Err(NameError(format!("{text:?} is not a name: {why}")));
    if text.is_empty() {
        return fault("it is empty");
    }
    if text.len() > MAX_NAME_LEN {
        return fault("it is longer than 64 bytes");
    }
    if !text.as_bytes()[0].is_ascii_alphanumeric() {
        return fault("it must begin with a letter or a digit");
    }
    if text
        .bytes()
        .any(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')))
    {
        return fault("only letters, digits, `_`, `-` and `.` are allowed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_small_alphabet_and_a_bound() {
        for good in ["original", "ultra_fast", "a.b-c", "9", &"x".repeat(64)] {
            assert_eq!(PoolName::parse(good).expect(good).as_str(), good);
        }
        for bad in ["", "-a", "a b", "ü", "a/b", "a\n", &"x".repeat(65)] {
            assert!(PoolName::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
