//! Forms written as one string: durations, addresses, names, conditions.
//!
//! Each is a text, what it looks like, and a pattern for the schema. What the text means is parsed
//! here or in the room that owns the meaning; nothing is looked up.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use ipnet::IpNet;
use serde_json::{Value, json};
use toml::de::DeValue;

use super::JsonPattern;
use super::amount::{Share, Size};
use super::dns::DnsName;
use super::fleet::{NatsUrl, parse_nats_url};
use super::form::{Form, NameForm, Reading, nearest};
use super::mirror::ComparedHeader;
use super::signals::parse_url;
use super::source::parse_host;
use super::{HostPattern, LearnerSource, Role};
use crate::calendar;
use crate::records::kinds::{GROUPS, KINDS, kinds_of};
use crate::rollout::condition::Condition;
use crate::rollout::name::{PoolName, RoleName, RolloutName, SignalName, StageName};
use crate::rollout::schedule::{Days, Daytime, Zone};
use crate::rollout::time::{WallTime, format_duration, parse_duration};

/// A duration above zero: a wait that would end before it began is a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait(pub(super) Duration);

/// `host:port`, host in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint(pub(super) String);

/// The path of a request, `/` first, without query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UrlPath(pub(super) String);

/// The name of a token, which the history shows as the author of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TokenName(pub(super) String);

/// A host by its name, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostName(pub(super) String);

/// An address that a signal is read from, with its placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HttpUrl(pub(super) String);

/// The name of a channel of notices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChannelName(pub(super) String);

/// The name of a member of a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MemberName(pub(super) String);

/// A kind of event, or a group of kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EventWord(pub(super) String);

/// `http://` or `https://` with a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallUrl(pub(super) Uri);

/// The SHA-256 of a token in 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sha256Hex(pub(super) [u8; 32]);

/// Declares forms of one string: type, name of its definition in the schema, what it looks like, pattern, parser, printer,
/// and what stands in a list for one that was not understood.
macro_rules! text_forms {
    ($( $form:ty, $def:literal, $like:literal, $pattern:literal, $parse:expr, $print:expr $(, $stand_in:expr)?; )+) => {
        $(impl Form for $form {
            fn read(value: &DeValue<'_>, key: &str, reading: &mut Reading<'_>) -> Option<Self> {
                let text = reading.text(value, key, $like)?;
                let parse: fn(&str) -> Result<Self, String> = $parse;
                reading.good(key, parse(&text))
            }

            fn schema() -> Value {
                json!({ "$ref": concat!("#/$defs/", $def) })
            }

            fn shown(&self) -> Option<Value> {
                let print: fn(&Self) -> String = $print;
                Some(Value::String(print(self)))
            }

            $(fn stand_in() -> Option<Self> {
                $stand_in
            })?
        })+

        /// The definitions that the schema refers to: name, description, pattern.
        const TEXT_DEFINITIONS: &[(&str, &str, &str)] = &[$(($def, $like, $pattern)),+];
    };
}

text_forms! {
    Duration, "duration", "a duration like \"5s\" or \"1h30m\"", "([0-9]+(\\.[0-9]+)?(d|h|ms|m|s|us))+",
        parse_duration, |span| format_duration(*span);
    Wait, "wait", "a duration above \"0s\" like \"5s\"", "([0-9]+(\\.[0-9]+)?(d|h|ms|m|s|us))+",
        parse_wait, |wait| format_duration(wait.0);
    SocketAddr, "address", "an address like \"127.0.0.1:8080\"", "[0-9.]+:[0-9]+|\\[[0-9A-Fa-f:.]+\\]:[0-9]+",
        parse_address, ToString::to_string;
    IpNet, "network", "a network like \"10.0.0.0/8\"", "[0-9A-Fa-f:.]+(/[0-9]+)?",
        parse_network, ToString::to_string;
    PathBuf, "path", "a path", "[^\\u0000]+",
        parse_file_path, |path| path.display().to_string();
    PoolName, "name", "a name", "[A-Za-z0-9][A-Za-z0-9_.-]{0,63}",
        |text| Self::parse(text).map_err(|why| why.to_string()), ToString::to_string;
    RolloutName, "name", "a name", "[A-Za-z0-9][A-Za-z0-9_.-]{0,63}",
        |text| Self::parse(text).map_err(|why| why.to_string()), ToString::to_string;
    StageName, "name", "a name", "[A-Za-z0-9][A-Za-z0-9_.-]{0,63}",
        |text| Self::parse(text).map_err(|why| why.to_string()), ToString::to_string;
    RoleName, "name", "a name", "[A-Za-z0-9][A-Za-z0-9_.-]{0,63}",
        |text| Self::parse(text).map_err(|why| why.to_string()), ToString::to_string;
    WallTime, "moment", "a moment like \"2025-11-01T14:00:00Z\"", "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.]+([Zz]|[+-][0-9:]+)",
        calendar::moment, |at| calendar::moment_text(*at);
    Days, "days", "a day like \"mon\" or \"mon-thu\"", "[a-z]{3}(-[a-z]{3})?",
        Self::parse, |days| days.texts().join(", ");
    Daytime, "hours", "a span of a day like \"09:00-16:00\"", "[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}",
        Self::parse, ToString::to_string;
    Zone, "tz", "a time zone like \"Europe/Berlin\"", "[A-Za-z0-9_+/-]+",
        calendar::zone, |zone| zone.name().to_owned();
    Endpoint, "endpoint", "an endpoint like \"127.0.0.1:9101\" or \"analyzer.svc:8080\"", "(\\[[0-9A-Fa-f:.]+\\]|[A-Za-z0-9_.-]+):[0-9]{1,5}",
        parse_endpoint, |endpoint| endpoint.0.clone();
    DnsName, "dns_name", "a name like \"analyzer.svc:8080\" or \"_http._tcp.analyzer.svc\"", "_[A-Za-z0-9_-]+\\._[A-Za-z0-9_.-]+|[A-Za-z0-9][A-Za-z0-9_.-]*:[0-9]{1,5}",
        Self::parse, ToString::to_string;
    UrlPath, "url_path", "a path like \"/health\"", "/[^?#\\s]*",
        parse_url_path, |path| path.0.clone();
    SignalName, "signal_name", "a name", "[A-Za-z0-9][A-Za-z0-9_.-]{0,47}",
        |text| Self::parse(text).map_err(|why| why.to_string()), ToString::to_string;
    HttpUrl, "http_url", "an address like \"http://prometheus:9090\"", "http://[^@\\s/?#][^@\\s]*",
        |text| parse_url(text).map(Self), |url| url.0.clone();
    HostPattern, "host", "a host like \"example.org\" or \"*.example.org\"", "(\\*\\.)?[A-Za-z0-9_.-]+|\\[[0-9A-Fa-f:.]+\\]",
        parse_host, ToString::to_string;
    LearnerSource, "learner_source", "a source like \"header:x-learner-id\"", "header:.+|cookie:.+|query:.+|client_ip|random",
        Self::parse, ToString::to_string;
    HostName, "host_name", "a host like \"serin.example.org\"", "[A-Za-z0-9_.-]+|\\[[0-9A-Fa-f:.]+\\]",
        parse_host_name, |host| host.0.clone();
    TokenName, "name", "a name", "[A-Za-z0-9][A-Za-z0-9_.-]{0,63}",
        parse_token_name, |name| name.0.clone();
    ChannelName, "name", "a name", "[A-Za-z0-9][A-Za-z0-9_.-]{0,63}",
        parse_channel_name, |name| name.0.clone();
    EventWord, "event", "a kind of event like \"rolled_back\", or \"all\", \"decisions\" or \"alarms\"", "[a-z_]+",
        parse_event_word, |word| word.0.clone();
    CallUrl, "url", "a URL like \"https://hooks.example.org/x\"", "https?://[^\\s]+",
        parse_http_url, |url| url.0.to_string();
    MemberName, "name", "a name", "[A-Za-z0-9][A-Za-z0-9_.-]{0,63}",
        parse_member_name, |name| name.0.clone();
    NatsUrl, "nats_url", "an address of NATS like \"nats://127.0.0.1:4222\"", "(nats|tls)://.+",
        parse_nats_url, |url| url.0.clone();
    Condition, "condition", "a condition like \"error_rate < 1%\"", ".*\\S.*",
        |text| Self::parse(text).map_err(|why| why.to_string()), ToString::to_string, Self::parse("error_rate < 100%").ok();
    JsonPattern, "json_pattern", "a JSON pointer like \"/id\" or \"/items/*/at\"", "(/[^/]*)+",
        Self::parse, ToString::to_string;
    ComparedHeader, "header_name", "the name of a header", "[!#$%&'*+.^_`|~0-9A-Za-z-]+",
        Self::parse, |header| header.0.to_string();
    Role, "role", "a role: \"read\", \"operate\" or \"approve:<role>\"", "read|operate|approve:[A-Za-z0-9][A-Za-z0-9_.-]{0,63}",
        Self::parse, ToString::to_string;
    Sha256Hex, "sha256", "64 hexadecimal digits", "[0-9A-Fa-f]{64}",
        parse_sha256, |hash| hash.0.iter().map(|byte| format!("{byte:02x}")).collect();
}

/// Everything `$ref` points to.
pub(super) fn definitions() -> Value {
    let mut definitions = json!({
        "template": { "description": "from the environment: ${VAR} or ${VAR:-default}", "type": "string", "pattern": "\\$\\{" },
    });
    definitions["size"] = Size::definition();
    definitions["share"] = Share::definition();
    for (name, description, pattern) in TEXT_DEFINITIONS {
        definitions[name] = json!({ "description": description, "type": "string", "pattern": or_template_pattern(pattern) });
    }
    definitions
}

/// A pattern that also lets through what the environment will fill in.
pub(super) fn or_template_pattern(pattern: &str) -> String {
    format!("^(?:{pattern})$|\\$\\{{")
}

// === parsers ===

fn parse_wait(text: &str) -> Result<Wait, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be longer than \"0s\"".to_owned()),
        span => Ok(Wait(span)),
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is not an address like \"127.0.0.1:8080\" or \"[::1]:8080\"")
    })
}

fn parse_network(text: &str) -> Result<IpNet, String> {
    let alone = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let network: Option<IpNet> = text.parse().ok().or_else(alone);
    network
        .map(|network| network.trunc())
        .ok_or_else(|| format!("{text:?} is not a network like \"10.0.0.0/8\""))
}

fn parse_file_path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') {
        return Err(format!("{text:?} is not a path"));
    }
    Ok(PathBuf::from(text))
}

pub(super) fn parse_endpoint(text: &str) -> Result<Endpoint, String> {
    let fault = |why: &str| format!("{text:?} is not an endpoint like \"127.0.0.1:9101\": {why}");
    let (host, port) = text
        .rsplit_once(':')
        .ok_or_else(|| fault("the port is missing"))?;
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let port: u16 = port
        .parse()
        .ok()
        .filter(|port| digits && *port > 0)
        .ok_or_else(|| fault("the port is not 1 to 65535"))?;
    match parse_host(host) {
        Ok(HostPattern::Exact(host)) => Ok(Endpoint(format!("{host}:{port}"))),
        Ok(HostPattern::Any | HostPattern::Suffix(_)) | Err(_) => {
            Err(fault("the host is neither a name nor an address"))
        }
    }
}

fn parse_host_name(text: &str) -> Result<HostName, String> {
    match parse_host(text)? {
        HostPattern::Exact(host) => Ok(HostName(host)),
        HostPattern::Any | HostPattern::Suffix(_) => {
            Err(format!("{text:?} is not the name of one host"))
        }
    }
}

fn parse_token_name(text: &str) -> Result<TokenName, String> {
    // The history signs with these two what no token did.
    if matches!(text, "gate" | "local") {
        return Err(format!("{text:?} is the name serin signs with itself"));
    }
    StageName::parse(text)
        .map(|_| TokenName(text.to_owned()))
        .map_err(|why| why.to_string())
}

fn parse_channel_name(text: &str) -> Result<ChannelName, String> {
    StageName::parse(text)
        .map(|_| ChannelName(text.to_owned()))
        .map_err(|why| why.to_string())
}

pub(super) fn parse_member_name(text: &str) -> Result<MemberName, String> {
    StageName::parse(text)
        .map(|_| MemberName(text.to_owned()))
        .map_err(|why| why.to_string())
}

fn parse_event_word(text: &str) -> Result<EventWord, String> {
    if !kinds_of(text).is_empty() {
        return Ok(EventWord(text.to_owned()));
    }
    let groups = GROUPS.iter().map(|group| group.name);
    let words: Vec<&str> = groups.chain(KINDS.iter().copied()).collect();
    let near = nearest(text, &words).map_or_else(
        || format!("known are {}", words.join(", ")),
        |near| format!("did you mean {near:?}?"),
    );
    Err(format!("{text:?} is no kind of event; {near}"))
}

// A URL may be a secret, so that no message shows it.
fn parse_http_url(text: &str) -> Result<CallUrl, String> {
    let fault = |why: &str| format!("not a URL like \"https://hooks.example.org/x\": {why}");
    let url: Uri = text
        .parse()
        .map_err(|_| fault("it cannot be read as one"))?;
    match url.scheme_str() {
        Some("http" | "https") => {}
        Some(_) | None => return Err(fault("it must begin with http:// or https://")),
    }
    let Some(authority) = url.authority().filter(|at| !at.host().is_empty()) else {
        return Err(fault("the host is missing"));
    };
    if authority.as_str().contains('@') {
        return Err(fault("a user and a password do not belong in it"));
    }
    Ok(CallUrl(url))
}

fn parse_url_path(text: &str) -> Result<UrlPath, String> {
    let fault = |why: &str| Err(format!("{text:?} is not a path like \"/api\": {why}"));
    if !text.starts_with('/') {
        return fault("it must begin with /");
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains(['?', '#']) {
        return fault("blanks, `?`, `#` and what is not ASCII do not belong in it");
    }
    Ok(UrlPath(text.to_owned()))
}

fn parse_sha256(text: &str) -> Result<Sha256Hex, String> {
    let fault = || "not a SHA-256: 64 hexadecimal digits are needed".to_owned();
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(fault());
    }
    let mut hash = [0; 32];
    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| fault())?;
    }
    Ok(Sha256Hex(hash))
}

impl NameForm for PoolName {
    fn parse_name(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|why| why.to_string())
    }
}

impl NameForm for RolloutName {
    fn parse_name(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|why| why.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_a_host_and_a_port() {
        for (text, endpoint) in [
            ("127.0.0.1:9101", "127.0.0.1:9101"),
            ("[::1]:80", "[::1]:80"),
            ("Analyzer.svc:8080", "analyzer.svc:8080"),
            ("a_b:65535", "a_b:65535"),
        ] {
            assert_eq!(parse_endpoint(text), Ok(Endpoint(endpoint.to_owned())));
        }
        for text in [
            "",
            "host",
            "host:",
            "host:0",
            "host:65536",
            ":80",
            "::1:80",
            "[::1]",
            "http://h:80",
            "h:+80",
            "a b:80",
            "*.x:80",
        ] {
            assert!(parse_endpoint(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_network_may_be_one_address() {
        assert_eq!(
            parse_network("10.1.2.3/8").map(|n| n.to_string()),
            Ok("10.0.0.0/8".to_owned())
        );
        assert_eq!(
            parse_network("10.1.2.3").map(|n| n.to_string()),
            Ok("10.1.2.3/32".to_owned())
        );
        assert_eq!(
            parse_network("::1").map(|n| n.to_string()),
            Ok("::1/128".to_owned())
        );
        assert!(parse_network("10.0.0.0/33").is_err());
    }
}
