//! How a stub analyzer behaves, and how it is told to behave otherwise.
//!
//! Owns the words of `POST /behaviour` and what of them is accepted. Never acts on them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The tail where only a median was said: twice as long again as the median.
const DEFAULT_TAIL: u32 = 3;
/// At the start of a slow start everything takes this many times longer.
const SLOW_START_FACTOR: f64 = 10.0;
/// A healthy analyzer by the client's limits: half of 1 GB, and above a hit rate of 85 %.
const MEMORY_BYTES: f64 = 512.0 * 1024.0 * 1024.0;
const CACHE_HIT_RATE: f64 = 0.9;
const CPU: f64 = 0.25;
/// The longest time accepted, in milliseconds: an hour.
const TIME_MAX_MS: f64 = 3_600_000.0;

/// How an analyzer answers what is not about itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Behaviour {
    pub latency: Latency,
    /// Share of requests answered with `status`, 0.0 to 1.0.
    pub error_rate: f64,
    /// Status of those answers, 200 to 599.
    pub status: u16,
    /// Share of requests never answered, the connection kept open.
    pub hang: f64,
    /// Share of requests answered by resetting the connection (RST).
    pub reset: f64,
    /// Share of answers that end, with the connection, after half of the body promised.
    pub cut_body: f64,
    /// No listener and no connection, as if the process was gone.
    pub refuse: bool,
    /// `/health` answers 503.
    pub sick: bool,
    /// What `/metrics` says of the process: bytes, share of requests answered from the cache, cores in use.
    pub memory_bytes: f64,
    pub cache_hit_rate: f64,
    pub cpu: f64,
    /// After this behaviour was set, latency falls evenly from 10 times the usual to the usual
    /// within this time; zero for none.
    pub slow_start: Duration,
}

/// A spread of latencies: log-normal, by its median and its 99 % quantile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    pub median: Duration,
    /// Not below the median; what is below counts as the median.
    pub p99: Duration,
}

/// A change of some of it, as `POST /behaviour` takes it: what is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The median. Without `p99_ms` the tail becomes three times as long.
    pub latency_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub error_rate: Option<f64>,
    pub status: Option<u16>,
    pub hang: Option<f64>,
    pub reset: Option<f64>,
    pub cut_body: Option<f64>,
    pub refuse: Option<bool>,
    pub sick: Option<bool>,
    pub memory_bytes: Option<f64>,
    pub cache_hit_rate: Option<f64>,
    pub cpu: Option<f64>,
    pub slow_start_ms: Option<f64>,
    /// After this time all is as before the change, unless it was changed again: the only way back
    /// over HTTP from `refuse`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<f64>,
}

/// Why a change is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BehaviourError {
    #[error("{0} is not a share between 0 and 1")]
    Share(&'static str),
    #[error("{0} is not a time between 0 and 3600000 milliseconds")]
    Time(&'static str),
    #[error("status is not between 200 and 599")]
    Status,
    #[error("{0} is not a number of 0 or more")]
    Amount(&'static str),
}

// === impl Latency ===

impl Latency {
    /// A median with a tail of three times its length.
    pub fn around(median: Duration) -> Self {
        let p99 = median * DEFAULT_TAIL;
        Self { median, p99 }
    }

    /// Always the same.
    pub fn steady(latency: Duration) -> Self {
        let (median, p99) = (latency, latency);
        Self { median, p99 }
    }
}

// === impl Behaviour ===

impl Default for Behaviour {
    fn default() -> Self {
        Self::HEALTHY
    }
}

impl Behaviour {
    /// A healthy analyzer that answers at once.
    pub const HEALTHY: Self = Self {
        latency: Latency {
            median: Duration::ZERO,
            p99: Duration::ZERO,
        },
        error_rate: 0.0,
        status: 500,
        hang: 0.0,
        reset: 0.0,
        cut_body: 0.0,
        refuse: false,
        sick: false,
        memory_bytes: MEMORY_BYTES,
        cache_hit_rate: CACHE_HIT_RATE,
        cpu: CPU,
        slow_start: Duration::ZERO,
    };

    /// This behaviour with a change made to it.
    pub fn with(mut self, change: &Change) -> Result<Self, BehaviourError> {
        let shares = [
            ("error_rate", change.error_rate, &mut self.error_rate),
            ("hang", change.hang, &mut self.hang),
            ("reset", change.reset, &mut self.reset),
            ("cut_body", change.cut_body, &mut self.cut_body),
            (
                "cache_hit_rate",
                change.cache_hit_rate,
                &mut self.cache_hit_rate,
            ),
        ];
        for (name, share, place) in shares {
            if let Some(share) = share {
                *place = valid_share(name, share)?;
            }
        }
        if let Some(median) = valid_time("latency_ms", change.latency_ms)? {
            self.latency = Latency::around(median);
        }
        if let Some(p99) = valid_time("p99_ms", change.p99_ms)? {
            self.latency.p99 = p99;
        }
        if let Some(status) = change.status {
            let valid = (200..600).contains(&status);
            self.status = valid.then_some(status).ok_or(BehaviourError::Status)?;
        }
        for (name, amount, place) in [
            ("memory_bytes", change.memory_bytes, &mut self.memory_bytes),
            ("cpu", change.cpu, &mut self.cpu),
        ] {
            if let Some(amount) = amount {
                let valid = (0.0..=f64::MAX).contains(&amount);
                *place = valid
                    .then_some(amount)
                    .ok_or(BehaviourError::Amount(name))?;
            }
        }
        let slow_start = valid_time("slow_start_ms", change.slow_start_ms)?;
        self.slow_start = slow_start.unwrap_or(self.slow_start);
        self.refuse = change.refuse.unwrap_or(self.refuse);
        self.sick = change.sick.unwrap_or(self.sick);
        Ok(self)
    }

    /// All of it in the words of a change.
    pub fn shown(&self) -> Change {
        let ms = |time: Duration| Some(time.as_secs_f64() * 1e3);
        Change {
            latency_ms: ms(self.latency.median),
            p99_ms: ms(self.latency.p99),
            error_rate: Some(self.error_rate),
            status: Some(self.status),
            hang: Some(self.hang),
            reset: Some(self.reset),
            cut_body: Some(self.cut_body),
            refuse: Some(self.refuse),
            sick: Some(self.sick),
            memory_bytes: Some(self.memory_bytes),
            cache_hit_rate: Some(self.cache_hit_rate),
            cpu: Some(self.cpu),
            slow_start_ms: ms(self.slow_start),
            for_ms: None,
        }
    }

    /// By how much latency is longer, this time after the behaviour was set.
    pub(super) fn slowness(&self, after: Duration) -> f64 {
        if after >= self.slow_start {
            return 1.0;
        }
        let left = 1.0 - after.as_secs_f64() / self.slow_start.as_secs_f64();
        1.0 + (SLOW_START_FACTOR - 1.0) * left
    }
}

impl Change {
    /// How long it is to last; `None` for good.
    pub fn lasts(&self) -> Result<Option<Duration>, BehaviourError> {
        valid_time("for_ms", self.for_ms)
    }
}

fn valid_share(name: &'static str, share: f64) -> Result<f64, BehaviourError> {
    let valid = (0.0..=1.0).contains(&share);
    valid.then_some(share).ok_or(BehaviourError::Share(name))
}

fn valid_time(name: &'static str, ms: Option<f64>) -> Result<Option<Duration>, BehaviourError> {
    match ms {
        None => Ok(None),
        Some(ms) if (0.0..=TIME_MAX_MS).contains(&ms) => {
            Ok(Some(Duration::from_secs_f64(ms / 1e3)))
        }
        Some(_) => Err(BehaviourError::Time(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let before = Behaviour {
            hang: 0.5,
            sick: true,
            ..Behaviour::default()
        };
        let change = Change {
            latency_ms: Some(40.0),
            error_rate: Some(1.0),
            ..Change::default()
        };
        let after = before.with(&change).expect("a valid change");
        let latency = Latency {
            median: Duration::from_millis(40),
            p99: Duration::from_millis(120),
        };
        assert_eq!(
            after,
            Behaviour {
                latency,
                error_rate: 1.0,
                ..before
            }
        );
        assert_eq!(
            Behaviour::default().with(&after.shown()),
            Ok(after),
            "what is shown reads back"
        );
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        let none = Change::default();
        let check = |change: Change, fault: BehaviourError| {
            assert_eq!(Behaviour::default().with(&change), Err(fault));
        };
        let hang = |share| Change {
            hang: Some(share),
            ..none.clone()
        };
        for share in [-0.01, 1.01, f64::NAN] {
            check(hang(share), BehaviourError::Share("hang"));
        }
        for ms in [-1.0, 3_600_001.0, f64::NAN, f64::INFINITY] {
            check(
                Change {
                    p99_ms: Some(ms),
                    ..none.clone()
                },
                BehaviourError::Time("p99_ms"),
            );
        }
        for status in [0, 199, 600] {
            check(
                Change {
                    status: Some(status),
                    ..none.clone()
                },
                BehaviourError::Status,
            );
        }
        assert!(Behaviour::default().with(&hang(1.0)).is_ok());
    }

    #[test]
    fn a_slow_start_wears_off_evenly() {
        let slow_start = Duration::from_secs(10);
        let behaviour = Behaviour {
            slow_start,
            ..Behaviour::default()
        };
        let after = |s| behaviour.slowness(Duration::from_secs(s));
        assert_eq!(
            [after(0), after(5), after(10), after(99)],
            [10.0, 5.5, 1.0, 1.0]
        );
        assert_eq!(Behaviour::default().slowness(Duration::ZERO), 1.0);
    }
}
