//! What happens around a rollout: hooks that end, sources that are read, people who approve.

use super::{Play, START};
use crate::records::plan::plan_hash;
use crate::rollout::gate::{Action, Heard, HookEnd, HookOrder, Input, Phase, Say};
use crate::rollout::name::Arm;
use crate::rollout::signal::{Observation, Said, SeriesKey};
use crate::rollout::time::millis;

impl Play<'_> {
    /// Begins a hook; how it will end is the scenario's.
    pub(super) fn run_hook(&mut self, order: &HookOrder) {
        let mut known = self.scenario.hooks.iter();
        let known = known.find(|hook| hook.name == order.hook.name);
        let takes = known.map_or(super::SECOND, |hook| hook.takes);
        let fails = known.is_some_and(|hook| hook.fails);
        let took = takes.min(order.timeout);
        let (why, code) = match (fails, takes > order.timeout) {
            (_, true) => ("no end within its time", None),
            (true, false) => ("exit code 1", Some(1)),
            (false, false) => ("", Some(0)),
        };
        let end = HookEnd {
            started: order.started,
            passed: why.is_empty(),
            took,
            attempts: 1,
            code,
            why: why.to_owned(),
            output: String::new(),
        };
        self.hooks.push((self.now.mono.after(took), end));
    }

    pub(super) fn end_hooks(&mut self) {
        let now = self.now.mono;
        let (due, left) = std::mem::take(&mut self.hooks)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.hooks = left;
        let due: Vec<_> = due;
        for (_, end) in due {
            self.handle(Input::HookEnded(Box::new(end)));
        }
    }

    pub(super) fn read_sources(&mut self) {
        let since = self.since_start();
        let mut heard = Heard::default();
        for source in &self.scenario.signals {
            let due = millis(since).is_multiple_of(millis(source.interval).max(1000));
            let fails = source
                .fails
                .is_some_and(|(from, until)| since >= from && since < until);
            for arm in Arm::ALL.into_iter().filter(|_| due) {
                let Some(value) = source.values[arm.index()] else {
                    continue;
                };
                heard.signals.push(Observation {
                    of: SeriesKey {
                        name: source.name,
                        arm,
                        segment: None,
                    },
                    at: self.now.mono,
                    interval: source.interval,
                    said: match fails {
                        true => Said::Failed("the source does not answer".to_owned()),
                        false => Said::Value { value, count: 1 },
                    },
                });
            }
        }
        if !heard.signals.is_empty() {
            self.handle(Input::Heard(Box::new(heard)));
        }
    }

    /// Who is asked says yes after a while, each for one role.
    pub(super) fn approve(&mut self) {
        if self.gate.phase() != Phase::AwaitingApproval {
            self.asked = None;
            return;
        }
        let since = *self.asked.get_or_insert(self.now.mono);
        let Some(after) = self.scenario.approve_after else {
            return;
        };
        let missing = self.gate.status(self.now).people.approval;
        let missing = missing.map(|approval| approval.missing).unwrap_or_default();
        if self.now.mono.since(since) < after || self.now.mono <= START {
            return;
        }
        let plan = self.gate.plan().map(plan_hash).unwrap_or_default();
        for role in missing {
            let say = Say {
                role: Some(role),
                holds: None,
                plan: plan.clone(),
                seen: None,
            };
            self.order(Action::Approve(say), false);
        }
    }
}
