//! Approvals: who is asked, who said yes or no, and what makes a yes count no more.
//!
//! Owns the approvals of one stage's end. What is asked about is the run's plan and the figures of one event; a
//! breach, a hold or too long a time takes the answers back. Never takes a step.

use super::Gate;
use super::command::Answer;
use super::effect::{Effect, EventKind, Refusal};
use super::emit::Author;
use super::input::{EventId, Say};
use super::snapshot::{Approval, Ask};
use super::state::{Cause, Phase};
use super::transitions::Verb;
use crate::rollout::name::RoleName;
use crate::rollout::plan::{OnSuccess, Stage};
use crate::rollout::time::{Now, format_duration};
use crate::rollout::verdict::Evaluation;

impl Gate {
    /// The roles that the present stage asks for and that have not approved.
    pub(super) fn missing_roles(&self) -> Vec<RoleName> {
        let approvals = self.ask().map_or(&[][..], |ask| &ask.approvals);
        let given = |role: &RoleName| approvals.iter().any(|approval| approval.role == *role);
        let asked = self.approvers().iter();
        asked.filter(|role| !given(role)).cloned().collect()
    }

    /// Asks for what is missing. Answers that count already stay.
    pub(super) fn ask_for_approval(
        &mut self,
        now: Now,
        evaluations: Vec<Evaluation>,
        out: &mut Vec<Effect>,
    ) {
        let roles = self.missing_roles();
        let confidence = self.confidence_of_step(&evaluations);
        let event = EventId(self.state.last_event.0 + 1);
        self.state.phase = Phase::AwaitingApproval;
        let Some(run) = &mut self.state.run else {
            return;
        };
        run.stage.waits_for.clear();
        run.stage.ask = Some(Ask {
            event,
            since: now,
            approvals: run
                .stage
                .ask
                .take()
                .map_or_else(Vec::new, |ask| ask.approvals),
        });
        let kind = EventKind::ApprovalAsked {
            roles,
            evaluations,
            confidence,
        };
        self.tell(now, Author::GATE, kind, out);
    }

    pub(super) fn approve(
        &mut self,
        now: Now,
        author: Author<'_>,
        say: Say,
        out: &mut Vec<Effect>,
    ) -> Answer {
        let Some(ask) = self.ask().cloned() else {
            return Err(self.refuse(Verb::Approve, "nobody is asked"));
        };
        self.refuse_other_figures(Verb::Approve, &ask, &say)?;
        let breached = self.breached_now();
        if !breached.is_empty() {
            return Err(self.refuse(Verb::Approve, &breached.join("; ")));
        }
        // One person with two roles is one pair of eyes. Where no tokens are asked for nobody can be told apart.
        let before = ask.approvals.iter().find(|before| before.by == author.by);
        if let (Some(before), Some(_)) = (before, &say.holds) {
            let why = format!(
                "{} approved as {} already, and one token counts for one role",
                before.by, before.role
            );
            return Err(self.refuse(Verb::Approve, &why));
        }
        let role = meant(&say, &self.missing_roles(), self.approvers())?;
        if let Some(given) = ask.approvals.iter().find(|given| given.role == role) {
            let why = format!("{} approved as {role} already", given.by);
            return Err(self.refuse(Verb::Approve, &why));
        }
        let evaluations = self.judge_all(now);
        if let Some(ask) = self.ask_mut() {
            ask.approvals.push(Approval {
                role: role.clone(),
                by: author.by.to_owned(),
                reason: author.reason.to_owned(),
                at: now,
            });
        }
        let kind = EventKind::Approved {
            role,
            asked: ask.event,
            plan: say.plan,
            missing: self.missing_roles(),
            evaluations,
        };
        self.tell(now, author, kind, out);
        self.stand_by(now, out);
        Ok(())
    }

    pub(super) fn reject(
        &mut self,
        now: Now,
        author: Author<'_>,
        say: Say,
        out: &mut Vec<Effect>,
    ) -> Answer {
        let Some(ask) = self.ask().cloned() else {
            return Err(self.refuse(
                Verb::Reject,
                "the stage asks for no approval; hold stops it",
            ));
        };
        self.refuse_other_figures(Verb::Reject, &ask, &say)?;
        let role = meant(&say, self.approvers(), self.approvers())?;
        let why = match author.reason {
            "" => format!("rejected for {role}"),
            reason => format!("rejected for {role}: {reason}"),
        };
        let evaluations = self.judge_all(now);
        let author = Author {
            by: author.by,
            reason: &why,
        };
        self.hold(now, author, Cause::Rejected, &why, evaluations, out);
        Ok(())
    }

    /// Takes back what counts no more: all of it after a breach, each answer after its time.
    pub(super) fn void_approvals(&mut self, now: Now, out: &mut Vec<Effect>) {
        let breached = self.breached_now();
        let ttl = self.plan().map(|plan| plan.gate.approval_ttl);
        let Some((ask, ttl)) = self.ask_mut().zip(ttl) else {
            return;
        };
        let old = |approval: &Approval| now.mono.since(approval.at.mono) >= ttl;
        let is_void = |approval: &Approval| !breached.is_empty() || old(approval);
        let (voided, kept): (Vec<Approval>, Vec<Approval>) =
            ask.approvals.drain(..).partition(is_void);
        ask.approvals = kept;
        if voided.is_empty() {
            return;
        }
        let why = match breached.is_empty() {
            true => format!("an approval counts for {}", format_duration(ttl)),
            false => breached.join("; "),
        };
        let roles = voided.into_iter().map(|approval| approval.role).collect();
        let kind = EventKind::ApprovalsVoided { roles, why };
        self.tell(now, Author::GATE, kind, out);
    }

    pub(super) fn ask(&self) -> Option<&Ask> {
        self.state.run.as_ref()?.stage.ask.as_ref()
    }

    /// The roles that the present stage asks for.
    pub(super) fn approvers(&self) -> &[RoleName] {
        self.present_stage().map_or(&[], approvers_of)
    }

    fn ask_mut(&mut self) -> Option<&mut Ask> {
        self.state.run.as_mut()?.stage.ask.as_mut()
    }

    fn refuse_other_figures(&self, verb: Verb, ask: &Ask, say: &Say) -> Answer {
        match say.seen {
            Some(seen) if seen != ask.event => {
                let (seen, asked) = (seen.0, ask.event.0);
                let why = format!(
                    "the figures of event {seen} are not those asked about: event {asked} has them"
                );
                Err(self.refuse(verb, &why))
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn approvers_of(stage: &Stage) -> &[RoleName] {
    match &stage.on_success {
        OnSuccess::Approve(roles) => roles,
        OnSuccess::Advance | OnSuccess::Hold => &[],
    }
}

/// The role that somebody speaks for: the one he names, else the only one of `open` that he holds.
fn meant(say: &Say, open: &[RoleName], asked: &[RoleName]) -> Result<RoleName, Refusal> {
    let holds = |role: &RoleName| say.holds.as_ref().is_none_or(|holds| holds.contains(role));
    if let Some(role) = &say.role {
        return match (asked.contains(role), holds(role)) {
            (true, true) => Ok(role.clone()),
            (false, _) => Err(Refusal::Invalid(format!(
                "{role} is not asked for; the stage asks for {}",
                names(asked.iter())
            ))),
            (true, false) => Err(Refusal::Invalid(format!(
                "the token does not speak for {role}"
            ))),
        };
    }
    let held: Vec<&RoleName> = open.iter().filter(|role| holds(role)).collect();
    match held.as_slice() {
        [only] => Ok((*only).clone()),
        [] => Err(Refusal::Invalid(format!(
            "the token speaks for none of {}",
            names(open.iter())
        ))),
        several => Err(Refusal::Invalid(format!(
            "say for which role: {}",
            names(several.iter().copied())
        ))),
    }
}

fn names<'a>(roles: impl Iterator<Item = &'a RoleName>) -> String {
    roles.map(RoleName::as_str).collect::<Vec<_>>().join(", ")
}
