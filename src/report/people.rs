//! Who was asked and what they said, and which hooks ran: what of a run was not the gate's alone.

use serde::Serialize;

use super::wording::tally;
use crate::records::Moment;
use crate::records::event::{Detail, EventRecord};
use crate::records::hook::{HookEndingRecord, HookNameRecord};
use crate::rollout::gate::Cause;

/// One step of an approval.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct ApprovalFindings {
    pub(super) event: u64,
    pub(super) at: Moment,
    pub(super) stage: Option<String>,
    pub(super) what: ApprovalWord,
    pub(super) by: String,
    /// Who is asked, who said it, or whose word is void; of a rejection nobody: the token says who.
    pub(super) roles: Vec<String>,
    /// Roles that have not said yes yet.
    pub(super) missing: Vec<String>,
    pub(super) reason: String,
    /// How the criteria stood then.
    pub(super) figures: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ApprovalWord {
    Asked,
    Approved,
    Rejected,
    Void,
}

/// A hook that ran, or runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct HookFindings {
    pub(super) hook: HookNameRecord,
    pub(super) started: Option<Moment>,
    pub(super) ended: Option<Moment>,
    /// `None` while it runs.
    pub(super) ending: Option<HookEndingRecord>,
}

pub(super) fn approvals(events: &[EventRecord]) -> Vec<ApprovalFindings> {
    events.iter().filter_map(ApprovalFindings::of).collect()
}

impl ApprovalFindings {
    fn of(event: &EventRecord) -> Option<Self> {
        let entry = |what, roles: &[String], missing: &[String], reason: &str| Self {
            event: event.id,
            at: event.at,
            stage: event.stage.clone(),
            what,
            by: event.by.clone(),
            roles: roles.to_vec(),
            missing: missing.to_vec(),
            reason: reason.to_owned(),
            figures: match event.evaluations() {
                [] => String::new(),
                judged => tally(judged),
            },
        };
        let reason = event.reason.as_str();
        if let Detail::ApprovalAsked { roles, .. } = &event.detail {
            return Some(entry(ApprovalWord::Asked, roles, roles, reason));
        }
        if let Detail::Approved { role, missing, .. } = &event.detail {
            let role = std::slice::from_ref(role);
            return Some(entry(ApprovalWord::Approved, role, missing, reason));
        }
        if let Detail::ApprovalsVoided { roles, why } = &event.detail {
            return Some(entry(ApprovalWord::Void, roles, &[], why));
        }
        let rejected = matches!(
            event.detail,
            Detail::Held {
                cause: Cause::Rejected,
                ..
            }
        );
        rejected.then(|| entry(ApprovalWord::Rejected, &[], &[], reason))
    }
}

impl ApprovalWord {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Approved => "approved",
            Self::Rejected => "REJECTED",
            Self::Void => "void",
        }
    }
}

/// Every run of a hook, in the order in which they began.
pub(super) fn hooks(events: &[EventRecord]) -> Vec<HookFindings> {
    let mut hooks: Vec<HookFindings> = Vec::new();
    for event in events {
        if let Detail::HookStarted { hook, .. } = &event.detail {
            hooks.push(HookFindings {
                hook: hook.clone(),
                started: Some(event.at),
                ended: None,
                ending: None,
            });
        } else if let Detail::HookEnded { hook, ending } = &event.detail {
            end(&mut hooks, event.at, hook, ending);
        }
    }
    hooks
}

// The one that began last; what has no beginning was refused before it began.
fn end(
    hooks: &mut Vec<HookFindings>,
    at: Moment,
    hook: &HookNameRecord,
    ending: &HookEndingRecord,
) {
    let mut open = hooks.iter_mut().rev();
    let found = open.find(|one| one.hook == *hook && one.ending.is_none());
    let (ended, ending) = (Some(at), Some(ending.clone()));
    match found {
        Some(one) => (one.ended, one.ending) = (ended, ending),
        None => hooks.push(HookFindings {
            hook: hook.clone(),
            started: None,
            ended,
            ending,
        }),
    }
}
