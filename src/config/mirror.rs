//! Mirroring, as typed and as meant: which of baseline's requests are copied to canary, and what of the two answers is
//! compared.
//!
//! No part of the plan: it applies at once. What is compared is judged where a condition names `mirror_difference`.

use std::fmt;
use std::time::Duration;

use http::{HeaderName, Method};

use super::amount::{Size, format_size};
use super::check::usize_of;
use super::defaults;
use super::faults::Faults;
use super::form::{Count, OrFalse};
use super::leaf::Wait;
use super::table::{choices, table};
use crate::rollout::time::format_duration;
use crate::rollout::weight::Weight;

/// Both answers are kept in memory, and taken apart where they are JSON.
const LARGEST_BODY: u64 = 1024 * 1024;

/// Of each copy: the request's body and the two answers'.
const BODIES: u64 = 3;
/// What all copies may take of memory together.
const MOST_MEMORY: u64 = 1024 * 1024 * 1024;

/// What belongs to a connection, and so differs by nature.
const HOPS: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Which requests are copied, and within what limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// Of the requests that baseline answers; may be zero.
    pub share: Weight,
    /// At least one.
    pub methods: Vec<Method>,
    /// `None` where canary's answers are thrown away.
    pub compare: Option<Compare>,
    /// Bytes of a request's body, and of each answer's; never 0.
    pub max_body: usize,
    /// Copies under way at a time; never 0.
    pub in_flight: usize,
    /// From the copy's departure to the end of canary's answer.
    pub timeout: Duration,
}

/// What of two answers is compared: something.
#[derive(Clone, Debug, PartialEq)]
pub struct Compare {
    pub status: bool,
    pub headers: Vec<HeaderName>,
    pub body: bool,
    /// What may differ in bodies of JSON.
    pub ignore: Vec<JsonPattern>,
    /// Differences that are kept for people.
    pub samples: usize,
}

/// A JSON pointer (RFC 6901) in which `*` stands for any element or member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPattern(Vec<JsonPart>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonPart {
    Any,
    /// A member, or the number of an element.
    Named(String),
}

table! {
    /// Copies of requests that baseline answers, for canary; nobody waits for their answers.
    MirrorTable {
        needs {
            /// Of the requests that baseline answers.
            share: Weight,
        }
        has {
            /// Which are copied. What others than GET, HEAD and OPTIONS do is done on canary as well.
            methods: Vec<MirrorMethod> = MirrorMethod::SAFE.to_vec(),
            /// What of the two answers is compared, or false.
            compare: OrFalse<CompareTable> = OrFalse::Off,
            /// The largest body that is copied, or read of an answer; up to 1MiB.
            max_body: Size = Size(defaults::MIRROR_BODY),
            /// Copies under way at a time.
            in_flight: Count<1, 10_000> = Count(defaults::MIRROR_IN_FLIGHT),
            /// How long canary may take to answer whole.
            timeout: Wait = Wait(defaults::MIRROR_TIMEOUT),
        }
    }
}

table! {
    /// What of baseline's and canary's answer is compared.
    CompareTable {
        has {
            /// The status.
            status: bool = true,
            /// Values of these headers.
            headers: Vec<ComparedHeader> = vec![ComparedHeader::content_type()],
            /// The bodies: JSON by what it says, others byte by byte.
            body: bool = true,
            /// How JSON is compared.
            json: CompareJson = CompareJson::default(),
            /// Differences that are kept for people.
            samples: Count<0, 100> = Count(defaults::MIRROR_SAMPLES),
        }
    }
}

table! {
    /// How JSON is compared.
    CompareJson {
        has {
            /// What may differ; `*` stands for any element or member.
            ignore: Vec<JsonPattern> = Vec::new(),
        }
    }
}

/// A method that can be copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MirrorMethod(Method);

/// A header of answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ComparedHeader(pub(super) HeaderName);

choices! { MirrorMethod {
    "GET" => MirrorMethod(Method::GET), "HEAD" => MirrorMethod(Method::HEAD), "OPTIONS" => MirrorMethod(Method::OPTIONS),
    "POST" => MirrorMethod(Method::POST), "PUT" => MirrorMethod(Method::PUT), "PATCH" => MirrorMethod(Method::PATCH),
    "DELETE" => MirrorMethod(Method::DELETE),
} }

impl MirrorMethod {
    /// What is copied where nobody says what: the methods that learners read by.
    const SAFE: [Self; 2] = [Self(Method::GET), Self(Method::HEAD)];
}

impl ComparedHeader {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let name: HeaderName = text
            .parse()
            .map_err(|_| format!("{text:?} is not the name of a header"))?;
        if HOPS.contains(&name.as_str()) {
            return Err(format!("{name} is of a connection, not of an answer"));
        }
        Ok(Self(name))
    }

    fn content_type() -> Self {
        Self(http::header::CONTENT_TYPE)
    }
}

/// Checks the mirror of the rollout at `key`; `None` where its share is missing.
pub(super) fn check(raw: &MirrorTable, key: &str, faults: &mut Faults) -> Option<Mirror> {
    let key = format!("{key}.mirror");
    if raw.methods.is_empty() {
        faults.add(
            &format!("{key}.methods"),
            "empty: nothing would be copied; `share = \"0%\"` copies nothing as well",
        );
    }
    if !(1..=LARGEST_BODY).contains(&raw.max_body.0) {
        let largest = format_size(LARGEST_BODY);
        let why = format!("expected 1 byte to {largest}: copies are kept in memory");
        faults.add(&format!("{key}.max_body"), why);
    }
    let memory = (raw.max_body.0).saturating_mul(BODIES * raw.in_flight.0);
    if memory > MOST_MEMORY && raw.max_body.0 <= LARGEST_BODY {
        let most = format_size(MOST_MEMORY);
        let why = format!(
            "{} copies, each with up to three bodies of {}, may take more than {most} of memory",
            raw.in_flight.0,
            format_size(raw.max_body.0)
        );
        faults.add(&format!("{key}.in_flight"), why);
    }
    let compare = match &raw.compare {
        OrFalse::Off => None,
        OrFalse::On(typed) => Some(compare(typed, &format!("{key}.compare"), faults)),
    };
    Some(Mirror {
        share: raw.share?,
        methods: raw.methods.iter().map(|method| method.0.clone()).collect(),
        compare,
        max_body: usize::try_from(raw.max_body.0).unwrap_or(usize::MAX),
        in_flight: usize_of(raw.in_flight),
        timeout: raw.timeout.0,
    })
}

fn compare(raw: &CompareTable, key: &str, faults: &mut Faults) -> Compare {
    if !raw.status && !raw.body && raw.headers.is_empty() {
        faults.add(key, "it compares nothing; `compare = false` says so");
    } else if !raw.body && !raw.json.ignore.is_empty() {
        let why = "has no use where body = false";
        faults.add(&format!("{key}.json.ignore"), why);
    }
    Compare {
        status: raw.status,
        headers: raw.headers.iter().map(|header| header.0.clone()).collect(),
        body: raw.body,
        ignore: raw.json.ignore.clone(),
        samples: usize_of(raw.samples),
    }
}

impl JsonPattern {
    /// # Errors
    /// It does not begin with `/`, or has a `~` that is neither `~0` nor `~1`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fault =
            |why: &str| format!("{text:?} is not a JSON pointer like \"/items/*/at\": {why}");
        let rest = text
            .strip_prefix('/')
            .ok_or_else(|| fault("it must begin with /"))?;
        let part = |part: &str| match part {
            "*" => Ok(JsonPart::Any),
            name => unescaped(name)
                .map(JsonPart::Named)
                .ok_or_else(|| fault("~ stands only in ~0, which is ~, and ~1, which is /")),
        };
        rest.split('/')
            .map(part)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub fn parts(&self) -> &[JsonPart] {
        &self.0
    }
}

// RFC 6901, 4.
fn unescaped(name: &str) -> Option<String> {
    let mut plain = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('~') {
        plain.push_str(before);
        plain.push(match after.as_bytes().first() {
            Some(b'0') => '~',
            Some(b'1') => '/',
            _ => return None,
        });
        rest = &after[1..];
    }
    plain.push_str(rest);
    Some(plain)
}

impl fmt::Display for JsonPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            match part {
                JsonPart::Any => f.write_str("/*")?,
                JsonPart::Named(name) => {
                    write!(f, "/{}", name.replace('~', "~0").replace('/', "~1"))?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Mirror {
    /// Everything that is said of it, in words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
        write!(f, "{} of {}, ", self.share, methods.join(", "))?;
        match &self.compare {
            None => f.write_str("answers thrown away")?,
            Some(compare) => write!(f, "comparing {compare}")?,
        }
        write!(
            f,
            "; bodies up to {}, {} in flight, timeout {}",
            format_size(self.max_body as u64),
            self.in_flight,
            format_duration(self.timeout)
        )
    }
}

impl fmt::Display for Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.then(|| "status".to_owned());
        let headers = self.headers.iter().map(|name| format!("header {name}"));
        let body = self.body.then(|| "body".to_owned());
        let what: Vec<String> = status.into_iter().chain(headers).chain(body).collect();
        f.write_str(&what.join(", "))?;
        if !self.ignore.is_empty() {
            let ignored: Vec<String> = self.ignore.iter().map(ToString::to_string).collect();
            write!(f, " without {}", ignored.join(", "))?;
        }
        write!(f, ", {} kept", self.samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_pointers_with_a_star() {
        let named = |name: &str| JsonPart::Named(name.to_owned());
        let check = |text: &str, parts: &[JsonPart]| {
            let pattern = JsonPattern::parse(text).expect(text);
            assert_eq!(pattern.parts(), parts, "{text}");
            assert_eq!(pattern.to_string(), text);
        };
        check("/id", &[named("id")]);
        check("/", &[named("")]);
        check(
            "/a~1b/*/~0/0",
            &[named("a/b"), JsonPart::Any, named("~"), named("0")],
        );
        for text in ["", "id", "/a~", "/a~2", "/~ä"] {
            assert!(JsonPattern::parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
