//! The evidence of a rollback: ten minutes to each side of it in one file, whole after a restart, and never in the way.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use flate2::read::GzDecoder;
use serde_json::Value;
use serin::records::event::EventRecord;
use serin::rollout::gate::{EventKind, HookEnding, HookName, HookOutcome, Phase, RollbackCause};
use serin::rollout::name::StageName;
use serin::rollout::plan::HookKind;
use serin::rollout::time::WallTime;
use serin::rollout::weight::Weight;
use serin::store::{AccessLines, Settings};

use crate::make::{PATIENCE, at, batch, event, open, open_settings, rollout, settings, slot};

const NAME: &str = "canary-20251101T140001.000Z-evidence.json.gz";

fn started() -> EventRecord {
    event(1, 1, EventKind::Started { stages: 2 })
}

/// At 700 s.
fn rolled_back() -> EventRecord {
    let kind = EventKind::RolledBack {
        cause: RollbackCause::Tripwire,
        from: Weight::FULL,
        breached_since: None,
        evaluations: Vec::new(),
        confidence: None,
    };
    EventRecord {
        weight: 0.0,
        weight_ppm: 0,
        phase: Phase::RollingBack,
        ..event(700, 1, kind)
    }
}

fn hook_ended() -> EventRecord {
    let hook = HookName {
        kind: HookKind::Rollback,
        stage: StageName::parse("canary").expect("a name"),
        name: "stop".to_owned(),
        verifies: false,
    };
    let ending = HookEnding {
        outcome: HookOutcome::Passed,
        took: Duration::from_secs(1),
        attempts: 1,
        code: Some(0),
        why: "exit code 0".to_owned(),
        output: "stopped 2 analyzers".to_owned(),
    };
    event(702, 1, EventKind::HookEnded { hook, ending })
}

fn archive(directory: &Path) -> Option<Value> {
    let file = std::fs::File::open(settings(directory).deployment_logs.join(NAME)).ok()?;
    let mut text = String::new();
    GzDecoder::new(file)
        .read_to_string(&mut text)
        .expect("it is gzip");
    Some(serde_json::from_str(&text).expect("it is JSON"))
}

/// The seconds in it, and how many requests it has.
fn seconds(archive: &Value) -> (u64, u64, u64) {
    let slots = archive["slots"].as_array().expect("slots");
    let second = |slot: &Value| slot["clock_ms"].as_u64().expect("a moment") / 1000;
    let counted = slots
        .iter()
        .map(|slot| slot["counted"].as_u64().expect("a count"));
    (
        slots.first().map_or(0, second),
        slots.last().map_or(0, second),
        counted.sum(),
    )
}

#[test]
fn a_rollback_leaves_ten_minutes_to_each_side_of_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = open(directory.path());
    first.store.write(batch(vec![started()], Vec::new()));
    first.wait_stored(1);
    assert_eq!(archive(directory.path()), None);
    // What comes at once is bounded to ten minutes, so this comes in two.
    for from in [0, 400] {
        let slots = (from..from + 400).map(|second| slot(second, 3)).collect();
        let mut part = batch(Vec::new(), slots);
        part.run = 1;
        part.state = Box::new(crate::make::snapshot(1, 1));
        first.store.write(part);
        first.store.write(batch(
            vec![event(2 + from, 1, EventKind::Paused)],
            Vec::new(),
        ));
        first.wait_stored(2 + from);
    }
    first.store.write(batch(vec![rolled_back()], Vec::new()));
    first.store.close(PATIENCE);
    let at_once = archive(directory.path()).expect("it is written at once");
    assert_eq!(seconds(&at_once), (100, 799, 2_100));
    assert_eq!(
        (&at_once["run"], &at_once["rollout"]),
        (&1.into(), &"analyzer".into())
    );
    assert_eq!(at_once["rollback"]["event"], "rolled_back");
    assert_eq!(at_once["slots"][0]["at"], "2025-11-01T14:01:40.000Z");
    assert_eq!(at_once["slots"][0]["arm"], "canary");
    // As exact as the histogram: two digits.
    let p99 = at_once["slots"][0]["p99_ms"].as_f64().expect("a latency");
    assert!((p99 / 20.0 - 1.0).abs() < 0.01, "{p99}");
    drop(first);

    // Another process: the ten minutes after it pass.
    let second = open(directory.path());
    let slots: Vec<_> = (800..1_390).map(|time| slot(time, 3)).collect();
    let mut rest = batch(vec![hook_ended()], slots);
    rest.state.saved = at(1_299_999);
    second.store.write(rest.clone());
    second.wait_stored(702);
    rest.events = vec![event(703, 1, EventKind::Paused)];
    rest.slots.clear();
    rest.state.saved = at(1_300_000);
    second.store.write(rest);
    second.store.close(PATIENCE);
    let whole = archive(directory.path()).expect("it is there");
    assert_eq!(seconds(&whole), (100, 1_299, 3_600));
    let hook = &whole["hooks"][0];
    assert_eq!(
        (&hook["event"], &hook["output"]),
        (&"hook_ended".into(), &"stopped 2 analyzers".into())
    );
}

#[test]
fn what_the_access_log_told_near_the_rollback_is_kept_also_over_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    // The rollback is at 700 s of gate time, 14:11:40 by the wall clock.
    let back = 1_762_006_300_000;
    let told = |lines: &'static [(i64, &str)]| {
        AccessLines::new(move |rollout| {
            assert_eq!(rollout, "analyzer");
            let lines = lines.iter().map(|(since, path)| {
                let at = WallTime::from_unix_millis(back + since * 1000);
                (at, format!("{{\"path\":\"{path}\"}}"))
            });
            lines.collect()
        })
    };
    let write = |lines, events| {
        let settings = Settings {
            access_lines: told(lines),
            ..settings(directory.path())
        };
        let opened = open_settings(&settings).expect("the store opens");
        opened.store.write(batch(events, Vec::new()));
        opened.store.close(PATIENCE);
        let archived = archive(directory.path()).expect("it is written");
        let lines = archived["access_log"].as_array().expect("lines").clone();
        let path = |line: &Value| line["path"].as_str().expect("a path").to_owned();
        lines.iter().map(path).collect::<Vec<_>>()
    };
    let early: &[_] = &[(-601, "/too early"), (-600, "/before"), (0, "/at once")];
    let paths = write(early, vec![started(), rolled_back()]);
    assert_eq!(paths, ["/before", "/at once"]);
    let late: &[_] = &[(0, "/at once"), (2, "/after"), (601, "/too late")];
    let paths = write(late, vec![hook_ended()]);
    assert_eq!(paths, ["/before", "/at once", "/after"]);
}

#[test]
fn an_archive_that_was_lost_is_written_again_at_the_next_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = open(directory.path());
    first
        .store
        .write(batch(vec![started(), rolled_back()], vec![slot(650, 7)]));
    first.store.close(PATIENCE);
    drop(first);
    std::fs::remove_file(settings(directory.path()).deployment_logs.join(NAME))
        .expect("it is lost");
    let second = open(directory.path());
    second.store.close(PATIENCE);
    let again = archive(directory.path()).expect("it is back");
    assert_eq!(seconds(&again), (650, 650, 7));
}

#[test]
fn a_fallback_is_no_rollback_and_leaves_none() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path());
    let fallback = EventRecord {
        weight: 0.005,
        weight_ppm: 5_000,
        ..rolled_back()
    };
    opened
        .store
        .write(batch(vec![started(), fallback], Vec::new()));
    opened.store.close(PATIENCE);
    assert_eq!(archive(directory.path()), None);
}

#[test]
fn a_directory_that_cannot_be_written_keeps_no_event_from_the_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(settings(directory.path()).deployment_logs, "a file").expect("in the way");
    let opened = open(directory.path());
    opened
        .store
        .write(batch(vec![started(), rolled_back()], Vec::new()));
    opened.wait_stored(700);
    let after = event(701, 1, EventKind::Paused);
    opened.store.write(batch(vec![after], Vec::new()));
    opened.wait_stored(701);
    opened.store.close(PATIENCE);
    let reader = open_again(directory.path());
    assert_eq!(reader, 3);
}

/// How many events are there.
fn open_again(directory: &Path) -> usize {
    let opened = open(directory);
    let history = opened
        .store
        .history(&rollout(), serin::rollout::gate::EventId(0), usize::MAX);
    history.expect("the journal is read").len()
}
