//! Moments and time zones as people write them, both ways: RFC 3339, and names like `Europe/Berlin`.
//!
//! The zones come with the binary, so that a machine without a time zone database knows them too. Reads no clock.

use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::rollout::schedule::{Change, Zone};
use crate::rollout::time::WallTime;

/// 2000-01-01 and 2100-01-01: no rollout is planned before or after, and a table of a century is small.
const FIRST_S: i64 = 946_684_800;
const LAST_S: i64 = 4_102_444_800;

/// Reads RFC 3339 with any offset; what is finer than a millisecond is cut off.
pub fn moment(text: &str) -> Result<WallTime, String> {
    let read: jiff::Timestamp = text
        .parse()
        .map_err(|_| format!("{text:?} is not a moment like \"2025-11-01T14:00:00Z\""))?;
    Ok(WallTime::from_unix_millis(read.as_millisecond()))
}

/// The same moment in UTC, no finer than it has to be: `2025-11-01T14:00:00Z`.
pub fn moment_text(at: WallTime) -> String {
    jiff::Timestamp::from_millisecond(at.as_unix_millis())
        .map_or_else(|_| at.as_unix_millis().to_string(), |at| at.to_string())
}

/// The offsets of a zone over a century.
pub fn zone(name: &str) -> Result<Zone, String> {
    let unknown = || format!("{name:?} is not a time zone like \"UTC\" or \"Europe/Berlin\"");
    let zone = TimeZoneDatabase::bundled()
        .get(name)
        .map_err(|_| unknown())?;
    let (first, last) = (at(FIRST_S)?, at(LAST_S)?);
    let mut changes = vec![change(&zone, first)];
    let later = zone.following(first).map(|change| change.timestamp());
    changes.extend(
        later
            .take_while(|since| *since < last)
            .map(|since| change(&zone, since)),
    );
    // By the name that was typed: `europe/berlin` is found too, and the file says it again.
    Ok(Zone::new(name, changes))
}

fn at(second: i64) -> Result<jiff::Timestamp, String> {
    jiff::Timestamp::from_second(second).map_err(|why| why.to_string())
}

fn change(zone: &TimeZone, since: jiff::Timestamp) -> Change {
    Change {
        since: WallTime::from_unix_millis(since.as_millisecond()),
        ahead_s: zone.to_offset(since).seconds(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::schedule::{Days, Daytime, Hours};

    // From Debian's tzdata: `zdump -v -c 2026,2028 Europe/Berlin`, `America/New_York`, `Asia/Kolkata`.
    #[test]
    fn clocks_change_when_the_zone_says() {
        let check = |name: &str, text: &str, ahead_s: i32| {
            let zone = zone(name).expect(name);
            assert_eq!(
                zone.ahead_s(moment(text).expect(text)),
                ahead_s,
                "{name} {text}"
            );
        };
        check("UTC", "2026-07-01T00:00:00Z", 0);
        check("Europe/Berlin", "2026-03-29T00:59:59Z", 3600);
        check("Europe/Berlin", "2026-03-29T01:00:00Z", 7200);
        check("Europe/Berlin", "2026-10-25T00:59:59Z", 7200);
        check("Europe/Berlin", "2026-10-25T01:00:00Z", 3600);
        check("America/New_York", "2026-11-01T05:59:59Z", -14_400);
        check("America/New_York", "2026-11-01T06:00:00Z", -18_000);
        check("Asia/Kolkata", "2027-01-01T00:00:00Z", 19_800);
        check("Europe/Berlin", "2099-07-01T00:00:00Z", 7200);
    }

    #[test]
    fn a_window_follows_the_clocks_of_its_zone() {
        let hours = Hours {
            days: Days::parse("mon-fri").expect("days"),
            daytime: Daytime::parse("09:00-16:00").expect("hours"),
            zone: zone("Europe/Berlin").expect("a zone"),
        };
        let check = |text: &str, open: bool| {
            assert_eq!(hours.is_open(moment(text).expect(text)), open, "{text}");
        };
        // Friday before the change: 9:00 is 8:00 UTC; Monday after it: 7:00 UTC.
        check("2026-03-27T07:59:59Z", false);
        check("2026-03-27T08:00:00Z", true);
        check("2026-03-27T15:00:00Z", false);
        check("2026-03-30T06:59:59Z", false);
        check("2026-03-30T07:00:00Z", true);
        check("2026-03-30T13:59:59Z", true);
        check("2026-03-30T14:00:00Z", false);
    }

    #[test]
    fn a_moment_may_have_any_offset_and_must_have_one() {
        let utc = moment("2025-11-01T14:00:00Z");
        // date -u -d 2025-11-01T14:00:00Z +%s
        assert_eq!(utc, Ok(WallTime::from_unix_millis(1_762_005_600_000)));
        assert_eq!(moment("2025-11-01T15:00:00+01:00"), utc);
        assert_eq!(utc.map(moment_text).as_deref(), Ok("2025-11-01T14:00:00Z"));
        for text in ["", "2025-11-01", "2025-11-01T14:00:00", "tomorrow"] {
            assert!(moment(text).is_err(), "{text:?} was taken");
        }
        assert!(zone("Europe/Atlantis").is_err());
    }
}
