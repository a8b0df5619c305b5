//! What a report is made of, gathered: the run's events, and what was counted over time of what the report asks for.
//!
//! Read in pieces, so that a month of many segments is never in memory at once. Blocks on the disk, so never the driver.

use std::time::Duration;

use super::events::HistoryError;
use super::handle::Handle;
use super::view::RolloutView;
use crate::records::Moment;
use crate::records::event::EventRecord;
use crate::records::sample::SampleRecord;
use crate::records::status::{PerArm, SpanRecord, StatusRecord};
use crate::report::{Measured, ReportInput, StageSpan, Wanted};
use crate::rollout::gate::ArmFigures;
use crate::rollout::name::{Arm, RolloutName};
use crate::rollout::slot::Slot;
use crate::rollout::time::{Timestamp, WallTime};
use crate::rollout::window::Totals;
use crate::store::{Store, StoreError};

/// Read at once: a few hundred rows of each arm and segment.
const PIECE_MS: u64 = 600_000;
/// Events taken from memory at once.
const PAGE: usize = 1_000;

impl Handle {
    /// The report's input as the rollout stands in this view.
    pub async fn report(&self, view: &RolloutView) -> Result<ReportInput, HistoryError> {
        let pools = Arm::ALL.map(|arm| view.pool(arm));
        let status = StatusRecord::new(&view.rollout, pools, &view.status, Some(&view.plan));
        let events = events_of_run(view).await?;
        let (rollout, store) = (view.rollout.clone(), view.events.store());
        let gather = move || gather(store.as_ref(), rollout, status, events);
        match tokio::task::spawn_blocking(gather).await {
            Ok(input) => Ok(input?),
            Err(ended) => Err(HistoryError::Thread(ended.to_string())),
        }
    }
}

/// Every event of the present or last run, oldest first: those on disk, and those that are shown before they are.
async fn events_of_run(view: &RolloutView) -> Result<Vec<EventRecord>, HistoryError> {
    let run = view.status.run;
    let mut events = match view.events.store() {
        Some(store) => {
            let rollout = view.rollout.clone();
            let read = move || store.run_history(&rollout, run);
            let read = tokio::task::spawn_blocking(read).await;
            read.map_err(|ended| HistoryError::Thread(ended.to_string()))??
        }
        None => Vec::new(),
    };
    let mut after = events.last().map_or(0, |event| event.id);
    loop {
        let page = view.events.after(after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(events);
        };
        after = last.id;
        let of_run = page.iter().filter(|event| event.run == run);
        events.extend(of_run.map(|event| EventRecord::clone(event)));
    }
}

fn gather(
    store: Option<&Store>,
    rollout: RolloutName,
    status: StatusRecord,
    events: Vec<EventRecord>,
) -> Result<ReportInput, StoreError> {
    let measured = match (store, Wanted::of(&status, &events)) {
        (Some(store), Some(wanted)) => {
            let clocks = (status.clock_ms, status.at);
            measure(store, &rollout, &wanted, clocks)?
        }
        (_, _) => Measured::default(),
    };
    Ok(ReportInput {
        rollout,
        status,
        events,
        measured,
    })
}

fn measure(
    store: &Store,
    rollout: &RolloutName,
    wanted: &Wanted,
    clocks: (u64, Moment),
) -> Result<Measured, StoreError> {
    let series = |step_ms| series(store, rollout, wanted, step_ms, clocks);
    let mut stages = Vec::new();
    for (place, span) in wanted.stages.iter().enumerate() {
        // The second in which one stage follows another counts for the later one.
        let is_followed = wanted
            .stages
            .get(place + 1)
            .is_some_and(|next| next.from_ms == span.to_ms);
        let to_ms = match is_followed {
            true => second(span.to_ms),
            false => span.to_ms,
        };
        stages.push(stage(store, rollout, span, to_ms)?);
    }
    Ok(Measured {
        fine: series(wanted.fine_ms)?,
        coarse: series(wanted.coarse_ms)?,
        stages,
    })
}

/// The second that a moment is in: samples are of whole seconds.
const fn second(ms: u64) -> u64 {
    ms / 1_000 * 1_000
}

/// A point for each step in which something was counted; the first and the last are as long as they lie in the span.
fn series(
    store: &Store,
    rollout: &RolloutName,
    wanted: &Wanted,
    step_ms: u64,
    (now_ms, now): (u64, Moment),
) -> Result<Vec<SampleRecord>, StoreError> {
    let from_ms = second(wanted.from_ms);
    let mut samples = Vec::new();
    in_pieces(store, rollout, (from_ms, wanted.to_ms), step_ms, |slot| {
        let start_ms = slot.start.as_millis().max(from_ms);
        let width_ms = u64::try_from(slot.width.as_millis()).unwrap_or(u64::MAX);
        let end_ms = slot.start.as_millis().saturating_add(width_ms);
        let width_ms = end_ms.min(wanted.to_ms).saturating_sub(start_ms);
        let mut totals = Totals {
            span: Duration::from_millis(width_ms),
            ..Totals::default()
        };
        add(&mut totals, slot);
        let ago_ms = i64::try_from(now_ms.saturating_sub(start_ms)).unwrap_or(i64::MAX);
        let at = now.unix_millis().saturating_sub(ago_ms);
        samples.push(SampleRecord {
            at: Moment(WallTime::from_unix_millis(at)),
            clock_ms: start_ms,
            width_ms,
            arms: figures(&totals),
        });
    })?;
    Ok(samples)
}

/// What was counted while a stage stood, up to `to_ms`.
fn stage(
    store: &Store,
    rollout: &RolloutName,
    span: &StageSpan,
    to_ms: u64,
) -> Result<PerArm<SpanRecord>, StoreError> {
    let length_ms = span.to_ms.saturating_sub(span.from_ms);
    let mut totals = Totals {
        span: Duration::from_millis(length_ms),
        ..Totals::default()
    };
    let seconds = (second(span.from_ms), to_ms);
    in_pieces(store, rollout, seconds, PIECE_MS, |slot| {
        add(&mut totals, slot)
    })?;
    Ok(figures(&totals))
}

/// Reads the slots of a span in order. Pieces begin with a step, so that none is cut in two.
fn in_pieces(
    store: &Store,
    rollout: &RolloutName,
    (from_ms, to_ms): (u64, u64),
    step_ms: u64,
    mut take: impl FnMut(&Slot),
) -> Result<(), StoreError> {
    let step_ms = step_ms.max(1);
    let piece_ms = (PIECE_MS / step_ms).max(1) * step_ms;
    let step = Duration::from_millis(step_ms);
    let mut start_ms = from_ms;
    while start_ms < to_ms {
        let end_ms = (start_ms / step_ms * step_ms)
            .saturating_add(piece_ms)
            .min(to_ms);
        let [start, end] = [start_ms, end_ms].map(Timestamp::from_millis);
        store
            .samples(rollout, start, end, step)?
            .iter()
            .for_each(&mut take);
        start_ms = end_ms;
    }
    Ok(())
}

fn add(totals: &mut Totals, slot: &Slot) {
    for (key, cell) in &slot.cells {
        totals.add(key.arm, cell);
    }
}

fn figures(totals: &Totals) -> PerArm<SpanRecord> {
    let of = |arm| SpanRecord::from(&ArmFigures::of(totals, arm, None));
    PerArm {
        baseline: of(Arm::Baseline),
        canary: of(Arm::Canary),
    }
}
