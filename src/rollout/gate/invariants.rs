//! What must hold after every input, checked in debug builds alone.
//!
//! Reads everything and changes nothing; a failure here is a fault of the gate, never of its input.

use super::Gate;
use super::effect::Effect;
use super::state::Phase;
use crate::rollout::weight::Weight;

impl Gate {
    pub(super) fn check_invariants(&self, out: &[Effect]) {
        if cfg!(debug_assertions) {
            self.check_weights();
            self.check_phase();
            self.check_events(out);
        }
    }

    fn check_weights(&self) {
        let state = &self.state;
        if state.phase.is_under_way() && state.awaiting.is_none() {
            assert_eq!(
                state.split.weight,
                self.stage_weight(),
                "{:?} at another weight than the stage's",
                state.phase
            );
        }
        if let Some(awaiting) = state.awaiting {
            assert!(
                awaiting.weight >= state.split.weight,
                "a retreat waits for the disk"
            );
            assert!(
                awaiting.event <= state.last_event,
                "a step waits for an event that does not exist"
            );
            assert!(
                awaiting.event > state.stored,
                "a step waits for an event that is stored"
            );
        }
        for raise in &state.raises {
            assert!(
                raise.event > state.stored && raise.event <= state.last_event,
                "a raise waits for no event that is on its way"
            );
            let now = state.split.ceilings.get(&raise.segment);
            assert!(
                now.is_some_and(|&ceiling| ceiling < raise.ceiling),
                "a lowered ceiling waits for the disk"
            );
        }
        // Until the first step what was in force before the run stays: where baseline is weak, nobody is sent to it.
        let has_stepped = state.phase.is_in_a_run() && !self.is_before_first_stage();
        if let (true, Some(run)) = (has_stepped, &state.run) {
            let cap = Weight::FULL.ppm() - run.plan.holdout.ppm();
            assert!(
                state.split.weight.ppm() <= cap || state.awaiting.is_some(),
                "the holdout is on canary"
            );
        }
        assert!(
            state.watch.epoch <= state.split.epoch,
            "watching a split that does not exist yet"
        );
    }

    fn check_phase(&self) {
        let state = &self.state;
        assert_eq!(
            state.phase == Phase::Held,
            !state.causes.is_empty(),
            "held without a cause, or the reverse"
        );
        assert_eq!(
            state.phase == Phase::RollingBack,
            state.retreat.is_some(),
            "rolling back without a record"
        );
        match state.phase {
            Phase::RollingBack | Phase::RolledBack | Phase::Aborted => {
                assert!(
                    state.split.weight.is_zero() && state.split.closed,
                    "{:?} with canary open",
                    state.phase
                );
                assert!(
                    state.awaiting.is_none(),
                    "{:?} with a step pending",
                    state.phase
                );
                assert!(
                    state.decided.is_none(),
                    "{:?} with a retreat pending",
                    state.phase
                );
            }
            Phase::Manual => assert!(
                !state.split.weight.is_zero() || state.awaiting.is_some(),
                "manual at 0"
            ),
            Phase::Scheduled
            | Phase::Running
            | Phase::AwaitingApproval
            | Phase::Waiting
            | Phase::Stabilizing
            | Phase::Held
            | Phase::Paused => {
                let in_a_plan = self.present_stage().is_some();
                assert!(
                    in_a_plan || self.unusable.is_some(),
                    "{:?} without a stage",
                    state.phase
                );
            }
            Phase::Idle | Phase::Complete => {}
        }
        self.check_passage();
    }

    // What a stage's end waits for belongs to the phases that wait.
    fn check_passage(&self) {
        let phase = self.state.phase;
        assert!(
            phase != Phase::AwaitingApproval || !self.missing_roles().is_empty(),
            "awaiting an approval that nobody is asked for"
        );
        assert!(
            !matches!(phase, Phase::Waiting | Phase::Scheduled)
                || !self.told_to_wait_for().is_empty(),
            "{phase:?} for nothing"
        );
        let settles = self.phase_of_stage() == Phase::Stabilizing;
        assert!(
            !(settles && matches!(phase, Phase::Running | Phase::AwaitingApproval)),
            "{phase:?} in the stabilization"
        );
        assert!(
            settles || phase != Phase::Stabilizing,
            "stabilizing in a stage"
        );
    }

    // Numbers have no gaps, and nothing is told that is not recorded.
    fn check_events(&self, out: &[Effect]) {
        let state = &self.state;
        assert!(
            state.stored <= state.last_event,
            "more is stored than was made"
        );
        let recorded: Vec<u64> = out
            .iter()
            .filter_map(|effect| match effect {
                Effect::Record(event) => Some(event.id.0),
                Effect::Publish(_)
                | Effect::Announce(_)
                | Effect::RunHook(_)
                | Effect::Refuse(_) => None,
            })
            .collect();
        assert!(
            recorded.windows(2).all(|pair| pair[0] + 1 == pair[1]),
            "event numbers with a gap: {recorded:?}"
        );
        let last = recorded
            .last()
            .is_none_or(|&last| last == state.last_event.0);
        assert!(
            last,
            "the last event was not recorded: {recorded:?} of {}",
            state.last_event.0
        );
        assert!(
            self.waits() || self.withheld.is_empty(),
            "events are withheld without a step"
        );
        let refused = out.iter().any(|effect| matches!(effect, Effect::Refuse(_)));
        assert!(
            !refused || out.len() == 1,
            "a refused command did something"
        );
    }
}
