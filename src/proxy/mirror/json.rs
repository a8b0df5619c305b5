//! Two JSON documents side by side: the values that differ, by their pointers, but for those that may. Pure.

use std::collections::BTreeSet;

use serde_json::{Number, Value};

use super::compare::cut;
use crate::config::{JsonPart, JsonPattern};
use crate::telemetry::MirrorDifference;

/// How many are told: the first say what the others would.
const MOST: usize = 16;
/// What is shown of a value.
const SHOWN: usize = 256;

/// What is left of each pattern below the present value.
type Patterns<'a> = Vec<&'a [JsonPart]>;

/// The values that differ, at most 16 of them.
pub(super) fn differences(
    ignore: &[JsonPattern],
    baseline: &Value,
    canary: &Value,
) -> Vec<MirrorDifference> {
    let mut walk = Walk {
        pointer: String::new(),
        found: Vec::new(),
    };
    let patterns = ignore.iter().map(JsonPattern::parts).collect();
    walk.compare(Some(baseline), Some(canary), &patterns);
    walk.found
}

struct Walk {
    pointer: String,
    found: Vec<MirrorDifference>,
}

impl Walk {
    // What is absent on one side differs from everything, `null` too.
    fn compare(&mut self, baseline: Option<&Value>, canary: Option<&Value>, ignore: &Patterns<'_>) {
        if self.found.len() >= MOST || ignore.iter().any(|left| left.is_empty()) {
            return;
        }
        match (baseline, canary) {
            (Some(Value::Object(ours)), Some(Value::Object(theirs))) => {
                let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
                for name in names {
                    self.enter(name, ours.get(name), theirs.get(name), ignore);
                }
            }
            (Some(Value::Array(ours)), Some(Value::Array(theirs))) => {
                for at in 0..ours.len().max(theirs.len()) {
                    self.enter(&at.to_string(), ours.get(at), theirs.get(at), ignore);
                }
            }
            (Some(Value::Number(ours)), Some(Value::Number(theirs))) if equal(ours, theirs) => {}
            (ours, theirs) if ours == theirs => {}
            (ours, theirs) => self.found.push(MirrorDifference {
                what: format!("json {}", self.pointer),
                baseline: shown(ours),
                canary: shown(theirs),
            }),
        }
    }

    fn enter(
        &mut self,
        name: &str,
        baseline: Option<&Value>,
        canary: Option<&Value>,
        ignore: &Patterns<'_>,
    ) {
        let below = |left: &&[JsonPart]| match left {
            [JsonPart::Any, ..] => true,
            [JsonPart::Named(part), ..] => part == name,
            [] => false,
        };
        let matching = ignore.iter().copied().filter(|left| below(left));
        let matching: Patterns<'_> = matching.map(|left| &left[1..]).collect();
        let len = self.pointer.len();
        self.pointer.push('/');
        self.pointer
            .push_str(&name.replace('~', "~0").replace('/', "~1"));
        self.compare(baseline, canary, &matching);
        self.pointer.truncate(len);
    }
}

// 1 and 1.0 are the same number; whole ones are compared exactly.
fn equal(ours: &Number, theirs: &Number) -> bool {
    let is_float = |number: &Number| number.is_f64();
    ours == theirs || (is_float(ours) || is_float(theirs)) && ours.as_f64() == theirs.as_f64()
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(
        || "absent".to_owned(),
        |value| cut(&value.to_string(), SHOWN),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    // `POINTER BASELINE CANARY` of each difference.
    fn check(ignore: &[&str], baseline: &str, canary: &str, expected: &[&str]) {
        let pattern = |text: &&str| JsonPattern::parse(text).expect("a pattern");
        let ignore: Vec<JsonPattern> = ignore.iter().map(pattern).collect();
        let parse = |text: &str| serde_json::from_str(text).expect("JSON");
        let found = differences(&ignore, &parse(baseline), &parse(canary));
        let told: Vec<String> = found
            .iter()
            .map(|one| format!("{} {} {}", one.what, one.baseline, one.canary))
            .collect();
        assert_eq!(told, expected, "{baseline} {canary} {ignore:?}");
    }

    #[test]
    fn values_are_compared_not_texts() {
        check(
            &[],
            r#"{"a":1,"b":[true]}"#,
            r#"{ "b": [true], "a": 1.0 }"#,
            &[],
        );
        check(&[], "1e2", "100", &[]);
        check(&[], r#""\u0061""#, r#""a""#, &[]);
        check(&[], "1", "2", &["json  1 2"]);
        check(&[], "1", "\"1\"", &["json  1 \"1\""]);
        // Two that one float stands for.
        let large = ["9007199254740993", "9007199254740992"];
        check(
            &[],
            large[0],
            large[1],
            &["json  9007199254740993 9007199254740992"],
        );
    }

    #[test]
    fn what_is_absent_differs_from_null() {
        check(&[], r#"{"a":null}"#, "{}", &["json /a null absent"]);
        check(&[], "[1]", "[1,2]", &["json /1 absent 2"]);
        check(&[], "[]", "{}", &["json  [] {}"]);
        check(&[], r#"{"a/b~":1}"#, r#"{"a/b~":2}"#, &["json /a~1b~0 1 2"]);
    }

    #[test]
    fn what_may_differ_is_left_out() {
        let (a, b) = (
            r#"{"id":1,"items":[{"at":1,"x":1},{"at":2,"x":2}]}"#,
            r#"{"id":2,"items":[{"at":3,"x":1},{"at":4,"x":3}]}"#,
        );
        check(&["/id", "/items/*/at"], a, b, &["json /items/1/x 2 3"]);
        check(&["/id", "/items/1", "/items/0/at"], a, b, &[]);
        check(&["/*"], a, b, &[]);
        check(&["/id", "/items/*/*"], a, b, &[]);
        check(&["/items"], a, b, &["json /id 1 2"]);
        check(&["/items/*"], r#"{"items":[]}"#, r#"{"items":[1]}"#, &[]);
        check(&["/a/b"], r#"{"a":1}"#, r#"{"a":2}"#, &["json /a 1 2"]);
    }

    #[test]
    fn only_the_first_differences_are_told_and_they_are_short() {
        let list = |value: &str| format!("[{}]", vec![value; 40].join(","));
        let parse = |text: &str| serde_json::from_str(text).expect("JSON");
        let found = differences(&[], &parse(&list("1")), &parse(&list("2")));
        assert_eq!(found.len(), MOST);
        let long = Value::String("x".repeat(10_000));
        let found = differences(&[], &long, &Value::Null);
        assert!(found[0].baseline.len() < SHOWN + 8);
    }
}
