//! The store's thread: takes what waits, writes it in one transaction, tells, and tidies up in between.
//!
//! A write that fails is told once, kept, and tried again every second; nothing else on this thread goes on before.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::watch;

use super::archive::Archive;
use super::disk::Disk;
use super::fault::explain;
use super::fold::{self, Step};
use super::inputs::Inputs;
use super::logs::Logs;
use super::mailbox::{Mailbox, Pending, Taken};
use super::vitals::Vitals;
use super::{Report, Settings, journal, outbox, samples};
use crate::clock;
use crate::records::state;
use crate::rollout::gate::EventId;
use crate::rollout::name::RolloutName;

/// Between two attempts to write.
const RETRY: Duration = Duration::from_secs(1);
/// Between two rounds of tidying: as often as a minute of samples grows old.
const TIDY: Duration = Duration::from_secs(60);

pub(super) struct Writer {
    connection: Connection,
    disk: Box<dyn Disk>,
    path: PathBuf,
    retention: Duration,
    report: Box<dyn Fn(Report) + Send>,
    mailbox: Arc<Mailbox>,
    logs: Logs,
    archive: Archive,
    deployment_logs: PathBuf,
    inputs: Inputs,
    durability: Durability,
    /// The message told last, while writing fails.
    fault: Option<String>,
    tidy_at: Instant,
    vitals: Arc<Vitals>,
    outbox: watch::Sender<u64>,
}

/// Whether a transaction is on the disk when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durability {
    /// `synchronous = FULL`: the log of writes is synced at each commit.
    Synced,
    /// `synchronous = NORMAL`: synced at checkpoints only. What was not synced is synced with the next that is,
    /// because both are in the same file.
    Lazy,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        disk: Box<dyn Disk>,
        settings: &Settings,
        report: Box<dyn Fn(Report) + Send>,
        mailbox: Arc<Mailbox>,
    ) -> Self {
        Self {
            connection,
            disk,
            path: settings.path.clone(),
            retention: settings.retention,
            report,
            mailbox,
            logs: Logs::new(&settings.deployment_logs),
            archive: Archive::new(settings),
            deployment_logs: settings.deployment_logs.clone(),
            inputs: Inputs::new(&settings.deployment_logs),
            durability: Durability::Lazy,
            fault: None,
            tidy_at: clock::now(),
            vitals: Arc::default(),
            outbox: watch::Sender::new(0),
        }
    }

    /// Moves with each transaction that changed the outbox.
    pub(super) fn outbox(&self) -> watch::Receiver<u64> {
        self.outbox.subscribe()
    }

    /// How this writer fares.
    pub(super) fn vitals(&self) -> Arc<Vitals> {
        Arc::clone(&self.vitals)
    }

    pub(super) fn start(self) -> std::io::Result<()> {
        let end = End(Arc::clone(&self.mailbox));
        let body = move || {
            self.run();
            // Only now is the connection closed, by a fault of the thread as well.
            drop(end);
        };
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(body)
            .map(|_| ())
    }

    fn run(mut self) {
        if let Err(error) = self.logs.mark_latest(&self.connection) {
            tracing::warn!(%error, "the runs whose deployment logs may lag cannot be read");
        }
        let latest = self
            .archive
            .mark_latest(&self.connection, &self.deployment_logs);
        if let Err(error) = latest {
            tracing::warn!(%error, "the rollbacks whose evidence may lag cannot be read");
        }
        self.logs.write(&self.connection);
        loop {
            let patience = self.tidy_at.saturating_duration_since(clock::now());
            match self.mailbox.take(patience) {
                Taken::Write(pending) => self.flush(pending),
                Taken::Idle => {}
                Taken::Close => {
                    self.inputs.write(&self.connection);
                    break;
                }
            }
            if self.fault.is_none() && clock::now() >= self.tidy_at {
                self.tidy();
            }
        }
    }

    fn flush(&mut self, pending: Arc<Pending>) {
        let began = clock::now();
        match self.write(&pending) {
            Ok(()) => {
                self.vitals
                    .wrote(clock::now().saturating_duration_since(began));
                self.vitals.measure(&self.path);
                self.mailbox.written();
                if pending.touches_outbox() {
                    self.outbox.send_modify(|moves| *moves += 1);
                }
                self.tell_success(&pending);
                if pending.has_events() {
                    self.inputs.write(&self.connection);
                } else {
                    self.inputs.write_full(&self.connection);
                }
                self.logs.write(&self.connection);
            }
            Err(error) => {
                self.vitals.failed();
                self.mailbox.put_back(pending);
                self.tell_failure(&error);
                self.mailbox.pause(RETRY);
            }
        }
    }

    fn write(&mut self, pending: &Pending) -> rusqlite::Result<()> {
        self.disk.before_write(&self.connection)?;
        self.set_durability(if pending.has_events() {
            Durability::Synced
        } else {
            Durability::Lazy
        })?;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (rollout, backlog) in &pending.rollouts {
            for event in &backlog.events {
                journal::begin_run(&transaction, rollout, event, backlog.plans.get(&event.run))?;
                if backlog.replaces {
                    journal::forget_other(&transaction, rollout, event)?;
                }
                journal::append(&transaction, rollout, event)?;
            }
            if let Some(state) = &backlog.state {
                journal::save_state(&transaction, rollout, state)?;
            }
            for (run, slot) in &backlog.slots {
                samples::append(&transaction, rollout, *run, slot)?;
            }
            for notice in &backlog.notices {
                outbox::add(&transaction, rollout, notice, clock::wall())?;
            }
        }
        for change in &pending.changes {
            outbox::apply(&transaction, change)?;
        }
        transaction.commit()
    }

    // The setting cannot change within a transaction, and costs nothing between two.
    fn set_durability(&mut self, wanted: Durability) -> rusqlite::Result<()> {
        if self.durability == wanted {
            return Ok(());
        }
        let word = match wanted {
            Durability::Synced => "FULL",
            Durability::Lazy => "NORMAL",
        };
        self.connection.pragma_update(None, "synchronous", word)?;
        self.durability = wanted;
        Ok(())
    }

    fn tell_success(&mut self, pending: &Pending) {
        if self.fault.take().is_some() {
            tracing::info!(path = %self.path.display(), "the journal can be written again");
            (self.report)(Report::Works);
        }
        let mut stored: BTreeMap<&RolloutName, EventId> = BTreeMap::new();
        for (rollout, event) in pending.events() {
            stored.insert(rollout, EventId(event.id));
            self.logs.mark(rollout, event.run);
            self.archive.take(rollout, event);
        }
        for (rollout, id) in stored {
            (self.report)(Report::Stored {
                rollout: rollout.clone(),
                id,
            });
        }
        for (rollout, backlog) in &pending.rollouts {
            if let Some(state) = &backlog.state {
                self.archive.pass(rollout, state::saved(state));
            }
            self.inputs.add(rollout, &backlog.inputs);
            if backlog.dropped > 0 {
                self.vitals.lost(backlog.dropped);
                tracing::warn!(%rollout, dropped = backlog.dropped, "seconds of samples were lost while the journal could not be written");
            }
        }
    }

    fn tell_failure(&mut self, error: &rusqlite::Error) {
        let message = format!("cannot write {}: {}", self.path.display(), explain(error));
        if self.fault.as_ref() != Some(&message) {
            tracing::error!(%error, "{message}");
            (self.report)(Report::Failed {
                message: message.clone(),
            });
            self.fault = Some(message);
        }
    }

    /// One small step; the next comes at once, but after what waits, until nothing is left to do.
    fn tidy(&mut self) {
        self.inputs.write(&self.connection);
        self.logs.write(&self.connection);
        match fold::step(&mut self.connection, clock::wall(), self.retention) {
            Ok(Step::More) => {}
            Ok(Step::RunRemoved(log)) => self.logs.remove(&log),
            Ok(Step::Nothing) => self.tidy_at = clock::now() + TIDY,
            Err(error) => {
                tracing::warn!(%error, "old samples cannot be folded");
                self.tidy_at = clock::now() + TIDY;
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if thread::panicking() {
            let message = "the store's thread has ended by a fault of its own".to_owned();
            (self.report)(Report::Failed { message });
        }
        // One file is left instead of three, where the disk lets us; if not, the next start does it.
        if let Err(error) = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        {
            tracing::debug!(%error, "the log of writes stays beside the journal");
        }
    }
}

/// Tells the mailbox that the thread has ended, in whatever way.
struct End(Arc<Mailbox>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}
