//! The JSON forms of readings and business results that are posted.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::records::Moment;

/// One item of `POST /api/signals`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalBody {
    pub rollout: String,
    pub name: String,
    pub pool: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    pub value: f64,
    /// How many measurements the value stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Moment>,
}

/// One item of `POST /api/outcomes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeBody {
    pub rollout: String,
    pub learner: String,
    /// Needed where ceilings are in force and differ for this learner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    pub name: String,
    pub value: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Moment>,
    /// The same id is counted once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// Answer of `POST /api/signals`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalsAnswer {
    pub taken: usize,
}

/// Answer of `POST /api/outcomes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomesAnswer {
    pub counted: usize,
    /// Items whose id was counted before.
    pub duplicates: usize,
    /// Items that belong to no arm.
    pub left_out: Vec<LeftOut>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// 0 = the first.
    pub item: usize,
    pub why: String,
}

/// A body that is one item or a list of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Many<T>(pub Vec<T>);

impl<T: DeserializeOwned> Many<T> {
    /// The error is a sentence for its author.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        if body.trim_ascii_start().first() != Some(&b'[') {
            return super::read(body).map(|only| Self(vec![only]));
        }
        let list = serde_json::from_slice::<Vec<&serde_json::value::RawValue>>(body);
        let list =
            list.map_err(|error| format!("the body is not what this call takes: {error}"))?;
        let items = list.iter().enumerate().map(|(item, text)| {
            super::read(text.get().as_bytes()).map_err(|why| format!("[{item}]: {why}"))
        });
        items.collect::<Result<_, String>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_one_item_or_a_list() {
        let read = |text: &str| Many::<SignalBody>::read(text.as_bytes());
        let one = r#"{"rollout": "r", "name": "n", "pool": "p", "value": 1}"#;
        let many = |text: &str| read(text).map(|many| many.0.len());
        assert_eq!(many(one), Ok(1));
        assert_eq!(many(&format!(" [{one}, {one}]")), Ok(2));
        assert_eq!(many("[]"), Ok(0));
        let refused = |text: &str, part: &str| {
            let why = read(text).expect_err(text);
            assert!(why.contains(part), "{text}: {why}");
        };
        refused(&format!("[{one}, [1]]"), "[1]: the body is a list");
        refused(&format!("[{one}, {{}}]"), "[1]");
        refused(&one.replace('1', "1e999"), "out of range");
        refused(&one.replace('1', "NaN"), "not what this call takes");
        refused(&one.replace("value", "vaule"), "unknown field");
        refused("1", "not what this call takes");
    }
}
