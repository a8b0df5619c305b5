//! A scenario as typed, and how it becomes one that makes sense.

use std::time::Duration;

use serde::Deserialize;

use super::super::latency::Law;
use super::{
    Bot, Change, ColdStart, Conduct, Draw, ENDPOINTS, ERROR_RATE, HookRun, LEARNERS, Order, P50_MS,
    P99_MS, RATE_PER_MINUTE, Scenario, Segment, Slow, Source,
};
use crate::records::Moment;
use crate::rollout::gate::Action;
use crate::rollout::name::SignalName;
use crate::rollout::time::{WallTime, parse_duration};
use crate::rollout::weight::Weight;

/// 2025-11-01T14:00:00Z: a fixed date, so that the same seed prints the same moments.
const START_MS: i64 = 1_762_005_600_000;
const HOOK_TAKES: Duration = Duration::from_secs(1);
const SIGNAL_INTERVAL: Duration = Duration::from_secs(15);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Typed {
    name: String,
    about: String,
    draw: Draw,
    rate_per_minute: Option<f64>,
    learners: Option<u64>,
    baseline: TypedArm,
    canary: Option<TypedArm>,
    always_failing: Option<Share>,
    always_slow: Option<TypedSlow>,
    misassigned: Option<Share>,
    cold_start: Option<TypedColdStart>,
    bot: Vec<TypedBot>,
    change: Vec<TypedChange>,
    segment: Vec<TypedSegment>,
    segments_at: Option<String>,
    hook: Vec<TypedHook>,
    signal: Vec<TypedSignal>,
    order: Vec<TypedOrder>,
    resume_after: Option<String>,
    approve_after: Option<String>,
    start: Option<String>,
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedSegment {
    name: String,
    share: Share,
    canary_error_rate: Option<Share>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedHook {
    name: String,
    takes: Option<String>,
    #[serde(default)]
    fails: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedSignal {
    name: String,
    interval: Option<String>,
    baseline: Option<f64>,
    canary: Option<f64>,
    fails_at: Option<String>,
    #[serde(rename = "for")]
    lasts: Option<String>,
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

impl Typed {
    pub(super) fn meant(self) -> Result<Scenario, String> {
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
            misassigned: self.misassigned.map_or(0.0, |share| share.0),
            cold_start,
            bots: bots.collect(),
            changes: all(self.change, TypedChange::meant)?,
            orders: all(self.order, TypedOrder::meant)?,
            segments: self.segment.into_iter().map(TypedSegment::meant).collect(),
            segments_at: span(self.segments_at.as_deref())?.unwrap_or_default(),
            hooks: all(self.hook, TypedHook::meant)?,
            signals: all(self.signal, TypedSignal::meant)?,
            resume_after: span(self.resume_after.as_deref())?,
            approve_after: span(self.approve_after.as_deref())?,
            start: match self.start.as_deref() {
                Some(text) => moment(text)?,
                None => WallTime::from_unix_millis(START_MS),
            },
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
        let shares: f64 = scenario.segments.iter().map(|segment| segment.share).sum();
        if shares > 1.0 + 1e-9 {
            return Err("the shares of the segments add up to more than 1".to_owned());
        }
        if !scenario.segments.is_empty() && scenario.draw == Draw::Blocks {
            return Err("segments are told apart by learner: draw = \"learners\"".to_owned());
        }
        if scenario.misassigned > 0.0 && scenario.draw == Draw::Blocks {
            return Err("who is misassigned is a learner: draw = \"learners\"".to_owned());
        }
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

impl TypedSegment {
    fn meant(self) -> Segment {
        Segment {
            name: self.name.into(),
            share: self.share.0,
            canary_errors: self.canary_error_rate.map(|share| share.0),
        }
    }
}

impl TypedHook {
    fn meant(self) -> Result<HookRun, String> {
        Ok(HookRun {
            takes: span(self.takes.as_deref())?.unwrap_or(HOOK_TAKES),
            name: self.name,
            fails: self.fails,
        })
    }
}

impl TypedSignal {
    fn meant(self) -> Result<Source, String> {
        let from = span(self.fails_at.as_deref())?;
        let lasts = span(self.lasts.as_deref())?;
        let until = |from: Duration| lasts.map_or(Duration::MAX, |lasts| from + lasts);
        Ok(Source {
            name: SignalName::parse(&self.name).map_err(|why| why.to_string())?,
            interval: span(self.interval.as_deref())?.unwrap_or(SIGNAL_INTERVAL),
            values: [self.baseline, self.canary],
            fails: from.map(|from| (from, until(from))),
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

fn all<T, U>(typed: Vec<T>, meant: impl Fn(T) -> Result<U, String>) -> Result<Vec<U>, String> {
    typed.into_iter().map(meant).collect()
}

fn moment(text: &str) -> Result<WallTime, String> {
    let moment = Moment::parse(text).ok_or_else(|| format!("{text:?} is no moment"))?;
    Ok(WallTime::from_unix_millis(moment.unix_millis()))
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
