//! Passive ejection: an endpoint that fails the requests it is given is left out for a while.
//!
//! An endpoint goes out for failures in a row, or for their share of its requests. Each further time out is twice as
//! long. When it comes back one more failure takes it out again; it comes back warming up, so that few requests learn
//! it. What began before it came back says nothing new. Never knows who asks; never decides what a failure is.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::endpoint::Endpoint;
use super::moment::AtomicMoment;
use super::roster::{Member, Roster};
use crate::config::Ejection;

/// How an attempt failed that an endpoint was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// No connection.
    Connect,
    /// The connection ended, or what came was no answer.
    Reset,
    Timeout,
    /// It answered 5xx.
    Status,
}

/// How much of a pool ejection may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floor {
    /// At least half of the endpoints stay.
    Half,
    /// Somebody else answers where none is left: a canary pool that fails over.
    None,
}

/// Why an endpoint is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Consecutive { failures: u32 },
    Share { failures: u32, requests: u32 },
}

/// The ejection of one pool's endpoints.
#[derive(Debug)]
pub(super) struct Ejector {
    rule: Ejection,
    floor: Floor,
    /// Whoever holds it counts and ejects: two at once could take more than the floor allows.
    turn: Mutex<()>,
}

/// How one endpoint has been doing. Shared by the workers; an update that crosses another may be lost.
#[derive(Debug, Default)]
pub(super) struct Conduct {
    consecutive: AtomicU32,
    /// The span that the two counts below are of.
    since: AtomicMoment,
    requests: AtomicU32,
    failures: AtomicU32,
    /// When it comes, or came, back.
    until: AtomicMoment,
    /// Times out without a long good time between them.
    times: AtomicU32,
    ejections: AtomicU64,
    reason: Mutex<Option<Reason>>,
}

// === impl Ejector ===

impl Ejector {
    pub(super) fn new(rule: &Ejection, floor: Floor) -> Self {
        Self {
            rule: rule.clone(),
            floor,
            turn: Mutex::new(()),
        }
    }

    /// Takes in how an attempt ended; why the endpoint should be put out. `span` is when it began and ended.
    pub(super) fn note(
        &self,
        endpoint: &Endpoint,
        failing: Option<Failing>,
        span: (Instant, Instant),
    ) -> Option<Reason> {
        let failed = failing.is_some_and(|failing| self.counts(failing));
        let (began, now) = span;
        endpoint.conduct().note(&self.rule, failed, began, now)
    }

    fn counts(&self, failing: Failing) -> bool {
        let on = self.rule.on;
        match failing {
            Failing::Connect => on.connect,
            Failing::Reset => on.reset,
            Failing::Timeout => on.timeout,
            Failing::Status => on.status_5xx,
        }
    }

    /// Puts an endpoint of the roster out, if the floor allows it.
    pub(super) fn eject(&self, roster: &Roster, endpoint: &Endpoint, reason: Reason, now: Instant) {
        // Whoever comes second sees it at the next failure.
        let Ok(_turn) = self.turn.try_lock() else {
            return;
        };
        let members = roster.members();
        let is_out = |member: &&Member| member.endpoint.is_ejected(now);
        let out = members.iter().filter(is_out).count();
        if endpoint.is_ejected(now) || !self.allows(out + 1, members.len()) {
            return;
        }
        let time_out = endpoint.conduct().eject(&self.rule, reason, now);
        endpoint.warm_up(now + time_out);
        tracing::warn!(
            endpoint = endpoint.address(),
            %reason,
            seconds = time_out.as_secs_f64(),
            "ejected"
        );
    }

    fn allows(&self, out: usize, of: usize) -> bool {
        match self.floor {
            Floor::None => true,
            Floor::Half => out * 2 <= of,
        }
    }
}

// === impl Conduct ===

impl Conduct {
    pub(super) fn is_out(&self, now: Instant) -> bool {
        self.until.is_after(now)
    }

    /// Why it is out, and for how much longer.
    pub(super) fn out(&self, now: Instant) -> Option<(Reason, Duration)> {
        let until = self.until.load().filter(|until| *until > now)?;
        let reason = *self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        Some((reason?, until - now))
    }

    /// How often it was put out since start.
    pub(super) fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    // Counts one attempt; why it should be put out.
    fn note(&self, rule: &Ejection, failed: bool, began: Instant, now: Instant) -> Option<Reason> {
        if self.until.is_after(began) {
            return None;
        }
        if self.since.age(now).is_none_or(|age| age >= rule.over) {
            self.requests.store(0, Ordering::Relaxed);
            self.failures.store(0, Ordering::Relaxed);
            self.since.store(now);
        }
        let requests = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        if !failed {
            if self.consecutive.load(Ordering::Relaxed) != 0 {
                self.consecutive.store(0, Ordering::Relaxed);
            }
            return None;
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let consecutive = self.consecutive.fetch_add(1, Ordering::Relaxed) + 1;
        if consecutive >= rule.consecutive {
            return Some(Reason::Consecutive {
                failures: consecutive,
            });
        }
        let is_share = requests >= rule.min_requests
            && f64::from(failures) >= rule.share * f64::from(requests);
        is_share.then_some(Reason::Share { failures, requests })
    }

    // Puts it out; for how long.
    fn eject(&self, rule: &Ejection, reason: Reason, now: Instant) -> Duration {
        let good = self.until.age(now);
        let times = if good.is_some_and(|good| good <= rule.max_time_out) {
            self.times.load(Ordering::Relaxed).saturating_add(1)
        } else {
            0
        };
        let doubled = 2_u32.checked_pow(times).unwrap_or(u32::MAX);
        let time_out = rule.time_out.saturating_mul(doubled).min(rule.max_time_out);
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        self.times.store(times, Ordering::Relaxed);
        self.ejections.fetch_add(1, Ordering::Relaxed);
        // When it comes back the next failure is enough, and the next success forgives.
        self.consecutive
            .store(rule.consecutive - 1, Ordering::Relaxed);
        self.since.clear();
        self.until.store(now + time_out);
        time_out
    }
}

// === impl Reason ===

impl Reason {
    /// One word for a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive { .. } => "consecutive",
            Self::Share { .. } => "share",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consecutive { failures } => write!(f, "{failures} failures in a row"),
            Self::Share { failures, requests } => {
                write!(f, "{failures} of {requests} requests failed")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::config::EjectOn;
    use crate::upstream::pool::tests::members;

    fn rule() -> Ejection {
        Ejection {
            on: EjectOn {
                connect: true,
                reset: true,
                timeout: true,
                status_5xx: false,
            },
            consecutive: 3,
            share: 0.5,
            min_requests: 10,
            over: Duration::from_secs(10),
            time_out: Duration::from_secs(1),
            max_time_out: Duration::from_secs(5),
        }
    }

    // Runs outcomes one a millisecond through one endpoint: `+` good, `-` failed; the reason of the last, if any.
    fn reason(outcomes: &str) -> Option<Reason> {
        let (conduct, begin) = (Conduct::default(), clock::now());
        let mut last = None;
        for (nth, outcome) in (0..).zip(outcomes.chars()) {
            let now = begin + Duration::from_millis(nth);
            last = conduct.note(&rule(), outcome == '-', now, now);
        }
        last
    }

    #[test]
    fn failures_in_a_row_or_their_share_put_it_out() {
        let in_a_row = |failures| Some(Reason::Consecutive { failures });
        assert_eq!(reason("--"), None);
        assert_eq!(reason("---"), in_a_row(3));
        assert_eq!(reason("--+--"), None);
        assert_eq!(reason("--+---"), in_a_row(3));
        // Half of ten, never three in a row.
        assert_eq!(reason("+-+-+-+--"), None, "nine requests say too little");
        let (failures, requests) = (5, 10);
        assert_eq!(
            reason("+-+-+-+-+-"),
            Some(Reason::Share { failures, requests })
        );
        assert_eq!(reason("+-+-+-+++-"), None, "four of ten");
    }

    #[test]
    fn a_share_is_of_its_span() {
        let (conduct, begin) = (Conduct::default(), clock::now());
        for nth in 0..9 {
            let now = begin + Duration::from_millis(nth);
            assert_eq!(conduct.note(&rule(), nth % 2 == 0, now, now), None);
        }
        let later = begin + Duration::from_secs(11);
        assert_eq!(conduct.note(&rule(), true, later, later), None);
    }

    #[test]
    fn times_out_grow_and_a_long_good_time_is_forgiven() {
        let (conduct, begin, reason) = (
            Conduct::default(),
            clock::now(),
            Reason::Consecutive { failures: 3 },
        );
        let mut now = begin;
        for seconds in [1, 2, 4, 5, 5] {
            let time_out = conduct.eject(&rule(), reason, now);
            assert_eq!(time_out, Duration::from_secs(seconds));
            // Moments are kept in microseconds.
            let (why, left) = conduct.out(now).expect("it is out");
            assert_eq!(why, reason);
            assert!(time_out - left < Duration::from_micros(2), "{left:?}");
            now += time_out;
            assert!(!conduct.is_out(now + Duration::from_micros(1)));
        }
        // Up to the longest time out it is the same trouble, beyond it is a new one.
        now += Duration::from_secs(5);
        assert_eq!(conduct.eject(&rule(), reason, now), Duration::from_secs(5));
        now += Duration::from_secs(11);
        assert_eq!(conduct.eject(&rule(), reason, now), Duration::from_secs(1));
        assert_eq!(conduct.ejections(), 7);
    }

    #[test]
    fn who_is_back_is_on_trial() {
        let second = Duration::from_secs(1);
        for (outcomes, expected) in [("-", true), ("+--", false), ("+---", true)] {
            let (conduct, begin) = (Conduct::default(), clock::now());
            conduct.eject(&rule(), Reason::Consecutive { failures: 3 }, begin);
            let back = begin + second;
            let before = back - Duration::from_millis(1);
            let stale = conduct.note(&rule(), true, before, back + second);
            assert_eq!(stale, None, "what began before says nothing new");
            let last = outcomes
                .chars()
                .map(|outcome| conduct.note(&rule(), outcome == '-', back, back + second))
                .last();
            assert_eq!(last.flatten().is_some(), expected, "{outcomes}");
        }
    }

    fn note(
        ejector: &Ejector,
        roster: &Roster,
        endpoint: &Endpoint,
        failing: Failing,
        now: Instant,
    ) {
        if let Some(reason) = ejector.note(endpoint, Some(failing), (now, now)) {
            ejector.eject(roster, endpoint, reason, now);
        }
    }

    // How many of so many endpoints are out when all of them fail.
    fn out(endpoints: usize, floor: Floor) -> usize {
        let ejector = Ejector::new(&rule(), floor);
        let roster = members(endpoints);
        let now = clock::now();
        for _ in 0..5 {
            for member in roster.members() {
                note(&ejector, &roster, &member.endpoint, Failing::Reset, now);
            }
        }
        let is_out = |member: &&Member| member.endpoint.is_ejected(now);
        roster.members().iter().filter(is_out).count()
    }

    #[test]
    fn half_of_a_pool_stays_unless_somebody_else_answers() {
        for (endpoints, expected) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)] {
            assert_eq!(out(endpoints, Floor::Half), expected, "of {endpoints}");
            assert_eq!(out(endpoints, Floor::None), endpoints);
        }
    }

    #[test]
    fn only_what_is_listed_counts() {
        let ejector = Ejector::new(&rule(), Floor::None);
        let roster = members(1);
        let endpoint = &roster.members()[0].endpoint;
        let now = clock::now();
        for _ in 0..5 {
            note(&ejector, &roster, endpoint, Failing::Status, now);
        }
        assert!(!endpoint.is_ejected(now), "5xx is not listed");
        for _ in 0..3 {
            note(&ejector, &roster, endpoint, Failing::Timeout, now);
        }
        assert!(endpoint.is_ejected(now));
        let warm = roster.members()[0].warmth(now + Duration::from_millis(1001));
        assert_eq!(warm, 100, "it comes back with a tenth");
    }
}
