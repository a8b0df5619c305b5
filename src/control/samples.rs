//! What was counted over time, read from the store for charts: a point for each step, both arms.
//!
//! Read in pieces, so that a month is never in memory at once.

use std::time::Duration;

use super::events::HistoryError;
use super::handle::Handle;
use super::view::RolloutView;
use crate::rollout::gate::ArmFigures;
use crate::rollout::name::{Arm, RolloutName};
use crate::rollout::slot::Slot;
use crate::rollout::time::{Timestamp, millis};
use crate::rollout::window::Totals;
use crate::store::{Store, StoreError};

/// Read at once: an hour, or so many points.
const PIECE: Duration = Duration::from_secs(3_600);
const PIECE_POINTS: u64 = 64;

/// What was counted in one step.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplePoint {
    /// In gate time, a multiple of the step.
    pub start: Timestamp,
    /// The step, or the coarser slot that is kept of that time.
    pub width: Duration,
    /// By `Arm::index`, over all segments.
    pub arms: [ArmFigures; 2],
}

impl Handle {
    /// Points between two moments of gate time, oldest first; none for a step in which nothing was counted.
    pub async fn samples(
        &self,
        view: &RolloutView,
        from: Timestamp,
        to: Timestamp,
        step: Duration,
    ) -> Result<Vec<SamplePoint>, HistoryError> {
        let Some(store) = view.events.store() else {
            return Ok(Vec::new());
        };
        let rollout = view.rollout.clone();
        let read = move || points(&store, &rollout, (from, to), step);
        match tokio::task::spawn_blocking(read).await {
            Ok(points) => Ok(points?),
            Err(ended) => Err(HistoryError::Thread(ended.to_string())),
        }
    }
}

/// The same, read here and now. Blocks.
///
/// # Errors
/// The journal cannot be read.
pub fn points(
    store: &Store,
    rollout: &RolloutName,
    (from, to): (Timestamp, Timestamp),
    step: Duration,
) -> Result<Vec<SamplePoint>, StoreError> {
    // Pieces begin with a step, so that none is cut in two.
    let step_ms = millis(step).max(1);
    let piece_ms = (millis(PIECE) / step_ms).max(PIECE_POINTS) * step_ms;
    let mut points = Vec::new();
    let mut start = from.as_millis() / step_ms * step_ms;
    while start < to.as_millis() {
        let end = start.saturating_add(piece_ms);
        let until = Timestamp::from_millis(end.min(to.as_millis()));
        let slots = store.samples(rollout, Timestamp::from_millis(start), until, step)?;
        points.extend(slots.iter().map(SamplePoint::of));
        start = end;
    }
    Ok(points)
}

impl SamplePoint {
    fn of(slot: &Slot) -> Self {
        let mut totals = Totals {
            span: slot.width,
            ..Totals::default()
        };
        for (key, cell) in &slot.cells {
            totals.add(key.arm, cell);
        }
        Self {
            start: slot.start,
            width: slot.width,
            arms: Arm::ALL.map(|arm| ArmFigures::of(&totals, arm, None)),
        }
    }
}
