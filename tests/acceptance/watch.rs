//! `serin watch` in a real terminal (tmux): what a person sees while a rollout advances and the proxy restarts, and what
//! his keys do; and the same in lines for a pipe.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use serin::stub::load::LoadSettings;

use crate::support::{
    Analyzer, Learners, Place, Serin, Stall, binary, eventually, pause, post, two_pools,
};

const STAGES: &str = r#"
[[rollouts.analyzer.stages]]
name = "canary"
weight = "20%"
duration = "4s"
warmup = "0s"
min_requests = 20
advance = ["error_rate < 5%"]
rollback = ["error_rate > 50% for 2m"]
[[rollouts.analyzer.stages]]
name = "ramp"
weight = "40%"
duration = "1h"
warmup = "0s"
min_requests = 20
checkpoints = ["30m"]
advance = ["p99 < 10s"]
rollback = ["error_rate > 50% for 2m"]
"#;

/// A decision is seen at once, so the wait is for the load and the machine.
const SOON: Duration = Duration::from_secs(60);

/// One terminal on a server of its own, which ends with it.
struct Terminal<'a> {
    folder: &'a Path,
}

impl<'a> Terminal<'a> {
    /// A shell of this size, in which `command` is typed.
    fn start(folder: &'a Path, columns: u16, rows: u16, command: &str) -> Self {
        let terminal = Self { folder };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        terminal.tmux(&["new-session", "-d", "-x", &columns, "-y", &rows, "sh"]);
        terminal.keys(&[command, "Enter"]);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .arg("-S")
            .arg(self.folder.join("tmux"))
            .args(["-u", "-f", "/dev/null"])
            .args(arguments)
            .env("LC_ALL", "C.UTF-8")
            .env("PS1", "shell> ")
            .env_remove("TMUX")
            .output()
            .expect("tmux");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn type_text(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until every one of these stands on the screen; the screen then.
    fn sees(&self, texts: &[&str]) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            let screen = self.screen();
            if texts.iter().all(|text| screen.contains(text)) {
                return screen;
            }
            assert!(
                Instant::now() < deadline,
                "never seen: {texts:?}; the last screen was\n{screen}"
            );
            pause();
        }
    }

    /// Waits until this stands on the screen no more.
    fn lost(&self, text: &str) {
        let deadline = Instant::now() + SOON;
        while self.screen().contains(text) {
            assert!(Instant::now() < deadline, "{text:?} stays");
            pause();
        }
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        // A server that is gone already is what is wanted.
        let ended = Command::new("tmux")
            .arg("-S")
            .arg(self.folder.join("tmux"))
            .arg("kill-server")
            .output();
        drop(ended);
    }
}

fn world(stages: &str) -> (Serin, [Analyzer; 2], Learners) {
    let place = Place::new();
    let original = Analyzer::start(place.folder.path(), "original");
    let ultra_fast = Analyzer::start(place.folder.path(), "ultra_fast");
    place.write(1, &two_pools(&[original.addr], &[ultra_fast.addr], stages));
    let serin = place.start();
    let load = Learners::start(LoadSettings {
        learners: 500,
        rate_per_s: 100.0,
        ..LoadSettings::new(serin.proxy)
    });
    (serin, [original, ultra_fast], load)
}

fn watch(serin: &Serin, arguments: &str) -> String {
    format!(
        "SERIN_ADMIN=http://{} {} watch {arguments}",
        serin.admin,
        binary().display()
    )
}

#[test]
fn an_operator_watches_a_rollout_and_takes_it_back() {
    let (mut serin, _analyzers, load) = world(STAGES);
    let folder = serin.folder.path().to_owned();
    let terminal = Terminal::start(&folder, 120, 40, &watch(&serin, "; echo ended with $?"));
    terminal.sees(&["analyzer IDLE", "s start", "q quit"]);

    // One key does nothing; a reason and a yes start it.
    terminal.keys(&["s"]);
    terminal.sees(&[
        "START OF ANALYZER",
        "2 stages, the first at 20% for 4s",
        "Why, for the journal",
    ]);
    terminal.keys(&["Enter"]);
    terminal.sees(&["A reason is needed"]);
    terminal.type_text("a test watches");
    terminal.keys(&["Enter"]);
    terminal.sees(&["Reason: a test watches", "Do it?"]);
    assert_eq!(serin.phase("analyzer"), "idle");
    terminal.keys(&["y"]);

    // It advances by itself, and that is seen with what it rests on.
    let screen = terminal.sees(&[
        "analyzer RUNNING  stage ramp, 2 of 2",
        "advanced from canary to ramp: 40% of learners",
        "canary 20% > [ramp 40%]",
        "0 of 1 checkpoint, the next at 30m",
    ]);
    for part in [
        "original",
        "ultra_fast",
        "last 60s",
        "error_rate > 50% for 2m",
        "ln(E)",
        "r rollback",
    ] {
        assert!(screen.contains(part), "{part:?} is not in\n{screen}");
    }

    // The proxy goes away and comes back: that is said, what is shown is old, and then it goes on.
    serin.process.kill();
    let screen = terminal.sees(&["NO CONNECTION since", "s OLD"]);
    assert!(
        screen.contains("stage ramp"),
        "what was known stays:\n{screen}"
    );
    terminal.keys(&["r"]);
    terminal.keys(&["Enter"]);
    terminal.keys(&["y"]);
    terminal.sees(&["rollback: NOT sent, nothing changed"]);
    serin.restart();
    terminal.sees(&[
        "connected again since",
        "serin came back after",
        "analyzer RUNNING",
    ]);

    // Escape and `n` leave it alone; a reason, then `y`, takes everybody back.
    terminal.keys(&["r"]);
    terminal.sees(&[
        "ROLLBACK OF ANALYZER",
        "Everybody goes to original at once: ultra_fast 40% -> 0%",
    ]);
    terminal.keys(&["Escape"]);
    terminal.sees(&["rollback: nothing was done"]);
    terminal.keys(&["r"]);
    terminal.type_text("y is not quick");
    terminal.keys(&["Enter"]);
    terminal.sees(&["Do it?"]);
    assert_eq!(serin.phase("analyzer"), "running");
    terminal.keys(&["y"]);
    terminal.sees(&[
        "analyzer ROLLED BACK",
        "rolled back from 40%: an operator asked for it",
        "(y is not quick)",
    ]);
    let last = serin.events("analyzer");
    let back = last.iter().rfind(|event| event["event"] == "rolled_back");
    let back = back.expect("it is in the journal");
    assert_eq!(
        (&back["reason"], &back["by"]),
        (&json!("y is not quick"), &json!("local"))
    );

    // Within the cooldown a start is refused, and said to be.
    terminal.keys(&["s"]);
    terminal.type_text("again");
    terminal.keys(&["Enter"]);
    terminal.sees(&["Do it?"]);
    terminal.keys(&["y"]);
    terminal.sees(&[
        "The gate refused it, and nothing changed",
        "the cooldown lasts",
    ]);
    terminal.keys(&["Escape"]);
    // Escape and a letter in one piece are another key to a terminal.
    terminal.lost("Esc: leave it");
    terminal.keys(&["q"]);
    let screen = terminal.sees(&["ended with 0"]);
    assert!(
        !screen.contains("ROLLED BACK"),
        "the terminal is given back:\n{screen}"
    );
    assert_eq!(serin.phase("analyzer"), "rolled_back");
    load.stop();
}

#[test]
fn what_others_wrote_commands_no_terminal_and_a_small_one_is_readable() {
    let (serin, _analyzers, load) = world(STAGES);
    assert_eq!(serin.act("analyzer", "start").status, 200);
    let hostile = json!({ "reason": "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}ko" });
    let held = post(
        serin.admin,
        "/api/rollouts/analyzer/hold",
        &hostile.to_string(),
    );
    assert_eq!(held.status, 200, "{}", held.text());

    let folder = serin.folder.path().to_owned();
    let command = format!("NO_COLOR=1 {}", watch(&serin, ""));
    let terminal = Terminal::start(&folder, 80, 24, &command);
    let screen = terminal.sees(&["analyzer HELD", "HELD since", "\\u001b[2J"]);
    for part in [
        "ultra_fast 20%",
        "r rollback",
        "u resume",
        "errors",
        "p99",
        "error_rate > 50% for 2m",
    ] {
        assert!(screen.contains(part), "{part:?} is not in\n{screen}");
    }
    let coloured = terminal.tmux(&["capture-pane", "-p", "-e"]);
    let codes = coloured.split('\u{1b}').skip(1);
    let colours: Vec<&str> = codes
        .filter(|code| {
            let code = code.split('m').next().unwrap_or_default();
            let numbers = code.trim_start_matches('[').split(';');
            numbers
                .filter_map(|number| number.parse::<u8>().ok())
                .any(|number| number >= 30 && number != 39 && number != 49)
        })
        .collect();
    assert!(
        colours.is_empty(),
        "colours in spite of NO_COLOR: {colours:?}"
    );
    terminal.tmux(&["resize-window", "-x", "40", "-y", "10"]);
    let screen = terminal.sees(&["analyzer HELD", "HELD since", "r rollback"]);
    assert!(screen.lines().count() <= 10, "{screen}");

    let output = Command::new(binary())
        .arg("status")
        .env("SERIN_ADMIN", format!("http://{}", serin.admin))
        .output()
        .expect("the binary runs");
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(said.contains("\\u001b[2J"), "{said}");
    assert!(
        !said.chars().any(|c| c.is_control() && c != '\n'),
        "{said:?}"
    );
    load.stop();
}

#[test]
fn a_pipe_gets_a_line_in_each_interval() {
    let (mut serin, _analyzers, load) = world(STAGES);
    let plain = Pipe::start(&serin, &["--interval", "250ms"]);
    let objects = Pipe::start(&serin, &["--json", "--interval", "250ms"]);
    let first = plain.line("a state", |line| line.contains("original "));
    assert!(
        first.contains("Z analyzer: idle, ultra_fast 0% | "),
        "{first}"
    );
    assert_eq!(serin.act("analyzer", "start").status, 200);

    let advanced = plain.line("it advances", |line| {
        line.contains("advanced from canary to ramp")
    });
    assert!(
        advanced.contains("stage ramp, ultra_fast 40%"),
        "{advanced}"
    );
    let live = objects.document("a state", |one| one["status"]["stage"] == "ramp");
    assert_eq!(
        (&live["connection"], &live["rollout"]),
        (&json!("live"), &json!("analyzer"))
    );

    serin.process.kill();
    let lost = plain.line("a lost connection", |line| line.contains("NO CONNECTION"));
    assert!(lost.contains("analyzer: NO CONNECTION since "), "{lost}");
    let lost = objects.document("a lost connection", |one| one["connection"] == "lost");
    assert_eq!(lost["status"], Value::Null);

    serin.restart();
    let back = plain.line("its return", |line| line.contains("serin came back after"));
    assert!(back.contains("analyzer: running, stage ramp"), "{back}");
    let back = objects.document("its return", |one| one["events"][0]["event"] == "restarted");
    assert_eq!(back["status"]["phase"], "running");
    load.stop();
}

#[test]
fn what_the_journal_gets_late_is_said_all_the_same() {
    let (serin, _analyzers, load) = world(STAGES);
    let plain = Pipe::start(&serin, &["--interval", "250ms"]);
    plain.line("a state", |line| line.contains("original "));
    let stall = Stall::begin(&serin, 2_000);
    assert_eq!(serin.act("analyzer", "start").status, 200);
    // Until its event is on the disk the watch has looked some eight times.
    let events = eventually("the start in the journal", || {
        Some(serin.events("analyzer")).filter(|events| !events.is_empty())
    });
    drop(stall);
    for event in events {
        let said = format!("event {}: ", event["id"]);
        plain.line(&said, |line| line.contains(&said));
    }
    load.stop();
}

#[test]
fn who_reads_no_more_ends_it_without_a_word() {
    let (serin, _analyzers, load) = world(STAGES);
    let mut child = piped(&serin, &["--plain", "--interval", "250ms"]);
    let mut first = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    out.read_line(&mut first).expect("a line");
    drop(out);
    let code = eventually("it ends", || child.try_wait().expect("our own child"));
    assert_eq!(code.code(), Some(0), "after {first}");
    load.stop();
}

fn piped(serin: &Serin, arguments: &[&str]) -> Child {
    Command::new(binary())
        .arg("watch")
        .args(arguments)
        .env("SERIN_ADMIN", format!("http://{}", serin.admin))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs")
}

/// A watch whose lines are taken as they come.
struct Pipe {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Pipe {
    fn start(serin: &Serin, arguments: &[&str]) -> Self {
        let mut child = piped(serin, arguments);
        let out = child.stdout.take().expect("a pipe");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                taken.lock().expect("nobody panics").push(line);
            }
        });
        Self { child, lines }
    }

    fn line(&self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        eventually(what, || {
            let lines = self.lines.lock().expect("nobody panics");
            lines.iter().find(|line| is_it(line)).cloned()
        })
    }

    fn document(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let parse = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
        parse(&self.line(what, |line| is_it(&parse(line))))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            self.child.wait().expect("our own child");
        }
    }
}
