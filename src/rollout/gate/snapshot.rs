//! Everything a gate must remember over the end of its process, as plain structs.
//!
//! The gate works on this very struct, so nothing it decides by can be forgotten. Beside it only the
//! recent slots are needed, which are stored as samples. Decides nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::confidence::Confidence;
use super::effect::RollbackCause;
use super::hooks::HookBook;
use super::input::{EventId, PoolHealth};
use super::recovery::Recovery;
use super::rehearsal::Rehearsal;
use super::state::{Cause, Phase, WaitsFor};
use super::status::Incident;
use crate::rollout::assign::{LearnerHash, Split};
use crate::rollout::evidence::{Evidence, Shares};
use crate::rollout::learners::LearnerSketch;
use crate::rollout::name::RoleName;
use crate::rollout::outcome::{Outcomes, PastSplit};
use crate::rollout::plan::Plan;
use crate::rollout::signal::Readings;
use crate::rollout::time::{Now, Timestamp, WallTime};
use crate::rollout::verdict::Purpose;
use crate::rollout::weight::Weight;
use crate::rollout::window::{ProbeBucket, Totals};

/// The saved state of one gate, as it stood after the input it was taken after.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// When it was taken.
    pub saved: Now,
    pub phase: Phase,
    /// The number of the last event made; the next one is one more.
    pub last_event: EventId,
    /// The last event that is known to be on disk.
    pub stored: EventId,
    /// Number of the present or last run; 0 before any.
    pub runs: u64,
    /// The split in force.
    pub split: Split,
    /// A recorded step towards canary that is not in force yet.
    pub awaiting: Option<Awaiting>,
    /// Recorded raises of ceilings that are not in force yet.
    pub raises: Vec<Raise>,
    /// In `rolling_back`: the event that must be on disk before the phase is `rolled_back`.
    pub retreat: Option<EventId>,
    /// False after `?guard=false`.
    pub guarded: bool,
    pub causes: Vec<HeldFor>,
    /// Those that are open.
    pub incidents: Vec<Incident>,
    /// How many were ever opened: the last one's number.
    pub incidents_opened: u64,
    pub last_tick: Option<Now>,
    /// Health of the two pools at the last tick, by `Arm::index`.
    pub pools: [PoolHealth; 2],
    /// Probes of the recent past in buckets of 5 s, oldest first.
    pub probes: Vec<ProbeBucket>,
    /// When the weight last went up.
    pub stepped_up: Option<Timestamp>,
    /// When a rollback to 0 last began (for `cooldown`).
    pub rolled_back: Option<Now>,
    /// What follows a rollback, while it is watched.
    pub recovery: Option<Recovery>,
    /// Why the store cannot write; `None` while it works.
    pub store_fault: Option<String>,
    /// Why nothing may go towards canary as far as the fleet is concerned; `None` where nothing is wrong.
    pub fleet_trouble: Option<String>,
    /// A trigger that was decided while baseline had no usable endpoint.
    pub decided: Option<Decided>,
    /// Baseline was found below its needed share at a weight above 50 %, and that was told.
    pub thin_baseline_told: bool,
    pub freeze: Option<Freeze>,
    /// While a person is waited for.
    pub reminder: Option<Reminder>,
    pub rehearsal: Option<Rehearsal>,
    pub watch: Watch,
    /// What sources of signals said of late.
    pub signals: Readings,
    /// Splits of the last day, oldest first: late results of learners are credited by them.
    pub splits: VecDeque<PastSplit>,
    pub hooks: HookBook,
    /// The present or last run.
    pub run: Option<Run>,
}

/// A step towards canary between its record and its coming into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awaiting {
    pub event: EventId,
    pub weight: Weight,
}

/// A segment's ceiling that goes up when its event is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raise {
    pub event: EventId,
    pub segment: Arc<str>,
    /// The whole means that the segment has none any more.
    pub ceiling: Weight,
}

/// One cause of a hold.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldFor {
    pub cause: Cause,
    pub since: Now,
    pub why: String,
    /// For a cause that ends by itself: since when it is gone.
    pub gone_since: Option<Timestamp>,
}

/// A retreat that was decided and could not be carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    pub cause: RollbackCause,
    /// Since when the condition was true.
    pub breached_since: Now,
}

/// Nothing goes towards canary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    pub since: Now,
    /// When it ends by itself.
    pub until: Option<WallTime>,
    pub by: String,
    pub reason: String,
}

/// Since when nobody has acted, and how often that was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reminder {
    pub since: Now,
    pub told: u32,
}

/// What guards the split in force: where its windows begin, its warm-up and its breach clocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// The stage whose triggers are read; outside a run the first.
    pub stage: usize,
    /// Cells of an older epoch belong to what was before: they count in the run's totals only.
    pub epoch: u64,
    /// Windows hold slots that begin at this moment or later.
    pub since: Timestamp,
    /// The first tick that saw a canary request of this epoch.
    pub began: Option<Now>,
    /// Observed time since then, at most the stage's warm-up.
    pub warmed: Duration,
    /// When the warm-up ended: what begins before is left out of `advance`, `delta` and latency.
    pub warm_until: Option<Timestamp>,
    pub breaches: Vec<Breach>,
    /// Learners by arm, since the weight, a ceiling or a pin last changed, or somebody resumed.
    pub shares: Shares,
}

/// A hold condition or trigger that is true now, or was at the last tick with data.
#[derive(Clone, Debug, PartialEq)]
pub struct Breach {
    pub purpose: Purpose,
    /// Place in its list of the stage; 0 for the tripwire.
    pub index: usize,
    /// Where it is judged per segment.
    pub segment: Option<Arc<str>>,
    /// The tick that first found it true.
    pub since: Now,
    /// Observed time over ticks with data in which baseline kept the limit.
    pub lasted: Duration,
    /// Observed time without data since the last tick with data.
    pub without_data: Duration,
    /// Observed time for which baseline broke the same limit together with canary.
    pub shared: Duration,
    /// When that began; `None` while baseline keeps the limit.
    pub shared_since: Option<Timestamp>,
    /// Failing learners within the breach, at most `MAX_FAILING_LEARNERS`.
    pub learners: BTreeSet<LearnerHash>,
    /// Failures that no learner could be named for.
    pub others: u64,
    /// Requests within the breach, and those of them on the wrong side, where a share of requests is what is limited.
    pub seen: u64,
    pub wrong: u64,
    /// An event was made of its being unproven, an outage, or without a way out.
    pub told: bool,
}

/// One run: from `start` to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub plan: Plan,
    pub started: Now,
    pub ended: Option<Now>,
    /// It ended because its last stage passed: the holdout is over.
    pub completed: bool,
    /// Baseline's usable endpoints at `start`.
    pub baseline_endpoints: u32,
    /// Of the canary: the plan's, or what replaced it since.
    pub version: String,
    /// A fallback weight took effect: the next alarm goes to 0.
    pub fallback_used: bool,
    /// Segments lowered by a trigger, with its condition, until a person sets their ceilings.
    pub failed_segments: BTreeMap<Arc<str>, String>,
    pub stage: Progress,
    /// Of the last decision.
    pub confidence: Option<Confidence>,
    /// Over the whole run; in the stabilization of a day.
    pub evidence: Evidence,
    /// Over the whole run, warm-ups included; of segments the counts alone.
    pub totals: Totals,
    /// By `Arm::index`.
    pub learners: [LearnerSketch; 2],
    /// Business results of learners. Shared, because a snapshot is taken at every tick.
    pub outcomes: Arc<Outcomes>,
}

/// How far the present stage has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    pub index: usize,
    /// When its first canary request arrived.
    pub began: Option<Now>,
    /// Stage time (gate.md, "Clocks").
    pub time: Duration,
    pub checkpoints_done: usize,
    /// Where it was extended: the stage time at which it is judged for good.
    pub extended_until: Option<Duration>,
    /// Since the stage began, after its warm-up.
    pub totals: Totals,
    /// By `Arm::index`, after the warm-up.
    pub learners: [LearnerSketch; 2],
    /// Stage time at which the present interval of `throughout` began.
    pub interval_from: Duration,
    pub interval: Totals,
    /// Most incidents that were open at once in the interval.
    pub interval_incidents: u64,
    /// Places in `advance` of those whose `throughout` failed.
    pub failed: BTreeSet<usize>,
    /// Once it passed, where people have to say yes.
    pub ask: Option<Ask>,
    /// What the step was told to wait for.
    pub waits_for: Vec<WaitsFor>,
    /// Levels of the stabilization that have begun.
    pub levels_told: usize,
}

/// What people were asked about, and who has said yes.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// The event that holds what they are shown.
    pub event: EventId,
    pub since: Now,
    pub approvals: Vec<Approval>,
}

/// One role's yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    pub role: RoleName,
    pub by: String,
    pub reason: String,
    pub at: Now,
}

impl Snapshot {
    /// Whether its run has ended. What a rehearsal makes of the phase is no end.
    pub const fn is_over(&self) -> bool {
        self.phase.is_ended() && self.rehearsal.is_none()
    }

    /// Without history: idle at this split.
    pub fn at_rest(split: Split) -> Self {
        let watch = Watch::new(0, split.epoch, Timestamp::default());
        Self {
            saved: Now::default(),
            phase: Phase::Idle,
            last_event: EventId(0),
            stored: EventId(0),
            runs: 0,
            split,
            awaiting: None,
            raises: Vec::new(),
            retreat: None,
            guarded: true,
            causes: Vec::new(),
            incidents: Vec::new(),
            incidents_opened: 0,
            last_tick: None,
            pools: [PoolHealth::default(); 2],
            probes: Vec::new(),
            stepped_up: None,
            rolled_back: None,
            recovery: None,
            store_fault: None,
            fleet_trouble: None,
            decided: None,
            thin_baseline_told: false,
            freeze: None,
            reminder: None,
            rehearsal: None,
            watch,
            signals: Readings::default(),
            splits: VecDeque::new(),
            hooks: HookBook::default(),
            run: None,
        }
    }
}

impl Watch {
    /// Over a split that comes into force now, with the triggers of one stage.
    pub fn new(stage: usize, epoch: u64, since: Timestamp) -> Self {
        Self {
            stage,
            epoch,
            since,
            began: None,
            warmed: Duration::ZERO,
            warm_until: None,
            breaches: Vec::new(),
            shares: Shares::new(epoch),
        }
    }
}

impl Progress {
    /// At the beginning of a stage.
    pub fn new(index: usize) -> Self {
        Self {
            index,
            began: None,
            time: Duration::ZERO,
            checkpoints_done: 0,
            extended_until: None,
            totals: Totals::default(),
            learners: Default::default(),
            interval_from: Duration::ZERO,
            interval: Totals::default(),
            interval_incidents: 0,
            failed: BTreeSet::new(),
            ask: None,
            waits_for: Vec::new(),
            levels_told: 0,
        }
    }
}
