//! Hooks as JSON: as a plan has them, as they began and ended, and as a state remembers them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::words;
use crate::rollout::gate::{
    EventId, HookBook, HookEnding, HookName, HookOutcome, HookState, HookTask, StepByHand,
};
use crate::rollout::plan::{Act, Hook, HookKind, HookMethod, Hooks, Verify, When};
use crate::rollout::time::{format_duration, millis, parse_duration};

/// The hooks of a stage, in the words of proxy.toml.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HooksRecord {
    pub before: Vec<HookRecord>,
    pub after: Vec<HookRecord>,
    pub rollback: Vec<HookRecord>,
    pub on_no_baseline: Vec<HookRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRecord {
    pub name: String,
    #[serde(flatten)]
    pub act: ActRecord,
    pub timeout: String,
    pub retries: u32,
    pub idempotent: bool,
    #[serde(with = "words")]
    pub when: When,
    pub verify: Option<VerifyRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyRecord {
    #[serde(flatten)]
    pub act: ActRecord,
    pub timeout: String,
}

/// `{"command": [..]}`, or `{"url": "..", "method": ".."}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ActRecord {
    Command {
        command: Vec<String>,
    },
    Http {
        url: String,
        #[serde(with = "words")]
        method: HookMethod,
    },
}

/// Which hook an event is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookNameRecord {
    #[serde(with = "words")]
    pub kind: HookKind,
    pub stage: String,
    pub name: String,
    /// Not the hook, but what finds out how it ended.
    pub verifies: bool,
}

/// How a hook ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookEndingRecord {
    #[serde(with = "words")]
    pub outcome: HookOutcome,
    pub took_ms: u64,
    pub attempts: u32,
    /// Exit code, or HTTP status.
    pub code: Option<i32>,
    pub why: String,
    pub output: String,
}

/// What a state remembers of hooks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookBookRecord {
    tasks: Vec<TaskRecord>,
    passed: Option<usize>,
    step: Option<StepRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct TaskRecord {
    #[serde(with = "words")]
    kind: HookKind,
    stage: usize,
    index: usize,
    state: TaskState,
    key: Option<u64>,
    verifies: bool,
    abandoned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TaskState {
    Queued,
    Starting(u64),
    Running(u64),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StepRecord {
    by: String,
    reason: String,
    forced: bool,
}

// === of a plan ===

impl HooksRecord {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn hooks(&self) -> Result<Hooks, String> {
        let all = |records: &[HookRecord]| -> Result<Vec<Hook>, String> {
            records.iter().map(HookRecord::hook).collect()
        };
        Ok(Hooks {
            before: all(&self.before)?,
            after: all(&self.after)?,
            rollback: all(&self.rollback)?,
            on_no_baseline: all(&self.on_no_baseline)?,
        })
    }
}

impl From<&Hooks> for HooksRecord {
    fn from(hooks: &Hooks) -> Self {
        let all = |hooks: &[Hook]| hooks.iter().map(HookRecord::from).collect();
        Self {
            before: all(&hooks.before),
            after: all(&hooks.after),
            rollback: all(&hooks.rollback),
            on_no_baseline: all(&hooks.on_no_baseline),
        }
    }
}

impl HookRecord {
    fn hook(&self) -> Result<Hook, String> {
        let verify = |verify: &VerifyRecord| {
            Ok::<_, String>(Verify {
                act: verify.act.clone().into(),
                timeout: parse_duration(&verify.timeout)?,
            })
        };
        Ok(Hook {
            name: self.name.clone(),
            act: self.act.clone().into(),
            timeout: parse_duration(&self.timeout)?,
            retries: self.retries,
            idempotent: self.idempotent,
            when: self.when,
            verify: self.verify.as_ref().map(verify).transpose()?,
        })
    }
}

impl From<&Hook> for HookRecord {
    fn from(hook: &Hook) -> Self {
        Self {
            name: hook.name.clone(),
            act: ActRecord::from(&hook.act),
            timeout: format_duration(hook.timeout),
            retries: hook.retries,
            idempotent: hook.idempotent,
            when: hook.when,
            verify: hook.verify.as_ref().map(|verify| VerifyRecord {
                act: ActRecord::from(&verify.act),
                timeout: format_duration(verify.timeout),
            }),
        }
    }
}

impl From<&Act> for ActRecord {
    fn from(act: &Act) -> Self {
        match act {
            Act::Command(command) => Self::Command {
                command: command.clone(),
            },
            Act::Http { method, url } => Self::Http {
                url: url.clone(),
                method: *method,
            },
        }
    }
}

impl From<ActRecord> for Act {
    fn from(record: ActRecord) -> Self {
        match record {
            ActRecord::Command { command } => Self::Command(command),
            ActRecord::Http { url, method } => Self::Http { method, url },
        }
    }
}

// === of an event ===

impl From<&HookName> for HookNameRecord {
    fn from(hook: &HookName) -> Self {
        Self {
            kind: hook.kind,
            stage: hook.stage.to_string(),
            name: hook.name.clone(),
            verifies: hook.verifies,
        }
    }
}

impl From<&HookEnding> for HookEndingRecord {
    fn from(ending: &HookEnding) -> Self {
        Self {
            outcome: ending.outcome,
            took_ms: millis(ending.took),
            attempts: ending.attempts,
            code: ending.code,
            why: ending.why.clone(),
            output: ending.output.clone(),
        }
    }
}

impl HookNameRecord {
    /// As in a sentence: `before hook migrate of stage canary`.
    pub fn in_words(&self) -> String {
        let verify = if self.verifies { "verify of " } else { "" };
        let (kind, stage, name) = (self.kind.as_str(), &self.stage, &self.name);
        format!("{verify}{kind} hook {name} of stage {stage}")
    }
}

impl HookEndingRecord {
    /// `took` as a span.
    pub const fn took(&self) -> Duration {
        Duration::from_millis(self.took_ms)
    }
}

// === of a state ===

impl From<&HookBook> for HookBookRecord {
    fn from(book: &HookBook) -> Self {
        Self {
            tasks: book.tasks.iter().map(TaskRecord::from).collect(),
            passed: book.passed,
            step: book.step.as_ref().map(|step| StepRecord {
                by: step.by.clone(),
                reason: step.reason.clone(),
                forced: step.forced,
            }),
        }
    }
}

impl From<HookBookRecord> for HookBook {
    fn from(record: HookBookRecord) -> Self {
        Self {
            tasks: record.tasks.into_iter().map(HookTask::from).collect(),
            passed: record.passed,
            step: record.step.map(|step| StepByHand {
                by: step.by,
                reason: step.reason,
                forced: step.forced,
            }),
        }
    }
}

impl From<&HookTask> for TaskRecord {
    fn from(task: &HookTask) -> Self {
        Self {
            kind: task.kind,
            stage: task.stage,
            index: task.index,
            state: match task.state {
                HookState::Queued => TaskState::Queued,
                HookState::Starting(id) => TaskState::Starting(id.0),
                HookState::Running(id) => TaskState::Running(id.0),
            },
            key: task.key.map(|id| id.0),
            verifies: task.verifies,
            abandoned: task.abandoned,
        }
    }
}

impl From<TaskRecord> for HookTask {
    fn from(record: TaskRecord) -> Self {
        Self {
            kind: record.kind,
            stage: record.stage,
            index: record.index,
            state: match record.state {
                TaskState::Queued => HookState::Queued,
                TaskState::Starting(id) => HookState::Starting(EventId(id)),
                TaskState::Running(id) => HookState::Running(EventId(id)),
            },
            key: record.key.map(EventId),
            verifies: record.verifies,
            abandoned: record.abandoned,
        }
    }
}
