//! A world as a person writes it in TOML, and as a value that exists only if it makes sense.
//!
//! Keys are those of `load-tests/scenarios/README.md`. Every key has a default: an empty file is a healthy canary at
//! 1,000 requests a second.

mod typed;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::latency::Law;
use crate::rollout::gate::Action;
use crate::rollout::name::{Arm, SignalName};
use crate::rollout::time::WallTime;

use typed::Typed;

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
    /// Of the learners whom the weight sends to canary: who goes to baseline all the same.
    pub(super) misassigned: f64,
    pub(super) cold_start: Option<ColdStart>,
    pub(super) bots: Vec<Bot>,
    pub(super) changes: Vec<Change>,
    pub(super) segments: Vec<Segment>,
    /// From when on canary does to segments what they say.
    pub(super) segments_at: Duration,
    pub(super) hooks: Vec<HookRun>,
    pub(super) signals: Vec<Source>,
    pub(super) orders: Vec<Order>,
    pub(super) resume_after: Option<Duration>,
    pub(super) approve_after: Option<Duration>,
    /// Moment of `serin start`, for windows and planned starts.
    pub(super) start: WallTime,
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

/// A group of learners.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) name: Arc<str>,
    pub(super) share: f64,
    /// On canary, where that differs from everybody's.
    pub(super) canary_errors: Option<f64>,
}

/// How a hook of the plan ends; one that is not named here passes after a second.
#[derive(Clone, Debug)]
pub(super) struct HookRun {
    pub(super) name: String,
    pub(super) takes: Duration,
    pub(super) fails: bool,
}

/// What a signal of the plan reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) name: SignalName,
    pub(super) interval: Duration,
    /// By `Arm::index`; `None` is never read.
    pub(super) values: [Option<f64>; 2],
    /// From when until when its source fails.
    pub(super) fails: Option<(Duration, Duration)>,
}

/// What a person does at a moment.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) at: Duration,
    pub(super) action: Action,
    pub(super) force: bool,
}

impl Scenario {
    /// Reads a scenario; the first fault is named with its place.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let typed: Typed = toml::from_str(text).map_err(|why| ScenarioError(why.to_string()))?;
        typed.meant().map_err(ScenarioError)
    }

    /// From when on canary does worse than baseline; `None` where it never does.
    pub(super) fn fault_at(&self) -> Option<Duration> {
        let [baseline, canary] = &self.arms;
        let ill = |segment: &Segment| {
            segment
                .canary_errors
                .is_some_and(|errors| errors > baseline.errors)
        };
        let in_segments = self.segments.iter().any(ill).then_some(self.segments_at);
        if canary.is_worse_than(baseline) {
            return Some(Duration::ZERO);
        }
        let worse = self.changes.iter().filter(|change| {
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
        let in_time = worse.map(|change| change.at).min();
        in_time.into_iter().chain(in_segments).min()
    }
}

impl Scenario {
    /// When canary is as well as baseline again, for good; `None` while it stays worse.
    pub(super) fn fault_over(&self) -> Option<Duration> {
        let [baseline, canary] = &self.arms;
        let ill = self
            .segments
            .iter()
            .any(|segment| segment.canary_errors.is_some());
        if canary.is_worse_than(baseline) || ill {
            return None;
        }
        let of_canary = self.changes.iter().filter(|change| !change.arms[0]);
        let ends: Option<Vec<Duration>> = of_canary.map(|change| change.until).collect();
        ends?.into_iter().max()
    }
}

impl Change {
    pub(super) fn concerns(&self, arm: Arm) -> bool {
        self.arms[arm.index()]
    }
}

impl Conduct {
    fn is_worse_than(&self, other: &Self) -> bool {
        self.errors > other.errors
            || self.client_errors > other.client_errors
            || self.latency.is_slower_than(other.latency)
    }
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
