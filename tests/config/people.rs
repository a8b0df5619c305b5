//! Approvers, schedules and the stabilization: what the file may say of them, and what it is told.

use std::time::Duration;

use serin::config::{Config, parse};
use serin::rollout::plan::OnSuccess;
use serin::rollout::time::WallTime;

const DOCUMENT: &str = include_str!("../../docs/PEOPLE.md");

fn env(name: &str) -> Option<String> {
    name.starts_with("SERIN_")
        .then(|| format!("secret of {name}"))
}

/// Line, key and message of each fault.
fn faults(text: &str) -> Vec<String> {
    let told = |config: Config| panic!("no fault in {:?}", config.rollouts);
    let faults = parse("f", text, &env).map_or_else(|faults| faults, told);
    faults
        .iter()
        .map(|fault| format!("{} {}", fault.key, fault.message))
        .collect()
}

/// One rollout whose one stage, or whose rest, says this.
fn with(stage: &str, rest: &str) -> String {
    format!(
        "[pools]\na = {{ endpoints = [\"h:1\"] }}\nb = {{ endpoints = [\"h:2\"] }}\n\
         [rollouts.r]\nbaseline = \"a\"\ncanary = \"b\"\n\
         [[rollouts.r.stages]]\nname = \"s\"\nweight = \"10%\"\nduration = \"1h\"\n{stage}\n{rest}\n"
    )
}

fn check(stage: &str, rest: &str, expected: &[(&str, &str)]) {
    let found = faults(&with(stage, rest));
    assert_eq!(found.len(), expected.len(), "{stage}{rest}: {found:?}");
    for (fault, (key, part)) in found.iter().zip(expected) {
        let is_it = fault.starts_with(&format!("rollouts.r.{key} ")) && fault.contains(part);
        assert!(is_it, "{fault:?} is not {key}: {part}");
    }
}

#[test]
fn the_clients_schedule_in_the_documentation_is_a_good_file() {
    let (_, rest) = DOCUMENT.split_once("```toml\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    let config = parse("PEOPLE.md", example, &env).unwrap_or_else(|faults| panic!("{faults:?}"));
    let plan = &config.rollouts["analyzer"].plan;
    // date -u -d 2025-11-01T14:00:00Z +%s, and of 18:30.
    let starts: Vec<Option<i64>> = plan
        .stages
        .iter()
        .map(|stage| stage.schedule.start_at.map(WallTime::as_unix_millis))
        .collect();
    assert_eq!(
        starts,
        [Some(1_762_005_600_000), Some(1_762_021_800_000), None]
    );
    let roles = |index: usize| match &plan.stages[index].on_success {
        OnSuccess::Approve(roles) => roles.iter().map(ToString::to_string).collect(),
        OnSuccess::Advance | OnSuccess::Hold => Vec::new(),
    };
    assert_eq!(roles(1), ["engineering", "finance"]);
    assert!(roles(0).is_empty());
    let hours = plan.stages[1].schedule.window.as_ref().expect("a window");
    assert_eq!(hours.to_string(), "mon-thu, sat 09:00-16:00 Europe/Berlin");

    let settling = plan.stabilization.as_ref().expect("13 days");
    let days = |days: u64| Duration::from_secs(days * 86_400);
    assert_eq!(settling.duration, days(13));
    let lasts: Vec<Duration> = settling.levels.iter().map(|level| level.lasts).collect();
    assert_eq!(lasts, [days(2), days(4), days(7)]);
    assert_eq!(
        plan.stage_weight(3),
        plan.stage_weight(2),
        "at the last stage's weight"
    );
    // 2 d every 5 min, 4 d every hour, 7 d every day.
    let reports = plan.stage(3).map(|stage| stage.checkpoints.len());
    assert_eq!(reports, Some(576 + 96 + 7));
}

#[test]
fn approvers_are_asked_only_where_somebody_can_answer() {
    check(
        "on_success = \"approve\"",
        "",
        &[("stages[0].approvers", "nobody could approve")],
    );
    check(
        "approvers = [\"engineering\"]",
        "",
        &[("stages[0].approvers", "without effect")],
    );
    check(
        "on_success = \"approve\"\napprovers = [\"a\", \"a\"]",
        "",
        &[("stages[0].approvers[1]", "twice")],
    );
    check(
        "on_success = \"approve\"\napprovers = [\"a\", \"b\"]",
        "[[admin.tokens]]\nname = \"t\"\ntoken_env = \"SERIN_T\"\nroles = [\"approve:a\"]",
        &[("stages[0].approvers[1]", "no token has the role approve:b")],
    );
}

#[test]
fn starts_have_an_order_and_windows_open() {
    let second = |keys: &str| {
        format!("[[rollouts.r.stages]]\nname = \"t\"\nweight = \"20%\"\nduration = \"1h\"\n{keys}")
    };
    check(
        "start_at = \"2025-11-01T14:00:00Z\"",
        &second("start_at = \"2025-11-01T15:00:00+01:00\""),
        &[("stages[1].start_at", "not after")],
    );
    check(
        "window = { days = [\"mon-fri\"], hours = \"09:00-16:00\" }",
        &second("start_at = \"2025-11-01T14:00:00Z\""),
        &[(
            "stages[1].start_at",
            "closed then (mon-fri 09:00-16:00 UTC)",
        )],
    );
    check(
        "start_at = \"2025-11-01\"",
        "",
        &[("stages[0].start_at", "not a moment")],
    );
    check(
        "window = { days = [\"monday\"], hours = \"9-16\", tz = \"Europe/Atlantis\" }",
        "",
        &[
            ("stages[0].window.days[0]", "no day"),
            ("stages[0].window.hours", "no span of a day"),
            ("stages[0].window.tz", "not a time zone"),
        ],
    );
    check(
        "window = { days = [], hours = \"09:00-16:00\" }",
        "",
        &[("stages[0].window.days", "never open")],
    );
}

#[test]
fn a_stabilization_has_room_for_its_levels() {
    let settling = |keys: &str| format!("[rollouts.r.stabilization]\n{keys}");
    let level = |lasts: &str, report: &str| {
        format!("levels = [{{ name = \"x\", for = \"{lasts}\", report = \"{report}\" }}]")
    };
    check(
        "",
        &settling(&format!("duration = \"1d\"\n{}", level("2d", "1h"))),
        &[("stabilization.levels", "2d of 1d")],
    );
    check(
        "",
        &settling(&level("1d", "1s")),
        &[("stabilization.levels[0].report", "more than 10000")],
    );
    check(
        "",
        &settling("require = [\"error_rate < 1% throughout\", \"error_rate < 1% for 2m\"]"),
        &[
            ("stabilization.require[0]", "every day is judged by itself"),
            ("stabilization.require[1]", "`for` says how long"),
        ],
    );
    check(
        "",
        &settling("levels = [{ name = \"x\" }]"),
        &[
            ("stabilization.levels[0].for", "missing"),
            ("stabilization.levels[0].report", "missing"),
        ],
    );

    // What was not typed is gate.md's, cut to what was.
    let text = with("", &settling("duration = \"3d\""));
    let config = parse("f", &text, &env).unwrap_or_else(|faults| panic!("{faults:?}"));
    let plan = &config.rollouts["r"].plan;
    let settling = plan.stabilization.as_ref().expect("three days");
    let levels: Vec<(String, u64)> = settling
        .levels
        .iter()
        .map(|level| (level.name.to_string(), level.lasts.as_secs() / 86_400))
        .collect();
    assert_eq!(
        levels,
        [("intensive".to_owned(), 2), ("close".to_owned(), 1)]
    );
    let hold: Vec<String> = settling.hold.iter().map(ToString::to_string).collect();
    assert_eq!(hold, ["error_rate > 0.1% for 1h"]);
    assert_eq!(
        (plan.gate.approval_ttl, plan.gate.escalate_after),
        (Duration::from_secs(43_200), Duration::from_secs(1_800))
    );
}
