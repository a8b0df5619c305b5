//! When people want steps taken: the start of a stage, and the hours in which the rollout may leave it.
//!
//! Wall time is an argument, and a time zone is a table of its offsets: nothing here reads a clock or a database.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::time::WallTime;

/// A step that a set time is missed by more than this awaits a person: who planned 14:00 may sleep at 15:00.
pub const DEFAULT_START_GRACE: Duration = Duration::from_secs(15 * 60);

const MINUTES_OF_A_DAY: u16 = 24 * 60;
const DAY_MS: i64 = 86_400_000;
/// Monday first, as `Days` numbers them.
const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// What the calendar says about one stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The step into the stage is not taken before.
    pub start_at: Option<WallTime>,
    /// A `start_at` missed by more awaits a person.
    pub start_grace: Duration,
    /// The rollout leaves the stage only in these hours.
    pub window: Option<Hours>,
}

/// Hours of some days of the week, by the clocks of one zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours {
    pub days: Days,
    pub daytime: Daytime,
    pub zone: Zone,
}

/// Days of the week; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days([bool; 7]);

/// From one minute of the day to another, which is not included. Where the end is not after the beginning it lies
/// on the day after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Daytime {
    from: u16,
    to: u16,
}

/// A time zone as the offsets that hold in it, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    name: Arc<str>,
    changes: Arc<[Change]>,
}

/// From this moment on local time is so much ahead of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub since: WallTime,
    pub ahead_s: i32,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            start_at: None,
            start_grace: DEFAULT_START_GRACE,
            window: None,
        }
    }
}

// === impl Hours ===

impl Hours {
    pub fn is_open(&self, at: WallTime) -> bool {
        let local = at
            .as_unix_millis()
            .saturating_add(i64::from(self.zone.ahead_s(at)) * 1000);
        let (day, minute) = (
            local.div_euclid(DAY_MS),
            local.rem_euclid(DAY_MS) / (DAY_MS / i64::from(MINUTES_OF_A_DAY)),
        );
        let (today, before) = (self.days.has(day), self.days.has(day - 1));
        let (from, to) = (i64::from(self.daytime.from), i64::from(self.daytime.to));
        if from < to {
            today && (from..to).contains(&minute)
        } else {
            (today && minute >= from) || (before && minute < to)
        }
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.days.texts().join(", ");
        write!(f, "{days} {} {}", self.daytime, self.zone.name)
    }
}

// === impl Days ===

impl Days {
    /// Reads `mon`, or `mon-thu`; `fri-mon` goes over the week's end.
    pub fn parse(text: &str) -> Result<Self, String> {
        let number = |name: &str| {
            let found = NAMES.iter().position(|known| *known == name);
            found.ok_or_else(|| format!("{text:?} is no day like \"mon\" or \"mon-thu\""))
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (number(first)?, number(last)?);
        let mut days = [false; 7];
        let length = (last + 7 - first) % 7;
        for step in 0..=length {
            days[(first + step) % 7] = true;
        }
        Ok(Self(days))
    }

    /// The days of both.
    pub fn and(self, other: Self) -> Self {
        let mut days = self.0;
        for (day, more) in days.iter_mut().zip(other.0) {
            *day |= more;
        }
        Self(days)
    }

    /// As `parse` reads them, days in a row as one: `mon-thu`, `sat`.
    pub fn texts(self) -> Vec<String> {
        let mut texts: Vec<(usize, usize)> = Vec::new();
        for (day, _) in self.0.iter().enumerate().filter(|(_, is_in)| **is_in) {
            match texts.last_mut() {
                Some((_, last)) if *last + 1 == day => *last = day,
                Some(_) | None => texts.push((day, day)),
            }
        }
        let text = |(first, last): (usize, usize)| match first == last {
            true => NAMES[first].to_owned(),
            false => format!("{}-{}", NAMES[first], NAMES[last]),
        };
        texts.into_iter().map(text).collect()
    }

    // Days since 1970-01-01, a Thursday.
    fn has(self, day: i64) -> bool {
        let weekday = usize::try_from((day + 3).rem_euclid(7)).unwrap_or_default();
        self.0[weekday]
    }
}

// === impl Daytime ===

impl Daytime {
    /// Reads `09:00-16:00`; `22:00-06:00` ends on the day after, `00:00-24:00` is the whole day.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fault = || format!("{text:?} is no span of a day like \"09:00-16:00\"");
        let (from, to) = text.split_once('-').ok_or_else(fault)?;
        let (from, to) = (
            minute(from).ok_or_else(fault)?,
            minute(to).ok_or_else(fault)?,
        );
        if from == MINUTES_OF_A_DAY {
            return Err(fault());
        }
        if from == to {
            return Err(format!(
                "{text:?} is no time at all; the whole day is \"00:00-24:00\""
            ));
        }
        Ok(Self { from, to })
    }
}

impl fmt::Display for Daytime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        write!(f, "{}-{}", clock(self.from), clock(self.to))
    }
}

fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits)
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= MINUTES_OF_A_DAY).then_some(minute)
}

// === impl Zone ===

impl Zone {
    /// `changes` are put in order; before the first of them its offset holds as well.
    pub fn new(name: &str, mut changes: Vec<Change>) -> Self {
        changes.sort_by_key(|change| change.since);
        Self {
            name: Arc::from(name),
            changes: Arc::from(changes),
        }
    }

    pub fn utc() -> Self {
        Self::new("UTC", Vec::new())
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many seconds local time is ahead of UTC.
    pub fn ahead_s(&self, at: WallTime) -> i32 {
        let after = self.changes.partition_point(|change| change.since <= at);
        let present = self.changes.get(after.saturating_sub(1));
        present.map_or(0, |change| change.ahead_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // `date -u -d "2026-11-21 09:00" +%s`
    const SATURDAY_NINE: i64 = 1_795_251_600;

    fn wall(s: i64) -> WallTime {
        WallTime::from_unix_millis(s * 1000)
    }

    fn hours(days: &str, daytime: &str, zone: Zone) -> Hours {
        Hours {
            days: Days::parse(days).expect(days),
            daytime: Daytime::parse(daytime).expect(daytime),
            zone,
        }
    }

    #[test]
    fn a_window_opens_on_its_minute_and_closes_on_its_minute() {
        let check = |days: &str, daytime: &str, at: i64, open: bool| {
            let hours = hours(days, daytime, Zone::utc());
            assert_eq!(hours.is_open(wall(at)), open, "{hours} at {at}");
        };
        const MINUTE: i64 = 60;
        const HOUR: i64 = 3600;
        check("sat", "09:00-16:00", SATURDAY_NINE - 1, false);
        check("sat", "09:00-16:00", SATURDAY_NINE, true);
        check("sat", "09:00-16:00", SATURDAY_NINE + 7 * HOUR - 1, true);
        check("sat", "09:00-16:00", SATURDAY_NINE + 7 * HOUR, false);
        check("mon-fri", "09:00-16:00", SATURDAY_NINE, false);
        check("fri-mon", "09:00-16:00", SATURDAY_NINE, true);
        check(
            "mon-fri",
            "09:00-16:00",
            SATURDAY_NINE + 2 * 24 * HOUR,
            true,
        );
        // Overnight the day is the one it opened on.
        check("fri", "22:00-10:00", SATURDAY_NINE, true);
        check("fri", "22:00-09:00", SATURDAY_NINE, false);
        check("sat", "22:00-10:00", SATURDAY_NINE, false);
        check("sat", "22:00-10:00", SATURDAY_NINE + 13 * HOUR, true);
        check(
            "sat",
            "00:00-24:00",
            SATURDAY_NINE + 15 * HOUR - MINUTE,
            true,
        );
        check("sat", "00:00-24:00", SATURDAY_NINE + 15 * HOUR, false);
    }

    #[test]
    fn an_offset_holds_from_its_change_on() {
        let change = |since, ahead_s| Change {
            since: wall(since),
            ahead_s,
        };
        let zone = Zone::new("X", vec![change(2000, 7200), change(1000, 3600)]);
        for (at, ahead_s) in [
            (0, 3600),
            (999, 3600),
            (1000, 3600),
            (1999, 3600),
            (2000, 7200),
            (i64::from(i32::MAX), 7200),
        ] {
            assert_eq!(zone.ahead_s(wall(at)), ahead_s, "at {at}");
        }
        assert_eq!(Zone::utc().ahead_s(wall(5)), 0);
    }

    #[test]
    fn what_is_written_is_read_and_nonsense_is_refused() {
        for text in ["mon", "mon-thu", "sat-sun", "mon-sun"] {
            assert_eq!(
                Days::parse(text).map(Days::texts),
                Ok(vec![text.to_owned()])
            );
        }
        let both = Days::parse("fri-mon").expect("days").texts();
        assert_eq!(both, ["mon", "fri-sun"]);
        for text in ["", "monday", "mon-", "mon-thu-fri", "MON", "0"] {
            assert!(Days::parse(text).is_err(), "{text:?} was taken");
        }
        for text in ["09:00-16:00", "22:00-06:00", "00:00-24:00", "23:59-00:00"] {
            let read = Daytime::parse(text).map(|daytime| daytime.to_string());
            assert_eq!(read, Ok(text.to_owned()));
        }
        for text in [
            "",
            "9:00-16:00",
            "09:00",
            "09:00-09:00",
            "24:00-06:00",
            "09:60-10:00",
            "09:00-24:01",
            "+9:00-10:00",
        ] {
            assert!(Daytime::parse(text).is_err(), "{text:?} was taken");
        }
    }
}
