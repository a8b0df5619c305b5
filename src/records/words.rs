//! The closed lists of the pure room as words in JSON, for `#[serde(with = "words")]`.
//!
//! A word that is not in the list is a fault of the text that is read, never a guess.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

use crate::rollout::condition::{Op, Selector};
use crate::rollout::gate::{Cause, HookOutcome, Level, Phase, WaitsFor};
use crate::rollout::name::Arm;
use crate::rollout::plan::{HookKind, HookMethod, When};
use crate::rollout::verdict::{Purpose, Verdict};

/// A value that is written as one word.
pub(super) trait Word: Copy + 'static {
    /// What the list is of, for messages.
    const WHAT: &'static str;
    const EACH: &'static [Self];

    fn word(self) -> &'static str;
}

pub(super) fn serialize<T: Word, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.word())
}

pub(super) fn deserialize<'de, T: Word, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    read(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no {}", T::WHAT)))
}

/// The same where there may be none.
pub(super) mod optional {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Word, read};

    pub(in crate::records) fn serialize<T: Word, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.serialize_str(value.word()),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::records) fn deserialize<'de, T: Word, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else {
            return Ok(None);
        };
        let value = read(&text);
        let wrong = || D::Error::custom(format!("{text:?} is no {}", T::WHAT));
        value.map(Some).ok_or_else(wrong)
    }
}

pub(super) fn read<T: Word>(text: &str) -> Option<T> {
    T::EACH.iter().copied().find(|value| value.word() == text)
}

impl Word for Phase {
    const WHAT: &'static str = "phase";
    const EACH: &'static [Self] = &Self::ALL;

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for Cause {
    const WHAT: &'static str = "cause of a hold";
    const EACH: &'static [Self] = &Self::ALL;

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for Level {
    const WHAT: &'static str = "level of confidence";
    const EACH: &'static [Self] = &Self::ALL;

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for WaitsFor {
    const WHAT: &'static str = "thing to wait for";
    const EACH: &'static [Self] = &Self::ALL;

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for HookKind {
    const WHAT: &'static str = "kind of hook";
    const EACH: &'static [Self] = &Self::ALL;

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for HookMethod {
    const WHAT: &'static str = "method of a hook";
    const EACH: &'static [Self] = &Self::ALL;

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for When {
    const WHAT: &'static str = "condition of a hook";
    const EACH: &'static [Self] = &Self::ALL;

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for HookOutcome {
    const WHAT: &'static str = "outcome of a hook";
    const EACH: &'static [Self] = &Self::ALL;

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for Arm {
    const WHAT: &'static str = "arm";
    const EACH: &'static [Self] = &Self::ALL;

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for Verdict {
    const WHAT: &'static str = "verdict";
    const EACH: &'static [Self] = &[Self::Pass, Self::Fail, Self::Unproven, Self::NoData];

    fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unproven => "unproven",
            Self::NoData => "no_data",
        }
    }
}

impl Word for Purpose {
    const WHAT: &'static str = "purpose of a condition";
    const EACH: &'static [Self] = &[Self::Advance, Self::Hold, Self::Rollback, Self::Tripwire];

    fn word(self) -> &'static str {
        match self {
            Self::Advance => "advance",
            Self::Hold => "hold",
            Self::Rollback => "rollback",
            Self::Tripwire => "tripwire",
        }
    }
}

impl Word for Selector {
    const WHAT: &'static str = "selector";
    const EACH: &'static [Self] = &[Self::Canary, Self::Baseline, Self::Delta];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for Op {
    const WHAT: &'static str = "comparison";
    const EACH: &'static [Self] = &[
        Self::Less,
        Self::LessOrEqual,
        Self::Greater,
        Self::GreaterOrEqual,
        Self::Equal,
    ];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back_and_no_other_does() {
        fn check<T: Word + PartialEq + std::fmt::Debug>() {
            for &value in T::EACH {
                assert_eq!(read::<T>(value.word()), Some(value));
            }
            assert_eq!(read::<T>("other"), None);
        }
        check::<Phase>();
        check::<Cause>();
        check::<WaitsFor>();
        check::<Arm>();
        check::<Verdict>();
        check::<Purpose>();
        check::<Selector>();
        check::<Op>();
    }
}
