//! Sources of signals: each asked in its own time, and what they said, until the control path takes it.
//!
//! One thread, one task for each signal that is pulled: `prometheus`, `json`, `scrape`. What is pushed comes through
//! the admin port and never passes here. A slow or dead source delays nobody but itself: its failure is a word like any
//! other, and the gate makes "no data" of it. Decides nothing.

mod fetch;
mod json;
mod prometheus;
mod scrape;
mod source;
mod text;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{JoinHandle, LocalSet};

use crate::clock;
use crate::config::{Config, Signal, SignalSource};
use crate::outbound::Client;
use crate::rollout::name::{Arm, RolloutName, SignalName};
use crate::rollout::plan::Identity;
use crate::rollout::signal::{Said, SeriesKey};
use crate::shutdown::{Shutdown, Stage, Watched};

/// Words of one signal on one arm that are kept for a driver that is late: the newest.
const KEPT: usize = 16;

/// Says which sources are asked, and gives out what they said. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Signals {
    jobs: watch::Sender<Arc<[Job]>>,
    board: Arc<Board>,
}

/// What a source said.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    pub rollout: RolloutName,
    pub of: SeriesKey,
    pub interval: Duration,
    /// How long ago it was said.
    pub age: Duration,
    pub said: Said,
}

/// One signal of one rollout, with everything that asking it needs.
#[derive(Clone, Debug, PartialEq)]
struct Job {
    rollout: RolloutName,
    signal: Signal,
    identity: Identity,
    /// Of the two pools, by `Arm::index`.
    endpoints: [Vec<String>; 2],
}

/// What was said since it was last taken.
#[derive(Debug, Default)]
struct Board(Mutex<BTreeMap<(RolloutName, SignalName, Arm), VecDeque<Spoken>>>);

#[derive(Debug)]
struct Spoken {
    at: Instant,
    interval: Duration,
    said: Said,
}

/// Asks the sources of a configuration until shutdown, on a thread of its own.
pub fn start(config: &Config, shutdown: Shutdown) -> io::Result<(Signals, Watched)> {
    let (jobs, followed) = watch::channel(jobs_of(config));
    let board = Arc::new(Board::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let signals = Signals {
        jobs,
        board: Arc::clone(&board),
    };
    let thread = Watched::spawn("signals", move || {
        LocalSet::new().block_on(&runtime, follow(followed, board, shutdown));
    })?;
    Ok((signals, thread))
}

impl Signals {
    /// Asks the sources of another configuration from now on. Those that stay as they were are not disturbed.
    pub fn follow(&self, config: &Config) {
        self.jobs.send_replace(jobs_of(config));
    }

    /// What was said since the last time, oldest first for each signal and arm.
    pub fn take(&self) -> Vec<Word> {
        let now = clock::now();
        let spoken =
            std::mem::take(&mut *self.board.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut words = Vec::new();
        for ((rollout, name, arm), list) in spoken {
            words.extend(list.into_iter().map(|spoken| Word {
                rollout: rollout.clone(),
                of: SeriesKey {
                    name,
                    arm,
                    segment: None,
                },
                interval: spoken.interval,
                age: now.saturating_duration_since(spoken.at),
                said: spoken.said,
            }));
        }
        words
    }
}

impl Board {
    fn put(&self, job: &Job, arm: Arm, said: Said) {
        let spoken = Spoken {
            at: clock::now(),
            interval: job.signal.interval,
            said,
        };
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let list = board
            .entry((job.rollout.clone(), job.signal.name, arm))
            .or_default();
        list.push_back(spoken);
        if list.len() > KEPT {
            list.pop_front();
        }
    }
}

/// Every signal that is pulled.
fn jobs_of(config: &Config) -> Arc<[Job]> {
    let mut jobs = Vec::new();
    for (rollout, settings) in &config.rollouts {
        let identity = &settings.plan.identity;
        let endpoints = [&identity.baseline, &identity.canary].map(|pool| {
            let pool = config.pools.get(pool);
            pool.map(|pool| pool.addresses().collect())
                .unwrap_or_default()
        });
        for signal in settings.signals.iter().filter(|signal| is_pulled(signal)) {
            jobs.push(Job {
                rollout: rollout.clone(),
                signal: signal.clone(),
                identity: identity.clone(),
                endpoints: endpoints.clone(),
            });
        }
    }
    jobs.into()
}

const fn is_pulled(signal: &Signal) -> bool {
    match signal.source {
        SignalSource::Prometheus { .. }
        | SignalSource::Json { .. }
        | SignalSource::Scrape { .. } => true,
        SignalSource::Push | SignalSource::Outcomes => false,
    }
}

async fn follow(mut jobs: watch::Receiver<Arc<[Job]>>, board: Arc<Board>, mut shutdown: Shutdown) {
    let client = Client::new();
    let mut tasks: HashMap<(RolloutName, SignalName), (Job, JoinHandle<()>)> = HashMap::new();
    loop {
        let wanted = Arc::clone(&jobs.borrow_and_update());
        tasks.retain(|_, (job, task)| {
            let stays = wanted.contains(job);
            if !stays {
                task.abort();
            }
            stays
        });
        for job in wanted.iter() {
            let key = (job.rollout.clone(), job.signal.name);
            tasks.entry(key).or_insert_with(|| {
                let asking = source::ask(job.clone(), client.clone(), Arc::clone(&board));
                (job.clone(), tokio::task::spawn_local(asking))
            });
        }
        tokio::select! {
            changed = jobs.changed() => if changed.is_err() { return },
            () = shutdown.reached(Stage::Stopped) => return,
        }
    }
}
