//! The evidence of a rollback in one file: what was counted ten minutes to each side of it, what its hooks
//! said, what the access log told, and whether baseline was well again.
//!
//! `<deployment_logs>/canary-<start>-evidence.json.gz`, beside the run's deployment log and kept as long. Written at once,
//! and again when the ten minutes after it are over, by a thread of its own from a connection of its own: neither a
//! rollback nor the journal waits for it. One that cannot be written is a warning, and is tried again every minute.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use rusqlite::{Connection, params};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Settings;
use super::journal::{run_log, run_texts, unsql};
use super::samples::{Sample, of_level};
use super::schema::open_reader;
use crate::records::Moment;
use crate::records::event::{Detail, EventRecord};
use crate::records::recovery::RecoveryRecord;
use crate::rollout::name::{Arm, RolloutName};
use crate::rollout::time::{Timestamp, WallTime, millis};

/// Kept to each side of the rollback.
const SIDE: Duration = Duration::from_secs(600);
/// Samples read at once.
const CHUNK_MS: u64 = 60_000;
/// Between two attempts.
const RETRY: Duration = Duration::from_secs(60);

/// What the access log told last of a rollout, oldest first: when each request came, and its line as JSON.
#[derive(Clone)]
pub struct AccessLines(Arc<LinesOf>);

type LinesOf = dyn Fn(&str) -> Vec<(WallTime, String)> + Send + Sync;

/// Knows which rollbacks are to be archived, and hands them to its thread. Ends the thread when it ends.
#[derive(Debug)]
pub(super) struct Archive {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Runs whose rollback is not ten minutes ago, with its moment in gate time.
    open: BTreeMap<(String, u64), Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Job {
    rollout: String,
    run: u64,
}

struct Archivist {
    path: PathBuf,
    directory: PathBuf,
    access_lines: AccessLines,
    behind: BTreeMap<Job, String>,
}

/// Of an archive that was written before: what nobody knows any more but it.
#[derive(Debug, Default, Deserialize)]
struct Kept {
    #[serde(default)]
    access_log: Vec<Box<RawValue>>,
}

/// `canary-<start>-evidence.json.gz` for the log `canary-<start>.json`.
pub(super) fn name_for(log: &str) -> String {
    format!("{}-evidence.json.gz", log.trim_end_matches(".json"))
}

// === impl AccessLines ===

impl AccessLines {
    /// Asked by a thread of its own, at each writing of an archive.
    pub fn new(of: impl Fn(&str) -> Vec<(WallTime, String)> + Send + Sync + 'static) -> Self {
        Self(Arc::new(of))
    }
}

impl Default for AccessLines {
    fn default() -> Self {
        Self::new(|_| Vec::new())
    }
}

impl fmt::Debug for AccessLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessLines")
    }
}

// === impl Archive ===

impl Archive {
    /// With a thread of its own that reads the journal. Where none can be had, nothing is archived.
    pub(super) fn new(settings: &Settings) -> Self {
        let (jobs, inbox) = channel();
        let archivist = Archivist {
            path: settings.path.clone(),
            directory: settings.deployment_logs.clone(),
            access_lines: settings.access_lines.clone(),
            behind: BTreeMap::new(),
        };
        let thread = thread::Builder::new()
            .name("archive".to_owned())
            .spawn(move || archivist.run(&inbox));
        if let Err(error) = &thread {
            tracing::warn!(%error, "the evidence of rollbacks cannot be archived");
        }
        Self {
            jobs: Some(jobs),
            thread: thread.ok(),
            open: BTreeMap::new(),
        }
    }

    /// What an earlier process left: the latest run of every rollout, if it was rolled back and its archive is missing or
    /// not whole yet.
    pub(super) fn mark_latest(
        &mut self,
        connection: &Connection,
        directory: &Path,
    ) -> rusqlite::Result<()> {
        for (rollout, run, saved) in latest_runs(connection)? {
            let Some((log, _)) = run_log(connection, &rollout, run)? else {
                continue;
            };
            let events = records(run_texts(connection, &rollout, run)?);
            let Some(back) = rollback(&events) else {
                continue;
            };
            let at = Timestamp::from_millis(back.clock_ms);
            let missing = !directory.join(name_for(&log)).exists();
            if missing {
                self.send(&rollout, run);
            }
            if saved < at.after(SIDE) {
                self.open.insert((rollout, run), at);
            }
        }
        Ok(())
    }

    /// An event was just written; a rollback is archived at once, and again with what its hooks and baseline did.
    pub(super) fn take(&mut self, rollout: &RolloutName, event: &EventRecord) {
        let key = (rollout.to_string(), event.run);
        let is_rollback = matches!(event.detail, Detail::RolledBack(_));
        let follows = matches!(
            event.detail,
            Detail::HookEnded { .. } | Detail::Recovered(_) | Detail::NotRecovered(_)
        );
        if is_rollback && event.weight_ppm == 0 && event.run > 0 {
            self.open
                .insert(key, Timestamp::from_millis(event.clock_ms));
            self.send(rollout.as_str(), event.run);
        } else if follows && self.open.contains_key(&key) {
            self.send(rollout.as_str(), event.run);
        }
    }

    /// A rollout's state and samples were written up to a moment of gate time: what is whole by now is written again.
    pub(super) fn pass(&mut self, rollout: &RolloutName, now: Timestamp) {
        let is_due = |(of, _): &(String, u64), at: &Timestamp| {
            of == rollout.as_str() && now >= at.after(SIDE)
        };
        let due: Vec<(String, u64)> = self
            .open
            .iter()
            .filter(|&(key, at)| is_due(key, at))
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            self.send(&key.0, key.1);
            self.open.remove(&key);
        }
    }

    fn send(&self, rollout: &str, run: u64) {
        let job = Job {
            rollout: rollout.to_owned(),
            run,
        };
        // A thread that could not be started was told of.
        if let Some(jobs) = &self.jobs
            && jobs.send(job).is_err()
        {
            tracing::debug!(rollout, run, "nobody archives evidence any more");
        }
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the thread that archives evidence has ended by a fault of its own");
        }
    }
}

// === impl Archivist ===

impl Archivist {
    fn run(mut self, inbox: &Receiver<Job>) {
        loop {
            let next = match self.behind.is_empty() {
                true => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => inbox.recv_timeout(RETRY),
            };
            match next {
                Ok(job) => self.write(job),
                Err(RecvTimeoutError::Timeout) => {
                    for job in self.behind.keys().cloned().collect::<Vec<_>>() {
                        self.write(job);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn write(&mut self, job: Job) {
        match self.write_one(&job) {
            Ok(()) => {
                self.behind.remove(&job);
            }
            Err(why) => {
                // A lasting fault is told once.
                if self.behind.get(&job) != Some(&why) {
                    let Job { rollout, run } = &job;
                    tracing::warn!(
                        rollout,
                        run,
                        why,
                        "the evidence of a rollback cannot be archived"
                    );
                }
                self.behind.insert(job, why);
            }
        }
    }

    fn write_one(&self, job: &Job) -> Result<(), String> {
        let text = |error: rusqlite::Error| error.to_string();
        let connection = open_reader(&self.path).map_err(text)?;
        // One consistent state of the journal.
        let connection = connection.unchecked_transaction().map_err(text)?;
        let Some((log, _)) = run_log(&connection, &job.rollout, job.run).map_err(text)? else {
            return Ok(());
        };
        let events = records(run_texts(&connection, &job.rollout, job.run).map_err(text)?);
        let Some(back) = rollback(&events) else {
            return Ok(());
        };
        let file = self.directory.join(name_for(&log));
        let lines = self.lines(&file, &job.rollout, back);
        let unfinished = file.with_extension("gz.tmp");
        let fault = |error: io::Error| format!("{}: {error}", file.display());
        std::fs::create_dir_all(&self.directory).map_err(fault)?;
        let mut out = GzEncoder::new(
            BufWriter::new(File::create(&unfinished).map_err(fault)?),
            Compression::default(),
        );
        document(&connection, job, back, &events, &lines, &mut out)?;
        let mut file_out = out.finish().map_err(fault)?;
        file_out.flush().map_err(fault)?;
        std::fs::rename(&unfinished, &file).map_err(fault)
    }

    // Lines that were archived before, and those told since: the log itself forgets.
    fn lines(&self, archived: &Path, rollout: &str, back: &EventRecord) -> Vec<Box<RawValue>> {
        let mut lines = kept(archived).access_log;
        let side = i64::try_from(millis(SIDE)).unwrap_or(i64::MAX);
        let told = (self.access_lines.0)(rollout).into_iter();
        let is_near = |at: &WallTime| {
            let apart = at.as_unix_millis().saturating_sub(back.at.unix_millis());
            apart.saturating_abs() <= side
        };
        let near = told.filter(|(at, _)| is_near(at)).map(|(_, line)| line);
        let known: BTreeSet<String> = lines.iter().map(|line| line.get().to_owned()).collect();
        let new = near.filter(|line| !known.contains(line));
        lines.extend(new.filter_map(|line| RawValue::from_string(line).ok()));
        lines
    }
}

// Nothing where there is none that can be read.
fn kept(archived: &Path) -> Kept {
    let file = File::open(archived).map(BufReader::new).map(GzDecoder::new);
    let read = file.ok().map(BufReader::new);
    read.and_then(|read| serde_json::from_reader(read).ok())
        .unwrap_or_default()
}

/// One line for each field, one for each slot, so that it can be read by eye and by `zgrep`.
fn document(
    connection: &Connection,
    job: &Job,
    back: &EventRecord,
    events: &[EventRecord],
    access_log: &[Box<RawValue>],
    out: &mut impl Write,
) -> Result<(), String> {
    let fault = |error: io::Error| error.to_string();
    let side = millis(SIDE);
    let (from, to) = (
        back.clock_ms.saturating_sub(side),
        back.clock_ms.saturating_add(side),
    );
    out.write_all(b"{\n").map_err(fault)?;
    for (name, value) in [
        ("rollout", json!(job.rollout)),
        ("run", json!(job.run)),
        ("at", json!(back.at)),
        ("from_clock_ms", json!(from)),
        ("to_clock_ms", json!(to)),
        ("rollback", json!(back)),
        ("hooks", json!(hooks(events))),
        ("recovery", json!(recovery(events))),
    ] {
        writeln!(out, "  {}: {value},", json!(name)).map_err(fault)?;
    }
    out.write_all(b"  \"access_log\": [").map_err(fault)?;
    let mut separator = "\n    ";
    for line in access_log {
        write!(out, "{separator}{line}").map_err(fault)?;
        separator = ",\n    ";
    }
    out.write_all(b"\n  ],\n  \"slots\": [").map_err(fault)?;
    let mut separator = "\n    ";
    for start in (from..to).step_by(CHUNK_MS as usize) {
        let end = start.saturating_add(CHUNK_MS).min(to);
        for row in rows(connection, &job.rollout, start, end)? {
            write!(out, "{separator}{}", slot(&row, back)).map_err(fault)?;
            separator = ",\n    ";
        }
    }
    out.write_all(b"\n  ]\n}\n").map_err(fault)
}

// In order of time: what is older is coarser, so each level follows the one before.
fn rows(
    connection: &Connection,
    rollout: &str,
    from_ms: u64,
    to_ms: u64,
) -> Result<Vec<Sample>, String> {
    let mut rows = Vec::new();
    for level in [2, 1, 0] {
        let found = of_level(connection, rollout, level, from_ms, to_ms);
        rows.extend(found.map_err(|error| error.to_string())?);
    }
    Ok(rows)
}

fn slot(row: &Sample, back: &EventRecord) -> Value {
    let cell = &row.cell;
    let percentile = |one_above_in| {
        let us = cell.latency.percentile_us(one_above_in);
        us.map(|us| us as f64 / 1000.0)
    };
    let arm = match row.key.cell.arm {
        Arm::Baseline => "baseline",
        Arm::Canary => "canary",
    };
    json!({
        "at": at(row.key.start_ms, back),
        "clock_ms": row.key.start_ms,
        "width_ms": row.width_ms,
        "run": row.key.run,
        "epoch": row.key.cell.epoch,
        "arm": arm,
        "segment": row.key.cell.segment.as_deref(),
        "counted": cell.counted,
        "errors": cell.errors,
        "failed": cell.failed,
        "client_errors": cell.client_errors,
        "abandoned": cell.abandoned,
        "failing_learners": cell.failing.len(),
        "p50_ms": percentile(2),
        "p95_ms": percentile(20),
        "p99_ms": percentile(100),
        "p999_ms": percentile(1000),
    })
}

// The wall clock at a moment of gate time, by the rollback's two.
fn at(clock_ms: u64, back: &EventRecord) -> Moment {
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    let since = signed(clock_ms).saturating_sub(signed(back.clock_ms));
    let wall = back.at.unix_millis().saturating_add(since);
    Moment(WallTime::from_unix_millis(wall))
}

/// Every hook of the run that ended, with its output.
fn hooks(events: &[EventRecord]) -> Vec<&EventRecord> {
    let ended = |event: &&EventRecord| matches!(event.detail, Detail::HookEnded { .. });
    events.iter().filter(ended).collect()
}

/// What was seen of baseline afterwards; `null` while it is watched.
fn recovery(events: &[EventRecord]) -> Option<&RecoveryRecord> {
    events.iter().rev().find_map(EventRecord::recovery)
}

/// The last rollback to 0 of a run.
fn rollback(events: &[EventRecord]) -> Option<&EventRecord> {
    let mut backwards = events.iter().rev();
    backwards.find(|event| event.rollback().is_some() && event.weight_ppm == 0)
}

fn records(texts: Vec<String>) -> Vec<EventRecord> {
    let read = |json: &String| serde_json::from_str(json).ok();
    texts.iter().filter_map(read).collect()
}

/// The latest run of each rollout, with the gate time of its saved state.
fn latest_runs(connection: &Connection) -> rusqlite::Result<Vec<(String, u64, Timestamp)>> {
    connection
        .prepare(
            "SELECT runs.rollout, max(runs.run), state.saved_ms FROM runs
             JOIN state ON state.rollout = runs.rollout GROUP BY runs.rollout",
        )?
        .query_map(params![], |row| {
            let saved = Timestamp::from_millis(unsql(row.get(2)?));
            Ok((row.get(0)?, unsql(row.get(1)?), saved))
        })?
        .collect()
}
