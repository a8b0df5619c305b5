//! Hooks: what is run outside of serin around a step or after a rollback, as a person wrote it. Runs nothing.

use std::time::Duration;

/// The hooks of one stage, each list in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Before the step to the stage: one that fails blocks it.
    pub before: Vec<Hook>,
    /// When the stage has passed.
    pub after: Vec<Hook>,
    /// After the weights went back and that was recorded.
    pub rollback: Vec<Hook>,
    /// When a trigger would move everybody to a baseline without usable endpoints.
    pub on_no_baseline: Vec<Hook>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Unique within its list.
    pub name: String,
    pub act: Act,
    pub timeout: Duration,
    /// Attempts after the first.
    pub retries: u32,
    /// May be run again where nobody knows how it ended.
    pub idempotent: bool,
    pub when: When,
    /// Finds out how it ended, where nobody knows.
    pub verify: Option<Verify>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verify {
    pub act: Act,
    pub timeout: Duration,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// A program with its arguments; no shell.
    Command(Vec<String>),
    Http {
        method: HookMethod,
        url: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookMethod {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Always,
    /// Only while baseline lacks a usable endpoint that it should have.
    BaselineUnhealthy,
}

/// Which list a hook stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HookKind {
    Before,
    After,
    Rollback,
    OnNoBaseline,
}

impl Hooks {
    pub fn of(&self, kind: HookKind) -> &[Hook] {
        match kind {
            HookKind::Before => &self.before,
            HookKind::After => &self.after,
            HookKind::Rollback => &self.rollback,
            HookKind::OnNoBaseline => &self.on_no_baseline,
        }
    }

    /// What is wrong with them: which list and which place, and why.
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        for kind in HookKind::ALL {
            let hooks = self.of(kind);
            for (at, hook) in hooks.iter().enumerate() {
                if hooks[..at].iter().any(|other| other.name == hook.name) {
                    let path = format!("hooks.{}[{at}].name", kind.as_str());
                    faults.push((path, format!("{:?} stands twice", hook.name)));
                }
            }
        }
        faults
    }
}

impl HookKind {
    pub const ALL: [Self; 4] = [
        Self::Before,
        Self::After,
        Self::Rollback,
        Self::OnNoBaseline,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
            Self::Rollback => "rollback",
            Self::OnNoBaseline => "on_no_baseline",
        }
    }
}

impl HookMethod {
    pub const ALL: [Self; 5] = [Self::Get, Self::Post, Self::Put, Self::Patch, Self::Delete];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

impl When {
    pub const ALL: [Self; 2] = [Self::Always, Self::BaselineUnhealthy];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::BaselineUnhealthy => "baseline_unhealthy",
        }
    }
}
