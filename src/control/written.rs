//! The reports that are left beside the deployment logs: after each stage, at the end of a run, and when what followed a
//! rollback is known.
//!
//! A thread of its own looks at what the driver shows, as every reader does: no gate waits for a report, and none decides
//! by one. What cannot be written is a warning, and is tried again every minute. A process that ended in between leaves
//! it to the next one, which writes the report of each latest run once at its start.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::events::HistoryError;
use super::handle::Handle;
use super::view::RolloutView;
use crate::records::event::EventRecord;
use crate::report::{self, Closed, ReportInput};
use crate::rollout::name::RolloutName;
use crate::shutdown::{Shutdown, Stage, Watched};
use crate::store::{Document, Store, StoreError};

/// How often it is looked.
const ROUND: Duration = Duration::from_millis(500);
/// Until the second in which something ended is counted and on disk.
const SETTLED_MS: u64 = 2_000;
/// Rounds between two attempts to write what could not be written.
const RETRY: u32 = 120;
/// Events looked at once.
const PAGE: usize = 1_000;

/// Why a report is not there.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the writing thread ended: {0}")]
    Thread(String),
}

/// One rollout, as far as it was looked at.
#[derive(Debug, Default)]
struct Seen {
    /// `None` before the first look.
    event: Option<u64>,
    /// Stages whose reports are due; empty where only the run's is.
    due: Option<Vec<String>>,
    /// From when on they may be written, in gate time.
    ripe_ms: u64,
    /// Until it is tried again, and what was told of it.
    pause: u32,
    warned: Option<String>,
}

/// Writes reports until shutdown reaches `Stopped`, and what is due then.
pub(super) fn start(handle: Handle, store: Store, shutdown: Shutdown) -> io::Result<Watched> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    Watched::spawn("report", move || {
        runtime.block_on(run(handle, store, shutdown));
    })
}

async fn run(handle: Handle, store: Store, mut shutdown: Shutdown) {
    let mut seen: BTreeMap<RolloutName, Seen> = BTreeMap::new();
    let mut ticks = tokio::time::interval(ROUND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_last = tokio::select! {
            _ = ticks.tick() => false,
            () = shutdown.reached(Stage::Stopped) => true,
        };
        for (name, view) in handle.rollouts().iter() {
            let one = seen.entry(name.clone()).or_default();
            one.round(&handle, &store, view, is_last).await;
        }
        if is_last {
            return;
        }
    }
}

impl Seen {
    async fn round(&mut self, handle: &Handle, store: &Store, view: &Arc<RolloutView>, now: bool) {
        if let Err(why) = self.look(handle, view).await {
            self.warn(view, &why);
        }
        let is_ripe = view.status.at.mono.as_millis() >= self.ripe_ms;
        if self.due.is_none() || !(is_ripe || now) {
            return;
        }
        if self.pause > 0 && !now {
            self.pause -= 1;
            return;
        }
        match self.write(handle, store, view).await {
            Ok(()) => {
                self.due = None;
                self.warned = None;
                self.pause = 0;
            }
            Err(why) => {
                self.warn(view, &why);
                self.pause = RETRY;
            }
        }
    }

    /// Finds what ended since the last look. Before the first one a run may have ended unseen.
    async fn look(&mut self, handle: &Handle, view: &RolloutView) -> Result<(), Fault> {
        let Some(mut after) = self.event else {
            self.event = Some(view.status.last_event.0);
            let ended = view.status.run > 0;
            self.due = ended.then(Vec::new);
            return Ok(());
        };
        loop {
            let events = handle.history(view, after, PAGE).await?;
            let Some(last) = events.last() else {
                return Ok(());
            };
            after = last.id;
            events.iter().for_each(|event| self.take(event));
            self.event = Some(after);
        }
    }

    fn take(&mut self, event: &EventRecord) {
        let Some(closed) = report::closed(event) else {
            return;
        };
        let due = self.due.get_or_insert_default();
        if let Closed::Stage(stage) = closed {
            due.push(stage.to_owned());
        }
        self.ripe_ms = event.clock_ms.saturating_add(SETTLED_MS);
    }

    async fn write(
        &self,
        handle: &Handle,
        store: &Store,
        view: &Arc<RolloutView>,
    ) -> Result<(), Fault> {
        let input = handle.report(view).await?;
        if !input
            .events
            .iter()
            .any(|event| report::closed(event).is_some())
        {
            return Ok(());
        }
        let (store, stages) = (store.clone(), self.due.clone().unwrap_or_default());
        let keep = move || keep(&store, &input, &stages);
        match tokio::task::spawn_blocking(keep).await {
            Ok(kept) => Ok(kept?),
            Err(ended) => Err(Fault::Thread(ended.to_string())),
        }
    }

    // A lasting fault is told once.
    fn warn(&mut self, view: &RolloutView, why: &Fault) {
        let why = why.to_string();
        if self.warned.as_ref() != Some(&why) {
            tracing::warn!(rollout = %view.rollout, why, "a report cannot be written");
            self.warned = Some(why);
        }
    }
}

fn keep(store: &Store, input: &ReportInput, stages: &[String]) -> Result<(), StoreError> {
    let documents = [
        Document {
            extension: "md",
            text: report::markdown(input),
        },
        Document {
            extension: "json",
            text: report::json(input),
        },
        Document {
            extension: "html",
            text: report::html(input),
        },
    ];
    let run = input.status.run;
    for stage in stages {
        store.keep_report(&input.rollout, run, Some(stage), &documents)?;
    }
    store.keep_report(&input.rollout, run, None, &documents)
}
