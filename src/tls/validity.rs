//! Until when a certificate holds: the one field of X.509 that the TLS library does not tell. Pure.
//!
//! Reads as much of DER as leads there (RFC 5280, 4.1): Certificate, TBSCertificate, then past version, serial number,
//! signature and issuer to validity. Trusts nothing: what is not of this form has no answer.

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

const DAY_S: i64 = 86_400;

/// The last second at which the certificate is valid, as Unix time; `None` where it is no certificate.
pub(super) fn not_after(certificate: &[u8]) -> Option<i64> {
    let (body, _) = element(certificate, SEQUENCE)?;
    let (mut rest, _) = element(body, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        rest = element(rest, VERSION)?.1;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        rest = element(rest, tag)?.1;
    }
    let (validity, _) = element(rest, SEQUENCE)?;
    let (_, _, after_first) = any(validity)?;
    let (tag, text, _) = any(after_first)?;
    match tag {
        UTC_TIME => {
            let (year, rest) = number(text, 2)?;
            // RFC 5280, 4.1.2.5.1.
            moment(if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = number(text, 4)?;
            moment(year, rest)
        }
        _ => None,
    }
}

// The content of an element of this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = any(bytes)?;
    (found == tag).then_some((content, rest))
}

// Tag, content and what follows.
fn any(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if !(1..=4).contains(&count) {
            return None;
        }
        let (digits, rest) = rest.split_at_checked(count)?;
        let len = digits
            .iter()
            .fold(0, |len, digit| len << 8 | usize::from(*digit));
        (len, rest)
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

// `MMDDHHMMSSZ` of a year.
fn moment(year: i64, text: &[u8]) -> Option<i64> {
    let (month, rest) = number(text, 2)?;
    let (day, rest) = number(rest, 2)?;
    let (hour, rest) = number(rest, 2)?;
    let (minute, rest) = number(rest, 2)?;
    let (second, rest) = number(rest, 2)?;
    let is_one = (1..=12).contains(&month) && (1..=31).contains(&day) && rest == b"Z";
    is_one.then(|| days(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second)
}

// Days since 1970-01-01 in the Gregorian calendar, counted in years that begin with March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + leaps + of_year - 719_468
}

fn number(text: &[u8], digits: usize) -> Option<(i64, &[u8])> {
    let (digits, rest) = text.split_at_checked(digits)?;
    let value = digits.iter().try_fold(0, |value, digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + i64::from(digit - b'0'))
    })?;
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        // From `date -ud ... +%s`.
        for (text, expected) in [
            (&b"700101000000Z"[..], 0),
            (b"260228235959Z", 1_772_323_199),
            (b"491231235959Z", 2_524_607_999),
            (b"500101000000Z", -631_152_000),
            (b"240229120000Z", 1_709_208_000),
        ] {
            let (year, rest) = number(text, 2).expect("a year");
            let year = if year < 50 { 2000 + year } else { 1900 + year };
            assert_eq!(
                moment(year, rest),
                Some(expected),
                "{}",
                text.escape_ascii()
            );
        }
        assert_eq!(moment(9999, b"1231235959Z"), Some(253_402_300_799));
        for text in [
            &b"1301000000Z"[..],
            b"0001000000Z",
            b"0101000000",
            b"01010000+1Z",
        ] {
            assert_eq!(moment(2026, text), None, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_answer() {
        for bytes in [
            &b""[..],
            b"\x30",
            b"\x30\x80",
            b"\x30\x85\x01\x01\x01\x01\x01",
            b"\x30\x84\xff\xff\xff\xff",
            b"\x30\x02\x30\x00",
            b"\x02\x01\x00",
            b"\x30\x06\x30\x04\x02\x02\x01\x01",
        ] {
            assert_eq!(not_after(bytes), None, "{}", bytes.escape_ascii());
        }
    }
}
