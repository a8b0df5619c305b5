//! Deployment logs: one JSON document for each run, for people and scripts that do not ask the admin port.
//!
//! `<deployment_logs>/canary-<start>.json`, rewritten whole (a new file, then a rename) whenever events of the run were
//! written. The journal is the truth, the log a copy: a log that cannot be written is a warning and is tried again.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::json;

use super::journal::{run_log, run_texts};
use super::{archive, reports};
use crate::records::event::EventRecord;
use crate::records::inputs::beside;
use crate::records::plan::PlanRecord;
use crate::rollout::name::RolloutName;

/// The directory of logs, and which of them lag behind the journal.
#[derive(Debug)]
pub(super) struct Logs {
    directory: PathBuf,
    behind: BTreeSet<(String, u64)>,
    /// The last warning, so that a lasting fault is told once.
    warned: Option<String>,
}

impl Logs {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            behind: BTreeSet::new(),
            warned: None,
        }
    }

    /// Marks the latest run of every rollout: the process may have ended between journal and log.
    pub(super) fn mark_latest(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let mut statement =
            connection.prepare("SELECT rollout, max(run) FROM runs GROUP BY rollout")?;
        let latest = statement.query_map([], |row| {
            Ok((row.get(0)?, super::journal::unsql(row.get(1)?)))
        })?;
        for run in latest {
            self.behind.insert(run?);
        }
        Ok(())
    }

    /// Marks a run whose events were just written. What happens before the first run has no log.
    pub(super) fn mark(&mut self, rollout: &RolloutName, run: u64) {
        if run > 0 {
            self.behind.insert((rollout.to_string(), run));
        }
    }

    /// Writes what is marked; what fails stays marked.
    pub(super) fn write(&mut self, connection: &Connection) {
        let mut fault = None;
        self.behind.retain(|(rollout, run)| {
            match write_one(connection, &self.directory, rollout, *run) {
                Ok(()) => false,
                Err(why) => {
                    fault = Some(why);
                    true
                }
            }
        });
        if let Some(why) = fault
            .as_ref()
            .filter(|why| self.warned.as_ref() != Some(why))
        {
            tracing::warn!(directory = %self.directory.display(), why, "a deployment log cannot be written");
        }
        self.warned = fault;
    }

    /// Removes the log of a run that has left the journal, its inputs, and the evidence and reports beside it.
    pub(super) fn remove(&self, name: &str) {
        self.remove_file(name);
        self.remove_file(&beside(name));
        self.remove_file(&archive::name_for(name));
        match reports::of_log(&self.directory, name) {
            Ok(reports) => reports.iter().for_each(|report| self.remove_file(report)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(directory = %self.directory.display(), %error, "old reports cannot be removed");
            }
        }
    }

    fn remove_file(&self, name: &str) {
        let path = self.directory.join(name);
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "an old deployment log cannot be removed")
            }
        }
    }
}

fn write_one(
    connection: &Connection,
    directory: &Path,
    rollout: &str,
    run: u64,
) -> Result<(), String> {
    let text = |error: rusqlite::Error| error.to_string();
    let Some((name, plan)) = run_log(connection, rollout, run).map_err(text)? else {
        return Ok(());
    };
    let events = run_texts(connection, rollout, run).map_err(text)?;
    let path = directory.join(name);
    replace(&path, &document(rollout, run, plan.as_deref(), &events))
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let unfinished = path.with_extension("json.tmp");
    std::fs::write(&unfinished, text)?;
    std::fs::rename(&unfinished, path)
}

/// The document: one line for each field, one for each event, so that it can be read by eye and by `grep`.
fn document(rollout: &str, run: u64, plan: Option<&str>, events: &[String]) -> String {
    let records: Vec<EventRecord> = events
        .iter()
        .filter_map(|json| serde_json::from_str(json).ok())
        .collect();
    let hash = plan
        .and_then(|json| serde_json::from_str(json).ok())
        .map(|plan: PlanRecord| plan.hash());
    let started = records.first().map(|event| event.at);
    let mut out = String::from("{\n");
    for (name, value) in [
        ("rollout", json!(rollout)),
        ("run", json!(run)),
        ("started", json!(started)),
        ("ended", json!(ended(&records).map(|event| event.at))),
        ("plan_hash", json!(hash)),
    ] {
        // Writing to a text in memory cannot fail.
        writeln!(out, "  {}: {value},", json!(name)).expect("a text grows");
    }
    writeln!(out, "  \"plan\": {},", plan.unwrap_or("null")).expect("a text grows");
    writeln!(
        out,
        "  \"events\": [\n    {}\n  ]\n}}",
        events.join(",\n    ")
    )
    .expect("a text grows");
    out
}

/// The event that ended the run: the first of those at the end whose phase is an end.
fn ended(events: &[EventRecord]) -> Option<&EventRecord> {
    events
        .iter()
        .rev()
        .take_while(|event| event.phase.is_ended())
        .last()
}
