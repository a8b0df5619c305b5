//! A wall time as text: RFC 3339, milliseconds, UTC.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::calendar;
use crate::rollout::time::WallTime;

/// A label for people: `2025-11-01T14:00:00.123Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Moment(pub WallTime);

impl Moment {
    pub const fn unix_millis(self) -> i64 {
        self.0.as_unix_millis()
    }

    /// The form for file names: `20251101T140000.123Z`.
    pub fn compact(self) -> String {
        self.to_string().replace(['-', ':'], "")
    }

    /// Reads RFC 3339 with any offset; what is finer than a millisecond is cut off. `None` if it is no such text.
    pub fn parse(text: &str) -> Option<Self> {
        calendar::moment(text).ok().map(Self)
    }

    // A clock outside of the years that RFC 3339 can write shows the nearest year that it can.
    fn timestamp(self) -> jiff::Timestamp {
        let limit = if self.unix_millis() < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        };
        jiff::Timestamp::from_millisecond(self.unix_millis()).unwrap_or(limit)
    }
}

impl From<WallTime> for Moment {
    fn from(wall: WallTime) -> Self {
        Self(wall)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.timestamp())
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "{text:?} is not a time like \"2025-11-01T14:00:00.000Z\""
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_with_milliseconds_and_read_back() {
        let check = |millis: i64, text: &str| {
            let moment = Moment(WallTime::from_unix_millis(millis));
            assert_eq!(moment.to_string(), text);
            assert_eq!(Moment::parse(text), Some(moment));
        };
        check(0, "1970-01-01T00:00:00.000Z");
        check(1_762_005_600_123, "2025-11-01T14:00:00.123Z");
        check(-1, "1969-12-31T23:59:59.999Z");
        assert_eq!(
            Moment::parse("2025-11-01T15:00:00+01:00"),
            Moment::parse("2025-11-01T14:00:00Z")
        );
        assert_eq!(Moment::parse("yesterday"), None);
        assert_eq!(
            Moment(WallTime::from_unix_millis(1_762_005_600_123)).compact(),
            "20251101T140000.123Z"
        );
    }

    #[test]
    fn a_clock_far_outside_of_the_calendar_still_has_a_text() {
        for millis in [i64::MIN, i64::MAX] {
            assert!(
                !Moment(WallTime::from_unix_millis(millis))
                    .to_string()
                    .is_empty()
            );
        }
    }
}
