//! The stabilization: its levels, its days, and its end.
//!
//! It runs as the stage after the last one, so that its figures, its triggers and its clock are a stage's. A day that
//! fails what is required begins the whole anew; a day that cannot be judged goes on into the next.
//!
//! Evidence begins anew with each day, at alpha / the number of days: what begins on the last day would have to make up
//! for two weeks without it else. All days together raise a false alarm with a chance of alpha at most, as the stages
//! before them did; days that are begun anew spend theirs again, which their event tells.

use super::Gate;
use super::effect::{Effect, EventKind};
use super::emit::Author;
use super::judge::Standing;
use super::snapshot::Progress;
use crate::rollout::time::Now;
use crate::rollout::verdict::Evaluation;

impl Gate {
    /// What a tick does in phase `stabilizing`, after triggers and hold conditions had their say.
    pub(super) fn settle(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.tell_levels(now, out);
        self.pass_checkpoints(now, out);
        self.close_day(now, out);
    }

    fn tell_levels(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(run) = &mut self.state.run else {
            return;
        };
        let Some((place, name)) = run.plan.level_at(run.stage.time) else {
            return;
        };
        if run.stage.levels_told > place {
            return;
        }
        let levels = run.plan.stabilization.iter().flat_map(|all| &all.levels);
        let report = levels.map(|level| level.report).nth(place);
        let kind = EventKind::LevelBegan {
            level: name.to_owned(),
            report,
        };
        run.stage.levels_told = place + 1;
        self.tell(now, Author::GATE, kind, out);
    }

    fn close_day(&mut self, now: Now, out: &mut Vec<Effect>) {
        let (Some(run), Some(stage)) = (&self.state.run, self.present_stage()) else {
            return;
        };
        let (time, day) = (run.stage.time, run.plan.day());
        let lasted = time.saturating_sub(run.stage.interval_from);
        let is_last = time >= stage.duration;
        if lasted < day && !is_last {
            return;
        }
        let too_long = lasted >= day.saturating_add(stage.max_extension);
        let evaluations = self.judge_advance_at(now);
        match self.standing(&evaluations) {
            Standing::Failed => self.begin_days_anew(now, evaluations, out),
            Standing::Undecided if too_long => self.hold_undecided(now, evaluations, out),
            Standing::Undecided => {}
            Standing::Passed if !is_last => self.begin_day(now, evaluations, out),
            Standing::Passed if self.state.watch.breaches.is_empty() => {
                self.pass(now, evaluations, out);
            }
            Standing::Passed => {}
        }
    }

    /// What was seen before the stabilization was judged by the rollout's alpha; now its days have theirs.
    pub(super) fn begin_first_day(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.begin_evidence(now);
        self.tell_day(now, Vec::new(), out);
    }

    fn begin_day(&mut self, now: Now, evaluations: Vec<Evaluation>, out: &mut Vec<Effect>) {
        let open = self.state.incidents.len() as u64;
        if let Some(run) = &mut self.state.run {
            run.stage.begin_figures(open);
        }
        self.begin_evidence(now);
        self.tell_day(now, evaluations, out);
    }

    // With how the day before was judged.
    fn tell_day(&mut self, now: Now, evaluations: Vec<Evaluation>, out: &mut Vec<Effect>) {
        let (Some(run), Some(alpha)) = (&self.state.run, self.alpha()) else {
            return;
        };
        let (day, days) = (run.plan.day(), run.plan.days());
        let begun = run.stage.time.as_nanos() / day.as_nanos().max(1);
        let kind = EventKind::DayBegan {
            day: u64::try_from(begun).unwrap_or(u64::MAX).saturating_add(1),
            days,
            alpha,
            evaluations,
        };
        self.tell(now, Author::GATE, kind, out);
    }

    fn begin_days_anew(&mut self, now: Now, evaluations: Vec<Evaluation>, out: &mut Vec<Effect>) {
        let Some(run) = &mut self.state.run else {
            return;
        };
        let after = run.stage.time;
        run.stage = Progress {
            began: run.stage.began,
            ..Progress::new(run.stage.index)
        };
        let kind = EventKind::StabilizationRestarted { after, evaluations };
        self.tell(now, Author::GATE, kind, out);
        self.begin_first_day(now, out);
    }
}
