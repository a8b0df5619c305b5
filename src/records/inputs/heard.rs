//! Readings of signals and results of learners as a line of recorded inputs. Values are their bits, so that a NaN comes back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{InputError, fault, micros};
use crate::records::words;
use crate::rollout::assign::LearnerHash;
use crate::rollout::gate::Heard;
use crate::rollout::name::{Arm, SignalName};
use crate::rollout::outcome::Credited;
use crate::rollout::signal::{Observation, Said, SeriesKey};
use crate::rollout::time::Timestamp;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReadingLine {
    name: String,
    #[serde(with = "words")]
    arm: Arm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    segment: Option<String>,
    at_ms: u64,
    interval_us: u64,
    /// The value's bits and its count, or why there is none.
    #[serde(flatten)]
    said: SaidLine,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SaidLine {
    Value { bits: u64, count: u64 },
    Failed { why: String },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OutcomeLine {
    name: String,
    #[serde(with = "words")]
    arm: Arm,
    learner: u64,
    bits: u64,
    id: Option<u64>,
}

/// What was heard, as lines.
pub(super) fn lines(heard: &Heard) -> (Vec<ReadingLine>, Vec<OutcomeLine>) {
    let readings = heard.signals.iter().map(ReadingLine::from);
    let outcomes = heard.outcomes.iter().map(OutcomeLine::from);
    (readings.collect(), outcomes.collect())
}

/// And back.
pub(super) fn heard(
    readings: Vec<ReadingLine>,
    outcomes: Vec<OutcomeLine>,
) -> Result<Heard, InputError> {
    let signals: Result<_, _> = readings.into_iter().map(ReadingLine::meant).collect();
    let outcomes: Result<_, _> = outcomes.iter().map(OutcomeLine::meant).collect();
    Ok(Heard {
        signals: signals?,
        outcomes: outcomes?,
    })
}

impl From<&Observation> for ReadingLine {
    fn from(observation: &Observation) -> Self {
        let of = &observation.of;
        Self {
            name: of.name.to_string(),
            arm: of.arm,
            segment: of.segment.as_deref().map(str::to_owned),
            at_ms: observation.at.as_millis(),
            interval_us: micros(observation.interval),
            said: match &observation.said {
                Said::Value { value, count } => SaidLine::Value {
                    bits: value.to_bits(),
                    count: *count,
                },
                Said::Failed(why) => SaidLine::Failed { why: why.clone() },
            },
        }
    }
}

impl ReadingLine {
    fn meant(self) -> Result<Observation, InputError> {
        Ok(Observation {
            of: SeriesKey {
                name: SignalName::parse(&self.name).map_err(fault)?,
                arm: self.arm,
                segment: self.segment.as_deref().map(Into::into),
            },
            at: Timestamp::from_millis(self.at_ms),
            interval: Duration::from_micros(self.interval_us),
            said: match self.said {
                SaidLine::Value { bits, count } => Said::Value {
                    value: f64::from_bits(bits),
                    count,
                },
                SaidLine::Failed { why } => Said::Failed(why),
            },
        })
    }
}

impl From<&Credited> for OutcomeLine {
    fn from(credited: &Credited) -> Self {
        Self {
            name: credited.name.to_string(),
            arm: credited.arm,
            learner: credited.learner.raw(),
            bits: credited.value.to_bits(),
            id: credited.id,
        }
    }
}

impl OutcomeLine {
    fn meant(&self) -> Result<Credited, InputError> {
        Ok(Credited {
            name: SignalName::parse(&self.name).map_err(fault)?,
            arm: self.arm,
            learner: LearnerHash::from_raw(self.learner),
            value: f64::from_bits(self.bits),
            id: self.id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_comes_back() {
        let name = SignalName::parse("revenue").expect("a name");
        let reading = |said, segment: Option<&str>| Observation {
            of: SeriesKey {
                name,
                arm: Arm::Canary,
                segment: segment.map(Into::into),
            },
            at: Timestamp::from_millis(5),
            interval: Duration::from_secs(15),
            said,
        };
        let said = Heard {
            signals: vec![
                reading(
                    Said::Value {
                        value: 0.1,
                        count: 3,
                    },
                    None,
                ),
                reading(Said::Failed("timeout".to_owned()), Some("eu")),
            ],
            outcomes: vec![Credited {
                name,
                arm: Arm::Baseline,
                learner: LearnerHash::from_raw(u64::MAX),
                value: f64::INFINITY,
                id: Some(7),
            }],
        };
        let text = serde_json::to_string(&lines(&said)).expect("JSON");
        let (readings, outcomes) = serde_json::from_str(&text).expect("as written");
        let back = heard(readings, outcomes).expect("valid");
        assert_eq!((back.signals, back.outcomes), (said.signals, said.outcomes));
    }
}
