//! Phases, causes of a hold, and what a rollout may wait for.
//!
//! Owns the words; which command is allowed in which phase is in `transitions`. Never decides when to move.

/// Where a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    Idle,
    /// Started, and before the time of its first stage.
    Scheduled,
    Running,
    /// The stage passed; people have to say yes.
    AwaitingApproval,
    /// The stage passed; the calendar or a freeze does not let it go on.
    Waiting,
    /// Beyond the last stage, before `complete`.
    Stabilizing,
    Held,
    Paused,
    /// A weight set by hand outside a run.
    Manual,
    /// Weights are back, the record is on its way to disk.
    RollingBack,
    RolledBack,
    Aborted,
    Complete,
}

/// Why a rollout is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// Ends by itself, when gone for 60 s: no data, outage, no baseline.
    NoData,
    Outage,
    NoBaseline,
    /// The fleet cannot agree, or a member went back alone.
    Fleet,
    /// Ends only by a person: the rest.
    Criteria,
    Condition,
    Alarm,
    Manual,
    Operator,
    Store,
    /// Learners are not split as the weights say.
    Srm,
    /// A hook before a stage failed.
    Hook,
    /// Somebody whose approval was asked for said no.
    Rejected,
}

impl Phase {
    pub const ALL: [Self; 13] = [
        Self::Idle,
        Self::Scheduled,
        Self::Running,
        Self::AwaitingApproval,
        Self::Waiting,
        Self::Stabilizing,
        Self::Held,
        Self::Paused,
        Self::Manual,
        Self::RollingBack,
        Self::RolledBack,
        Self::Aborted,
        Self::Complete,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Waiting => "waiting",
            Self::Stabilizing => "stabilizing",
            Self::Held => "held",
            Self::Paused => "paused",
            Self::Manual => "manual",
            Self::RollingBack => "rolling_back",
            Self::RolledBack => "rolled_back",
            Self::Aborted => "aborted",
            Self::Complete => "complete",
        }
    }

    /// As in a sentence: `rolled back`.
    pub const fn as_words(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::AwaitingApproval => "awaiting approval",
            Self::Waiting => "waiting",
            Self::Stabilizing => "stabilizing",
            Self::Held => "held",
            Self::Paused => "paused",
            Self::Manual => "at a weight set by hand",
            Self::RollingBack => "rolling back",
            Self::RolledBack => "rolled back",
            Self::Aborted => "aborted",
            Self::Complete => "complete",
        }
    }

    /// A stage of a plan is in force, or waits to be.
    pub const fn is_in_a_run(self) -> bool {
        match self {
            Self::Running
            | Self::AwaitingApproval
            | Self::Waiting
            | Self::Stabilizing
            | Self::Held
            | Self::Paused => true,
            Self::Idle
            | Self::Scheduled
            | Self::Manual
            | Self::RollingBack
            | Self::RolledBack
            | Self::Aborted
            | Self::Complete => false,
        }
    }

    /// Idle, complete, rolled back or aborted: a new plan may take over (contract.md).
    pub const fn is_ended(self) -> bool {
        match self {
            Self::Idle | Self::Complete | Self::RolledBack | Self::Aborted => true,
            Self::Scheduled
            | Self::Running
            | Self::AwaitingApproval
            | Self::Waiting
            | Self::Stabilizing
            | Self::Held
            | Self::Paused
            | Self::Manual
            | Self::RollingBack => false,
        }
    }

    /// The present stage's weight is in force, and nobody and nothing holds the rollout.
    pub const fn is_under_way(self) -> bool {
        match self {
            Self::Running | Self::AwaitingApproval | Self::Waiting | Self::Stabilizing => true,
            Self::Idle
            | Self::Scheduled
            | Self::Held
            | Self::Paused
            | Self::Manual
            | Self::RollingBack
            | Self::RolledBack
            | Self::Aborted
            | Self::Complete => false,
        }
    }
}

impl Cause {
    pub const ALL: [Self; 13] = [
        Self::NoData,
        Self::Outage,
        Self::NoBaseline,
        Self::Fleet,
        Self::Criteria,
        Self::Condition,
        Self::Alarm,
        Self::Manual,
        Self::Operator,
        Self::Store,
        Self::Srm,
        Self::Hook,
        Self::Rejected,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoData => "no_data",
            Self::Outage => "outage",
            Self::NoBaseline => "no_baseline",
            Self::Fleet => "fleet",
            Self::Criteria => "criteria",
            Self::Condition => "condition",
            Self::Alarm => "alarm",
            Self::Manual => "manual",
            Self::Operator => "operator",
            Self::Store => "store",
            Self::Srm => "srm",
            Self::Hook => "hook",
            Self::Rejected => "rejected",
        }
    }

    pub const fn ends_by_itself(self) -> bool {
        match self {
            Self::NoData | Self::Outage | Self::NoBaseline | Self::Fleet => true,
            Self::Criteria
            | Self::Condition
            | Self::Alarm
            | Self::Manual
            | Self::Operator
            | Self::Store
            | Self::Srm
            | Self::Hook
            | Self::Rejected => false,
        }
    }
}

/// What a step waits for beside people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WaitsFor {
    /// The time at which the stage to come is to start.
    StartAt,
    /// A person: that time was missed by more than the plan forgives.
    Person,
    /// The hours in which the rollout may leave its stage.
    Window,
    /// The end of a freeze.
    Freeze,
}

impl WaitsFor {
    pub const ALL: [Self; 4] = [Self::StartAt, Self::Person, Self::Window, Self::Freeze];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StartAt => "start_at",
            Self::Person => "person",
            Self::Window => "window",
            Self::Freeze => "freeze",
        }
    }
}
