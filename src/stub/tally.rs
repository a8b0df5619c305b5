//! What the learners' load saw: answers by pool, failures, who was hurt, how long it took.
//!
//! Owns the counts and the report made of them. Never sends anything.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest latency told apart, in microseconds: ten minutes.
const LATENCY_MAX_US: u64 = 600_000_000;
/// The pool of an answer that names none: the proxy's own.
const NO_POOL: &str = "";

/// What a load saw until now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// Requests begun, whatever became of them.
    pub sent: u64,
    /// Requests that were due and never begun, because too many waited for a connection already.
    pub missed: u64,
    /// Whole answers by the pool that gave them; `""` for answers that name none.
    pub pools: BTreeMap<String, PoolAnswers>,
    /// Requests without a whole answer: not connected, reset, cut short, timed out.
    pub failed: u64,
    /// What the last failure was.
    pub last_failure: Option<String>,
    /// Distinct learners who asked.
    pub learners: u64,
    /// Distinct learners who met an answer of 400 or above, or a failure.
    pub learners_hurt: u64,
    pub latency: Latencies,
    /// Since the load began.
    pub took: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolAnswers {
    /// Below 400.
    pub ok: u64,
    /// 400 and above.
    pub errors: u64,
}

/// Of whole answers, from the moment a request was due to its answer's last byte; zero where there
/// was none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    pub p50: Duration,
    pub p95: Duration,
    pub p99: Duration,
    pub max: Duration,
}

/// One answer.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) pool: Option<String>,
    pub(super) status: u16,
    pub(super) latency: Duration,
}

#[derive(Debug)]
pub(super) struct Tally {
    sent: u64,
    missed: u64,
    pools: BTreeMap<String, PoolAnswers>,
    failed: u64,
    last_failure: Option<String>,
    seen: Learners,
    hurt: Learners,
    latency: Histogram<u64>,
}

/// A set of learners' numbers, one bit each.
#[derive(Debug)]
struct Learners {
    bits: Vec<u64>,
    count: u64,
}

// === impl LoadReport ===

impl LoadReport {
    /// Answers below 400, of all pools.
    pub fn ok(&self) -> u64 {
        self.pools.values().map(|pool| pool.ok).sum()
    }

    /// Answers of 400 and above, of all pools.
    pub fn errors(&self) -> u64 {
        self.pools.values().map(|pool| pool.errors).sum()
    }

    /// Whole answers of one pool.
    pub fn pool(&self, name: &str) -> PoolAnswers {
        self.pools.get(name).copied().unwrap_or_default()
    }
}

// === impl Tally ===

impl Tally {
    pub(super) fn new(learners: u32) -> Self {
        Self {
            sent: 0,
            missed: 0,
            pools: BTreeMap::new(),
            failed: 0,
            last_failure: None,
            seen: Learners::new(learners),
            hurt: Learners::new(learners),
            latency: Histogram::new_with_max(LATENCY_MAX_US, 2).expect("the bounds are valid"),
        }
    }

    pub(super) fn sent(&mut self, learner: u32) {
        self.sent += 1;
        self.seen.insert(learner);
    }

    pub(super) fn missed(&mut self) {
        self.missed += 1;
    }

    pub(super) fn answered(&mut self, learner: u32, answered: &Answered) {
        let name = answered.pool.as_deref().unwrap_or(NO_POOL);
        if !self.pools.contains_key(name) {
            self.pools.insert(name.to_owned(), PoolAnswers::default());
        }
        let pool = self.pools.get_mut(name).expect("it was put there above");
        if answered.status < 400 {
            pool.ok += 1;
        } else {
            pool.errors += 1;
            self.hurt.insert(learner);
        }
        let us = u64::try_from(answered.latency.as_micros()).unwrap_or(u64::MAX);
        self.latency.saturating_record(us.min(LATENCY_MAX_US));
    }

    pub(super) fn failed(&mut self, learner: u32, why: String) {
        self.failed += 1;
        self.last_failure = Some(why);
        self.hurt.insert(learner);
    }

    pub(super) fn report(&self, took: Duration) -> LoadReport {
        LoadReport {
            sent: self.sent,
            missed: self.missed,
            pools: self.pools.clone(),
            failed: self.failed,
            last_failure: self.last_failure.clone(),
            learners: self.seen.count,
            learners_hurt: self.hurt.count,
            latency: self.latencies(),
            took,
        }
    }

    fn latencies(&self) -> Latencies {
        let at = |quantile| Duration::from_micros(self.latency.value_at_quantile(quantile));
        Latencies {
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

// === impl Learners ===

impl Learners {
    fn new(most: u32) -> Self {
        let bits = vec![0; most as usize / 64 + 1];
        Self { bits, count: 0 }
    }

    fn insert(&mut self, learner: u32) {
        let bit = 1 << (learner % 64);
        if let Some(word) = self.bits.get_mut(learner as usize / 64) {
            self.count += u64::from(*word & bit == 0);
            *word |= bit;
        }
    }
}
