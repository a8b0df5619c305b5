//! The JSON part of a state: the same fields as the gate's own structs, without the counts.
//!
//! Spans are `{secs, nanos}`, exact, because the gate must go on bit for bit. A field that is added later
//! gets a default, so that an older state is still read.

mod outside;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::outside::{PastSplitState, SeriesState};
use super::StateError;
use crate::records::event::RollbackWord;
use crate::records::plan::PlanRecord;
use crate::records::rehearsal::FaultRecord;
use crate::records::words;
use crate::rollout::assign::Split;
use crate::rollout::gate::{
    Awaiting, Breach, Cause, Decided, EventId, HeldFor, Incident, Phase, PoolHealth, Progress,
    Rehearsal, RollbackCause, Run, Snapshot, Watch,
};
use crate::rollout::plan::Plan;
use crate::rollout::time::{Now, Timestamp, WallTime};
use crate::rollout::verdict::Purpose;
use crate::rollout::weight::Weight;
use crate::rollout::window::{ProbeBucket, Probes, Totals};

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
    store_fault: Option<String>,
    decided: Option<DecidedState>,
    thin_baseline_told: bool,
    #[serde(default)]
    rehearsal: Option<RehearsalState>,
    watch: WatchState,
    #[serde(default)]
    signals: Vec<SeriesState>,
    #[serde(default)]
    splits: Vec<PastSplitState>,
    run: Option<RunState>,
}

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Moments {
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

#[derive(Debug, Serialize, Deserialize)]
struct WatchState {
    stage: usize,
    epoch: u64,
    since_ms: u64,
    began: Option<Moments>,
    warmed: Duration,
    warm_until_ms: Option<u64>,
    breaches: Vec<BreachState>,
}

#[derive(Debug, Serialize, Deserialize)]
struct BreachState {
    #[serde(with = "words")]
    purpose: Purpose,
    index: usize,
    since: Moments,
    lasted: Duration,
    without_data: Duration,
    shared: Duration,
    shared_since_ms: Option<u64>,
    others: u64,
    told: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct RunState {
    plan: PlanRecord,
    started: Moments,
    ended: Option<Moments>,
    baseline_endpoints: u32,
    version: String,
    fallback_used: bool,
    stage: ProgressState,
    totals: TotalsState,
}

#[derive(Debug, Serialize, Deserialize)]
struct ProgressState {
    index: usize,
    began: Option<Moments>,
    time: Duration,
    checkpoints_done: usize,
    extended_until: Option<Duration>,
    totals: TotalsState,
    interval_from: Duration,
    interval: TotalsState,
    interval_incidents: u64,
    failed: BTreeSet<usize>,
}

/// Without the cells.
#[derive(Debug, Serialize, Deserialize)]
struct TotalsState {
    /// Sent and answered, of baseline and of canary.
    probes: [[u64; 2]; 2],
    span: Duration,
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
            store_fault: snapshot.store_fault.clone(),
            decided: snapshot.decided.as_ref().map(DecidedState::from),
            thin_baseline_told: snapshot.thin_baseline_told,
            rehearsal: snapshot.rehearsal.as_ref().map(RehearsalState::from),
            watch: WatchState::from(&snapshot.watch),
            signals: outside::series(&snapshot.signals),
            splits: outside::splits(&snapshot.splits),
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
            store_fault: self.store_fault,
            decided: self.decided.map(Decided::from),
            thin_baseline_told: self.thin_baseline_told,
            rehearsal: self
                .rehearsal
                .map(RehearsalState::into_rehearsal)
                .transpose()?,
            watch: self.watch.into(),
            signals: outside::readings(self.signals)?,
            splits: outside::past_splits(self.splits)?,
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

// === impl WatchState, BreachState ===

impl From<&Watch> for WatchState {
    fn from(watch: &Watch) -> Self {
        Self {
            stage: watch.stage,
            epoch: watch.epoch,
            since_ms: watch.since.as_millis(),
            began: watch.began.map(Moments::from),
            warmed: watch.warmed,
            warm_until_ms: watch.warm_until.map(Timestamp::as_millis),
            breaches: watch.breaches.iter().map(BreachState::from).collect(),
        }
    }
}

impl From<WatchState> for Watch {
    fn from(state: WatchState) -> Self {
        Self {
            stage: state.stage,
            epoch: state.epoch,
            since: Timestamp::from_millis(state.since_ms),
            began: state.began.map(Now::from),
            warmed: state.warmed,
            warm_until: state.warm_until_ms.map(Timestamp::from_millis),
            breaches: state.breaches.into_iter().map(Breach::from).collect(),
        }
    }
}

impl From<&Breach> for BreachState {
    fn from(breach: &Breach) -> Self {
        Self {
            purpose: breach.purpose,
            index: breach.index,
            since: breach.since.into(),
            lasted: breach.lasted,
            without_data: breach.without_data,
            shared: breach.shared,
            shared_since_ms: breach.shared_since.map(Timestamp::as_millis),
            others: breach.others,
            told: breach.told,
        }
    }
}

impl From<BreachState> for Breach {
    fn from(state: BreachState) -> Self {
        Self {
            purpose: state.purpose,
            index: state.index,
            since: state.since.into(),
            lasted: state.lasted,
            without_data: state.without_data,
            shared: state.shared,
            shared_since: state.shared_since_ms.map(Timestamp::from_millis),
            learners: BTreeSet::new(),
            others: state.others,
            told: state.told,
        }
    }
}

// === impl RunState, ProgressState, TotalsState ===

impl From<&Run> for RunState {
    fn from(run: &Run) -> Self {
        Self {
            plan: PlanRecord::from(&run.plan),
            started: run.started.into(),
            ended: run.ended.map(Moments::from),
            baseline_endpoints: run.baseline_endpoints,
            version: run.version.clone(),
            fallback_used: run.fallback_used,
            stage: ProgressState::from(&run.stage),
            totals: TotalsState::from(&run.totals),
        }
    }
}

impl RunState {
    fn into_run(self) -> Result<Run, StateError> {
        Ok(Run {
            plan: Plan::try_from(&self.plan)?,
            started: self.started.into(),
            ended: self.ended.map(Now::from),
            baseline_endpoints: self.baseline_endpoints,
            version: self.version,
            fallback_used: self.fallback_used,
            stage: self.stage.into(),
            totals: self.totals.into(),
            learners: Default::default(),
            outcomes: Default::default(),
        })
    }
}

impl From<&Progress> for ProgressState {
    fn from(stage: &Progress) -> Self {
        Self {
            index: stage.index,
            began: stage.began.map(Moments::from),
            time: stage.time,
            checkpoints_done: stage.checkpoints_done,
            extended_until: stage.extended_until,
            totals: TotalsState::from(&stage.totals),
            interval_from: stage.interval_from,
            interval: TotalsState::from(&stage.interval),
            interval_incidents: stage.interval_incidents,
            failed: stage.failed.clone(),
        }
    }
}

impl From<ProgressState> for Progress {
    fn from(state: ProgressState) -> Self {
        Self {
            index: state.index,
            began: state.began.map(Now::from),
            time: state.time,
            checkpoints_done: state.checkpoints_done,
            extended_until: state.extended_until,
            totals: state.totals.into(),
            learners: Default::default(),
            interval_from: state.interval_from,
            interval: state.interval.into(),
            interval_incidents: state.interval_incidents,
            failed: state.failed,
        }
    }
}

impl From<&Totals> for TotalsState {
    fn from(totals: &Totals) -> Self {
        Self {
            probes: pairs(&totals.probes),
            span: totals.span,
        }
    }
}

impl From<TotalsState> for Totals {
    fn from(state: TotalsState) -> Self {
        Self {
            cells: Default::default(),
            probes: probes(state.probes),
            span: state.span,
        }
    }
}
