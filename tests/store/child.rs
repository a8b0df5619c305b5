//! Processes that end badly: killed while they write, on a disk that takes no more, in a directory that is not theirs.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serin::store::{Report, Store};

use crate::make::{one, open, open_settings, rollout, settings};

const CHILD: &str = "SERIN_TEST_STORE_CHILD";

/// Not a test of its own: what the other tests start, in a process of its own, with a directory to work in.
#[test]
fn as_a_child() {
    let Some(directory) = std::env::var_os(CHILD).map(PathBuf::from) else {
        return;
    };
    let say = |line: String| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{line}")
            .and_then(|()| out.flush())
            .expect("the parent listens");
    };
    let (send, reports) = std::sync::mpsc::channel();
    let tell = Box::new(move |report: Report| {
        match &report {
            Report::Stored { id, .. } => say(format!("stored {}", id.0)),
            Report::Failed { message } => say(format!("failed {message}")),
            Report::Works => say("works".to_owned()),
        }
        send.send(report).expect("the child waits");
    });
    let (store, recovered) = match Store::open(&settings(&directory), tell) {
        Ok(opened) => opened,
        Err(error) => return println!("\nrefused {error}"),
    };
    let mut id = recovered
        .rollouts
        .get(&rollout())
        .map_or(0, |found| found.snapshot.last_event.0);
    // Never more than 40 events ahead of the disk, and for ever: the parent ends it.
    loop {
        for _ in 0..40 {
            id += 1;
            store.write(one(id));
        }
        loop {
            match reports.recv().expect("the store lives") {
                Report::Stored { id: stored, .. } if stored.0 + 20 > id => break,
                Report::Stored { .. } | Report::Works => {}
                Report::Failed { .. } => return,
            }
        }
    }
}

fn child(program: &Path, directory: &Path) -> Command {
    let mut command = Command::new(program);
    with_arguments(&mut command, directory);
    command
}

fn with_arguments(command: &mut Command, directory: &Path) {
    command
        .args([
            "--exact",
            "child::as_a_child",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
}

fn this_binary() -> PathBuf {
    std::env::current_exe().expect("the test binary")
}

#[test]
fn what_was_reported_stored_survives_kill_9_once_and_in_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut reported = 0;
    for round in 1..=8_u64 {
        let mut process = child(&this_binary(), directory.path())
            .spawn()
            .expect("a child");
        let lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        let stored = lines
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("stored ")?.parse().ok());
        let enough = reported + 30 * round;
        reported = stored
            .into_iter()
            .find(|id: &u64| *id >= enough)
            .expect("the child writes");
        process.kill().expect("SIGKILL");
        process.wait().expect("it is dead");

        let opened = open(directory.path());
        let ids = opened.ids();
        assert!(
            ids.len() as u64 >= reported,
            "round {round}: {} of {reported}",
            ids.len()
        );
        assert_eq!(
            ids,
            (1..=ids.len() as u64).collect::<Vec<_>>(),
            "round {round}"
        );
        let state = &opened.recovered.rollouts[&rollout()].snapshot;
        assert_eq!(
            state.last_event.0,
            ids.len() as u64,
            "the state belongs to the last event"
        );
        reported = ids.len() as u64;
    }
}

#[test]
fn a_file_that_the_system_lets_grow_no_more_is_named_and_keeps_what_was_stored() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"trap "" XFSZ; ulimit -f 400; exec "$0" "$@""#])
        .arg(this_binary());
    with_arguments(&mut command, directory.path());
    let output = command.output().expect("a child");
    let text = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("failed "))
        .collect();
    let path = settings(directory.path()).path;
    assert_eq!(failed.len(), 1, "{text}");
    assert!(
        failed[0].starts_with(&format!("cannot write {}: disk ", path.display())),
        "{}",
        failed[0]
    );
    let stored = text
        .lines()
        .filter_map(|line| line.strip_prefix("stored ")?.parse().ok())
        .max();
    let stored: u64 = stored.expect("something was stored before");

    let ids = open(directory.path()).ids();
    assert!(ids.len() as u64 >= stored, "{} of {stored}", ids.len());
    assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>());
}

/// Runs the child as somebody who may not write where this process may: root may write everywhere.
fn as_somebody_else(directory: &Path) -> String {
    let program = directory.join("child");
    std::fs::copy(this_binary(), &program).expect("a copy that anybody may run");
    let mut command = child(&program, directory);
    if rustix::process::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    let output = command.output().expect("a child");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn allow(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("the mode is set");
}

#[test]
fn a_read_only_directory_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state");
    std::fs::create_dir(&state).expect("a directory");
    allow(directory.path(), 0o755);
    allow(&state, 0o555);
    let text = as_somebody_else(directory.path());
    allow(&state, 0o755);
    let path = settings(directory.path()).path;
    assert!(
        text.contains(&format!("refused cannot open {}: ", path.display())),
        "{text}"
    );
}

#[test]
fn a_read_only_journal_is_named_and_stays_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path());
    opened.store.write(one(1));
    opened.wait_stored(1);
    opened.store.close(crate::make::PATIENCE);
    drop(opened);
    let (state, path) = (
        directory.path().join("state"),
        settings(directory.path()).path,
    );
    let before = std::fs::read(&path).expect("the journal");
    allow(directory.path(), 0o755);
    allow(&path, 0o444);
    allow(&state, 0o555);
    let text = as_somebody_else(directory.path());
    allow(&state, 0o755);
    allow(&path, 0o644);
    assert!(
        text.contains("refused ") && text.contains("serin.db"),
        "{text}"
    );
    assert!(
        std::fs::read(&path).expect("the journal") == before,
        "the file was changed"
    );
    assert_eq!(
        open_settings(&settings(directory.path()))
            .expect("it opens again")
            .ids(),
        [1]
    );
}
