//! Where a rollout stands in its plan, and what somebody has to know before anything else: each a line.

use super::{percent, time_of_day};
use crate::admin::wire::RolloutAnswer;
use crate::records::people::PeopleRecord;
use crate::records::status::StatusRecord;
use crate::rollout::gate::Phase;

/// `canary 1% > [ramp 10%] > rollout 100%`, the stage in force in brackets; empty without a plan.
pub(in crate::cli) fn stages(status: &StatusRecord) -> String {
    let present = status.stage_index.filter(|_| !status.phase.is_ended());
    let stages = status.plan.iter().flat_map(|plan| &plan.stages);
    let stages = stages.enumerate().map(|(index, stage)| {
        let text = format!("{} {}", stage.name, stage.weight);
        match present == Some(index) {
            true => format!("[{text}]"),
            false => text,
        }
    });
    stages.collect::<Vec<_>>().join(" > ")
}

/// `2 of 5 checkpoints passed, the next at 1h`; `None` where the stage has none.
pub(in crate::cli) fn checkpoints(status: &StatusRecord) -> Option<String> {
    let index = status.stage_index.filter(|_| !status.phase.is_ended())?;
    let all = &status.plan.as_ref()?.stages.get(index)?.checkpoints;
    let done = status.checkpoints_done.min(all.len());
    let mut text = match all.len() {
        0 => return None,
        1 => format!("{done} of 1 checkpoint"),
        several => format!("{done} of {several} checkpoints"),
    };
    if let Some(next) = all.get(done) {
        text.push_str(&format!(", the next at {next}"));
    }
    Some(text)
}

/// What holds or endangers the rollout, the worst first; nothing where all is as it should be.
pub(in crate::cli) fn warnings(answer: &RolloutAnswer) -> Vec<String> {
    let status = &answer.status;
    let mut lines = Vec::new();
    if let Some(fault) = &answer.store_fault {
        lines.push(format!("THE JOURNAL CANNOT BE WRITTEN: {fault}"));
    }
    if !status.guarded {
        lines.push("NOT GUARDED: no trigger watches this weight".to_owned());
    }
    if status.rehearsing {
        lines.push(
            "REHEARSAL: faults are injected on purpose, the phase is the rehearsal's".to_owned(),
        );
    }
    for cause in &status.causes {
        let ends = match cause.ends_by_itself {
            true => "it ends by itself when that is over",
            false => "a person has to say how to go on",
        };
        lines.push(format!(
            "{} since {} ({}): {}; {ends}",
            held(status.phase),
            time_of_day(cause.since),
            cause.cause.as_str(),
            cause.why
        ));
    }
    lines.extend(asked(&status.people));
    lines.extend(status.incidents.iter().map(|incident| {
        let opened = time_of_day(incident.opened);
        format!(
            "incident {} since {opened}: {}",
            incident.id, incident.summary
        )
    }));
    if answer.plan_pending {
        lines.push("the file has another plan, which waits for the next start".to_owned());
    }
    if let Some(event) = status.awaiting_store {
        lines.push(format!("a step waits for event {event} to be on disk"));
    }
    if !status.pins.is_empty() {
        let learners = match status.pins.len() {
            1 => "1 learner is".to_owned(),
            several => format!("{several} learners are"),
        };
        lines.push(format!("{learners} pinned to a pool"));
    }
    let lowered = status
        .segments
        .iter()
        .filter(|one| one.max_weight.is_some());
    lines.extend(lowered.map(|segment| {
        let most = segment.max_weight.map(percent).unwrap_or_default();
        let why = segment.lowered_by.as_ref();
        let why = why.map_or_else(
            || "by hand".to_owned(),
            |trigger| format!("`{trigger}` was true"),
        );
        format!(
            "segment {} is kept at {most} of canary: {why}",
            segment.segment
        )
    }));
    lines
}

/// What people and the calendar keep it from.
fn asked(people: &PeopleRecord) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(frozen) = &people.frozen {
        let until = frozen.until.map_or_else(
            || "until somebody ends it".to_owned(),
            |until| format!("until {until}"),
        );
        lines.push(format!(
            "FROZEN since {} {until}, by {}: {}",
            time_of_day(frozen.since),
            frozen.by,
            frozen.reason
        ));
    }
    if let Some(approval) = &people.approval {
        let given = approval
            .given
            .iter()
            .map(|one| format!("{} by {}", one.role, one.by));
        let given: Vec<String> = given.collect();
        let given = match given.is_empty() {
            true => String::new(),
            false => format!("; given: {}", given.join(", ")),
        };
        if !approval.missing.is_empty() {
            lines.push(format!(
                "APPROVAL of {} missing since {}, on the figures of event {}{given}",
                approval.missing.join(", "),
                time_of_day(approval.since),
                approval.asked
            ));
        }
    }
    if !people.waits_for.is_empty() {
        let words: Vec<&str> = people
            .waits_for
            .iter()
            .map(|word| word.0.as_str())
            .collect();
        lines.push(format!("the next step waits for: {}", words.join(", ")));
    }
    if let Some(start) = people.next_start {
        lines.push(format!("the next stage begins at {start}"));
    }
    lines
}

// A cause may be there in a phase that is not called so.
const fn held(phase: Phase) -> &'static str {
    match phase {
        Phase::Held => "HELD",
        Phase::Idle
        | Phase::Scheduled
        | Phase::Running
        | Phase::AwaitingApproval
        | Phase::Waiting
        | Phase::Stabilizing
        | Phase::Paused
        | Phase::Manual
        | Phase::RollingBack
        | Phase::RolledBack
        | Phase::Aborted
        | Phase::Complete => "to be held",
    }
}
