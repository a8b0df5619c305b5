//! Signals: where each figure from outside comes from, and which keys its source takes.
//!
//! What a rollout's plan needs of it (name, interval, arms) goes into the plan; how a source is asked stays here and
//! may change while a rollout runs.

use std::fmt;
use std::time::Duration;

use super::defaults::{SIGNAL_INTERVAL, SIGNAL_PATH, SIGNAL_TIMEOUT};
use super::faults::Faults;
use super::selector::Query;
use super::staged;
use super::word::{Agg, SignalKindWord, UnprovenWord};
use crate::rollout::name::{Arm, PoolName, SignalName};
use crate::rollout::plan::Identity;
use crate::rollout::signal::{ArmsRead, SignalKind, SignalSpec};
use crate::rollout::time::format_duration;

/// What stands for the pool that is asked about, in a query or an address.
const PLACEHOLDERS: [&str; 2] = ["{pool}", "{arm}"];

/// A signal as its source is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    pub name: SignalName,
    pub source: SignalSource,
    /// From one reading to the next; of what is pushed, how often a value is expected.
    pub interval: Duration,
    pub timeout: Duration,
    pub unproven_passes: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignalSource {
    /// An instant query in PromQL that gives one value.
    Prometheus { url: String, query: String },
    /// A number in a JSON document, by JSON pointer.
    Json { url: String, pointer: String },
    /// Series of the Prometheus text of each endpoint of the pool.
    Scrape {
        path: String,
        query: Query,
        /// The series are counters, and what is meant is their growth per second.
        rate: bool,
        over_endpoints: OverEndpoints,
    },
    /// `POST /api/signals`.
    Push,
    /// `POST /api/outcomes`.
    Outcomes,
}

/// One figure from those of several endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverEndpoints {
    Max,
    Avg,
    Sum,
    /// The sum of the numerators / the sum of the denominators.
    Ratio,
}

impl Signal {
    /// A query or an address for one arm.
    pub fn filled(text: &str, identity: &Identity, arm: Arm) -> String {
        let pool: &PoolName = match arm {
            Arm::Baseline => &identity.baseline,
            Arm::Canary => &identity.canary,
        };
        text.replace(PLACEHOLDERS[0], pool.as_str())
            .replace(PLACEHOLDERS[1], arm.as_str())
    }

    /// The arms that the source has a value for.
    pub fn arms(&self) -> ArmsRead {
        let asks = |text: &str| {
            PLACEHOLDERS
                .iter()
                .any(|placeholder| text.contains(placeholder))
        };
        match &self.source {
            SignalSource::Prometheus { url, query: what }
            | SignalSource::Json { url, pointer: what } => {
                if asks(url) || asks(what) {
                    ArmsRead::Both
                } else {
                    ArmsRead::Canary
                }
            }
            SignalSource::Scrape { .. } | SignalSource::Push | SignalSource::Outcomes => {
                ArmsRead::Both
            }
        }
    }

    /// What a plan needs to know of it.
    pub(super) fn spec(&self) -> SignalSpec {
        let read = || SignalKind::Read {
            interval: self.interval,
            arms: self.arms(),
        };
        let kind = match self.source {
            SignalSource::Outcomes => SignalKind::Outcomes,
            SignalSource::Prometheus { .. }
            | SignalSource::Json { .. }
            | SignalSource::Scrape { .. }
            | SignalSource::Push => read(),
        };
        SignalSpec {
            name: self.name,
            kind,
            unproven_passes: self.unproven_passes,
        }
    }
}

impl fmt::Display for Signal {
    /// Everything that is said of it, in words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.name, self.source.as_str())?;
        match &self.source {
            SignalSource::Prometheus { url, query: what }
            | SignalSource::Json { url, pointer: what } => {
                write!(f, " {what:?} at {url}")?;
            }
            SignalSource::Scrape {
                path,
                query,
                rate,
                over_endpoints,
            } => {
                let rate = if *rate { " per second" } else { "" };
                write!(
                    f,
                    " {query}{rate} at {path}, {} over endpoints",
                    over_endpoints.as_str()
                )?;
            }
            SignalSource::Push | SignalSource::Outcomes => {}
        }
        let (interval, timeout) = (
            format_duration(self.interval),
            format_duration(self.timeout),
        );
        write!(f, " every {interval}, timeout {timeout}")
    }
}

impl OverEndpoints {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Avg => "avg",
            Self::Sum => "sum",
            Self::Ratio => "ratio",
        }
    }
}

impl SignalSource {
    /// The word of the file.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Prometheus { .. } => "prometheus",
            Self::Json { .. } => "json",
            Self::Scrape { .. } => "scrape",
            Self::Push => "push",
            Self::Outcomes => "outcomes",
        }
    }
}

/// Checks the signals of one rollout. One whose name is known is answered with whatever is wrong with it, so that
/// conditions that name it are not found faulty for that.
pub(super) fn check(raw: &[staged::Signal], key: &str, faults: &mut Faults) -> Vec<Signal> {
    let named = raw
        .iter()
        .enumerate()
        .filter_map(|(at, raw)| Some((at, raw, raw.name?)));
    named
        .map(|(at, raw, name)| {
            let key = format!("{key}.signals[{at}]");
            let word = raw.source.unwrap_or(SignalKindWord::Push);
            if raw.source.is_some() {
                refuse_unfit(raw, word, &key, faults);
            }
            let interval = raw.interval.map_or(SIGNAL_INTERVAL, |wait| wait.0);
            let timeout = raw
                .timeout
                .map_or_else(|| SIGNAL_TIMEOUT.min(interval), |wait| wait.0);
            if timeout > interval {
                faults.add(&format!("{key}.timeout"), "longer than the interval");
            }
            Signal {
                name,
                source: source(raw, word, &key, faults),
                interval,
                timeout,
                unproven_passes: raw.unproven == UnprovenWord::Pass,
            }
        })
        .collect()
}

/// Keys that a source has no use for are faults: they would be read and ignored.
fn refuse_unfit(raw: &staged::Signal, word: SignalKindWord, key: &str, faults: &mut Faults) {
    use SignalKindWord::{Json, Outcomes, Prometheus, Push, Scrape};
    let given: [(&str, bool, &[SignalKindWord]); 7] = [
        ("url", raw.url.is_some(), &[Prometheus, Json]),
        ("query", raw.query.is_some(), &[Prometheus, Json, Scrape]),
        ("path", raw.path.is_some(), &[Scrape]),
        ("rate", raw.rate.is_some(), &[Scrape]),
        ("agg", raw.agg.is_some(), &[Scrape]),
        (
            "interval",
            raw.interval.is_some(),
            &[Prometheus, Json, Scrape, Push],
        ),
        (
            "timeout",
            raw.timeout.is_some(),
            &[Prometheus, Json, Scrape],
        ),
    ];
    for (name, is_given, fits) in given {
        if is_given && !fits.contains(&word) {
            faults.add(
                &format!("{key}.{name}"),
                format!("source {:?} has no {name}", word.as_str()),
            );
        }
    }
    let needed: &[(&str, bool)] = match word {
        Prometheus | Json => &[("url", raw.url.is_some()), ("query", raw.query.is_some())],
        Scrape => &[("query", raw.query.is_some())],
        Push | Outcomes => &[],
    };
    for (name, is_given) in needed {
        let key = format!("{key}.{name}");
        // One that is there and faulty was told already.
        if !is_given && !faults.has_key(&key) {
            faults.add(
                &key,
                format!("missing: source {:?} needs it", word.as_str()),
            );
        }
    }
}

fn source(
    raw: &staged::Signal,
    word: SignalKindWord,
    key: &str,
    faults: &mut Faults,
) -> SignalSource {
    let query = raw.query.clone().unwrap_or_default();
    let url = raw
        .url
        .as_ref()
        .map(|url| url.0.clone())
        .unwrap_or_default();
    match word {
        SignalKindWord::Prometheus => SignalSource::Prometheus {
            url: url.trim_end_matches('/').to_owned(),
            query,
        },
        SignalKindWord::Json => {
            if raw.query.is_some() && !(query.is_empty() || query.starts_with('/')) {
                let why = format!("{query:?} is not a JSON pointer like \"/result/0/value\"");
                faults.add(&format!("{key}.query"), why);
            }
            SignalSource::Json {
                url,
                pointer: query,
            }
        }
        SignalKindWord::Scrape => scrape(raw, &query, key, faults),
        SignalKindWord::Push => SignalSource::Push,
        SignalKindWord::Outcomes => SignalSource::Outcomes,
    }
}

fn scrape(raw: &staged::Signal, text: &str, key: &str, faults: &mut Faults) -> SignalSource {
    let none = Query {
        numerator: Vec::new(),
        denominator: Vec::new(),
    };
    let query = match Query::parse(text) {
        Ok(query) => query,
        Err(why) => {
            if raw.query.is_some() {
                faults.add(&format!("{key}.query"), why);
            }
            none
        }
    };
    let usual = if query.is_ratio() {
        Agg(OverEndpoints::Ratio)
    } else {
        Agg(OverEndpoints::Avg)
    };
    let agg = raw.agg.unwrap_or(usual);
    if agg.0 == OverEndpoints::Ratio && !query.is_ratio() && !query.numerator.is_empty() {
        faults.add(
            &format!("{key}.agg"),
            "a ratio needs a query like \"hits / (hits + misses)\"",
        );
    }
    SignalSource::Scrape {
        path: raw
            .path
            .as_ref()
            .map_or_else(|| SIGNAL_PATH.to_owned(), |path| path.0.clone()),
        query,
        rate: raw.rate.unwrap_or(false),
        over_endpoints: agg.0,
    }
}

/// An address as it is asked, with the placeholders filled in, if it is one.
pub(super) fn parse_url(text: &str) -> Result<String, String> {
    let fault = |why: &str| {
        Err(format!(
            "{text:?} is not an address like \"http://prometheus:9090\": {why}"
        ))
    };
    let filled = PLACEHOLDERS
        .iter()
        .fold(text.to_owned(), |text, placeholder| {
            text.replace(placeholder, "x")
        });
    let Ok(uri) = filled.parse::<http::Uri>() else {
        return fault("it must begin with http:// or https:// and a host");
    };
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
            fault("names and passwords do not belong in it")
        }
        (Some("http" | "https"), Some(authority)) if !authority.host().is_empty() => {
            Ok(text.to_owned())
        }
        (_, _) => fault("it must begin with http:// or https:// and a host"),
    }
}
