//! Which of the open endpoints of a pool is next: pure choices over what the endpoints count.
//!
//! Never decides which endpoints are open (see `pool`), and draws no random number itself.

use std::sync::Arc;

use super::endpoint::Endpoint;
use crate::config::Balance;

/// Latency assumed of an endpoint that was never measured, in microseconds: low, so that it is tried.
const UNMEASURED_US: u64 = 1;

/// What a choice falls back on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dice {
    /// Whose turn it is.
    pub(super) turn: usize,
    /// Any uniform number.
    pub(super) random: u64,
}

pub(super) fn pick<'a>(
    endpoints: &'a [Arc<Endpoint>],
    balance: Balance,
    open: &dyn Fn(&Endpoint) -> bool,
    dice: Dice,
) -> Option<&'a Arc<Endpoint>> {
    if endpoints.is_empty() {
        return None;
    }
    match balance {
        Balance::RoundRobin => next_open(endpoints, dice.turn, open),
        Balance::LeastRequests => least(endpoints, dice.turn, open),
        Balance::P2c => two_choices(endpoints, dice.random, open),
    }
}

fn next_open<'a>(
    endpoints: &'a [Arc<Endpoint>],
    turn: usize,
    open: &dyn Fn(&Endpoint) -> bool,
) -> Option<&'a Arc<Endpoint>> {
    in_turn(endpoints, turn).find(|endpoint| open(endpoint))
}

// The turn decides between equals, so that idle endpoints share the load.
fn least<'a>(
    endpoints: &'a [Arc<Endpoint>],
    turn: usize,
    open: &dyn Fn(&Endpoint) -> bool,
) -> Option<&'a Arc<Endpoint>> {
    in_turn(endpoints, turn)
        .filter(|endpoint| open(endpoint))
        .min_by_key(|endpoint| endpoint.in_flight())
}

// Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001); the cost of a choice is its
// peak-sensitive latency times the requests it would then have.
fn two_choices<'a>(
    endpoints: &'a [Arc<Endpoint>],
    random: u64,
    open: &dyn Fn(&Endpoint) -> bool,
) -> Option<&'a Arc<Endpoint>> {
    let count = endpoints.iter().filter(|endpoint| open(endpoint)).count();
    let nth = |n| endpoints.iter().filter(|endpoint| open(endpoint)).nth(n);
    if count < 2 {
        return nth(0);
    }
    let first = scale(random >> 32, count);
    let step = 1 + scale(random & 0xffff_ffff, count - 1);
    let (one, other) = (nth(first)?, nth((first + step) % count)?);
    Some(if cost(other) < cost(one) { other } else { one })
}

fn in_turn(endpoints: &[Arc<Endpoint>], turn: usize) -> impl Iterator<Item = &Arc<Endpoint>> {
    let (before, after) = endpoints.split_at(turn % endpoints.len());
    after.iter().chain(before)
}

// A 32-bit random number as one of `count`.
fn scale(random: u64, count: usize) -> usize {
    ((random * count as u64) >> 32) as usize
}

fn cost(endpoint: &Endpoint) -> u128 {
    let latency = endpoint.ewma().as_micros().max(u128::from(UNMEASURED_US));
    latency * (u128::from(endpoint.in_flight()) + 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::upstream::pool::Pool;
    use crate::upstream::pool::tests::pool;

    fn counts(pool: &Pool, picks: u64) -> Vec<u64> {
        let mut counts = BTreeMap::new();
        // SplitMix64 from a fixed seed.
        let mut state = 7_u64;
        for _ in 0..picks {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut random = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            random = (random ^ (random >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let picked = pool
                .pick(&[], random ^ (random >> 31))
                .expect("one is open");
            *counts.entry(picked.id()).or_insert(0) += 1;
        }
        pool.endpoints
            .iter()
            .map(|endpoint| counts.get(&endpoint.id()).copied().unwrap_or(0))
            .collect()
    }

    #[test]
    fn round_robin_gives_each_its_turn() {
        let pool = pool(&["a:1", "b:1", "c:1"], Balance::RoundRobin, false);
        assert_eq!(counts(&pool, 300), [100, 100, 100]);
        pool.endpoints[1].set_drained(true);
        let after = counts(&pool, 300);
        assert_eq!(after.iter().sum::<u64>(), 300);
        assert_eq!(after[1], 0);
    }

    #[test]
    fn least_requests_prefers_the_idle_and_shares_among_equals() {
        let pool = pool(&["a:1", "b:1", "c:1"], Balance::LeastRequests, false);
        assert_eq!(counts(&pool, 300), [100, 100, 100]);
        let busy = pool.endpoints[0].begin();
        assert_eq!(counts(&pool, 300)[0], 0);
        drop(busy);
        assert_eq!(counts(&pool, 300)[0], 100);
    }

    #[test]
    fn two_choices_spread_evenly_and_avoid_the_slow() {
        let pool = pool(&["a:1", "b:1", "c:1", "d:1"], Balance::P2c, false);
        for endpoint in &pool.endpoints {
            endpoint.observe(Duration::from_millis(10));
        }
        // Binomial(8000, 1/4): sigma is 39, five of them 194.
        for count in counts(&pool, 8000) {
            assert!(count.abs_diff(2000) < 194, "{count} of 8000");
        }
        pool.endpoints[2].observe(Duration::from_millis(100));
        assert_eq!(
            counts(&pool, 8000)[2],
            0,
            "the worst of all never wins a comparison"
        );
    }
}
