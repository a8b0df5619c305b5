//! Members of a fleet that carry no traffic: each has a link of its own, says what it is, and tells a second of requests
//! that nobody sent, as a proxy does. None of them leads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serin::config;
use serin::fleet::{self, Ask, Link, News};
use serin::records::fleet::{MemberRecord, Second, Stated, Told};
use serin::rollout::assign::LearnerHash;
use serin::rollout::evidence::{Assigned, First, Sight};
use serin::rollout::name::{Arm, RolloutName};
use serin::rollout::slot::CellKey;
use serin::shutdown::{self, Stage, Trigger, Watched};

use crate::support::{pause, unix_ms};

/// Of each member in each second, each by a learner of his own.
const REQUESTS: u64 = 10;
const LATENCY_US: u64 = 15_000;
/// So many join at the same moment.
const TOGETHER: usize = 10;
/// One of so many members reads what the records say; all take them.
const READERS: usize = 20;

/// So many members, on one thread beside those of their links.
pub(crate) struct Members {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    so_far: Mutex<SoFar>,
}

/// What the members did and saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct SoFar {
    pub(crate) requests: u64,
    pub(crate) messages: u64,
    pub(crate) message_bytes: u64,
    pub(crate) records: u64,
    pub(crate) record_bytes: u64,
    /// Time spent on reading records, and how many were read.
    pub(crate) reading: Duration,
    pub(crate) read: u32,
    /// The last split that was read, and with which revision it came.
    pub(crate) weight_ppm: u32,
    pub(crate) revision: u64,
    /// Of each member: the revisions it saw of late, and when.
    pub(crate) seen: Vec<Vec<(u64, Instant)>>,
}

struct One {
    link: Link,
    /// What it tells goes here where its region adds up.
    region: Option<Link>,
    trigger: Trigger,
    _threads: Vec<Watched>,
    told: u64,
}

impl Members {
    /// Members that agree with what `says`, of which each is known as `light-<number>`. Where there are regions that add up, they stand in
    /// so many of them.
    pub(crate) fn join(many: usize, regions: usize, server: &str, says: &MemberRecord) -> Self {
        let shared = Arc::new(Shared::default());
        let all: Vec<One> = (0..many)
            .map(|at| {
                if at % TOGETHER == TOGETHER - 1 {
                    pause();
                }
                One::join(at, regions, server, says)
            })
            .collect();
        shared.so_far.lock().expect("whole").seen = vec![Vec::new(); many];
        let kept = Arc::clone(&shared);
        let thread = thread::spawn(move || run(all, &kept));
        Self {
            shared,
            thread: Some(thread),
        }
    }

    pub(crate) fn so_far(&self) -> SoFar {
        self.shared.so_far.lock().expect("whole").clone()
    }

    /// Forgets which revisions were seen.
    pub(crate) fn forget_seen(&self) {
        let mut so_far = self.shared.so_far.lock().expect("whole");
        so_far.seen.iter_mut().for_each(Vec::clear);
    }

    /// All of them tell their last second, and leave.
    pub(crate) fn leave(mut self) -> SoFar {
        self.end();
        self.so_far()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it ends");
        }
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        self.end();
    }
}

impl One {
    fn join(at: usize, regions: usize, server: &str, says: &MemberRecord) -> Self {
        let mut text = format!("[fleet]\nservers = [{server:?}]\nname = \"light-{at}\"\n");
        if regions > 0 {
            let region = at % regions;
            text += &format!("region = \"r{region}\"\naggregate = \"region\"\n");
        }
        let config = config::parse("proxy.toml", &text, &|_| None).expect("a configuration");
        let (trigger, shutdown) = shutdown::channel();
        let settings = config.fleet.expect("a fleet");
        let of_region = (regions > 0)
            .then(|| fleet::start_region(settings.clone(), shutdown.clone()).expect("a thread"));
        let (region, of_region) = of_region.unzip();
        let (link, thread) = fleet::start(settings, shutdown).expect("a thread");
        let one = Self {
            link,
            region,
            trigger,
            _threads: [Some(thread), of_region].into_iter().flatten().collect(),
            told: 0,
        };
        one.ask(Ask::MayLead(false));
        if let Some(region) = &one.region {
            let asked = region.asks.send(Ask::MayLead(false));
            asked.expect("the link lives");
        }
        one.ask(Ask::Watch(false));
        one.ask(Ask::Present {
            body: says.encode().into(),
        });
        one
    }

    fn tell(&mut self, told: Vec<u8>) {
        self.told += 1;
        let link = self.region.as_ref().unwrap_or(&self.link);
        let ask = Ask::Tell {
            rollout: rollout(),
            n: self.told,
            body: told.into(),
        };
        link.asks.send(ask).expect("the link lives");
    }

    fn ask(&self, ask: Ask) {
        self.link.asks.send(ask).expect("the link lives");
    }
}

fn rollout() -> RolloutName {
    RolloutName::parse("analyzer").expect("a name")
}

fn run(mut all: Vec<One>, shared: &Shared) {
    let mut dice = StdRng::seed_from_u64(3);
    let mut epoch = 0;
    let mut second = seconds();
    loop {
        let stops = shared.stop.load(Ordering::SeqCst);
        let mut so_far = shared.so_far.lock().expect("whole");
        for (at, one) in all.iter_mut().enumerate() {
            while let Ok(news) = one.link.news.try_recv() {
                let News::State { revision, body, .. } = news else {
                    continue;
                };
                so_far.records += 1;
                so_far.record_bytes += body.len() as u64;
                so_far.seen[at].push((revision, Instant::now()));
                if at % READERS == 0 {
                    let began = Instant::now();
                    let stated = Stated::decode(&body).expect("a record");
                    so_far.reading += began.elapsed();
                    so_far.read += 1;
                    epoch = stated.record.epoch.max(epoch);
                    if so_far.weight_ppm != stated.record.weight_ppm {
                        so_far.weight_ppm = stated.record.weight_ppm;
                        so_far.revision = revision;
                    }
                }
            }
        }
        let weight_ppm = so_far.weight_ppm;
        if seconds() > second || stops {
            for one in &mut all {
                let told = counted(second, epoch, weight_ppm, &mut dice).encode();
                so_far.requests += REQUESTS;
                so_far.messages += 1;
                so_far.message_bytes += told.len() as u64;
                one.tell(told);
            }
            second += 1;
        }
        drop(so_far);
        if stops {
            break;
        }
        thread::park_timeout(Duration::from_millis(5));
    }
    for one in &all {
        one.trigger.advance(Stage::Stopped);
    }
}

fn seconds() -> u64 {
    u64::try_from(unix_ms()).expect("after 1970") / 1000
}

/// A second in which everybody fared well.
fn counted(second: u64, epoch: u64, weight_ppm: u32, dice: &mut StdRng) -> Told {
    let mut told = Second {
        second,
        ..Second::default()
    };
    for pool in &mut told.pools {
        pool.endpoints = 1;
        pool.usable = 1;
    }
    for _ in 0..REQUESTS {
        let learner = LearnerHash::from_raw(dice.random());
        let arm = if learner.bucket() < weight_ppm {
            Arm::Canary
        } else {
            Arm::Baseline
        };
        let key = CellKey {
            epoch,
            arm,
            segment: None,
        };
        let cell = told.cells.entry(key).or_default();
        cell.counted += 1;
        cell.latency.record(LATENCY_US, 1);
        told.sights.push(Sight {
            learner,
            arm,
            segment: None,
            epoch,
            first: First {
                latency_us: Some(LATENCY_US),
                ..First::default()
            },
            error: false,
            client_error: false,
            edges: Some(4),
        });
        told.assigned.push(Assigned {
            learner,
            arm,
            segment: None,
            epoch,
        });
    }
    told.sights.sort_by_key(|sight| sight.learner);
    Told::Second(Box::new(told))
}
