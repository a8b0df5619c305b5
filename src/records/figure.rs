//! A measured number in JSON, which has no infinity: `{delta}` over a baseline of 0 is `"inf"`.
//!
//! `null` where nothing was measured, and for what is not a number.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

pub(super) fn serialize<S: Serializer>(
    figure: &Option<f64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match *figure {
        Some(number) if number.is_finite() => serializer.serialize_f64(number),
        Some(number) if number == f64::INFINITY => serializer.serialize_str("inf"),
        Some(number) if number == f64::NEG_INFINITY => serializer.serialize_str("-inf"),
        Some(_) | None => serializer.serialize_none(),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<f64>, D::Error> {
    deserializer.deserialize_any(Figure)
}

struct Figure;

impl Visitor<'_> for Figure {
    type Value = Option<f64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, \"inf\", \"-inf\" or null")
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Some(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(number as f64))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(number as f64))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        match text {
            "inf" => Ok(Some(f64::INFINITY)),
            "-inf" => Ok(Some(f64::NEG_INFINITY)),
            other => Err(E::custom(format!("{other:?} is not a figure"))),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct Holder(#[serde(with = "super")] Option<f64>);

    #[test]
    fn figures_survive_json() {
        let check = |figure: Option<f64>, json: &str| {
            assert_eq!(
                serde_json::to_string(&Holder(figure)).expect("a figure is JSON"),
                json
            );
            let read: Holder = serde_json::from_str(json).expect("what was written is read");
            assert_eq!(read.0, figure);
        };
        check(None, "null");
        check(Some(0.0), "0.0");
        check(Some(0.1 + 0.2), "0.30000000000000004");
        check(Some(f64::INFINITY), "\"inf\"");
        check(Some(f64::NEG_INFINITY), "\"-inf\"");
        assert_eq!(
            serde_json::to_string(&Holder(Some(f64::NAN))).expect("a figure is JSON"),
            "null"
        );
        assert_eq!(
            serde_json::from_str::<Holder>("7")
                .expect("a whole number")
                .0,
            Some(7.0)
        );
        assert!(serde_json::from_str::<Holder>("\"many\"").is_err());
    }
}
