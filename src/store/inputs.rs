//! Recorded inputs beside the deployment logs: `canary-<start>.inputs.gz`, for `serin replay`.
//!
//! Lines are gathered and appended as whole gzip members, so that a file that was cut short by a crash is good up to its
//! last member. A copy, like the logs: what cannot be written is a warning, and nothing waits for it.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use rusqlite::Connection;

use super::journal::run_log;
use crate::records::inputs::{Recorded, beside};
use crate::rollout::name::RolloutName;

/// So much text makes a member: beyond it gzip gains little.
const MEMBER: usize = 256 * 1024;
/// What is kept of lines that cannot be written; a replay says that some are lost.
const MOST: usize = 8 * 1024 * 1024;

/// What a run's file may grow to: 5 hours at 1,000 learners a second. What comes later is not kept, and a replay says that the
/// inputs end there.
const MOST_OF_A_RUN: u64 = 256 * 1024 * 1024;

/// What waits to be compressed, per run.
#[derive(Debug)]
pub(super) struct Inputs {
    directory: PathBuf,
    waiting: BTreeMap<(String, u64), String>,
    /// The last warning, so that a lasting fault is told once.
    warned: Option<String>,
}

impl Inputs {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            waiting: BTreeMap::new(),
            warned: None,
        }
    }

    pub(super) fn add(&mut self, rollout: &RolloutName, recorded: &[Recorded]) {
        for lines in recorded {
            let waiting = self
                .waiting
                .entry((rollout.to_string(), lines.run))
                .or_default();
            if waiting.len() + lines.text.len() <= MOST {
                waiting.push_str(&lines.text);
            }
        }
    }

    /// Appends what makes a member.
    pub(super) fn write_full(&mut self, connection: &Connection) {
        self.write_from(connection, MEMBER);
    }

    /// Appends everything: events were written that the lines led to, or it is time.
    pub(super) fn write(&mut self, connection: &Connection) {
        self.write_from(connection, 1);
    }

    fn write_from(&mut self, connection: &Connection, least: usize) {
        let mut fault = None;
        for ((rollout, run), text) in &mut self.waiting {
            if text.len() < least {
                continue;
            }
            match append(connection, &self.directory, rollout, *run, text) {
                Ok(()) => text.clear(),
                Err(why) => fault = Some(why),
            }
        }
        self.waiting.retain(|_, text| !text.is_empty());
        if let Some(why) = fault
            .as_ref()
            .filter(|why| self.warned.as_ref() != Some(why))
        {
            tracing::warn!(directory = %self.directory.display(), why, "recorded inputs cannot be written");
        }
        self.warned = fault;
    }
}

fn append(
    connection: &Connection,
    directory: &Path,
    rollout: &str,
    run: u64,
    text: &str,
) -> Result<(), String> {
    let found = run_log(connection, rollout, run).map_err(|error| error.to_string())?;
    // A run that has left the journal keeps no file.
    let Some((log, _)) = found else {
        return Ok(());
    };
    let path = directory.join(beside(&log));
    append_member(&path, text).map_err(|error| format!("{}: {error}", path.display()))
}

// In one write, so that a member is there or is not.
fn append_member(path: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let already = std::fs::metadata(path).map_or(0, |file| file.len());
    if already >= MOST_OF_A_RUN {
        return Ok(());
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes())?;
    let member = encoder.finish()?;
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(&member)
}
