//! A Prometheus server, asked by PromQL: an instant query that must give one value.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;

use super::fetch;
use crate::outbound::Client;

/// What the server answers, right or wrong.
#[derive(Debug, Deserialize)]
struct Said {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Debug, Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    result: Value,
}

/// The value of a query now, or why there is none.
pub(super) async fn ask(
    client: &Client,
    url: &str,
    query: &str,
    limit: Duration,
) -> Result<f64, String> {
    let query = utf8_percent_encode(query, NON_ALPHANUMERIC);
    let answer = fetch::get(client, &format!("{url}/api/v1/query?query={query}"), limit).await;
    let answer = answer.map_err(|why| why.to_string())?;
    let status = answer.status;
    read(&answer.body).map_err(|why| {
        if status.is_success() {
            why
        } else {
            format!("{status}: {why}")
        }
    })
}

fn read(body: &[u8]) -> Result<f64, String> {
    let said: Said =
        serde_json::from_slice(body).map_err(|_| "not an answer of Prometheus".to_owned())?;
    let Some(data) = said.data.filter(|_| said.status == "success") else {
        return Err(format!("Prometheus says: {}", said.error));
    };
    let sample = match (
        data.kind.as_str(),
        data.result.as_array().map(Vec::as_slice),
    ) {
        ("scalar", Some(_)) => &data.result,
        ("vector", Some([only])) => &only["value"],
        ("vector", Some([])) => return Err("the query finds no series".to_owned()),
        ("vector", Some(series)) => {
            return Err(format!(
                "the query finds {} series and must give one: add them up, or choose",
                series.len()
            ));
        }
        (kind, _) => return Err(format!("the query gives a {kind} and must give one value")),
    };
    let value = sample[1].as_str().and_then(|text| text.parse().ok());
    value.ok_or_else(|| "not a value of Prometheus".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_value_or_a_reason() {
        let check = |body: &str, expected: Result<f64, &str>| {
            let found = read(body.as_bytes());
            match (&found, expected) {
                (Err(why), Err(part)) => assert!(why.contains(part), "{body}: {why}"),
                (found, expected) => {
                    assert_eq!(found.as_ref().ok(), expected.as_ref().ok(), "{body}")
                }
            }
        };
        let success = |data: &str| format!(r#"{{"status":"success","data":{data}}}"#);
        check(
            &success(r#"{"resultType":"scalar","result":[1.5,"0.25"]}"#),
            Ok(0.25),
        );
        check(
            &success(r#"{"resultType":"vector","result":[{"metric":{},"value":[1.5,"1e9"]}]}"#),
            Ok(1e9),
        );
        check(
            &success(r#"{"resultType":"vector","result":[]}"#),
            Err("finds no series"),
        );
        check(
            &success(r#"{"resultType":"vector","result":[{},{}]}"#),
            Err("finds 2 series"),
        );
        check(
            &success(r#"{"resultType":"matrix","result":[]}"#),
            Err("gives a matrix"),
        );
        check(
            &success(r#"{"resultType":"string","result":[1,"a"]}"#),
            Err("gives a string"),
        );
        check(
            r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#,
            Err("parse error"),
        );
        check("<html>", Err("not an answer"));
        let nan = read(success(r#"{"resultType":"scalar","result":[1,"NaN"]}"#).as_bytes());
        assert!(nan.is_ok_and(f64::is_nan), "the readings refuse it");
    }
}
