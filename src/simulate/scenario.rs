//! A world as a person writes it in TOML, and as a value that exists only if it makes sense.
//!
//! Keys are those of `load-tests/scenarios/README.md`. Every key has a default: an empty file is a healthy canary at
//! 1,000 requests a second.

use std::time::Duration;

use serde::Deserialize;

use super::latency::Law;
use crate::rollout::gate::Action;
use crate::rollout::name::Arm;
use crate::rollout::time::parse_duration;
use crate::rollout::weight::Weight;

const RATE_PER_MINUTE: f64 = 60_000.0;
const LEARNERS: u64 = 500_000;
/// As the client runs them: 20 analyzers of the old kind, 2 of the new one.
const ENDPOINTS: [u32; 2] = [20, 2];
/// A healthy service: one request in a thousand fails.
const ERROR_RATE: f64 = 0.001;
const P50_MS: f64 = 15.0;
const P99_MS: f64 = 46.0;

/// What is wrong with a scenario, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScenarioError(String);

/// How a second of traffic is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Draw {
    /// Counts of each second and arm at once: quick.
    #[default]
    Blocks,
    /// Every request by its learner, for what is counted by learner.
    Learners,
}

/// A world that can be played.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: String,
    pub about: String,
    pub draw: Draw,
    pub(super) rate_per_minute: f64,
    pub(super) learners: u64,
    pub(super) endpoints: [u32; 2],
    pub(super) arms: [Conduct; 2],
    pub(super) always_failing: f64,
    pub(super) always_slow: Option<Slow>,
    pub(super) cold_start: Option<ColdStart>,
    pub(super) bots: Vec<Bot>,
    pub(super) changes: Vec<Change>,
    pub(super) orders: Vec<Order>,
    pub(super) resume_after: Option<Duration>,
    pub(super) at_most: Option<Duration>,
}

/// How the endpoints of one arm behave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Conduct {
    /// Share of requests answered 503.
    pub(super) errors: f64,
    /// Share answered 4xx.
    pub(super) client_errors: f64,
    pub(super) latency: Law,
    /// No endpoint passes its health check.
    pub(super) down: bool,
}

/// Learners who are slow on either arm.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slow {
    pub(super) share: f64,
    pub(super) factor: f64,
}

/// Canary is slower for a while after each step.
#[derive(Clone, Copy, Debug)]
pub(super) struct ColdStart {
    pub(super) lasts: Duration,
    pub(super) factor: f64,
}

/// A learner whose every request fails. The first ones to be moved to canary.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bot {
    pub(super) per_minute: f64,
}

/// Something that becomes different.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) at: Duration,
    /// `None`: to the end.
    pub(super) until: Option<Duration>,
    /// Reached little by little over so long.
    pub(super) over: Duration,
    /// By `Arm::index`.
    pub(super) arms: [bool; 2],
    pub(super) errors: Option<f64>,
    pub(super) client_errors: Option<f64>,
    pub(super) latency: Option<Law>,
    pub(super) latency_factor: Option<f64>,
    pub(super) rate_per_minute: Option<f64>,
    pub(super) down: Option<bool>,
}

/// What a person does at a moment.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) at: Duration,
    pub(super) action: Action,
    pub(super) force: bool,
}

// === as typed ===

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Typed {
    name: String,
    about: String,
    draw: Draw,
    rate_per_minute: Option<f64>,
    learners: Option<u64>,
    baseline: TypedArm,
    canary: Option<TypedArm>,
    always_failing: Option<Share>,
    always_slow: Option<TypedSlow>,
    cold_start: Option<TypedColdStart>,
    bot: Vec<TypedBot>,
    change: Vec<TypedChange>,
    order: Vec<TypedOrder>,
    resume_after: Option<String>,
    at_most: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TypedArm {
    endpoints: Option<u32>,
    error_rate: Option<Share>,
    client_error_rate: Option<Share>,
    latency: Option<TypedLatency>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedLatency {
    p50: String,
    p95: Option<String>,
    p99: String,
    p999: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedSlow {
    share: Share,
    factor: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedColdStart {
    #[serde(rename = "for")]
    lasts: String,
    factor: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedBot {
    per_minute: f64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TypedArms {
    Baseline,
    Canary,
    Both,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedChange {
    at: String,
    #[serde(rename = "for")]
    lasts: Option<String>,
    over: Option<String>,
    arm: TypedArms,
    error_rate: Option<Share>,
    client_error_rate: Option<Share>,
    latency: Option<TypedLatency>,
    latency_factor: Option<f64>,
    rate_per_minute: Option<f64>,
    down: Option<bool>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TypedAction {
    Pause,
    Resume,
    Retry,
    Hold,
    Advance,
    Rollback,
    Abort,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedOrder {
    at: String,
    action: TypedAction,
    #[serde(default)]
    force: bool,
}

/// `"1.5%"` or 0.015.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "TypedShare")]
struct Share(f64);

#[derive(Deserialize)]
#[serde(untagged)]
enum TypedShare {
    Number(f64),
    Text(String),
}

impl TryFrom<TypedShare> for Share {
    type Error = String;

    fn try_from(typed: TypedShare) -> Result<Self, String> {
        match typed {
            TypedShare::Number(share) if (0.0..=1.0).contains(&share) => Ok(Self(share)),
            TypedShare::Number(share) => Err(format!("{share} is not a share from 0 to 1")),
            TypedShare::Text(text) => match Weight::parse(&text) {
                Ok(weight) => Ok(Self(weight.share())),
                Err(why) => Err(why.to_string()),
            },
        }
    }
}

// === as meant ===

impl Scenario {
    /// Reads a scenario; the first fault is named with its place.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let typed: Typed = toml::from_str(text).map_err(|why| ScenarioError(why.to_string()))?;
        typed.meant().map_err(ScenarioError)
    }

    /// From when on canary does worse than baseline; `None` where it never does.
    pub(super) fn fault_at(&self) -> Option<Duration> {
        let [baseline, canary] = &self.arms;
        if canary.is_worse_than(baseline) {
            return Some(Duration::ZERO);
        }
        let mut worse = self.changes.iter().filter(|change| {
            change.arms == [false, true]
                && (change.down == Some(true)
                    || change.errors.is_some_and(|errors| errors > canary.errors)
                    || change
                        .client_errors
                        .is_some_and(|share| share > canary.client_errors)
                    || change
                        .latency
                        .is_some_and(|law| law.is_slower_than(canary.latency))
                    || change.latency_factor.is_some_and(|factor| factor > 1.0))
        });
        let first = worse.next()?.at;
        Some(worse.map(|change| change.at).fold(first, Duration::min))
    }
}

impl Conduct {
    fn is_worse_than(&self, other: &Self) -> bool {
        self.errors > other.errors
            || self.client_errors > other.client_errors
            || self.latency.is_slower_than(other.latency)
    }
}

impl Typed {
    fn meant(self) -> Result<Scenario, String> {
        let baseline = self.baseline.meant(None)?;
        let canary = match &self.canary {
            Some(canary) => canary.meant(Some(baseline))?,
            None => baseline,
        };
        let of_canary = self.canary.as_ref().and_then(|canary| canary.endpoints);
        let always_slow = self.always_slow.map(|slow| Slow {
            share: slow.share.0,
            factor: slow.factor,
        });
        let cold_start = match self.cold_start {
            Some(cold) => Some(ColdStart {
                lasts: parse_duration(&cold.lasts)?,
                factor: cold.factor,
            }),
            None => None,
        };
        let factors = [
            always_slow.map(|slow| slow.factor),
            cold_start.map(|cold| cold.factor),
        ];
        factors.into_iter().flatten().try_for_each(positive)?;
        let bots = self.bot.iter().map(|bot| Bot {
            per_minute: bot.per_minute,
        });
        let scenario = Scenario {
            name: self.name,
            about: self.about,
            draw: self.draw,
            rate_per_minute: self.rate_per_minute.unwrap_or(RATE_PER_MINUTE),
            learners: self.learners.unwrap_or(LEARNERS),
            endpoints: [
                self.baseline.endpoints.unwrap_or(ENDPOINTS[0]),
                of_canary.unwrap_or(ENDPOINTS[1]),
            ],
            arms: [baseline, canary],
            always_failing: self.always_failing.map_or(0.0, |share| share.0),
            always_slow,
            cold_start,
            bots: bots.collect(),
            changes: self
                .change
                .into_iter()
                .map(TypedChange::meant)
                .collect::<Result<_, _>>()?,
            orders: self
                .order
                .into_iter()
                .map(TypedOrder::meant)
                .collect::<Result<_, _>>()?,
            resume_after: span(self.resume_after.as_deref())?,
            at_most: span(self.at_most.as_deref())?,
        };
        let rates = scenario
            .changes
            .iter()
            .filter_map(|change| change.rate_per_minute);
        let bots = scenario.bots.iter().map(|bot| bot.per_minute);
        rates
            .chain(bots)
            .chain([scenario.rate_per_minute])
            .try_for_each(rate)?;
        if scenario.learners == 0 || scenario.endpoints.contains(&0) {
            return Err("learners and endpoints must be at least 1".to_owned());
        }
        Ok(scenario)
    }
}

impl TypedArm {
    fn meant(&self, otherwise: Option<Conduct>) -> Result<Conduct, String> {
        let latency = match (&self.latency, otherwise) {
            (Some(latency), _) => latency.meant()?,
            (None, Some(otherwise)) => otherwise.latency,
            (None, None) => law(P50_MS, None, P99_MS, None)?,
        };
        let or = |typed: Option<Share>, default: f64| typed.map_or(default, |share| share.0);
        Ok(Conduct {
            errors: or(
                self.error_rate,
                otherwise.map_or(ERROR_RATE, |other| other.errors),
            ),
            client_errors: or(
                self.client_error_rate,
                otherwise.map_or(0.0, |other| other.client_errors),
            ),
            latency,
            down: false,
        })
    }
}

impl TypedLatency {
    fn meant(&self) -> Result<Law, String> {
        let ms = |text: &str| parse_duration(text).map(|span| span.as_secs_f64() * 1000.0);
        let optional = |text: &Option<String>| text.as_deref().map(ms).transpose();
        law(
            ms(&self.p50)?,
            optional(&self.p95)?,
            ms(&self.p99)?,
            optional(&self.p999)?,
        )
    }
}

impl TypedChange {
    fn meant(self) -> Result<Change, String> {
        let at = parse_duration(&self.at)?;
        self.latency_factor.map_or(Ok(()), positive)?;
        if self.rate_per_minute.is_some() && !matches!(self.arm, TypedArms::Both) {
            return Err("rate_per_minute is of both arms: arm = \"both\"".to_owned());
        }
        Ok(Change {
            at,
            until: span(self.lasts.as_deref())?.map(|lasts| at + lasts),
            over: span(self.over.as_deref())?.unwrap_or_default(),
            arms: match self.arm {
                TypedArms::Baseline => [true, false],
                TypedArms::Canary => [false, true],
                TypedArms::Both => [true, true],
            },
            errors: self.error_rate.map(|share| share.0),
            client_errors: self.client_error_rate.map(|share| share.0),
            latency: self.latency.map(|latency| latency.meant()).transpose()?,
            latency_factor: self.latency_factor,
            rate_per_minute: self.rate_per_minute,
            down: self.down,
        })
    }
}

impl TypedOrder {
    fn meant(self) -> Result<Order, String> {
        let action = match self.action {
            TypedAction::Pause => Action::Pause,
            TypedAction::Resume => Action::Resume,
            TypedAction::Retry => Action::Retry,
            TypedAction::Hold => Action::Hold,
            TypedAction::Advance => Action::Advance,
            TypedAction::Rollback => Action::Rollback,
            TypedAction::Abort => Action::Abort,
        };
        Ok(Order {
            at: parse_duration(&self.at)?,
            action,
            force: self.force,
        })
    }
}

impl Change {
    pub(super) fn concerns(&self, arm: Arm) -> bool {
        self.arms[arm.index()]
    }
}

fn law(p50: f64, p95: Option<f64>, p99: f64, p999: Option<f64>) -> Result<Law, String> {
    Law::new(p50, p95, p99, p999)
        .ok_or_else(|| "latency: p50, p95, p99 and p999 must be above 0 and ascend".to_owned())
}

fn span(text: Option<&str>) -> Result<Option<Duration>, String> {
    text.map(parse_duration).transpose()
}

fn positive(factor: f64) -> Result<(), String> {
    let good = factor.is_finite() && factor > 0.0;
    good.then_some(())
        .ok_or_else(|| format!("the factor {factor} is not above 0"))
}

fn rate(rate: f64) -> Result<(), String> {
    // A second of a million requests is beyond every proxy and still drawn at once.
    let good = (0.0..=60e6).contains(&rate);
    good.then_some(())
        .ok_or_else(|| format!("the rate {rate} is not between 0 and 60 million a minute"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_a_healthy_canary() {
        let scenario = Scenario::parse("").expect("everything has a default");
        assert_eq!(scenario.arms[0], scenario.arms[1]);
        assert_eq!(scenario.fault_at(), None);
    }

    #[test]
    fn a_fault_begins_where_canary_alone_gets_worse() {
        let check = |text: &str, at: Option<u64>| {
            let scenario = Scenario::parse(text).expect(text);
            assert_eq!(scenario.fault_at(), at.map(Duration::from_secs), "{text}");
        };
        check("[canary]\nerror_rate = \"1.5%\"", Some(0));
        check(
            "[[change]]\nat = \"1h\"\narm = \"canary\"\nerror_rate = 0.015",
            Some(3_600),
        );
        check(
            "[[change]]\nat = \"1h\"\narm = \"both\"\nerror_rate = 0.5",
            None,
        );
        check(
            "[[change]]\nat = \"2m\"\narm = \"canary\"\nlatency_factor = 0.5",
            None,
        );
        check(
            "[[change]]\nat = \"2m\"\narm = \"canary\"\nlatency_factor = 2.0",
            Some(120),
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let check = |text: &str, why: &str| {
            let said = Scenario::parse(text).expect_err(text).to_string();
            assert!(said.contains(why), "{text}: {said}");
        };
        check("speed = 3", "unknown field");
        check("rate_per_minute = -1.0", "between 0");
        check("[canary]\nerror_rate = 1.5", "not a share");
        check(
            "[canary]\nlatency = { p50 = \"20ms\", p99 = \"10ms\" }",
            "ascend",
        );
        check(
            "[[change]]\nat = \"soon\"\narm = \"canary\"",
            "not a duration",
        );
        check(
            "[[change]]\nat = \"1h\"\narm = \"canary\"\nrate_per_minute = 5.0",
            "both",
        );
        check("learners = 0", "at least 1");
        check("cold_start = { for = \"30s\", factor = 0.0 }", "above 0");
    }
}
