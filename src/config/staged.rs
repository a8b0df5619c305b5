//! A rollout as typed: its stages, gate, hooks, signals and stabilization. Part of the listing in `raw`.

use std::time::Duration;

use super::LearnerSource;
use super::amount::{Number, Share};
use super::defaults;
use super::form::{Count, OrFalse};
use super::leaf::{CallUrl, ChannelName, HttpUrl, UrlPath, Wait};
use super::mirror::MirrorTable;
use super::table::table;
use super::word::{Agg, FailureKind, Fallback, SignalKindWord, Then, UnprovenWord};
use crate::rollout::condition::Condition;
use crate::rollout::name::{PoolName, RoleName, SignalName, StageName};
use crate::rollout::plan::{HookMethod, Mode, OnFailure, When};
use crate::rollout::schedule::{DEFAULT_START_GRACE, Days, Daytime, Zone};
use crate::rollout::time::WallTime;
use crate::rollout::weight::Weight;

table! {
    /// A staged move from a baseline pool to a canary pool.
    Rollout {
        needs {
            /// The pool that carries learners today.
            baseline: PoolName,
            /// The pool they are moved to.
            canary: PoolName,
            /// The steps, in order.
            stages: Vec<Stage>,
        }
        may {
            /// Mixed into each learner's hash; the rollout's name if absent.
            salt: String,
            /// Ends a canary attempt that baseline can still answer; from the stage's p99 limit if absent.
            failover_after: Wait,
            /// What follows the last stage before the rollout is complete; nothing if absent.
            stabilization: Stabilization,
            /// Copies of baseline's requests for canary, in the background; none if absent.
            mirror: MirrorTable,
        }
        has {
            /// Where a learner's id comes from: the first source that has one.
            learner: Vec<LearnerSource> = defaults::learner(),
            /// Where a learner's segment comes from, or false.
            segment: OrFalse<LearnerSource> = OrFalse::On(defaults::segment()),
            /// Of the canary; a change begins the stage anew.
            version: String = String::new(),
            /// Which failures of canary are answered by baseline.
            failover: Vec<FailureKind> = FailureKind::ALL.to_vec(),
            /// Canary's weight where there is no journal.
            weight_at_rest: Weight = defaults::WEIGHT_AT_REST,
            /// HTTP statuses counted as errors beside 5xx.
            error_statuses: Vec<Count<100, 599>> = Vec::new(),
            /// How long streams may go on after a rollback.
            stream_grace: Duration = defaults::STREAM_GRACE,
            /// The share of learners never moved before the end.
            holdout: Weight = defaults::HOLDOUT,
            /// Segments told apart; the rest are counted together.
            max_segments: Count<1, 1024> = Count(defaults::MAX_SEGMENTS),
            /// The share of baseline's endpoints needed for a step up.
            baseline_min_healthy: Share = Share(defaults::BASELINE_MIN_HEALTHY),
            /// Settings of the gate for every stage.
            gate: Gate = Gate::default(),
            /// What the rollout is for.
            mode: Mode = Mode::Rollout,
            /// Figures from outside that conditions may name.
            signals: Vec<Signal> = Vec::new(),
        }
    }
}

table! {
    /// A figure that the proxy cannot see. Which keys it takes depends on its source.
    Signal {
        needs {
            /// What conditions name it by.
            name: SignalName,
            /// Where it comes from.
            source: SignalKindWord,
        }
        may {
            /// Of Prometheus, or of the JSON document; {pool} and {arm} are filled in.
            url: HttpUrl,
            /// PromQL, a JSON pointer, or series of a scrape; {pool} and {arm} are filled in.
            query: String,
            /// What is scraped from each endpoint; /metrics if absent.
            path: UrlPath,
            /// The scraped series are counters: their growth per second is meant.
            rate: bool,
            /// One figure from those of the endpoints.
            agg: Agg,
            /// From one reading to the next, 15s if absent; older than three of them is no data.
            interval: Wait,
            /// How long a reading may take, 5s if absent.
            timeout: Wait,
        }
        has {
            /// Whether a criterion that is unproven lets the stage go on.
            unproven: UnprovenWord = UnprovenWord::Extend,
        }
    }
}

table! {
    /// Settings of the gate for every stage.
    Gate {
        has {
            /// When an outage of both pools rolls back all the same.
            outage_patience: Wait = Wait(defaults::OUTAGE_PATIENCE),
            /// The longest interruption over which windows are kept.
            max_gap: Duration = defaults::MAX_GAP,
            /// Until another start needs force after a rollback.
            cooldown: Duration = defaults::COOLDOWN,
            /// Requests from which a segment is compared and judged by itself.
            min_segment_requests: Count<1, 1_000_000_000> = Count(defaults::MIN_SEGMENT_REQUESTS),
            /// Segments lowered by triggers before everybody is rolled back.
            max_failed_segments: Count<0, 1024> = Count(defaults::MAX_FAILED_SEGMENTS),
            /// How long an approval counts.
            approval_ttl: Wait = Wait(defaults::APPROVAL_TTL),
            /// Until a rollout that waits for a person reminds of it, again and again.
            escalate_after: Wait = Wait(defaults::ESCALATE_AFTER),
            /// Rolls back in every phase, or false.
            tripwire: OrFalse<Condition> = defaults::tripwire(),
            /// The chance of a false alarm in the whole rollout.
            alpha: Share = Share(defaults::ALPHA),
            /// How many times baseline's odds of failing canary's may be.
            odds_margin: Number = Number(defaults::ODDS_MARGIN),
        }
    }
}

table! {
    /// One step of a rollout.
    Stage {
        needs {
            /// Unique within the rollout.
            name: StageName,
            /// The share of learners on canary.
            weight: Weight,
            /// How long the stage is observed.
            duration: Wait,
        }
        may {
            /// How long an undecided stage may go on; its duration if absent.
            max_extension: Duration,
            /// Where a trigger goes instead of 0.
            on_rollback: Fallback,
            /// The step into the stage is not taken before.
            start_at: WallTime,
            /// The hours in which the rollout may leave the stage; any if absent.
            window: Window,
        }
        has {
            /// Left out of criteria and of relative and latency triggers.
            warmup: Duration = defaults::WARMUP,
            /// Stage times at which all figures are recorded.
            checkpoints: Vec<Wait> = Vec::new(),
            /// Canary requests before anything but a rollback is decided.
            min_requests: Count<1, 1_000_000_000_000> = Count(defaults::MIN_REQUESTS),
            /// Requests from which a window has data.
            min_window_requests: Count<1, 1_000_000_000> = Count(defaults::MIN_WINDOW_REQUESTS),
            /// What must hold for the next stage.
            advance: Vec<Condition> = Vec::new(),
            /// What holds the rollout.
            hold: Vec<Condition> = defaults::hold(),
            /// What takes it back.
            rollback: Vec<Condition> = defaults::rollback(),
            /// What follows when every criterion is met.
            on_success: Then = Then::Advance,
            /// The roles whose approval is asked for; with on_success = "approve".
            approvers: Vec<RoleName> = Vec::new(),
            /// A start_at missed by more awaits a person.
            start_grace: Duration = DEFAULT_START_GRACE,
            /// What follows when a criterion is not met at the end.
            on_failure: OnFailure = OnFailure::Hold,
            /// What is run outside of serin around the stage.
            hooks: Hooks = Hooks::default(),
        }
    }
}

table! {
    /// What is run outside of serin around a stage, each list in its order.
    Hooks {
        has {
            /// Before the step to the stage; one that fails blocks it.
            before: Vec<Hook> = Vec::new(),
            /// When the stage has passed.
            after: Vec<Hook> = Vec::new(),
            /// After a rollback, when the weights are back.
            rollback: Vec<Hook> = Vec::new(),
            /// When a trigger finds no usable baseline to go back to.
            on_no_baseline: Vec<Hook> = Vec::new(),
        }
    }
}

table! {
    /// A program or an HTTP call; exactly one of command and url.
    Hook {
        may {
            /// Unique in its list; the list's name and a number if absent.
            name: ChannelName,
            /// A program and its arguments; no shell.
            command: Vec<String>,
            /// What is called; an answer 2xx passes.
            url: CallUrl,
            /// Of the call; POST if absent.
            method: HookMethod,
            /// May be run again after a crash; calls are, commands are not, if absent.
            idempotent: bool,
            /// Finds out how it ended, where a crash left that unknown.
            verify: Verify,
        }
        has {
            /// How long an attempt may take.
            timeout: Wait = Wait(defaults::HOOK_TIMEOUT),
            /// Attempts after the first.
            retries: Count<0, 10> = Count(defaults::HOOK_RETRIES),
            /// Whether it is run at all.
            when: When = When::Always,
        }
    }
}

table! {
    /// A program or an HTTP call that finds out how a hook ended.
    Verify {
        may {
            /// A program and its arguments; no shell.
            command: Vec<String>,
            /// What is called; an answer 2xx passes.
            url: CallUrl,
            /// Of the call; POST if absent.
            method: HookMethod,
        }
        has {
            /// How long it may take.
            timeout: Wait = Wait(defaults::HOOK_TIMEOUT),
        }
    }
}

table! {
    /// Hours of some days of the week.
    Window {
        needs {
            /// Days like "mon", or "mon-thu".
            days: Vec<Days>,
            /// From one time of the day to another.
            hours: Daytime,
        }
        has {
            /// Whose clocks are meant.
            tz: Zone = Zone::utc(),
        }
    }
}

table! {
    /// What follows the last stage before a rollout is complete.
    Stabilization {
        may {
            /// What takes the rollout back; the last stage's if absent.
            rollback: Vec<Condition>,
            /// How closely it is watched, from the beginning on; two days, four days and a week if absent.
            levels: Vec<Level>,
        }
        has {
            /// How long it lasts.
            duration: Wait = Wait(defaults::STABILIZATION),
            /// A day that fails one of these begins the whole anew.
            require: Vec<Condition> = Vec::new(),
            /// What holds the rollout, to investigate.
            hold: Vec<Condition> = defaults::stabilization_hold(),
        }
    }
}

table! {
    /// How closely a part of the stabilization is watched.
    Level {
        needs {
            /// Unique within the stabilization.
            name: StageName,
            /// How long it lasts.
            r#for: Wait,
            /// How often all figures are recorded.
            report: Wait,
        }
    }
}
