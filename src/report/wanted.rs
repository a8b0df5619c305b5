//! What a report shows over time: which samples it asks for, and what it is brought.
//!
//! The report reads no store. From status and events it says which spans it needs and in which steps; whoever has the
//! samples brings them. So the same records give the same bytes, and who reads them is somebody else's matter.

use serde::{Deserialize, Serialize};

use crate::records::event::EventRecord;
use crate::records::sample::SampleRecord;
use crate::records::status::{PerArm, SpanRecord, StatusRecord};
use crate::rollout::gate::Phase;

/// Steps that people think in, in milliseconds: the first that is long enough is taken.
const STEPS_MS: [u64; 18] = [
    1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000,
    1_800_000, 3_600_000, 7_200_000, 10_800_000, 21_600_000, 43_200_000, 86_400_000,
];
/// Points of a chart: one for every 2 or 3 pixels of a wide one.
const FINE: u64 = 240;
/// Rows of the table of figures over time, as many as are read.
const COARSE: u64 = 24;
/// Shown beyond the end of a run, so that what a rollback led to is seen.
const AFTERWARDS_MS: u64 = 60_000;
/// What the time beyond the last stage is called.
const STABILIZATION: &str = "stabilization";

/// Samples that a report asks for; all moments are the gate's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub from_ms: u64,
    pub to_ms: u64,
    /// Of the charts.
    pub fine_ms: u64,
    /// Of the table.
    pub coarse_ms: u64,
    /// Each to be counted as a whole.
    pub stages: Vec<StageSpan>,
}

/// A stage while its weight was in force; a stage that was entered twice has two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageSpan {
    pub stage: String,
    pub from_ms: u64,
    pub to_ms: u64,
}

/// What was brought; empty where there are no samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    pub fine: Vec<SampleRecord>,
    pub coarse: Vec<SampleRecord>,
    /// In the order of `Wanted::stages`.
    pub stages: Vec<PerArm<SpanRecord>>,
}

impl Wanted {
    /// `None` where the events are of another run than the status, or there are none.
    pub fn of(status: &StatusRecord, events: &[EventRecord]) -> Option<Self> {
        let (first, last) = (events.first()?, events.last()?);
        if last.run != status.run {
            return None;
        }
        let from_ms = first.clock_ms;
        let end_ms = status.ended_clock_ms.unwrap_or(status.clock_ms);
        let to_ms = end_ms
            .saturating_add(AFTERWARDS_MS)
            .min(status.clock_ms)
            .max(end_ms);
        let span_ms = to_ms.saturating_sub(from_ms);
        Some(Self {
            from_ms,
            to_ms,
            fine_ms: step(span_ms, FINE),
            coarse_ms: step(span_ms, COARSE),
            stages: stages(events, end_ms),
        })
    }
}

/// The shortest of the steps that makes at most so many of the span.
pub(super) fn step(span_ms: u64, most: u64) -> u64 {
    let fits = |step: &u64| span_ms / step <= most;
    STEPS_MS.into_iter().find(fits).unwrap_or(86_400_000)
}

/// Which stage stood when, up to the end.
pub(super) fn stages(events: &[EventRecord], end_ms: u64) -> Vec<StageSpan> {
    let mut spans: Vec<StageSpan> = Vec::new();
    let mut open: Option<StageSpan> = None;
    for event in events.iter().take_while(|event| event.clock_ms <= end_ms) {
        let now = standing(event);
        if open.as_ref().map(|span| span.stage.as_str()) == now {
            continue;
        }
        spans.extend(open.take().map(|span| span.until(event.clock_ms)));
        open = now.map(|stage| StageSpan {
            stage: stage.to_owned(),
            from_ms: event.clock_ms,
            to_ms: event.clock_ms,
        });
    }
    spans.extend(open.map(|span| span.until(end_ms)));
    spans
}

/// The stage that stands after an event; none before the first one's time, and after the end.
fn standing(event: &EventRecord) -> Option<&str> {
    match event.phase {
        // A retreat is in force before its record is on disk.
        Phase::Idle
        | Phase::Scheduled
        | Phase::RollingBack
        | Phase::RolledBack
        | Phase::Aborted
        | Phase::Complete => None,
        Phase::Stabilizing => Some(STABILIZATION),
        Phase::Running
        | Phase::AwaitingApproval
        | Phase::Waiting
        | Phase::Held
        | Phase::Paused
        | Phase::Manual => event.stage.as_deref(),
    }
}

impl StageSpan {
    fn until(self, to_ms: u64) -> Self {
        Self { to_ms, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_makes_at_most_as_many_points_as_are_wanted() {
        for (span_ms, most, step_ms) in [
            (0, 240, 1_000),
            (240_999, 240, 1_000),
            (241_000, 240, 2_000),
            (7_200_000, 240, 30_000),
            (7_200_000, 24, 300_000),
            (13 * 86_400_000, 240, 7_200_000),
            (400 * 86_400_000, 24, 86_400_000),
        ] {
            assert_eq!(step(span_ms, most), step_ms, "{span_ms} ms, {most}");
        }
    }
}
