//! A weight: the share of learners on the canary arm, in parts per million, exact.
//!
//! Baseline always has the rest, so the two arms sum to the whole by construction.

use std::fmt;

/// The whole, in parts per million.
pub const WHOLE_PPM: u32 = 1_000_000;

/// The share of learners on the canary arm: 0 to 1,000,000 ppm.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Weight(u32);

/// Why a text or a pair of shares is not a weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightError(String);

impl Weight {
    pub const ZERO: Self = Self(0);
    pub const FULL: Self = Self(WHOLE_PPM);

    /// `None` above the whole.
    pub const fn from_ppm(ppm: u32) -> Option<Self> {
        if ppm <= WHOLE_PPM {
            Some(Self(ppm))
        } else {
            None
        }
    }

    pub const fn ppm(self) -> u32 {
        self.0
    }

    /// The canary's share, 0.0 to 1.0.
    pub fn share(self) -> f64 {
        f64::from(self.0) / f64::from(WHOLE_PPM)
    }

    /// The baseline's share, 0.0 to 1.0, from the exact rest.
    pub fn baseline_share(self) -> f64 {
        f64::from(WHOLE_PPM - self.0) / f64::from(WHOLE_PPM)
    }

    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// From the two pools' parts of any sum, rounded to the nearest ppm. A part above 0 never
    /// becomes 0, so nobody who asked for "a little" gets nothing.
    pub fn from_parts(baseline: f64, canary: f64) -> Result<Self, WeightError> {
        for part in [baseline, canary] {
            if !part.is_finite() || part < 0.0 {
                return Err(WeightError(format!("{part} is not a number of 0 or more")));
            }
        }
        let largest = baseline.max(canary);
        if largest == 0.0 {
            return Err(WeightError("all weights are 0".to_owned()));
        }
        // Scaled by the largest first: the sum of two finite parts may overflow.
        let (baseline, canary) = (baseline / largest, canary / largest);
        let exact = canary / (baseline + canary) * f64::from(WHOLE_PPM);
        let mut ppm = exact.round() as u32;
        if canary > 0.0 {
            ppm = ppm.max(1);
        }
        if baseline > 0.0 {
            ppm = ppm.min(WHOLE_PPM - 1);
        }
        Ok(Self(ppm))
    }

    /// Reads `"1%"`, `"0.0001%"`, `"100%"`. Finer than a ppm, negative or above 100 % is refused.
    pub fn parse(text: &str) -> Result<Self, WeightError> {
        let fault = |why: &str| WeightError(format!("{text:?} is not a share like \"1%\": {why}"));
        let number = text
            .strip_suffix('%')
            .ok_or_else(|| fault("the % is missing"))?
            .trim_end();
        let percent: f64 = match number.parse() {
            Ok(percent) if number.bytes().all(|b| b.is_ascii_digit() || b == b'.') => percent,
            _ => return Err(fault("not a number")),
        };
        Self::from_share_scaled(percent * 10_000.0).map_err(|why| fault(&why))
    }

    /// From a share between 0.0 and 1.0 as a person writes it (`0.01`).
    pub fn from_share(share: f64) -> Result<Self, WeightError> {
        Self::from_share_scaled(share * f64::from(WHOLE_PPM))
            .map_err(|why| WeightError(format!("{share} is not a share between 0 and 1: {why}")))
    }

    fn from_share_scaled(ppm: f64) -> Result<Self, String> {
        if !ppm.is_finite() || ppm < 0.0 {
            return Err("not a number of 0 or more".to_owned());
        }
        if ppm > f64::from(WHOLE_PPM) {
            return Err("it is above 100%".to_owned());
        }
        if (ppm - ppm.round()).abs() > 1e-6 {
            return Err("it is finer than one part per million".to_owned());
        }
        Ok(Self(ppm.round() as u32))
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 10_000, self.0 % 10_000);
        if rest == 0 {
            return write!(f, "{whole}%");
        }
        let rest = format!("{rest:04}");
        write!(f, "{whole}.{}%", rest.trim_end_matches('0'))
    }
}

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for WeightError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WeightError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_read_exactly_and_print_back() {
        for (text, ppm) in [
            ("0%", 0),
            ("0.0001%", 1),
            ("1%", 10_000),
            ("2.5%", 25_000),
            ("99.9999%", 999_999),
            ("100%", 1_000_000),
        ] {
            let weight = Weight::parse(text).expect(text);
            assert_eq!((weight.ppm(), weight.to_string().as_str()), (ppm, text));
        }
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for text in [
            "",
            "1",
            "%",
            "101%",
            "100.0001%",
            "-1%",
            "+1%",
            "1e1%",
            "NaN%",
            "inf%",
            "0.00001%",
            "1%%",
        ] {
            assert!(Weight::parse(text).is_err(), "{text:?} was accepted");
        }
        for share in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(Weight::from_share(share).is_err(), "{share} was accepted");
        }
    }

    #[test]
    fn parts_are_normalised_and_a_little_is_never_nothing() {
        let check = |baseline: f64, canary: f64, ppm: u32| {
            let weight = Weight::from_parts(baseline, canary).expect("valid parts");
            assert_eq!(weight.ppm(), ppm, "{baseline}/{canary}");
            assert_eq!(weight.share() + weight.baseline_share(), 1.0);
        };
        check(1.0, 0.0, 0);
        check(0.0, 7.0, 1_000_000);
        check(99.0, 1.0, 10_000);
        check(2.0, 1.0, 333_333);
        check(1e12, 1.0, 1);
        check(1.0, 1e12, 999_999);
        check(f64::MAX, f64::MAX, 500_000);
        assert!(Weight::from_parts(0.0, 0.0).is_err());
        assert!(Weight::from_parts(-1.0, 2.0).is_err());
        assert!(Weight::from_parts(f64::NAN, 1.0).is_err());
    }
}
