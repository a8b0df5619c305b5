//! Amounts: shares and sizes, which are typed as a number or as a string with a unit.

use serde_json::{Value, json};
use toml::de::DeValue;

use super::form::{Form, Reading, or_template};
use super::leaf::or_template_pattern;
use crate::rollout::weight::Weight;

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

/// A share that is no weight: 0.0 to 1.0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Share(pub(super) f64);

/// A number without a unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Number(pub(super) f64);

impl Form for Weight {
    fn read(value: &DeValue<'_>, key: &str, reading: &mut Reading<'_>) -> Option<Self> {
        let parsed = match value {
            DeValue::String(raw) => {
                let text = reading.text(value, key, "a share")?;
                if reading.is_outside(raw, key) {
                    parse_share(&text)
                } else {
                    Self::parse(&text).map_err(|why| why.to_string())
                }
            }
            DeValue::Float(float) => parse_share(float.as_str()),
            DeValue::Integer(integer) => parse_share(integer.as_str()),
            DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                return reading.wrong_type(value, key, "a share like \"1%\" or 0.01");
            }
        };
        reading.good(key, parsed)
    }

    fn schema() -> Value {
        json!({ "$ref": "#/$defs/share" })
    }

    fn shown(&self) -> Option<Value> {
        Some(json!(self.to_string()))
    }
}

impl Form for Share {
    fn read(value: &DeValue<'_>, key: &str, reading: &mut Reading<'_>) -> Option<Self> {
        Weight::read(value, key, reading).map(|weight| Self(weight.share()))
    }

    fn schema() -> Value {
        Weight::schema()
    }

    fn shown(&self) -> Option<Value> {
        Weight::from_share(self.0).ok()?.shown()
    }
}

impl Form for Number {
    fn read(value: &DeValue<'_>, key: &str, reading: &mut Reading<'_>) -> Option<Self> {
        let text = match (reading.template(value, key), value) {
            (Some(text), _) => text?,
            (None, DeValue::Float(float)) => float.as_str().to_owned(),
            (None, DeValue::Integer(integer)) => integer.as_str().to_owned(),
            (None, _) => return reading.wrong_type(value, key, "a number"),
        };
        let parsed = text.parse().ok().filter(|number: &f64| number.is_finite());
        reading.good(
            key,
            parsed
                .map(Self)
                .ok_or_else(|| format!("{text:?} is not a number")),
        )
    }

    fn schema() -> Value {
        or_template(json!({ "type": "number" }))
    }

    fn shown(&self) -> Option<Value> {
        Some(json!(self.0))
    }
}

impl Form for Size {
    fn read(value: &DeValue<'_>, key: &str, reading: &mut Reading<'_>) -> Option<Self> {
        if let DeValue::Integer(integer) = value {
            let bytes = u64::from_str_radix(integer.as_str(), integer.radix());
            return reading.good(
                key,
                bytes
                    .map(Self)
                    .map_err(|_| "expected 0 bytes or more".to_owned()),
            );
        }
        let text = reading.text(value, key, "a size like \"64KiB\"")?;
        reading.good(key, parse_size(&text))
    }

    fn schema() -> Value {
        json!({ "$ref": "#/$defs/size" })
    }

    fn shown(&self) -> Option<Value> {
        Some(json!(format_size(self.0)))
    }
}

/// A share as an argument or a number says it: `"1%"`, `0.01`, `0`.
///
/// # Errors
/// Not a number, not between 0 and 1, finer than a part per million, or a whole number above 0
/// without a point: `1` may be meant as 1 % or as 100 %.
pub fn parse_share(text: &str) -> Result<Weight, String> {
    if text.ends_with('%') {
        return Weight::parse(text).map_err(|why| why.to_string());
    }
    let fault = || format!("{text} is not a share like \"1%\" or 0.01");
    let number: f64 = text.parse().map_err(|_| fault())?;
    if number > 0.0 && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("{}; is {text}% meant?", fault()));
    }
    Weight::from_share(number).map_err(|why| why.to_string())
}

fn parse_size(text: &str) -> Result<Size, String> {
    const UNITS: [(&str, u64); 7] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
    ];
    let unit = UNITS.iter().find_map(|(unit, bytes)| {
        text.strip_suffix(unit)
            .map(|number| (number.trim_end(), *bytes))
    });
    let (number, bytes) = unit.unwrap_or((text, 1));
    let fault = || format!("{text:?} is not a size like \"64KiB\", \"10MiB\" or \"0\"");
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(fault());
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(bytes))
        .map(Size)
        .ok_or_else(fault)
}

/// Bytes in the largest unit that says them exactly.
pub(super) fn format_size(bytes: u64) -> String {
    let unit = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
        .into_iter()
        .find(|(_, size)| bytes > 0 && bytes.is_multiple_of(*size));
    unit.map_or_else(
        || bytes.to_string(),
        |(unit, size)| format!("{}{unit}", bytes / size),
    )
}

impl Share {
    /// What the schema's `$ref` points to.
    pub(super) fn definition() -> Value {
        json!({
            "description": "a share like \"1%\" or 0.01",
            "anyOf": [
                { "type": "number", "minimum": 0, "maximum": 1 },
                { "type": "string", "pattern": or_template_pattern("(100(\\.0+)?|[0-9]{1,2}(\\.[0-9]+)?)\\s*%") },
            ],
        })
    }
}

impl Size {
    /// What the schema's `$ref` points to.
    pub(super) fn definition() -> Value {
        json!({
            "description": "bytes: 0 or more, or like \"64KiB\"",
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": or_template_pattern("[0-9]+\\s*(B|KiB|MiB|GiB|kB|MB|GB)?") },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print() {
        for (text, bytes, shown) in [
            ("0", 0, "0"),
            ("1", 1, "1"),
            ("64KiB", 65_536, "64KiB"),
            ("8 KiB", 8_192, "8KiB"),
            ("1MiB", 1_048_576, "1MiB"),
            ("2GiB", 2_147_483_648, "2GiB"),
            ("1kB", 1_000, "1000"),
            ("5B", 5, "5"),
        ] {
            assert_eq!(parse_size(text), Ok(Size(bytes)), "{text}");
            assert_eq!(format_size(bytes), shown);
        }
        for text in [
            "",
            "KiB",
            "-1",
            "1.5KiB",
            "1TiB",
            "64kib",
            "99999999999999999999",
            "99999999999GiB",
        ] {
            assert!(parse_size(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn shares_are_percent_or_below_one() {
        for (text, ppm) in [
            ("1%", 10_000),
            ("100%", 1_000_000),
            ("0.01", 10_000),
            ("0", 0),
            ("0.5", 500_000),
            ("1.0", 1_000_000),
        ] {
            assert_eq!(parse_share(text).map(Weight::ppm), Ok(ppm), "{text}");
        }
        for text in [
            "1",
            "1.1",
            "5",
            "101%",
            "-0.1",
            "x",
            "",
            "NaN",
            "inf",
            "0.0000001",
        ] {
            assert!(parse_share(text).is_err(), "{text:?} was accepted");
        }
    }
}
