//! What follows an attempt that gave no answer to pass on. Pure: `forward` carries it out.

use super::respond::Fault;
use crate::config::Failover;

/// Why one attempt gave no answer to pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    NoEndpoint,
    /// Its pool has as many requests as it may have.
    Overloaded,
    /// The split was replaced before the attempt began, perhaps by a retreat.
    Moved,
    ConnectFailed,
    ConnectTimeout,
    /// No TLS with the endpoint.
    TlsFailed,
    /// The endpoint ended TLS when the request was on its way.
    NotTrusted,
    /// The endpoint refused the request, and did nothing for it.
    Refused,
    /// Its pool speaks HTTP/2, to which no other protocol is changed to.
    NoTunnel,
    /// A connection was closed under a request that was not sent, or may be sent again: no attempt.
    Stale,
    Reset,
    BadAnswer,
    Timeout,
    /// A canary's answer that baseline replaces; the budget was asked.
    Status,
    Client(Fault),
}

/// What `next` goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    pub(super) failure: Failure,
    /// On a canary arm: which failures baseline answers.
    pub(super) failover: Option<Failover>,
    /// May be sent again after it was sent.
    pub(super) is_replayable: bool,
    pub(super) retries_left: u32,
    /// The pool has a usable endpoint that was not tried.
    pub(super) has_untried: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Once more; it was no attempt.
    Resend,
    /// On another endpoint: nothing was sent, so it is routing.
    Retry,
    /// Once more after it was sent, or on the same endpoint, if the budget allows it.
    Repeat,
    /// Baseline answers; nothing was sent, so it is routing.
    Reroute,
    /// Baseline answers too, if the budget allows it.
    FailOver,
    GiveUp,
}

/// What follows a failure.
pub(super) fn next(now: Situation) -> Next {
    let failover = now.failover.unwrap_or_default();
    let can_repeat = now.retries_left > 0;
    let after_sent = |is_covered: bool, can_repeat: bool| {
        if !now.is_replayable {
            Next::GiveUp
        } else if is_covered {
            Next::FailOver
        } else if can_repeat {
            Next::Repeat
        } else {
            Next::GiveUp
        }
    };
    match now.failure {
        Failure::Moved | Failure::Stale => Next::Resend,
        Failure::NoEndpoint if now.failover.is_some() => Next::Reroute,
        Failure::NoEndpoint => Next::GiveUp,
        Failure::Overloaded if failover.connect => Next::Reroute,
        Failure::Overloaded => Next::GiveUp,
        Failure::NoTunnel if now.failover.is_some() => Next::Reroute,
        Failure::NoTunnel => Next::GiveUp,
        Failure::ConnectFailed
        | Failure::ConnectTimeout
        | Failure::TlsFailed
        | Failure::Refused => {
            if can_repeat && now.has_untried {
                Next::Retry
            } else if failover.connect {
                Next::Reroute
            } else if can_repeat {
                Next::Repeat
            } else {
                Next::GiveUp
            }
        }
        Failure::Reset | Failure::NotTrusted | Failure::BadAnswer => {
            after_sent(failover.reset, can_repeat)
        }
        // The same endpoint would be no faster.
        Failure::Timeout => after_sent(failover.timeout, can_repeat && now.has_untried),
        Failure::Status => Next::Reroute,
        Failure::Client(_) => Next::GiveUp,
    }
}

// === impl Failure ===

impl Failure {
    /// What the client is told.
    pub(super) const fn fault(self) -> Fault {
        match self {
            Self::NoEndpoint | Self::Moved => Fault::NoEndpoint,
            Self::Overloaded => Fault::Overloaded,
            Self::ConnectFailed => Fault::ConnectFailed,
            Self::TlsFailed | Self::NotTrusted => Fault::TlsFailed,
            Self::NoTunnel => Fault::NotImplemented,
            Self::ConnectTimeout | Self::Timeout => Fault::Timeout,
            Self::Stale | Self::Refused | Self::Reset | Self::Status => Fault::Reset,
            Self::BadAnswer => Fault::BadAnswer,
            Self::Client(fault) => fault,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Failover = Failover {
        connect: true,
        reset: true,
        timeout: true,
        status_5xx: true,
    };
    const NONE: Failover = Failover {
        connect: false,
        reset: false,
        timeout: false,
        status_5xx: false,
    };

    // `retries` left and endpoints untried, as `1u`, `1`, `0u`, `0`.
    fn check(
        failure: Failure,
        failover: Option<Failover>,
        is_replayable: bool,
        retries: &str,
        expected: Next,
    ) {
        let situation = Situation {
            failure,
            failover,
            is_replayable,
            retries_left: u32::from(retries.starts_with('1')),
            has_untried: retries.ends_with('u'),
        };
        assert_eq!(next(situation), expected, "{situation:?}");
    }

    #[test]
    fn what_was_not_sent_goes_again_whatever_its_method() {
        use Failure::{ConnectFailed, ConnectTimeout, Refused, TlsFailed};
        for failure in [ConnectFailed, ConnectTimeout, TlsFailed, Refused] {
            for is_replayable in [false, true] {
                check(failure, None, is_replayable, "1u", Next::Retry);
                check(failure, None, is_replayable, "0u", Next::GiveUp);
                check(failure, None, is_replayable, "1", Next::Repeat);
                check(failure, Some(ALL), is_replayable, "1u", Next::Retry);
                check(failure, Some(ALL), is_replayable, "1", Next::Reroute);
                check(failure, Some(ALL), is_replayable, "0u", Next::Reroute);
                check(failure, Some(NONE), is_replayable, "0u", Next::GiveUp);
            }
        }
        check(Failure::Stale, None, false, "0", Next::Resend);
        check(Failure::Moved, Some(ALL), false, "0", Next::Resend);
    }

    #[test]
    fn a_canary_that_is_full_is_routed_around() {
        check(Failure::Overloaded, Some(ALL), false, "1u", Next::Reroute);
        check(Failure::Overloaded, Some(NONE), true, "1u", Next::GiveUp);
        check(Failure::Overloaded, None, true, "1u", Next::GiveUp);
    }

    #[test]
    fn a_canary_without_endpoints_is_routed_around() {
        check(Failure::NoEndpoint, Some(NONE), false, "0", Next::Reroute);
        check(Failure::NoEndpoint, None, true, "1u", Next::GiveUp);
    }

    #[test]
    fn what_was_sent_goes_again_only_where_that_is_safe() {
        for failure in [Failure::Reset, Failure::BadAnswer, Failure::Timeout] {
            for failover in [None, Some(NONE)] {
                check(failure, failover, true, "1u", Next::Repeat);
                check(failure, failover, true, "0u", Next::GiveUp);
                check(failure, failover, false, "1u", Next::GiveUp);
            }
        }
        check(Failure::Reset, None, true, "1", Next::Repeat);
        check(Failure::BadAnswer, None, true, "1", Next::Repeat);
        check(Failure::Timeout, None, true, "1", Next::GiveUp);
    }

    #[test]
    fn what_was_sent_fails_over_only_where_that_is_safe_and_wanted() {
        for failure in [Failure::Reset, Failure::BadAnswer, Failure::Timeout] {
            check(failure, Some(ALL), true, "0", Next::FailOver);
            check(failure, Some(ALL), false, "1u", Next::GiveUp);
            check(failure, Some(ALL), true, "1u", Next::FailOver);
            check(failure, Some(NONE), true, "0u", Next::GiveUp);
        }
        check(
            Failure::Reset,
            Some(Failover {
                timeout: true,
                ..NONE
            }),
            true,
            "0u",
            Next::GiveUp,
        );
        check(
            Failure::Timeout,
            Some(Failover {
                reset: true,
                ..NONE
            }),
            true,
            "0",
            Next::GiveUp,
        );
        check(
            Failure::Client(Fault::BodyTooLarge),
            Some(ALL),
            true,
            "1u",
            Next::GiveUp,
        );
    }
}
