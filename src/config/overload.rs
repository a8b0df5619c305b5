//! Limits of requests under way, of a pool and of the whole proxy, as typed and as meant.

use std::fmt;
use std::time::Duration;

use super::check::usize_of;
use super::defaults;
use super::form::Count;
use super::leaf::Wait;
use super::table::table;
use crate::rollout::time::format_duration;

/// How many requests may be under way, and how many may wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overload {
    /// 0 = no limit.
    pub in_flight: usize,
    /// Requests that may wait for a place.
    pub queued: usize,
    /// The longest wait.
    pub wait: Duration,
    /// Whether the limit follows the latency, up to `in_flight`.
    pub adaptive: bool,
}

table! {
    /// How many requests may be under way at a time in the whole proxy, and how many may wait.
    ServerOverload {
        has {
            /// Requests under way; 0 = no limit.
            in_flight: Count<0, 1000000> = Count(defaults::IN_FLIGHT),
            /// Requests that may wait for a place.
            queued: Count<0, 1000000> = Count(defaults::QUEUED),
            /// The longest wait.
            wait: Wait = Wait(defaults::QUEUE_WAIT),
        }
    }
}

table! {
    /// How many requests may be under way at a time to a pool, and how many may wait.
    PoolOverload {
        has {
            /// Requests under way; 0 = no limit.
            in_flight: Count<0, 1000000> = Count(defaults::IN_FLIGHT),
            /// Requests that may wait for a place.
            queued: Count<0, 1000000> = Count(defaults::QUEUED),
            /// The longest wait.
            wait: Wait = Wait(defaults::QUEUE_WAIT),
            /// Whether the limit follows the latency, up to in_flight (1000 where that is 0).
            adaptive: bool = false,
        }
    }
}

pub(super) fn of_server(raw: &ServerOverload) -> Overload {
    Overload {
        in_flight: usize_of(raw.in_flight),
        queued: usize_of(raw.queued),
        wait: raw.wait.0,
        adaptive: false,
    }
}

pub(super) fn of_pool(raw: &PoolOverload) -> Overload {
    Overload {
        in_flight: usize_of(raw.in_flight),
        queued: usize_of(raw.queued),
        wait: raw.wait.0,
        adaptive: raw.adaptive,
    }
}

impl fmt::Display for Overload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} in flight, {} queued for {}, adaptive {}",
            self.in_flight,
            self.queued,
            format_duration(self.wait),
            self.adaptive,
        )
    }
}
