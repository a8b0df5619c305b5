//! `serin replay`: what a gate was given makes the same decisions again, and another input makes others.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use serin::cli::replay::{ReplayArgs, run};
use serin::records::event::EventRecord;
use serin::records::inputs::{Recorded, Recorder};
use serin::records::state;
use serin::rollout::gate::{Action, Command, Event, Gate, HookEnd, Input, Phase};
use serin::rollout::name::RolloutName;
use serin::rollout::plan::PlanParts;
use serin::simulate::replay;
use serin::store::{AccessLines, Batch, Settings, Store};

use crate::crowd::{Crowd, Habit};
use crate::hooks::hook;
use crate::sim::{Disk, World, conditions, plan, seconds, weight};

/// A gate behind its recorder, as the driver has it.
struct Kept {
    world: World,
    recorder: Recorder,
    lines: Vec<Recorded>,
}

impl Kept {
    fn new() -> Self {
        Self {
            world: World::new(),
            recorder: Recorder::default(),
            lines: Vec::new(),
        }
    }

    fn give(&mut self, input: Input) {
        let now = self.world.sim.now;
        let effects = self.recorder.handle(&mut self.world.gate, now, input);
        let recorded = self.world.sim.carry_out(effects);
        self.lines.extend(self.recorder.take());
        if let (Some(id), Disk::Works) = (recorded, self.world.sim.disk) {
            self.give(Input::Stored(id));
        }
    }

    fn order(&mut self, action: Action) {
        self.give(Input::Command(Command {
            by: "ops".to_owned(),
            reason: "tested".to_owned(),
            force: true,
            action,
        }));
    }

    fn start(&mut self) {
        self.start_with(|_| ());
    }

    fn start_with(&mut self, change: impl FnOnce(&mut PlanParts)) {
        self.order(Action::Start {
            plan: Box::new(plan(change)),
            baseline_endpoints: 20,
        });
    }

    /// Every hook that was begun and has not ended passes.
    fn pass_hooks(&mut self) {
        for order in std::mem::take(&mut self.world.sim.hooks) {
            self.give(Input::HookEnded(Box::new(HookEnd {
                started: order.started,
                passed: true,
                took: seconds(1),
                attempts: 1,
                code: Some(0),
                why: String::new(),
                output: "done".to_owned(),
            })));
        }
    }

    fn run(&mut self, span: Duration) {
        let until = self.world.sim.now.mono.after(span);
        while self.world.sim.now.mono < until {
            let tick = self.world.sim.tick;
            self.world.sim.pass(tick);
            let observed = self.world.sim.observe(&self.world.gate, tick);
            self.give(Input::Tick(Box::new(observed)));
        }
    }

    /// The process ends and comes back a little later.
    fn restart(&mut self) {
        let saved = state::encode(&self.world.gate.snapshot(self.world.sim.now));
        let snapshot = state::decode(&saved.json, &saved.counts).expect("as it was saved");
        self.world.sim.pass(seconds(3));
        let now = self.world.sim.now;
        self.recorder = Recorder::restored(&snapshot, &[], now);
        let (gate, effects) = Gate::restore(snapshot, Vec::new(), now);
        self.world.gate = gate;
        let recorded = self.world.sim.carry_out(effects);
        self.lines.extend(self.recorder.take());
        if let Some(id) = recorded {
            self.give(Input::Stored(id));
        }
    }

    fn text(&self, run: u64) -> String {
        let of_run = self.lines.iter().filter(|lines| lines.run == run);
        of_run.map(|lines| lines.text.as_str()).collect()
    }

    fn events(&self, run: u64) -> Vec<Value> {
        let of_run = self
            .world
            .sim
            .events
            .iter()
            .filter(|event| event.run == run);
        of_run.map(published).collect()
    }
}

fn name() -> RolloutName {
    RolloutName::parse("analyzer").expect("a name")
}

fn published(event: &Event) -> Value {
    serde_json::to_value(EventRecord::new(&name(), event)).expect("JSON")
}

/// Two stages, a restart, orders, a slow canary for a while, then errors: rolled back.
fn eventful() -> Kept {
    let mut kept = Kept::new();
    kept.run(seconds(5));
    kept.start();
    kept.run(seconds(400));
    kept.order(Action::OpenIncident {
        summary: "pager".to_owned(),
    });
    kept.order(Action::CloseIncident { id: 1 });
    kept.order(Action::Pause);
    kept.run(seconds(20));
    kept.order(Action::Resume);
    kept.world.sim.canary().slow = 0.005;
    kept.run(seconds(300));
    kept.restart();
    kept.run(seconds(200));
    kept.world.sim.disk = Disk::Stalls;
    kept.give(Input::StoreFailed("disk full".to_owned()));
    kept.run(seconds(5));
    kept.world.sim.disk = Disk::Works;
    let last = kept.world.gate.status(kept.world.sim.now).last_event;
    kept.give(Input::Stored(last));
    kept.order(Action::Resume);
    kept.world.sim.canary().failing = 0.05;
    kept.run(seconds(200));
    assert_eq!(
        kept.world.phase(),
        Phase::RolledBack,
        "{}",
        kept.world.story()
    );
    kept
}

/// Learners one by one, hooks, a freeze, a ceiling, a restart in the middle of the evidence; rolled back by it.
fn proven_by_evidence() -> Kept {
    let mut kept = Kept::new();
    kept.world.sim.rate = 400.0;
    kept.world.sim.crowd = Some(Crowd::new(5, 20_000));
    kept.start_with(|parts| {
        parts.stages[0].hooks.before = vec![hook("check")];
        parts.stages.truncate(1);
        parts.stages[0].weight = weight("20%");
        parts.stages[0].duration = seconds(900);
        parts.stages[0].rollback = conditions(&["regression(any)"]);
    });
    kept.run(seconds(2));
    kept.pass_hooks();
    kept.run(seconds(120));
    kept.order(Action::Freeze { until: None });
    kept.order(Action::SetCeiling {
        segment: "eu".into(),
        ceiling: weight("5%"),
    });
    kept.order(Action::Resume);
    kept.run(seconds(90));
    kept.order(Action::Unfreeze);
    kept.restart();
    kept.run(seconds(30));
    if let Some(crowd) = &mut kept.world.sim.crowd {
        *crowd.canary() = Habit {
            failing: 0.05,
            ..*crowd.canary()
        };
    }
    kept.run(seconds(120));
    kept
}

#[test]
fn a_rollback_by_evidence_is_made_again_to_the_last_digit() {
    let kept = proven_by_evidence();
    let story = kept.world.story();
    assert_eq!(kept.world.phase(), Phase::RolledBack, "{story}");
    for kind in ["hook_ended", "frozen", "ceiling_set", "restarted"] {
        assert!(kept.world.count(kind) > 0, "{kind}\n{story}");
    }
    let back = published(kept.world.last("rolled_back"));
    assert!(back.to_string().contains("regression(any)"), "{back}");
    let events = kept.events(1);
    let done = replay(&name(), &kept.text(1), &events).expect("whole");
    assert_eq!(done.difference, None);
    assert_eq!(done.same, events.len() as u64);

    // One learner's second told otherwise: the figures of the evidence differ, though perhaps not the decision.
    let mut lines: Vec<String> = kept.text(1).lines().map(str::to_owned).collect();
    let told = |line: &&mut String| line.contains("\"learners\"") && line.contains("\"tick\"");
    let line = lines
        .iter_mut()
        .filter(told)
        .nth_back(20)
        .expect("evidence");
    let mut tick: Value = serde_json::from_str(line).expect("a line");
    tick["blocks"][0]["learners"] = Value::String(String::new());
    *line = tick.to_string();
    let done = replay(&name(), &lines.join("\n"), &events).expect("whole");
    assert!(
        done.difference
            .is_some_and(|why| why.contains("rolled back"))
    );
}

#[test]
fn the_same_inputs_make_the_same_events() {
    let kept = eventful();
    let events = kept.events(1);
    let done = replay(&name(), &kept.text(1), &events).expect("whole");
    assert_eq!(done.difference, None);
    assert_eq!(done.same, events.len() as u64);
    assert!(done.same > 10, "{}", kept.world.story());
    for kind in [
        "advanced",
        "restarted",
        "rolled_back",
        "checkpoint",
        "paused",
    ] {
        assert!(kept.world.count(kind) > 0, "{kind}\n{}", kept.world.story());
    }
}

#[test]
fn a_second_run_is_kept_by_itself_and_what_comes_after_an_end_is_not() {
    let mut kept = eventful();
    let before = kept.lines.len();
    kept.run(seconds(30));
    assert_eq!(kept.lines.len(), before, "nothing runs");
    kept.start();
    kept.run(seconds(30));
    kept.order(Action::Abort);
    let done = replay(&name(), &kept.text(2), &kept.events(2)).expect("whole");
    assert_eq!((done.difference, done.later), (None, 0));
    assert!(done.same >= 3);
    kept.world.set_weight("5%");
    let done = replay(&name(), &kept.text(2), &kept.events(2)).expect("whole");
    assert_eq!((done.difference, done.later), (None, 1));
}

#[test]
fn a_refused_start_begins_no_run() {
    let mut kept = Kept::new();
    kept.start();
    kept.run(seconds(30));
    kept.start();
    kept.run(seconds(60));
    assert!(kept.text(2).is_empty());
    let done = replay(&name(), &kept.text(1), &kept.events(1)).expect("whole");
    assert_eq!(done.difference, None);
}

// === through the store's files and the command ===

fn filed(kept: &Kept, folder: &Path) -> PathBuf {
    let settings = Settings {
        path: folder.join("serin.db"),
        deployment_logs: folder.join("logs"),
        retention: seconds(86_400),
        access_lines: AccessLines::default(),
    };
    let (store, _) = Store::open(&settings, Box::new(|_| ())).expect("a new store");
    let now = kept.world.sim.now;
    // In two batches, so that the file has more than one member.
    let half = kept.lines.len() / 2;
    for (events, inputs) in [
        (
            recorded(&kept.world.sim.events),
            kept.lines[..half].to_vec(),
        ),
        (Vec::new(), kept.lines[half..].to_vec()),
    ] {
        store.write(Batch {
            rollout: name(),
            events,
            state: Box::new(kept.world.gate.snapshot(now)),
            slots: Vec::new(),
            run: 1,
            notices: Vec::new(),
            inputs,
            replaces: false,
        });
    }
    store.close(seconds(60));
    let mut logs = std::fs::read_dir(settings.deployment_logs).expect("logs");
    let path = logs.find_map(|entry| {
        let path = entry.expect("an entry").path();
        path.extension()
            .is_some_and(|end| end == "json")
            .then_some(path)
    });
    path.expect("a deployment log")
}

fn recorded(events: &[Event]) -> Vec<EventRecord> {
    let record = |event| EventRecord::new(&name(), event);
    events.iter().map(record).collect()
}

fn command(log: &Path, inputs: Option<PathBuf>) -> (ExitCode, String) {
    let args = ReplayArgs {
        log: log.to_owned(),
        inputs,
        json: false,
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run(&args, &mut out, &mut err);
    let text = [out, err].concat();
    (code, String::from_utf8(text).expect("text"))
}

fn packed(folder: &Path, text: &str) -> PathBuf {
    use std::io::Write;

    let path = folder.join("other.inputs.gz");
    let file = std::fs::File::create(&path).expect("a file");
    let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).expect("written");
    encoder.finish().expect("written");
    path
}

#[test]
fn a_deployment_log_is_replayed_and_another_input_is_found_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = eventful();
    let log = filed(&kept, folder.path());
    let (code, said) = command(&log, None);
    assert_eq!(code, ExitCode::SUCCESS, "{said}");
    assert!(said.starts_with("the same:"), "{said}");

    // One tick of some twenty minutes that saw nothing.
    let lines = kept.text(1);
    let mut lines: Vec<String> = lines.lines().map(str::to_owned).collect();
    let mut tick: Value = serde_json::from_str(&lines[800]).expect("a line");
    assert_eq!(tick["input"], "tick");
    tick["slots"] = Value::Array(Vec::new());
    lines[800] = tick.to_string();
    let (code, said) = command(&log, Some(packed(folder.path(), &lines.join("\n"))));
    assert_eq!(code, ExitCode::FAILURE, "{said}");
    assert!(said.contains("events are the same, then\nevent "), "{said}");

    lines.remove(800);
    let (code, said) = command(&log, Some(packed(folder.path(), &lines.join("\n"))));
    assert_eq!(code, ExitCode::FAILURE, "{said}");
    assert!(said.contains("some are lost"), "{said}");

    let (code, said) = command(&folder.path().join("none.json"), None);
    assert_eq!(code, ExitCode::from(2), "{said}");
}

#[test]
fn a_file_that_a_crash_cut_short_says_where_the_inputs_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = eventful();
    let log = filed(&kept, folder.path());
    let whole = packed(folder.path(), &kept.text(1));
    let bytes = std::fs::read(&whole).expect("the file");
    std::fs::write(&whole, &bytes[..bytes.len() / 2]).expect("written");
    let (code, said) = command(&log, Some(whole));
    assert_eq!(code, ExitCode::FAILURE, "{said}");
    assert!(said.contains("the inputs end before it"), "{said}");
}
