//! The value of a condition on a signal: a number, with a unit where one helps a reader.
//!
//! A unit is only a way to write the number that the source says: `60%` is 0.6, `1GiB` and `1GB` are bytes, `250ms` and
//! `2h` are seconds. Knows nothing of what the source measures.

use crate::rollout::time::parse_duration;

/// Bytes by their unit, the longer name first.
const SIZES: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// Reads `0.6`, `-5`, `60%`, `1GiB`, `1.5MB`, `250ms`.
pub(super) fn parse(text: &str) -> Option<f64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1.0, digits),
        None => (1.0, text),
    };
    let size = || {
        let unit = |(unit, bytes): &(&str, u64)| Some((digits.strip_suffix(unit)?, *bytes));
        let (number, bytes) = SIZES.iter().find_map(unit)?;
        let bytes = plain(number, "")? * bytes as f64;
        bytes.is_finite().then_some(bytes)
    };
    let span = || parse_duration(digits).ok().map(|span| span.as_secs_f64());
    let percent = || plain(digits.strip_suffix('%')?, "e-2");
    let value = plain(digits, "")
        .or_else(percent)
        .or_else(size)
        .or_else(span)?;
    Some(sign * value)
}

/// The number so that it reads back as the same: whole MiB and GiB as such, for nobody reads 1073741824.
pub(super) fn shown(value: f64) -> String {
    for (unit, bytes) in [("GiB", 1_u64 << 30), ("MiB", 1 << 20)] {
        let units = value / bytes as f64;
        if value != 0.0 && units.fract() == 0.0 && units.abs() < 1e6 {
            return format!("{units}{unit}");
        }
    }
    format!("{value}")
}

// Scaled as text, so that "99.9%" is the very number that 0.999 is.
fn plain(digits: &str, exponent: &str) -> Option<f64> {
    let is_plain = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.ends_with(|c: char| c.is_ascii_digit())
        && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let value: f64 = format!("{digits}{exponent}").parse().ok()?;
    (is_plain && value.is_finite()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_a_way_to_write_the_number() {
        for (text, value) in [
            ("0", 0.0),
            ("0.6", 0.6),
            ("60%", 0.6),
            ("99.9%", 0.999),
            ("-5%", -0.05),
            ("-3", -3.0),
            ("1B", 1.0),
            ("1GiB", 1_073_741_824.0),
            ("1.5GB", 1_500_000_000.0),
            ("64kB", 64_000.0),
            ("250ms", 0.25),
            ("1h30m", 5_400.0),
        ] {
            assert_eq!(parse(text), Some(value), "{text}");
        }
        for text in [
            "", "-", "--1", ".5", "5.", "1e3", "NaN", "inf", "1gib", "5%%", "1 GiB", "GiB", "fast",
        ] {
            assert_eq!(parse(text), None, "{text:?} was accepted");
        }
        // A number by itself, and none in bytes.
        let most = "9".repeat(300);
        assert!(parse(&most).is_some());
        assert_eq!(parse(&format!("{most}TB")), None);
    }

    #[test]
    fn what_is_shown_reads_back() {
        for (value, text) in [
            (0.6, "0.6"),
            (-0.05, "-0.05"),
            (0.0, "0"),
            (1_073_741_824.0, "1GiB"),
            (1_610_612_736.0, "1536MiB"),
            (1e9, "1000000000"),
            (1e-9, "0.000000001"),
        ] {
            assert_eq!(shown(value), text);
            assert_eq!(parse(text), Some(value), "{text}");
        }
    }
}
