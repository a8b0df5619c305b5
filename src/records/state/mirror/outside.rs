//! The JSON of what reached a gate from outside: readings of signals, and the splits that late results are credited by.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{StateError, weight};
use crate::records::words;
use crate::rollout::name::{Arm, SignalName};
use crate::rollout::outcome::PastSplit;
use crate::rollout::signal::{Reading, Readings, Series, SeriesKey};
use crate::rollout::time::Timestamp;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SeriesState {
    name: String,
    #[serde(with = "words")]
    arm: Arm,
    segment: Option<String>,
    interval: Duration,
    latest: Option<ReadingState>,
    failed: Option<(u64, String)>,
    past: Vec<ReadingState>,
}

/// When, what, and how many measurements it stands for.
#[derive(Debug, Serialize, Deserialize)]
struct ReadingState(u64, f64, u64);

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PastSplitState {
    from_ms: u64,
    weight_ppm: u32,
    closed: bool,
    ceilings_ppm: BTreeMap<String, u32>,
}

pub(super) fn series(readings: &Readings) -> Vec<SeriesState> {
    let state = |(key, series): (&SeriesKey, &Series)| SeriesState {
        name: key.name.to_string(),
        arm: key.arm,
        segment: key.segment.as_ref().map(ToString::to_string),
        interval: series.interval,
        latest: series.latest.map(ReadingState::from),
        failed: series
            .failed
            .as_ref()
            .map(|(at, why)| (at.as_millis(), why.clone())),
        past: series
            .past
            .iter()
            .copied()
            .map(ReadingState::from)
            .collect(),
    };
    readings.0.iter().map(state).collect()
}

pub(super) fn readings(states: Vec<SeriesState>) -> Result<Readings, StateError> {
    let mut readings = Readings::default();
    for state in states {
        let name =
            SignalName::parse(&state.name).map_err(|why| StateError::Signal(why.to_string()))?;
        let key = SeriesKey {
            name,
            arm: state.arm,
            segment: state.segment.map(Arc::from),
        };
        let series = Series {
            interval: state.interval,
            latest: state.latest.map(Reading::from),
            failed: state
                .failed
                .map(|(at, why)| (Timestamp::from_millis(at), why)),
            past: state.past.into_iter().map(Reading::from).collect(),
        };
        readings.0.insert(key, series);
    }
    Ok(readings)
}

pub(super) fn splits(history: &VecDeque<PastSplit>) -> Vec<PastSplitState> {
    let state = |past: &PastSplit| PastSplitState {
        from_ms: past.from.as_millis(),
        weight_ppm: past.weight.ppm(),
        closed: past.closed,
        ceilings_ppm: past
            .ceilings
            .iter()
            .map(|(name, weight)| (name.to_string(), weight.ppm()))
            .collect(),
    };
    history.iter().map(state).collect()
}

pub(super) fn past_splits(states: Vec<PastSplitState>) -> Result<VecDeque<PastSplit>, StateError> {
    let past = |state: PastSplitState| {
        let ceilings = state.ceilings_ppm.into_iter();
        Ok(PastSplit {
            from: Timestamp::from_millis(state.from_ms),
            weight: weight(state.weight_ppm)?,
            closed: state.closed,
            ceilings: ceilings
                .map(|(name, ppm)| Ok((Arc::from(name), weight(ppm)?)))
                .collect::<Result<_, StateError>>()?,
        })
    };
    states.into_iter().map(past).collect()
}

impl From<Reading> for ReadingState {
    fn from(reading: Reading) -> Self {
        Self(reading.at.as_millis(), reading.value, reading.count)
    }
}

impl From<ReadingState> for Reading {
    fn from(ReadingState(at, value, count): ReadingState) -> Self {
        let at = Timestamp::from_millis(at);
        Self { at, value, count }
    }
}
