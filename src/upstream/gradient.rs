//! A limit of requests under way that follows the latency: it falls while answers take longer than they usually do,
//! and grows while they do not and the limit is used.
//!
//! The gradient algorithm of Netflix's concurrency-limits (Gradient2): the limit is multiplied by how much longer
//! answers take than over the long run, and has room for a small queue, the square root of itself. Pure: it is told the
//! time.

use std::time::{Duration, Instant};

/// Where an adaptive limit begins: small enough to be safe, and it doubles within seconds.
const INITIAL: f64 = 20.0;
/// It never falls lower: with nothing under way nothing could be learned.
const LEAST: f64 = 4.0;
/// The most where nobody said how much.
const MOST: f64 = 1000.0;
/// How often the limit is set.
const SPAN: Duration = Duration::from_millis(100);
/// Fewer samples in a span say little; it goes on.
const MIN_SAMPLES: u32 = 10;
/// How much slower than usual is nothing to worry about.
const TOLERANCE: f64 = 1.5;
/// The share of a new value, so that one bad span does not halve the limit.
const SMOOTHING: f64 = 0.2;
/// The share of a span in the long run's average: some 600 spans, a minute.
const LONG: f64 = 1.0 / 300.0;

#[derive(Debug)]
pub(super) struct Gradient {
    limit: f64,
    most: f64,
    /// Seconds; 0 = never measured.
    long: f64,
    began: Instant,
    sum: f64,
    samples: u32,
    /// The most requests under way at a sample of this span.
    busiest: usize,
}

impl Gradient {
    /// A limit of at most `most`; 0 = nobody said.
    pub(super) fn new(most: usize, now: Instant) -> Self {
        let most = if most == 0 { MOST } else { most as f64 };
        Self {
            limit: INITIAL.min(most),
            most,
            long: 0.0,
            began: now,
            sum: 0.0,
            samples: 0,
            busiest: 0,
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Takes in one latency, measured with so many requests under way; the new limit, where it changed.
    pub(super) fn observe(
        &mut self,
        latency: Duration,
        under_way: usize,
        now: Instant,
    ) -> Option<usize> {
        self.sum += latency.as_secs_f64();
        self.samples += 1;
        self.busiest = self.busiest.max(under_way);
        let is_due = now.saturating_duration_since(self.began) >= SPAN;
        if !is_due || self.samples < MIN_SAMPLES {
            return None;
        }
        let old = self.limit();
        self.set();
        self.began = now;
        (self.sum, self.samples, self.busiest) = (0.0, 0, 0);
        (self.limit() != old).then_some(self.limit())
    }

    fn set(&mut self) {
        let short = (self.sum / f64::from(self.samples)).max(1e-6);
        self.long = if self.long == 0.0 {
            short
        } else {
            self.long + (short - self.long) * LONG
        };
        // After an overload the long run is too slow: it comes down faster than it went up.
        if self.long > short * 2.0 {
            self.long *= 0.95;
        }
        // A limit that nobody comes near says nothing.
        if (self.busiest as f64) < self.limit / 2.0 {
            return;
        }
        let gradient = (TOLERANCE * self.long / short).clamp(0.5, 1.0);
        let wanted = self.limit * gradient + self.limit.sqrt();
        self.limit += (wanted - self.limit) * SMOOTHING;
        self.limit = self.limit.clamp(LEAST.min(self.most), self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    // A server that answers `capacity` requests at a time in `base` each: what is over waits. Runs it for so many
    // spans with as many requests as the limit lets in, at most `offered`.
    fn run(
        gradient: &mut Gradient,
        capacity: usize,
        offered: usize,
        spans: u32,
        now: &mut Instant,
    ) {
        for _ in 0..spans {
            let under_way = gradient.limit().min(offered);
            let queued = under_way as f64 / capacity as f64;
            let latency = Duration::from_millis(10).mul_f64(queued.max(1.0));
            for _ in 0..MIN_SAMPLES {
                *now += SPAN / MIN_SAMPLES;
                gradient.observe(latency, under_way, *now);
            }
        }
    }

    #[test]
    fn it_finds_what_the_server_can_do_and_follows_it_down() {
        let mut now = clock::now();
        let mut gradient = Gradient::new(0, now);
        run(&mut gradient, 100, 1000, 100, &mut now);
        let found = gradient.limit();
        assert!(
            (80..260).contains(&found),
            "{found} where 100 are served at once"
        );
        run(&mut gradient, 25, 1000, 100, &mut now);
        let lower = gradient.limit();
        assert!(lower < found / 2, "{lower} where 25 are served at once");
    }

    #[test]
    fn it_stays_where_nobody_needs_more_and_within_its_bounds() {
        let mut now = clock::now();
        let mut idle = Gradient::new(0, now);
        run(&mut idle, 100, 5, 50, &mut now);
        assert_eq!(idle.limit(), 20);
        let mut bounded = Gradient::new(30, now);
        run(&mut bounded, 1000, 1000, 50, &mut now);
        assert_eq!(bounded.limit(), 30);
        let mut choked = Gradient::new(0, now);
        run(&mut choked, 100, 1000, 50, &mut now);
        run(&mut choked, 1, 1000, 100, &mut now);
        assert!(choked.limit() >= 4);
    }
}
