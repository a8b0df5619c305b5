//! A JSON document, and the number in it that a JSON pointer (RFC 6901) names.

use std::time::Duration;

use serde_json::Value;

use super::fetch;
use crate::outbound::Client;

/// The number, or why there is none.
pub(super) async fn ask(
    client: &Client,
    url: &str,
    pointer: &str,
    limit: Duration,
) -> Result<f64, String> {
    let answer = fetch::get(client, url, limit)
        .await
        .map_err(|why| why.to_string())?;
    if !answer.status.is_success() {
        return Err(format!("answered {}", answer.status.as_u16()));
    }
    read(&answer.body, pointer)
}

fn read(body: &[u8], pointer: &str) -> Result<f64, String> {
    let document: Value = serde_json::from_slice(body).map_err(|why| format!("not JSON: {why}"))?;
    let found = document
        .pointer(pointer)
        .ok_or_else(|| format!("nothing stands at {pointer:?}"))?;
    found
        .as_f64()
        .ok_or_else(|| format!("what stands at {pointer:?} is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_names_a_number() {
        let body = br#"{"arms": {"ultra_fast": [0.5, "1"]}, "a/b": 3, "m~n": -1e3}"#;
        let check = |pointer: &str, expected: Option<f64>| {
            assert_eq!(read(body, pointer).ok(), expected, "{pointer}");
        };
        check("/arms/ultra_fast/0", Some(0.5));
        check("/a~1b", Some(3.0));
        check("/m~0n", Some(-1000.0));
        check("/arms/ultra_fast/1", None);
        check("/arms/ultra_fast/2", None);
        check("", None);
        assert_eq!(read(b"7", ""), Ok(7.0));
        assert!(read(b"<html>", "").is_err());
    }
}
