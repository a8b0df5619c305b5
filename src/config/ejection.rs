//! Passive ejection of a pool's endpoints, as typed and as meant.

use std::fmt;
use std::time::Duration;

use super::amount::Share;
use super::defaults;
use super::faults::Faults;
use super::form::{Count, OrFalse};
use super::leaf::Wait;
use super::table::table;
use super::word::FailureKind;
use crate::rollout::time::format_duration;

/// When an endpoint that fails its requests is left out, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Ejection {
    pub on: EjectOn,
    /// Failures in a row; never 0.
    pub consecutive: u32,
    /// Failures' share of the requests within `over`, above 0.0 and up to 1.0.
    pub share: f64,
    /// Requests within `over` from which the share counts; never 0.
    pub min_requests: u32,
    pub over: Duration,
    /// The first time out; each further one is twice as long.
    pub time_out: Duration,
    /// The longest time out, at least the first; who fails nothing for so long begins anew.
    pub max_time_out: Duration,
}

/// Which failures count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectOn {
    pub connect: bool,
    pub reset: bool,
    pub timeout: bool,
    pub status_5xx: bool,
}

table! {
    /// Passive ejection: endpoints that fail are left out for a while.
    EjectionTable {
        has {
            /// What counts as a failure.
            on: Vec<FailureKind> = defaults::EJECT_ON.to_vec(),
            /// Failures in a row.
            consecutive: Count<1, 1000> = Count(defaults::EJECT_CONSECUTIVE),
            /// Failures' share of the requests.
            share: Share = Share(defaults::EJECT_SHARE),
            /// Requests from which the share counts.
            min_requests: Count<1, 1000000> = Count(defaults::EJECT_MIN_REQUESTS),
            /// What the share is taken over.
            over: Wait = Wait(defaults::EJECT_OVER),
            /// The first time out; each further one is twice as long.
            time_out: Wait = Wait(defaults::EJECT_TIME_OUT),
            /// The longest time out.
            max_time_out: Wait = Wait(defaults::EJECT_MAX_TIME_OUT),
        }
    }
}

/// Checks the ejection of the pool at `key`; `None` where it is off.
pub(super) fn check(
    typed: OrFalse<EjectionTable>,
    key: &str,
    faults: &mut Faults,
) -> Option<Ejection> {
    let OrFalse::On(raw) = typed else {
        return None;
    };
    if raw.share.0 <= 0.0 {
        let key = format!("{key}.ejection.share");
        faults.add(&key, "must be above 0%");
    }
    if raw.max_time_out.0 < raw.time_out.0 {
        let key = format!("{key}.ejection.max_time_out");
        faults.add(&key, "must not be shorter than time_out");
    }
    let has = |kind| raw.on.contains(&kind);
    Some(Ejection {
        on: EjectOn {
            connect: has(FailureKind::Connect),
            reset: has(FailureKind::Reset),
            timeout: has(FailureKind::Timeout),
            status_5xx: has(FailureKind::Status5xx),
        },
        consecutive: small(raw.consecutive.0),
        share: raw.share.0,
        min_requests: small(raw.min_requests.0),
        over: raw.over.0,
        time_out: raw.time_out.0,
        max_time_out: raw.max_time_out.0,
    })
}

impl fmt::Display for Ejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = self.on;
        let kinds = [
            (on.connect, "connect"),
            (on.reset, "reset"),
            (on.timeout, "timeout"),
            (on.status_5xx, "5xx"),
        ];
        let kinds = kinds.into_iter().filter(|(counts, _)| *counts);
        let kinds: Vec<&str> = kinds.map(|(_, kind)| kind).collect();
        write!(
            f,
            "on {} after {} in a row or {} of {} within {}, for {} to {}",
            kinds.join(", "),
            self.consecutive,
            self.share,
            self.min_requests,
            format_duration(self.over),
            format_duration(self.time_out),
            format_duration(self.max_time_out),
        )
    }
}

fn small(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
