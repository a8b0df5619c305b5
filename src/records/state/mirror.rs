//! The JSON part of a state: the same fields as the gate's own structs, without the counts.
//!
//! Spans are `{secs, nanos}`, exact, because the gate must go on bit for bit. A field that is added later
//! gets a default, so that an older state is still read.

mod outside;
mod run;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::outside::{PastSplitState, SeriesState};
use self::run::RunState;
use self::watch::WatchState;
use super::StateError;
use super::people::{FreezeState, ReminderState};
use super::recovery::RecoveryState;
use crate::records::event::RollbackWord;
use crate::records::hook::HookBookRecord;
use crate::records::rehearsal::FaultRecord;
use crate::records::words;
use crate::rollout::assign::Split;
use crate::rollout::gate::{
    Awaiting, Cause, Decided, EventId, Freeze, HeldFor, Incident, Phase, PoolHealth, Raise,
    Recovery, Rehearsal, Reminder, RollbackCause, Snapshot,
};
use crate::rollout::time::{Now, Timestamp, WallTime};
use crate::rollout::weight::Weight;
use crate::rollout::window::{ProbeBucket, Probes};

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    saved: Moments,
    #[serde(with = "words")]
    phase: Phase,
    last_event: u64,
    stored: u64,
    runs: u64,
    split: SplitState,
    awaiting: Option<AwaitingState>,
    #[serde(default)]
    raises: Vec<RaiseState>,
    retreat: Option<u64>,
    guarded: bool,
    causes: Vec<CauseState>,
    incidents: Vec<IncidentState>,
    incidents_opened: u64,
    last_tick: Option<Moments>,
    pools: [PoolState; 2],
    probes: Vec<ProbeState>,
    stepped_up_ms: Option<u64>,
    rolled_back: Option<Moments>,
    #[serde(default)]
    recovery: Option<RecoveryState>,
    store_fault: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fleet_trouble: Option<String>,
    decided: Option<DecidedState>,
    thin_baseline_told: bool,
    #[serde(default)]
    freeze: Option<FreezeState>,
    #[serde(default)]
    reminder: Option<ReminderState>,
    #[serde(default)]
    rehearsal: Option<RehearsalState>,
    watch: WatchState,
    #[serde(default)]
    signals: Vec<SeriesState>,
    #[serde(default)]
    splits: Vec<PastSplitState>,
    hooks: HookBookRecord,
    run: Option<RunState>,
}

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Moments {
    clock_ms: u64,
    wall_ms: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct SplitState {
    epoch: u64,
    weight_ppm: u32,
    closed: bool,
    ceilings_ppm: BTreeMap<String, u32>,
}

#[derive(Debug, Serialize, Deserialize)]
struct AwaitingState {
    event: u64,
    weight_ppm: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct RaiseState {
    event: u64,
    segment: String,
    ceiling_ppm: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct CauseState {
    #[serde(with = "words")]
    cause: Cause,
    since: Moments,
    why: String,
    gone_since_ms: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct IncidentState {
    id: u64,
    summary: String,
    opened: Moments,
}

#[derive(Debug, Serialize, Deserialize)]
struct PoolState {
    endpoints: u32,
    usable: u32,
    probes_sent: u64,
    probes_answered: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct ProbeState {
    start_ms: u64,
    /// Sent and answered, of baseline and of canary.
    pools: [[u64; 2]; 2],
}

#[derive(Debug, Serialize, Deserialize)]
struct DecidedState {
    cause: RollbackWord,
    trigger: Option<String>,
    breached_since: Moments,
}

/// Without what was before, which stands among the counts.
#[derive(Debug, Serialize, Deserialize)]
struct RehearsalState {
    fault: FaultRecord,
    began: Moments,
    within: Duration,
    detected: Option<Moments>,
    back: Option<Moments>,
}

// === impl State ===

impl From<&Snapshot> for State {
    fn from(snapshot: &Snapshot) -> Self {
        Self {
            saved: snapshot.saved.into(),
            phase: snapshot.phase,
            last_event: snapshot.last_event.0,
            stored: snapshot.stored.0,
            runs: snapshot.runs,
            split: SplitState::from(&snapshot.split),
            awaiting: snapshot.awaiting.map(|step| AwaitingState {
                event: step.event.0,
                weight_ppm: step.weight.ppm(),
            }),
            raises: snapshot.raises.iter().map(RaiseState::from).collect(),
            retreat: snapshot.retreat.map(|id| id.0),
            guarded: snapshot.guarded,
            causes: snapshot.causes.iter().map(CauseState::from).collect(),
            incidents: snapshot.incidents.iter().map(IncidentState::from).collect(),
            incidents_opened: snapshot.incidents_opened,
            last_tick: snapshot.last_tick.map(Moments::from),
            pools: snapshot.pools.map(PoolState::from),
            probes: snapshot.probes.iter().map(ProbeState::from).collect(),
            stepped_up_ms: snapshot.stepped_up.map(Timestamp::as_millis),
            rolled_back: snapshot.rolled_back.map(Moments::from),
            recovery: snapshot.recovery.as_ref().map(RecoveryState::from),
            store_fault: snapshot.store_fault.clone(),
            fleet_trouble: snapshot.fleet_trouble.clone(),
            decided: snapshot.decided.as_ref().map(DecidedState::from),
            thin_baseline_told: snapshot.thin_baseline_told,
            freeze: snapshot.freeze.as_ref().map(FreezeState::from),
            reminder: snapshot.reminder.map(ReminderState::from),
            rehearsal: snapshot.rehearsal.as_ref().map(RehearsalState::from),
            watch: WatchState::from(&snapshot.watch),
            signals: outside::series(&snapshot.signals),
            splits: outside::splits(&snapshot.splits),
            hooks: HookBookRecord::from(&snapshot.hooks),
            run: snapshot.run.as_ref().map(RunState::from),
        }
    }
}

impl State {
    /// Everything but the counts, which are empty.
    pub(super) fn into_snapshot(self) -> Result<Snapshot, StateError> {
        Ok(Snapshot {
            saved: self.saved.into(),
            phase: self.phase,
            last_event: EventId(self.last_event),
            stored: EventId(self.stored),
            runs: self.runs,
            split: self.split.into_split()?,
            awaiting: self
                .awaiting
                .map(AwaitingState::into_awaiting)
                .transpose()?,
            raises: self
                .raises
                .into_iter()
                .map(RaiseState::into_raise)
                .collect::<Result<_, _>>()?,
            retreat: self.retreat.map(EventId),
            guarded: self.guarded,
            causes: self.causes.into_iter().map(HeldFor::from).collect(),
            incidents: self.incidents.into_iter().map(Incident::from).collect(),
            incidents_opened: self.incidents_opened,
            last_tick: self.last_tick.map(Now::from),
            pools: self.pools.map(PoolHealth::from),
            probes: self.probes.into_iter().map(ProbeBucket::from).collect(),
            stepped_up: self.stepped_up_ms.map(Timestamp::from_millis),
            rolled_back: self.rolled_back.map(Now::from),
            recovery: self.recovery.map(Recovery::from),
            store_fault: self.store_fault,
            fleet_trouble: self.fleet_trouble,
            decided: self.decided.map(Decided::from),
            thin_baseline_told: self.thin_baseline_told,
            freeze: self.freeze.map(Freeze::from),
            reminder: self.reminder.map(Reminder::from),
            rehearsal: self
                .rehearsal
                .map(RehearsalState::into_rehearsal)
                .transpose()?,
            watch: self.watch.into(),
            signals: outside::readings(self.signals)?,
            splits: outside::past_splits(self.splits)?,
            hooks: self.hooks.into(),
            run: self.run.map(RunState::into_run).transpose()?,
        })
    }
}

fn weight(ppm: u32) -> Result<Weight, StateError> {
    Weight::from_ppm(ppm).ok_or(StateError::Weight(ppm))
}

// === impl Moments ===

impl From<Now> for Moments {
    fn from(now: Now) -> Self {
        Self {
            clock_ms: now.mono.as_millis(),
            wall_ms: now.wall.as_unix_millis(),
        }
    }
}

impl From<Moments> for Now {
    fn from(at: Moments) -> Self {
        Self {
            mono: Timestamp::from_millis(at.clock_ms),
            wall: WallTime::from_unix_millis(at.wall_ms),
        }
    }
}

// === impl SplitState, AwaitingState ===

impl From<&Split> for SplitState {
    fn from(split: &Split) -> Self {
        Self {
            epoch: split.epoch,
            weight_ppm: split.weight.ppm(),
            closed: split.closed,
            ceilings_ppm: split
                .ceilings
                .iter()
                .map(|(name, weight)| (name.to_string(), weight.ppm()))
                .collect(),
        }
    }
}

impl SplitState {
    fn into_split(self) -> Result<Split, StateError> {
        let ceilings = self
            .ceilings_ppm
            .into_iter()
            .map(|(name, ppm)| Ok((Arc::from(name), weight(ppm)?)));
        Ok(Split {
            epoch: self.epoch,
            weight: weight(self.weight_ppm)?,
            closed: self.closed,
            ceilings: ceilings.collect::<Result<_, StateError>>()?,
            pins: Arc::default(),
        })
    }
}

impl AwaitingState {
    fn into_awaiting(self) -> Result<Awaiting, StateError> {
        Ok(Awaiting {
            event: EventId(self.event),
            weight: weight(self.weight_ppm)?,
        })
    }
}

impl From<&Raise> for RaiseState {
    fn from(raise: &Raise) -> Self {
        Self {
            event: raise.event.0,
            segment: raise.segment.to_string(),
            ceiling_ppm: raise.ceiling.ppm(),
        }
    }
}

impl RaiseState {
    fn into_raise(self) -> Result<Raise, StateError> {
        Ok(Raise {
            event: EventId(self.event),
            segment: Arc::from(self.segment),
            ceiling: weight(self.ceiling_ppm)?,
        })
    }
}

// === impl CauseState, IncidentState, DecidedState ===

impl From<&HeldFor> for CauseState {
    fn from(held: &HeldFor) -> Self {
        Self {
            cause: held.cause,
            since: held.since.into(),
            why: held.why.clone(),
            gone_since_ms: held.gone_since.map(Timestamp::as_millis),
        }
    }
}

impl From<CauseState> for HeldFor {
    fn from(state: CauseState) -> Self {
        Self {
            cause: state.cause,
            since: state.since.into(),
            why: state.why,
            gone_since: state.gone_since_ms.map(Timestamp::from_millis),
        }
    }
}

impl From<&Incident> for IncidentState {
    fn from(incident: &Incident) -> Self {
        Self {
            id: incident.id,
            summary: incident.summary.clone(),
            opened: incident.opened.into(),
        }
    }
}

impl From<IncidentState> for Incident {
    fn from(state: IncidentState) -> Self {
        Self {
            id: state.id,
            summary: state.summary,
            opened: state.opened.into(),
        }
    }
}

impl From<&Rehearsal> for RehearsalState {
    fn from(rehearsal: &Rehearsal) -> Self {
        Self {
            fault: rehearsal.injection.into(),
            began: rehearsal.began.into(),
            within: rehearsal.within,
            detected: rehearsal.detected.map(Moments::from),
            back: rehearsal.back.map(Moments::from),
        }
    }
}

impl RehearsalState {
    fn into_rehearsal(self) -> Result<Rehearsal, StateError> {
        let share = self.fault.share_ppm;
        Ok(Rehearsal {
            injection: self.fault.injection().ok_or(StateError::Weight(share))?,
            began: self.began.into(),
            within: self.within,
            detected: self.detected.map(Now::from),
            back: self.back.map(Now::from),
            kept: Box::new(Snapshot::at_rest(Split::baseline_only())),
        })
    }
}

impl From<&Decided> for DecidedState {
    fn from(decided: &Decided) -> Self {
        let trigger = match &decided.cause {
            RollbackCause::Trigger(condition) => Some(condition.clone()),
            RollbackCause::Tripwire | RollbackCause::Criteria | RollbackCause::Operator => None,
        };
        Self {
            cause: RollbackWord::from(&decided.cause),
            trigger,
            breached_since: decided.breached_since.into(),
        }
    }
}

impl From<DecidedState> for Decided {
    fn from(state: DecidedState) -> Self {
        let cause = match state.cause {
            RollbackWord::Trigger => RollbackCause::Trigger(state.trigger.unwrap_or_default()),
            RollbackWord::Tripwire => RollbackCause::Tripwire,
            RollbackWord::Criteria => RollbackCause::Criteria,
            RollbackWord::Operator => RollbackCause::Operator,
        };
        Self {
            cause,
            breached_since: state.breached_since.into(),
        }
    }
}

// === impl PoolState, ProbeState ===

impl From<PoolHealth> for PoolState {
    fn from(pool: PoolHealth) -> Self {
        Self {
            endpoints: pool.endpoints,
            usable: pool.usable,
            probes_sent: pool.probes_sent,
            probes_answered: pool.probes_answered,
        }
    }
}

impl From<PoolState> for PoolHealth {
    fn from(state: PoolState) -> Self {
        Self {
            endpoints: state.endpoints,
            usable: state.usable,
            probes_sent: state.probes_sent,
            probes_answered: state.probes_answered,
        }
    }
}

impl From<&ProbeBucket> for ProbeState {
    fn from(bucket: &ProbeBucket) -> Self {
        Self {
            start_ms: bucket.start.as_millis(),
            pools: pairs(&bucket.pools),
        }
    }
}

impl From<ProbeState> for ProbeBucket {
    fn from(state: ProbeState) -> Self {
        Self {
            start: Timestamp::from_millis(state.start_ms),
            pools: probes(state.pools),
        }
    }
}

fn pairs(pools: &[Probes; 2]) -> [[u64; 2]; 2] {
    pools.map(|probes| [probes.sent, probes.answered])
}

fn probes(pairs: [[u64; 2]; 2]) -> [Probes; 2] {
    pairs.map(|[sent, answered]| Probes { sent, answered })
}
