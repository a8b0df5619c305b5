//! The headers that a pool sets on its requests: names that are free to be set, and values.

use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use toml::de::DeValue;

use super::faults::join;
use super::form::{Form, Reading};

/// Header names with the values that are set.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Headers(pub(super) Vec<(HeaderName, HeaderValue)>);

/// The same for a call of serin's own.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct CallHeaders(pub(super) Vec<(HeaderName, HeaderValue)>);

/// What serin itself says, or what frames a message: a pool's constant value would break it.
const RESERVED_HEADERS: [&str; 17] = [
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "traceparent",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

impl Form for Headers {
    fn read(value: &DeValue<'_>, key: &str, reading: &mut Reading<'_>) -> Option<Self> {
        let Some(table) = value.as_table() else {
            return reading.wrong_type(value, key, "a table of header names and values");
        };
        let mut headers = Self::default();
        for (name, value) in table {
            let key = join(key, name.get_ref());
            let parsed = parse_header_name(name.get_ref(), &headers);
            let name = reading.good(&key, parsed);
            let text = reading.text(value.get_ref(), &key, "a string");
            let value = text.and_then(|text| reading.good(&key, parse_header_value(&text)));
            headers.0.extend(name.zip(value));
        }
        Some(headers)
    }

    fn schema() -> Value {
        json!({
            "type": "object",
            "propertyNames": { "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$" },
            "additionalProperties": { "type": "string" },
        })
    }
}

impl Form for CallHeaders {
    fn read(value: &DeValue<'_>, key: &str, reading: &mut Reading<'_>) -> Option<Self> {
        let Headers(headers) = Headers::read(value, key, reading)?;
        Some(Self(headers))
    }

    fn schema() -> Value {
        Headers::schema()
    }
}

fn parse_header_name(text: &str, others: &Headers) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| format!("{text:?} is not a header name"))?;
    let plain = |name: &HeaderName| name.as_str().replace('_', "-");
    if RESERVED_HEADERS.contains(&plain(&name).as_str()) || plain(&name).starts_with("x-serin-") {
        return Err("serin sets or removes this header itself".to_owned());
    }
    if let Some((twin, _)) = others
        .0
        .iter()
        .find(|(other, _)| plain(other) == plain(&name))
    {
        return Err(format!(
            "the same header as `{twin}`: upper case and `_` make no difference"
        ));
    }
    Ok(name)
}

fn parse_header_value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text)
        .map_err(|_| "not a header value: only visible ASCII and blanks are allowed".to_owned())
}
