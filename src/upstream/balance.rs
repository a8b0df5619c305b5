//! Which of the open endpoints of a roster is next: choices over what the endpoints count.
//!
//! Never decides which endpoints are open (see `pool`), and draws no random number itself.

use std::time::{Duration, Instant};

use super::endpoint::{Endpoint, EndpointId};
use super::ring::{Ring, spread};
use super::roster::{Member, Roster, WARM};

/// How often a random choice is tried before the open ones are looked for one by one: with half of them closed it
/// misses once in 65,536.
const DRAWS: usize = 16;

/// What an attempt needs an endpoint for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Asked by this request before.
    pub tried: &'a [EndpointId],
    /// Any uniform number.
    pub random: u64,
    /// The learner's, for a ring: the same key gives the same endpoint.
    pub key: u64,
    pub now: Instant,
}

/// What a choice is made by.
#[derive(Clone, Copy)]
pub(super) struct Dice {
    /// Whose turn it is.
    pub(super) turn: u64,
    pub(super) random: u64,
    pub(super) key: u64,
    pub(super) now: Instant,
    /// No retry.
    pub(super) is_first: bool,
}

type Open<'a> = &'a dyn Fn(&Endpoint) -> bool;

/// The one whose turn it is. Where that is closed, or still warming up and lets its turn go by, a random one has it: so
/// that what one leaves is shared by all, and does not fall on its neighbour.
pub(super) fn in_turn<'a>(roster: &'a Roster, open: Open<'_>, dice: Dice) -> Option<&'a Member> {
    let turns = std::iter::once(dice.turn).chain(randoms(dice).take(DRAWS));
    let places = turns.filter_map(|turn| roster.wheel.at(turn));
    let mut members = places.filter_map(|place| roster.members.get(place));
    let wanted = |(nth, member): (u64, &'a Member)| {
        let is_wanted =
            open(&member.endpoint) && admits(member, spread(dice.random ^ !nth), dice.now);
        is_wanted.then_some(member)
    };
    (0..)
        .zip(&mut members)
        .find_map(wanted)
        .or_else(|| any_open(roster, open, dice))
}

/// The one with the fewest requests for its weight. The turn decides between equals, so that idle endpoints share.
pub(super) fn least<'a>(roster: &'a Roster, open: Open<'_>, dice: Dice) -> Option<&'a Member> {
    let first = roster.wheel.at(dice.turn)?;
    let (before, after) = roster.members.split_at(first);
    let mut best: Option<(&Member, u128, u128)> = None;
    for member in after.iter().chain(before) {
        if !open(&member.endpoint) {
            continue;
        }
        let load = u128::from(member.endpoint.in_flight()) + 1;
        let share = u128::from(member.share(dice.now));
        if best.is_none_or(|(_, least, of)| load * of < least * share) {
            best = Some((member, load, share));
        }
    }
    best.map(|(member, ..)| member)
}

/// The better of two random ones. (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001.)
pub(super) fn two_choices<'a>(
    roster: &'a Roster,
    open: Open<'_>,
    dice: Dice,
) -> Option<&'a Member> {
    let mut randoms = randoms(dice);
    let one = draw(roster, randoms.by_ref().take(DRAWS), open)
        .or_else(|| any_open(roster, open, dice))?;
    let is_other = |endpoint: &Endpoint| endpoint.id() != one.endpoint.id() && open(endpoint);
    Some(match draw(roster, randoms.take(DRAWS), &is_other) {
        Some(other) if is_cheaper(other, one, dice.now) => other,
        Some(_) | None => one,
    })
}

/// The one that the key belongs to, or the next open one behind it. One that is warming up gets a part of its keys, the
/// same ones each time.
pub(super) fn on_ring<'a>(
    roster: &'a Roster,
    ring: &Ring,
    open: Open<'_>,
    dice: Dice,
) -> Option<&'a Member> {
    let members = &roster.members;
    let near = || ring.from(dice.key).filter_map(|index| members.get(index));
    let luck = spread(!dice.key);
    near()
        .find(|member| open(&member.endpoint) && admits(member, luck, dice.now))
        .or_else(|| near().find(|member| open(&member.endpoint)))
}

fn draw<'a>(
    roster: &'a Roster,
    mut randoms: impl Iterator<Item = u64>,
    open: Open<'_>,
) -> Option<&'a Member> {
    randoms.find_map(|random| {
        let member = roster.members.get(roster.wheel.at(random)?)?;
        open(&member.endpoint).then_some(member)
    })
}

// The first open one from a random place on: where hardly any is open.
fn any_open<'a>(roster: &'a Roster, open: Open<'_>, dice: Dice) -> Option<&'a Member> {
    let place = roster.wheel.at(spread(dice.random))?;
    let (before, after) = roster.members.split_at(place);
    let mut members = after.iter().chain(before);
    members.find(|member| open(&member.endpoint))
}

fn randoms(dice: Dice) -> impl Iterator<Item = u64> {
    (1..).map(move |nth: u64| spread(dice.random ^ nth))
}

// Whether this one of many is to go to an endpoint that may be warming up.
fn admits(member: &Member, random: u64, now: Instant) -> bool {
    match member.warmth(now) {
        WARM => true,
        warmth => random % u64::from(WARM) < u64::from(warmth),
    }
}

// The cost of a choice is its latency times the requests it would then have. Where one of the two was never measured
// the requests alone decide: a new endpoint must not look fast.
fn is_cheaper(one: &Member, other: &Member, now: Instant) -> bool {
    let (mut a, mut b) = (load(one, now), load(other, now));
    if let (Some(of_one), Some(of_other)) = (latency(one, now), latency(other, now)) {
        a *= of_one;
        b *= of_other;
    }
    a < b
}

fn load(member: &Member, now: Instant) -> f64 {
    let warmth = f64::from(member.warmth(now)) / f64::from(WARM);
    (member.endpoint.in_flight() as f64 + 1.0) / warmth
}

fn latency(member: &Member, now: Instant) -> Option<f64> {
    let ewma = member.endpoint.ewma(now)?;
    Some(ewma.max(Duration::from_micros(1)).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::clock;
    use crate::config::Balance;
    use crate::upstream::pool::Pool;
    use crate::upstream::pool::tests::{built, listed, picked, pool};

    // How often each endpoint is picked, in the order of the pool.
    fn counts(pool: &Pool, picks: u64) -> Vec<u64> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for nth in 0..picks {
            let address = picked(pool, &[], spread(nth)).expect("one is open");
            *counts.entry(address).or_default() += 1;
        }
        pool.endpoints()
            .iter()
            .map(|endpoint| counts.get(endpoint.address()).copied().unwrap_or(0))
            .collect()
    }

    #[test]
    fn round_robin_gives_each_its_turn() {
        let pool = pool(&["a:1", "b:1", "c:1"], Balance::RoundRobin, false);
        assert_eq!(counts(&pool, 300), [100, 100, 100]);
        pool.endpoints()[1].set_drained(true);
        let after = counts(&pool, 300);
        assert_eq!(after[1], 0);
        assert!(
            after[0].abs_diff(150) < 40,
            "its turns are shared: {after:?}"
        );
    }

    #[test]
    fn weights_are_shares() {
        let pool = |balance| {
            let weighted = [("a:1", 3, ""), ("b:1", 2, ""), ("c:1", 1, "")];
            built(&weighted.map(listed), balance, "")
        };
        assert_eq!(counts(&pool(Balance::RoundRobin), 600), [300, 200, 100]);
        // Equal loads: two draws by weight. sigma of Binomial(6000, 1/6) is 29.
        for (count, expected) in counts(&pool(Balance::P2c), 6000)
            .iter()
            .zip([3000, 2000, 1000])
        {
            assert!(count.abs_diff(expected) < 200, "{count}, not {expected}");
        }
        let least = pool(Balance::LeastRequests);
        let endpoints = least.endpoints();
        // 2 of 3, 1 of 2, 0 of 1: with the next one all are as full as each other, but for a.
        let _held = [
            endpoints[0].begin(),
            endpoints[0].begin(),
            endpoints[1].begin(),
        ];
        let _more = endpoints[2].begin();
        assert_eq!(counts(&least, 60)[2], 0, "twice its weight is the fullest");
    }

    #[test]
    fn least_requests_prefers_the_idle_and_shares_among_equals() {
        let pool = pool(&["a:1", "b:1", "c:1"], Balance::LeastRequests, false);
        assert_eq!(counts(&pool, 300), [100, 100, 100]);
        let busy = pool.endpoints()[0].begin();
        assert_eq!(counts(&pool, 300)[0], 0);
        drop(busy);
        assert_eq!(counts(&pool, 300)[0], 100);
    }

    #[test]
    fn two_choices_spread_evenly_avoid_the_slow_and_try_it_again() {
        let pool = pool(&["a:1", "b:1", "c:1", "d:1"], Balance::P2c, false);
        let now = clock::now();
        for endpoint in pool.endpoints() {
            endpoint.observe(Duration::from_millis(10), now);
        }
        // Binomial(8000, 1/4): sigma is 39, five of them 194. They fade alike within the test.
        let even = |counts: Vec<u64>| {
            for count in counts {
                assert!(count.abs_diff(2000) < 194, "{count} of 8000");
            }
        };
        even(counts(&pool, 8000));
        let endpoints = pool.endpoints();
        endpoints[2].observe(Duration::from_millis(100), now);
        assert_eq!(
            counts(&pool, 8000)[2],
            0,
            "the worst of all never wins a comparison"
        );
        // A minute ago, while the others are measured all the time: exp(-6) of it is left.
        let later = now + Duration::from_secs(60);
        for index in [0, 1, 3] {
            endpoints[index].observe(Duration::from_millis(10), later);
        }
        let roster = pool.roster();
        let again = (0..100).any(|random| {
            let ask = Ask {
                tried: &[],
                random,
                key: 0,
                now: later,
            };
            let chosen = pool.pick(&roster, ask).expect("one is open");
            chosen.id() == endpoints[2].id()
        });
        assert!(again, "what was slow a minute ago is tried again");
    }

    #[test]
    fn one_that_was_never_measured_does_not_look_fast() {
        let pool = pool(&["a:1", "b:1"], Balance::P2c, false);
        let endpoints = pool.endpoints();
        endpoints[0].observe(Duration::from_millis(10), clock::now());
        let _busy = endpoints[1].begin();
        assert_eq!(counts(&pool, 100), [100, 0], "it has more requests");
    }

    #[test]
    fn a_ring_keeps_learners_where_they_are() {
        let pool = pool(&["a:1", "b:1", "c:1"], Balance::Ring, false);
        let owners = |pool: &Pool| -> Vec<Option<String>> {
            (0..1000).map(|key| picked(pool, &[], key)).collect()
        };
        let before = owners(&pool);
        assert_eq!(before, owners(&pool));
        pool.endpoints()[1].set_drained(true);
        for (before, after) in before.iter().zip(owners(&pool)) {
            if before.as_deref() == Some("b:1") {
                assert_ne!(after.as_deref(), Some("b:1"));
            } else {
                assert_eq!(*before, after, "nobody else moves");
            }
        }
    }

    #[test]
    fn a_zone_serves_its_own_while_half_of_it_is_usable() {
        let listed = [
            ("a:1", 1, "x"),
            ("b:1", 1, "x"),
            ("c:1", 1, "y"),
            ("d:1", 1, ""),
        ]
        .map(listed);
        let by_zone = crate::upstream::pool::tests::listed;
        let fresh = || built(&listed, Balance::RoundRobin, "x");
        assert_eq!(counts(&fresh(), 400), [200, 200, 0, 0]);
        let half = fresh();
        half.endpoints()[0].set_drained(true);
        assert_eq!(counts(&half, 400), [0, 400, 0, 0]);
        let third = [
            ("a:1", 1, "x"),
            ("b:1", 1, "x"),
            ("c:1", 1, "x"),
            ("d:1", 1, "y"),
        ];
        let third = built(&third.map(by_zone), Balance::RoundRobin, "x");
        third.endpoints()[0].set_drained(true);
        third.endpoints()[1].set_drained(true);
        assert!(counts(&third, 400)[3] > 100, "a third is not enough");
        let none = fresh();
        none.endpoints()[0].set_drained(true);
        none.endpoints()[1].set_drained(true);
        // Every other turn is a closed one's, and drawn: sigma is 7.
        let drawn = counts(&none, 400);
        assert_eq!(drawn[0] + drawn[1], 0);
        assert!(drawn[2].abs_diff(200) < 40, "{drawn:?}");
        let elsewhere = built(&listed, Balance::RoundRobin, "z");
        assert_eq!(counts(&elsewhere, 400), [100, 100, 100, 100]);
    }

    #[test]
    fn who_comes_back_begins_with_a_tenth() {
        for balance in [
            Balance::RoundRobin,
            Balance::P2c,
            Balance::Ring,
            Balance::LeastRequests,
        ] {
            let pool = built(&[("a:1", 1, ""), ("b:1", 1, "")].map(listed), balance, "");
            let endpoints = pool.endpoints();
            endpoints[0].set_drained(true);
            endpoints[0].set_drained(false);
            let _load = [endpoints[1].begin(), endpoints[1].begin()];
            let cold = counts(&pool, 2000)[0];
            assert!(cold < 400, "{balance:?}: {cold} of 2000");
            // The pool's slow start is an hour; a thousand hours ago is warm.
            endpoints[0].warm_up(clock::now());
            let roster = pool.roster();
            let later = clock::now() + Duration::from_secs(3_600_000);
            assert_eq!(roster.members()[0].warmth(later), WARM);
            let halfway = clock::now() + Duration::from_secs(1800);
            assert!(roster.members()[0].warmth(halfway).abs_diff(WARM / 2) <= 1);
        }
    }
}
