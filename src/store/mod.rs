//! What survives the process: the journal of events, the gates' states, the samples.
//!
//! SQLite behind one thread of its own; writing never makes anybody wait. Never decides anything.
//!
//! A batch goes into the `mailbox`, which joins what waits; the `writer` puts everything that waits into one transaction.
//! A transaction with events is synced to the disk before it is reported (`synchronous = FULL`); one with only
//! states and samples is not (`NORMAL`): it survives the end of the process, and a loss of power costs at most the
//! seconds since the last event or checkpoint. Readers have connections of their own and never wait for the writer.

mod archive;
mod disk;
mod fault;
mod fold;
mod inputs;
mod journal;
pub mod lock;
mod logs;
mod mailbox;
mod outbox;
mod readers;
mod recover;
mod reports;
mod samples;
mod schema;
mod vitals;
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock;
use crate::records::event::EventRecord;
use crate::records::inputs::Recorded;
use crate::records::plan::PlanRecord;
use crate::rollout::gate::{EventId, Snapshot};
use crate::rollout::name::RolloutName;
use crate::rollout::slot::Slot;
use crate::rollout::time::{Timestamp, WallTime};

pub use archive::AccessLines;
pub use disk::{Disk, RealDisk};
pub use outbox::{Due, Notice, Notified, Post, PostKind, Settled, Waiting};
pub use reports::Document;
pub use vitals::Vitals;

use mailbox::Mailbox;
use outbox::Change;
use readers::Readers;
use writer::Writer;

/// The write side and the queries. Cheap to clone. The thread ends with the last clone.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    mailbox: Arc<Mailbox>,
    readers: Readers,
    vitals: Arc<Vitals>,
    /// Moves with each transaction that changed the outbox.
    outbox: watch::Receiver<u64>,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub path: PathBuf,
    pub deployment_logs: PathBuf,
    pub retention: Duration,
    /// For the archive of a rollback.
    pub access_lines: AccessLines,
}

/// What a gate wants kept after one input: written in one transaction, in order.
#[derive(Clone, Debug)]
pub struct Batch {
    pub rollout: RolloutName,
    /// Made durable (fsync) before `Report::Stored` is given.
    pub events: Vec<EventRecord>,
    /// The state after those events; replaces the last one. Not fsynced by itself.
    pub state: Box<Snapshot>,
    /// Closed one-second slots since the last batch, with the number of the run.
    pub slots: Vec<Slot>,
    pub run: u64,
    /// Who is to be told of which of the events.
    pub notices: Vec<Notice>,
    /// What the gate was given since the last batch, for replays; empty where that is not kept.
    pub inputs: Vec<Recorded>,
    /// Of a copy of another process's history: an event under a number that is there already takes its place, because that
    /// one was never agreed on.
    pub replaces: bool,
}

/// What the store tells back, on its own thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Every event of the rollout up to this one is on the disk.
    Stored { rollout: RolloutName, id: EventId },
    /// A write failed; it is kept and tried again every second. Told once for each message.
    Failed { message: String },
    /// Writing works again.
    Works,
}

/// What an earlier process left.
#[derive(Debug, Default)]
pub struct Recovered {
    pub rollouts: BTreeMap<RolloutName, RecoveredRollout>,
}

#[derive(Debug)]
pub struct RecoveredRollout {
    pub snapshot: Snapshot,
    /// Slots of the last 30 minutes before the end, oldest first.
    pub recent: Vec<Slot>,
}

/// One run as the journal knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSummary {
    pub run: u64,
    /// Wall time of its first event.
    pub started: crate::records::Moment,
    /// The plan that it was started with.
    pub plan: Option<PlanRecord>,
    /// Its deployment log.
    pub log: PathBuf,
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open {path}: {why}")]
    Open { path: PathBuf, why: String },
    #[error("{path} was made by a newer serin (schema {found}, this one knows {known})")]
    Newer {
        path: PathBuf,
        found: i64,
        known: i64,
    },
    #[error("{path} is damaged: {why}")]
    Damaged { path: PathBuf, why: String },
    #[error("cannot read the journal: {0}")]
    Read(String),
    #[error("cannot write {path}: {why}")]
    Write { path: PathBuf, why: String },
}

impl Store {
    /// Opens or creates the store, migrates it forward, and reads what is there. `report` is called on the store's
    /// thread and must not block.
    pub fn open(
        settings: &Settings,
        report: Box<dyn Fn(Report) + Send>,
    ) -> Result<(Self, Recovered), StoreError> {
        Self::open_on(Box::new(RealDisk), settings, report)
    }

    /// The same on a disk that may be slow or refuse.
    pub fn open_on(
        disk: Box<dyn Disk>,
        settings: &Settings,
        report: Box<dyn Fn(Report) + Send>,
    ) -> Result<(Self, Recovered), StoreError> {
        let connection = schema::open(&settings.path)?;
        let recovered = recover::read(&connection, &settings.path)?;
        let mailbox = Arc::new(Mailbox::default());
        let writer = Writer::new(connection, disk, settings, report, Arc::clone(&mailbox));
        let (outbox, vitals) = (writer.outbox(), writer.vitals());
        writer.start().map_err(|error| StoreError::Open {
            path: settings.path.clone(),
            why: error.to_string(),
        })?;
        let readers = Readers::new(&settings.path, &settings.deployment_logs);
        Ok((
            Self {
                shared: Arc::new(Shared {
                    mailbox,
                    readers,
                    vitals,
                    outbox,
                }),
            },
            recovered,
        ))
    }

    /// How the writer fares.
    pub fn vitals(&self) -> &Vitals {
        &self.shared.vitals
    }

    /// How many events wait to be written.
    pub fn waiting_events(&self) -> usize {
        self.shared.mailbox.waiting_events()
    }

    /// Hands a batch over. Never blocks on the disk; what waits is merged: every event, the last state, every slot
    /// of the last 10 minutes.
    pub fn write(&self, batch: Batch) {
        self.shared.mailbox.put(batch);
    }

    /// Hands over a notice that is no event. Never blocks on the disk.
    pub fn post(&self, post: Post) {
        self.shared.mailbox.change(Change::Post(post));
    }

    /// Says what became of an attempt to deliver a notice. Never blocks on the disk.
    pub fn settle(&self, seq: i64, at: WallTime, settled: Settled) {
        self.shared
            .mailbox
            .change(Change::Settle { seq, at, settled });
    }

    /// Another process settled the notices up to these events.
    pub fn settled_elsewhere(&self, rollout: &RolloutName, notified: Notified) {
        let (rollout, at) = (rollout.clone(), clock::wall());
        self.shared.mailbox.change(Change::SettledElsewhere {
            rollout,
            notified,
            at,
        });
    }

    /// Up to which event of a rollout each of these channels was told, or needs not be. Blocks: not for the driver.
    pub fn notified(
        &self,
        rollout: &RolloutName,
        channels: &[String],
    ) -> Result<Notified, StoreError> {
        self.shared
            .readers
            .read(|connection| outbox::notified(connection, rollout, channels))
    }

    /// What a channel has to deliver at `now`, at most `limit` notices of it. Blocks: not for the driver.
    pub fn due(&self, channel: &str, now: WallTime, limit: usize) -> Result<Due, StoreError> {
        self.shared
            .readers
            .read(|connection| outbox::due(connection, channel, now, limit))
    }

    /// Moves whenever the outbox was changed.
    pub fn outbox_changes(&self) -> watch::Receiver<u64> {
        self.shared.outbox.clone()
    }

    /// Events of a rollout after `after`, oldest first, at most `limit`. Blocks: not for the driver.
    pub fn history(
        &self,
        rollout: &RolloutName,
        after: EventId,
        limit: usize,
    ) -> Result<Vec<EventRecord>, StoreError> {
        self.shared
            .readers
            .read(|connection| journal::history(connection, rollout, after, limit))
    }

    /// All events of one run, oldest first. Blocks: not for the driver.
    pub fn run_history(
        &self,
        rollout: &RolloutName,
        run: u64,
    ) -> Result<Vec<EventRecord>, StoreError> {
        self.shared
            .readers
            .read(|connection| journal::run_history(connection, rollout, run))
    }

    /// All events of the latest run, oldest first; those before any run where there was none. Blocks: not for the driver.
    pub fn last_run_history(&self, rollout: &RolloutName) -> Result<Vec<EventRecord>, StoreError> {
        self.shared
            .readers
            .read(|connection| match journal::last_run(connection, rollout)? {
                Some(run) => journal::run_history(connection, rollout, run),
                None => Ok(Vec::new()),
            })
    }

    /// The runs of a rollout that are still kept, oldest first. Blocks: not for the driver.
    pub fn runs(&self, rollout: &RolloutName) -> Result<Vec<RunSummary>, StoreError> {
        let readers = &self.shared.readers;
        readers.read(|connection| journal::runs(connection, rollout, readers.deployment_logs()))
    }

    /// What was counted between two moments of gate time, `from` included, in slots of `step` (of what is kept where that
    /// is coarser: 10 s after an hour, 60 s after a day), oldest first. Blocks: not for the driver.
    pub fn samples(
        &self,
        rollout: &RolloutName,
        from: Timestamp,
        to: Timestamp,
        step: Duration,
    ) -> Result<Vec<Slot>, StoreError> {
        self.shared
            .readers
            .read(|connection| samples::between(connection, rollout, from, to, step))
    }

    /// Keeps the reports of a run beside its deployment log, or those of one of its stages, instead of what is there. A run
    /// that is gone has none. Blocks: not for the driver.
    pub fn keep_report(
        &self,
        rollout: &RolloutName,
        run: u64,
        stage: Option<&str>,
        documents: &[Document],
    ) -> Result<(), StoreError> {
        let readers = &self.shared.readers;
        let log = readers.read(|connection| {
            journal::run_log(connection, rollout.as_str(), run).map_err(journal::read_fault)
        })?;
        let Some((log, _)) = log else {
            return Ok(());
        };
        reports::keep(readers.deployment_logs(), &log, stage, documents).map_err(|(path, error)| {
            StoreError::Write {
                path,
                why: error.to_string(),
            }
        })
    }

    /// Writes what is pending, for at most `patience`, and stops the thread. Events that could not be
    /// written are logged.
    pub fn close(&self, patience: Duration) {
        for (rollout, record) in self.shared.mailbox.close(patience) {
            let json = serde_json::to_string(&record).unwrap_or_else(|_| record.kind().to_owned());
            tracing::error!(%rollout, event = %json, "an event could not be written before the end");
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.mailbox.begin_close();
    }
}
