//! Two answers side by side: status, chosen headers, bodies. Pure.
//!
//! Bodies that both sides call JSON are compared by what they say, all others byte by byte; gzip is taken off first.
//! What is shown of a difference is short: answers belong to learners.

use std::io::Read;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, COOKIE, PROXY_AUTHENTICATE, SET_COOKIE,
    WWW_AUTHENTICATE,
};
use http::{HeaderName, HeaderValue, StatusCode, response};
use serde_json::Value;

use super::json;
use super::taken::Taken;
use crate::config::Compare;
use crate::telemetry::MirrorDifference;

/// What is shown of a value.
const SHOWN: usize = 256;
/// What is shown of a body before the byte that differs first.
const BEFORE: usize = 32;
/// How many times its size a body may have without its gzip: more is compared as it came.
const GUNZIPPED: usize = 16;
/// Headers whose values open doors.
const SECRET: [HeaderName; 5] = [
    AUTHORIZATION,
    COOKIE,
    PROXY_AUTHENTICATE,
    SET_COOKIE,
    WWW_AUTHENTICATE,
];

/// What is compared of one answer.
#[derive(Debug)]
pub(super) struct Said {
    status: StatusCode,
    /// In the order of the rule.
    headers: Vec<Vec<HeaderValue>>,
    content_type: Option<HeaderValue>,
    coding: Option<HeaderValue>,
    /// Where bodies are compared.
    body: Option<Taken>,
    limit: usize,
}

impl Said {
    /// An answer whose body is to follow, of which `limit` bytes are kept.
    pub(super) fn of(rule: &Compare, head: &response::Parts, limit: usize) -> Self {
        let values = |name| head.headers.get_all(name).iter().cloned().collect();
        Self {
            status: head.status,
            headers: rule.headers.iter().map(values).collect(),
            content_type: head.headers.get(CONTENT_TYPE).cloned(),
            coding: head.headers.get(CONTENT_ENCODING).cloned(),
            body: rule.body.then(|| Taken::up_to(limit)),
            limit,
        }
    }

    pub(super) fn take_in(&mut self, piece: &Bytes) {
        if let Some(body) = &mut self.body {
            body.take_in(piece);
        }
    }

    /// Whether its body is larger than can be compared.
    pub(super) fn is_over(&self) -> bool {
        self.body.as_ref().is_some_and(Taken::is_over)
    }

    // Without its gzip, where it has one that can be taken off.
    fn plain(&self) -> Option<Vec<u8>> {
        let coding = self.coding.as_ref()?;
        if !coding.as_bytes().eq_ignore_ascii_case(b"gzip") {
            return None;
        }
        let most = self.limit.saturating_mul(GUNZIPPED);
        let mut plain = Vec::new();
        let packed = self.body.as_ref()?.bytes();
        let read = GzDecoder::new(packed)
            .take(most as u64 + 1)
            .read_to_end(&mut plain);
        (read.is_ok() && plain.len() <= most).then_some(plain)
    }

    fn is_json(&self) -> bool {
        let content_type = self.content_type.as_ref();
        let text = content_type.and_then(|value| value.to_str().ok());
        let essence = text.and_then(|text| text.split(';').next());
        essence.is_some_and(|essence| {
            let essence = essence.trim().to_ascii_lowercase();
            essence == "application/json" || essence.ends_with("+json")
        })
    }
}

/// Everything in which two answers differ; bodies of JSON up to a bound.
pub(super) fn differences(rule: &Compare, baseline: &Said, canary: &Said) -> Vec<MirrorDifference> {
    let mut found = Vec::new();
    if rule.status && baseline.status != canary.status {
        found.push(MirrorDifference {
            what: "status".to_owned(),
            baseline: baseline.status.as_u16().to_string(),
            canary: canary.status.as_u16().to_string(),
        });
    }
    let values = baseline.headers.iter().zip(&canary.headers);
    for (name, (baseline, canary)) in rule.headers.iter().zip(values) {
        if baseline != canary {
            found.push(MirrorDifference {
                what: format!("header {name}"),
                baseline: shown_values(name, baseline),
                canary: shown_values(name, canary),
            });
        }
    }
    if let (Some(ours), Some(theirs)) = (&baseline.body, &canary.body) {
        if theirs.is_over() {
            found.push(MirrorDifference {
                what: "body".to_owned(),
                baseline: format!("{} bytes", ours.bytes().len()),
                canary: format!("more than {} bytes", canary.limit),
            });
        } else {
            let unpacked = [baseline.plain(), canary.plain()];
            let both = [
                unpacked[0].as_deref().unwrap_or_else(|| ours.bytes()),
                unpacked[1].as_deref().unwrap_or_else(|| theirs.bytes()),
            ];
            let are_json = baseline.is_json() && canary.is_json();
            found.extend(bodies(rule, both, are_json));
        }
    }
    found
}

fn bodies(rule: &Compare, both: [&[u8]; 2], are_json: bool) -> Vec<MirrorDifference> {
    let [baseline, canary] = both;
    if baseline == canary {
        return Vec::new();
    }
    if are_json
        && let Ok(baseline) = serde_json::from_slice::<Value>(baseline)
        && let Ok(canary) = serde_json::from_slice::<Value>(canary)
    {
        return json::differences(&rule.ignore, &baseline, &canary);
    }
    let same = baseline.iter().zip(canary).take_while(|(a, b)| a == b);
    let from = same.count();
    vec![MirrorDifference {
        what: "body".to_owned(),
        baseline: excerpt(baseline, from),
        canary: excerpt(canary, from),
    }]
}

// What lies around the byte that differs first.
fn excerpt(body: &[u8], from: usize) -> String {
    let begin = from.saturating_sub(BEFORE).min(body.len());
    let end = begin.saturating_add(SHOWN).min(body.len());
    let text = String::from_utf8_lossy(&body[begin..end]);
    format!("{} bytes, from {begin} on: {text}", body.len())
}

fn shown_values(name: &HeaderName, values: &[HeaderValue]) -> String {
    if values.is_empty() {
        return "absent".to_owned();
    }
    if SECRET.contains(name) {
        return format!("{} not shown", values.len());
    }
    let texts = values
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()));
    cut(&texts.collect::<Vec<_>>().join(", "), SHOWN)
}

/// The beginning of a text, at most so many bytes and a mark that there was more.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most).rev().find(|&end| text.is_char_boundary(end));
    format!("{}…", &text[..end.unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use http::Response;

    use super::*;
    use crate::config::JsonPattern;

    const JSON: &str = "content-type: application/json";
    const TEXT: &str = "content-type: text/plain";

    fn rule(ignore: &[&str]) -> Compare {
        let pattern = |text: &&str| JsonPattern::parse(text).expect("a pattern");
        Compare {
            status: true,
            headers: vec![CONTENT_TYPE, SET_COOKIE],
            body: true,
            ignore: ignore.iter().map(pattern).collect(),
            samples: 20,
        }
    }

    fn said(rule: &Compare, status: u16, headers: &[&str], body: &[u8]) -> Said {
        let mut head = Response::builder().status(status);
        for line in headers {
            let (name, value) = line.split_once(": ").expect("a header");
            head = head.header(name, value);
        }
        let (head, ()) = head.body(()).expect("a head").into_parts();
        let mut said = Said::of(rule, &head, 1024);
        said.take_in(&Bytes::copy_from_slice(body));
        said
    }

    // What differs, by name.
    fn found(rule: &Compare, baseline: &Said, canary: &Said) -> Vec<String> {
        let found = differences(rule, baseline, canary);
        found.into_iter().map(|one| one.what).collect()
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).expect("into memory");
        encoder.finish().expect("into memory")
    }

    #[test]
    fn equal_answers_do_not_differ() {
        let rule = rule(&[]);
        for body in [b"".as_slice(), b"x", b"{\"a\": 1}"] {
            let one = || said(&rule, 200, &[JSON], body);
            assert!(differences(&rule, &one(), &one()).is_empty());
        }
    }

    #[test]
    fn each_part_is_compared_where_the_rule_says_so() {
        let all = rule(&[]);
        let (a, b) = (
            said(&all, 200, &[JSON], b"1"),
            said(&all, 503, &[TEXT], b"2"),
        );
        assert_eq!(
            found(&all, &a, &b),
            ["status", "header content-type", "body"]
        );
        let little = Compare {
            status: false,
            headers: Vec::new(),
            body: false,
            ..all
        };
        let (a, b) = (
            said(&little, 200, &[JSON], b"1"),
            said(&little, 503, &[TEXT], b"2"),
        );
        assert!(found(&little, &a, &b).is_empty());
    }

    #[test]
    fn json_is_compared_by_what_it_says() {
        let rule = rule(&["/id"]);
        let check = |a: &str, b: &str, kind: &str, expected: &[&str]| {
            let (a, b) = (
                said(&rule, 200, &[kind], a.as_bytes()),
                said(&rule, 200, &[kind], b.as_bytes()),
            );
            assert_eq!(found(&rule, &a, &b), expected, "{a:?} {b:?}");
        };
        let (a, b) = ("{\"id\": 1, \"x\": [1]}", "{\"x\":[1],\"id\":2}");
        check(a, b, JSON, &[]);
        check(
            a,
            b,
            "content-type: application/problem+JSON; charset=utf-8",
            &[],
        );
        check(a, b, TEXT, &["body"]);
        check(a, "{\"x\": [2]}", JSON, &["json /x/0"]);
        check(a, "no json", JSON, &["body"]);
    }

    #[test]
    fn gzip_is_taken_off() {
        let rule = rule(&[]);
        let packed = "content-encoding: gzip";
        let plain = said(&rule, 200, &[JSON], b"{\"a\": 1}");
        let same = said(&rule, 200, &[JSON, packed], &gzip(b"{ \"a\":1 }"));
        assert!(found(&rule, &plain, &same).is_empty());
        let other = said(&rule, 200, &[JSON, packed], &gzip(b"{\"a\":2}"));
        assert_eq!(found(&rule, &same, &other), ["json /a"]);
        let broken = said(&rule, 200, &[JSON, packed], b"no gzip");
        assert_eq!(found(&rule, &same, &broken), ["body"]);
        // Much more than it says is not unpacked.
        let bomb = said(&rule, 200, &[TEXT, packed], &gzip(&vec![0; 1 << 16]));
        assert!(!bomb.is_over() && bomb.plain().is_none());
    }

    #[test]
    fn what_is_shown_is_short_and_no_secret() {
        let rule = rule(&[]);
        let long = vec![b'x'; 1000];
        let mut other = long.clone();
        other[600] = b'y';
        let cookie = "set-cookie: session=abc";
        let (a, b) = (
            said(&rule, 200, &[TEXT, cookie], &long),
            said(&rule, 200, &[TEXT], &other),
        );
        let found = differences(&rule, &a, &b);
        assert_eq!(found[0].baseline, "1 not shown");
        assert_eq!(found[0].canary, "absent");
        assert!(found[1].canary.starts_with("1000 bytes, from 568 on: xxx"));
        assert!(found[1].canary.contains('y') && found[1].canary.len() < 300);
        assert_eq!(cut("aäb", 2), "a…");
        assert_eq!(cut("aäb", 4), "aäb");
    }

    #[test]
    fn a_canary_that_says_more_than_is_kept_differs() {
        let rule = rule(&[]);
        let a = said(&rule, 200, &[TEXT], b"short");
        let b = said(&rule, 200, &[TEXT], &[b'x'; 1025]);
        let found = differences(&rule, &a, &b);
        assert_eq!(found[0].canary, "more than 1024 bytes");
    }
}
