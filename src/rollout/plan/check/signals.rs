//! Faults of signals: how they are declared, and what conditions ask of them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Faults;
use crate::rollout::condition::{Condition, Metric, Selector};
use crate::rollout::name::SignalName;
use crate::rollout::plan::{PlanFault, PlanParts};
use crate::rollout::signal::{
    ArmsRead, IMPACT, MAX_INTERVALS_OVER, MIRROR_DIFFERENCE, SignalKind, SignalSpec, outcome_of,
};
use crate::rollout::time::format_duration;

/// No source is asked more often.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn check(parts: &PlanParts, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for (index, spec) in parts.signals.iter().enumerate() {
        check_spec(&format!("signals[{index}]"), spec, faults);
        if !seen.insert(spec.name) {
            let why = format!("{:?} stands twice", spec.name.as_str());
            faults.add(&format!("signals[{index}].name"), why);
        }
    }
    if let Some(tripwire) = &parts.gate.tripwire {
        check_condition("gate.tripwire", tripwire, parts, faults);
    }
    for (index, stage) in parts.stages.iter().enumerate() {
        for (list, conditions) in [
            ("advance", &stage.advance),
            ("hold", &stage.hold),
            ("rollback", &stage.rollback),
        ] {
            for (place, condition) in conditions.iter().enumerate() {
                let path = format!("stages[{index}].{list}[{place}]");
                check_condition(&path, condition, parts, faults);
            }
        }
    }
}

fn check_spec(path: &str, spec: &SignalSpec, faults: &mut Faults) {
    let name = spec.name;
    if Metric::ALL
        .iter()
        .any(|metric| metric.as_str() == name.as_str())
    {
        faults.add(
            &format!("{path}.name"),
            format!("{:?} is a metric of every rollout", name.as_str()),
        );
    }
    if name.as_str() == MIRROR_DIFFERENCE {
        let why =
            format!("{MIRROR_DIFFERENCE:?} is what the mirror finds, and needs no declaration");
        faults.add(&format!("{path}.name"), why);
    }
    match spec.kind {
        SignalKind::Read { interval, .. } if interval < SHORTEST_INTERVAL => {
            let why = format!("{} is shorter than 1s", format_duration(interval));
            faults.add(&format!("{path}.interval"), why);
        }
        SignalKind::Outcomes if outcome_of(name).is_none() => {
            let why = format!(
                "a figure from outcomes is named after them: \"completion{IMPACT}\" compares outcomes \"completion\""
            );
            faults.add(&format!("{path}.name"), why);
        }
        SignalKind::Read { .. } | SignalKind::Outcomes => {}
    }
}

fn check_condition(path: &str, condition: &Condition, parts: &PlanParts, faults: &mut Faults) {
    let Metric::Signal(name) = condition.metric else {
        return;
    };
    let Some(spec) = parts.signal(name) else {
        faults.0.push(undeclared(path, name, parts));
        return;
    };
    let mut add = |why: &str| faults.add(path, format!("{condition}: {why}"));
    if condition.throughout {
        add("a signal has no intervals of its own; `over` gives it a window");
    }
    match spec.kind {
        SignalKind::Outcomes => {
            if condition.selector != Selector::Canary {
                add("it compares the two arms already");
            }
            if condition.over.is_some() {
                add("it reads the run so far, so it takes no `over`");
            }
        }
        SignalKind::Read { interval, arms } => {
            let is_of_mirror = name.as_str() == MIRROR_DIFFERENCE;
            if is_of_mirror && condition.selector != Selector::Canary {
                add("it compares the two arms already");
            } else if arms == ArmsRead::Canary && condition.selector != Selector::Canary {
                add(
                    "the signal is read for canary alone; {pool} or {arm} in its query reads it for both",
                );
            }
            let longest = interval.saturating_mul(MAX_INTERVALS_OVER);
            if condition
                .over
                .is_some_and(|over| over > longest || over < interval)
            {
                let (interval, longest) = (format_duration(interval), format_duration(longest));
                add(&format!(
                    "a window of this signal holds {interval} to {longest}: 1 to {MAX_INTERVALS_OVER} intervals"
                ));
            }
        }
    }
}

fn undeclared(path: &str, name: SignalName, parts: &PlanParts) -> PlanFault {
    let declared: Vec<&str> = parts
        .signals
        .iter()
        .map(|spec| spec.name.as_str())
        .collect();
    let known = match declared.as_slice() {
        [] => "no signal is declared".to_owned(),
        names => format!("declared are {}", names.join(", ")),
    };
    PlanFault {
        path: path.to_owned(),
        message: format!(
            "{:?} is neither a metric nor a declared signal; {known}",
            name.as_str()
        ),
        unknown: Some(name.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::plan::Plan;

    fn read(name: &str, interval_s: u64, arms: ArmsRead) -> SignalSpec {
        SignalSpec {
            name: SignalName::parse(name).expect(name),
            kind: SignalKind::Read {
                interval: Duration::from_secs(interval_s),
                arms,
            },
            unproven_passes: false,
        }
    }

    fn parts(signals: Vec<SignalSpec>, advance: &str) -> PlanParts {
        let mut parts = super::super::tests::parts();
        parts.stages[0].advance = super::super::tests::conditions(&[advance]);
        parts.signals = signals;
        parts
    }

    fn check(signals: Vec<SignalSpec>, advance: &str, path: &str, word: &str) {
        let faults = Plan::build(parts(signals, advance)).expect_err(word);
        let found = faults
            .iter()
            .any(|fault| fault.path == path && fault.message.contains(word));
        assert!(found && faults.len() == 1, "{path} ({word}): {faults:?}");
    }

    #[test]
    fn every_fault_of_a_signal_has_its_place() {
        let both = || vec![read("memory", 15, ArmsRead::Both)];
        let here = "stages[0].advance[0]";
        let fine = |signals, advance: &str| {
            Plan::build(parts(signals, advance)).unwrap_or_else(|why| panic!("{advance}: {why:?}"));
        };
        fine(both(), "memory{delta} < 10% over 1h");
        fine(Vec::new(), "|revenue_impact| < 300%");
        fine(Vec::new(), "mirror_difference < 1% over 4h");
        check(
            Vec::new(),
            "mirror_difference < 1% over 30s",
            here,
            "1m to 4h",
        );
        check(
            Vec::new(),
            "mirror_difference{baseline} < 1%",
            here,
            "compares the two arms",
        );
        check(both(), "memry < 1GiB", here, "declared are memory");
        check(Vec::new(), "memory < 1GiB", here, "no signal is declared");
        check(
            Vec::new(),
            "churn_impact < 1%",
            here,
            "no signal is declared",
        );
        check(both(), "memory < 1GiB throughout", here, "no intervals");
        check(both(), "memory < 1GiB over 14s", here, "1 to 240 intervals");
        check(both(), "memory < 1GiB over 61m", here, "1 to 240 intervals");
        check(
            Vec::new(),
            "revenue_impact{delta} > 0%",
            here,
            "compares the two arms",
        );
        check(Vec::new(), "revenue_impact > 0% over 1h", here, "no `over`");
        let canary = vec![read("memory", 15, ArmsRead::Canary)];
        check(canary, "memory{delta} < 10%", here, "canary alone");
        let name = "signals[0].name";
        check(
            vec![read("error_rate", 15, ArmsRead::Both)],
            "p99 < 1s",
            name,
            "a metric of every rollout",
        );
        check(
            vec![read("mirror_difference", 15, ArmsRead::Canary)],
            "p99 < 1s",
            name,
            "needs no declaration",
        );
        check(
            vec![read("memory", 0, ArmsRead::Both)],
            "p99 < 1s",
            "signals[0].interval",
            "shorter than 1s",
        );
        let mut twice = both();
        twice.extend(both());
        check(twice, "p99 < 1s", "signals[1].name", "twice");
        let mut outcomes = both();
        outcomes[0].kind = SignalKind::Outcomes;
        check(outcomes, "p99 < 1s", name, "named after them");
    }
}
