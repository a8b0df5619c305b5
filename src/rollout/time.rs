//! Gate time: moments and spans as the gate counts them, and their text form.
//!
//! A `Timestamp` is monotonic and continues over restarts; a `WallTime` is only a label. This file
//! never reads a clock: every moment is an argument.

use std::fmt;
use std::time::Duration;

/// A moment on the gate's monotonic clock: whole milliseconds since the journal began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The whole second this moment lies in.
    pub const fn second(self) -> u64 {
        self.0 / 1000
    }

    /// Time since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This moment moved back by `span`, not before the beginning.
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }

    /// This moment moved forward by `span`.
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }
}

/// Wall time as milliseconds since 1970-01-01 UTC: for labels and for what people schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WallTime(i64);

impl WallTime {
    pub const fn from_unix_millis(millis: i64) -> Self {
        Self(millis)
    }

    pub const fn as_unix_millis(self) -> i64 {
        self.0
    }
}

/// One moment on both clocks, as it is handed to the gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    pub mono: Timestamp,
    pub wall: WallTime,
}

/// Whole milliseconds of a span, saturating.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Reads `"5s"`, `"250ms"`, `"2h"`, `"1h30m"`, `"1.5s"`, `"13d"`: a sum of numbers with the units d, h, m, s, ms, us,
/// largest unit first, each at most once. Finer than a microsecond or beyond 10 years is refused.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 6] = [
        ("d", 86_400_000_000),
        ("h", 3_600_000_000),
        ("m", 60_000_000),
        ("s", 1_000_000),
        ("ms", 1_000),
        ("us", 1),
    ];
    const TEN_YEARS_US: f64 = 3_650.0 * 86_400e6;
    let fault = || format!("{text:?} is not a duration like \"5s\", \"250ms\" or \"1h30m\"");

    let mut rest = text;
    let mut next_unit = 0;
    let mut total_us = 0.0_f64;
    if rest.is_empty() {
        return Err(fault());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .ok_or_else(fault)?;
        let (number, tail) = rest.split_at(digits);
        let unit_len = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, after) = tail.split_at(unit_len);
        let place = UNITS[next_unit..]
            .iter()
            .position(|(name, _)| *name == unit)
            .ok_or_else(fault)?
            + next_unit;
        if number.starts_with('.') || number.ends_with('.') {
            return Err(fault());
        }
        let count: f64 = number.parse().map_err(|_| fault())?;
        total_us += count * UNITS[place].1 as f64;
        next_unit = place + 1;
        rest = after;
    }
    if total_us > TEN_YEARS_US {
        return Err(format!("{text:?} is longer than ten years"));
    }
    let rounded = total_us.round();
    if (total_us - rounded).abs() > 1e-6 * total_us.max(1.0) {
        return Err(format!("{text:?} is finer than a microsecond"));
    }
    Ok(Duration::from_micros(rounded as u64))
}

/// Prints a span in the form `parse_duration` reads: `1h30m`, `250ms`, `0s`.
pub fn format_duration(span: Duration) -> String {
    let mut us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    if us == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (unit, size) in [
        ("d", 86_400_000_000_u64),
        ("h", 3_600_000_000),
        ("m", 60_000_000),
        ("s", 1_000_000),
        ("ms", 1_000),
        ("us", 1),
    ] {
        if us >= size {
            out.push_str(&format!("{}{unit}", us / size));
            us %= size;
        }
    }
    out
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_written() {
        let check = |text: &str, us: u64| {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_micros(us)),
                "{text}"
            );
        };
        check("0s", 0);
        check("5s", 5_000_000);
        check("250ms", 250_000);
        check("1h30m", 5_400_000_000);
        check("13d", 1_123_200_000_000);
        check("1.5s", 1_500_000);
        check("1s500ms", 1_500_000);
        check("3us", 3);
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in [
            "", "5", "s", "5 s", "-5s", "5m1h", "5s5s", "5x", "1e3s", ".5s", "5.s", "1..5s",
            "4000d", "0.5us", "NaNs",
        ] {
            assert!(parse_duration(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn what_is_printed_reads_back() {
        for us in [
            0,
            1,
            999,
            1_000,
            90_000_000,
            5_400_000_000,
            1_123_200_000_001,
        ] {
            let span = Duration::from_micros(us);
            assert_eq!(parse_duration(&format_duration(span)), Ok(span));
        }
    }
}
