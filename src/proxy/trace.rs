//! The trace that a request belongs to: whether it is told, and what the endpoint hears of it.
//!
//! W3C's trace context (<https://www.w3.org/TR/trace-context/>): a client's trace goes on, with serin's span between its
//! and the endpoint's; a request without one begins a trace, whose id is that of the request.

use std::cell::RefCell;
use std::time::Instant;

use http::{HeaderMap, HeaderValue};

use super::ids::{Said, TRACEPARENT, TRACESTATE, said_trace};
use super::next::Failure;
use super::visit::is_drawn;
use crate::clock;
use crate::config::{Parents, Tracing};
use crate::rollout::name::PoolName;
use crate::telemetry::spans::FailedAttempt;

/// A request that is told.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) trace: u128,
    pub(super) id: u64,
    pub(super) parent: Option<u64>,
    pub(super) state: String,
    pub(super) began_ns: u64,
}

/// What is tried for one request, as far as its span tells it.
#[derive(Debug, Default)]
pub(super) struct Tries {
    inner: RefCell<Tried>,
}

#[derive(Debug, Default)]
struct Tried {
    count: u32,
    /// The last one.
    pool: Option<PoolName>,
    failed: Vec<(Instant, PoolName, &'static str)>,
}

// === impl Trace ===

impl Trace {
    /// `None` where the request is not to be told: its trace is not recorded, or chance says so.
    pub(super) fn begin(rule: &Tracing, is_trusted: bool, headers: &HeaderMap) -> Option<Self> {
        let said = said_trace(headers);
        let heard = said.filter(|_| is_trusted || rule.parents == Parents::All);
        let is_told = heard.map_or_else(|| is_drawn(rule.share), |said| said.is_sampled);
        is_told.then(|| Self {
            trace: said.map_or_else(|| rand::random::<u128>().max(1), |said| said.trace),
            id: rand::random::<u64>().max(1),
            parent: said.map(|said| said.parent),
            state: said.map_or_else(String::new, |_| state(headers)),
            began_ns: clock::unix_nanos(),
        })
    }

    /// Tells the endpoint. The headers have a valid `traceparent` already, the client's or one that was made; of the latter
    /// the trace is taken, which the request's id is too.
    pub(super) fn pass(&mut self, headers: &mut HeaderMap) {
        if let Some(Said { trace, .. }) = said_trace(headers) {
            self.trace = trace;
        }
        let text = format!("00-{:032x}-{:016x}-01", self.trace, self.id);
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(TRACEPARENT, value);
        }
    }
}

// What is no text is not told; the endpoint gets it as it is.
fn state(headers: &HeaderMap) -> String {
    let lines = headers.get_all(TRACESTATE).iter();
    let texts: Vec<&str> = lines.filter_map(|line| line.to_str().ok()).collect();
    texts.join(",")
}

// === impl Tries ===

impl Tries {
    /// An attempt on this pool begins, or could not begin for want of a connection.
    pub(super) fn begin(&self, pool: &PoolName) {
        let mut tried = self.inner.borrow_mut();
        tried.count += 1;
        tried.pool = Some(pool.clone());
    }

    /// What was tried last came to nothing.
    pub(super) fn fail(&self, pool: &PoolName, failure: Failure) {
        let why = failure.fault().reason();
        let mut tried = self.inner.borrow_mut();
        tried.failed.push((clock::now(), pool.clone(), why));
    }

    pub(super) fn count(&self) -> u32 {
        self.inner.borrow().count
    }

    pub(super) fn pool(&self) -> Option<PoolName> {
        self.inner.borrow().pool.clone()
    }

    /// Each failure with its time since the request began.
    pub(super) fn failures(&self, began: Instant) -> Vec<FailedAttempt> {
        let tried = self.inner.borrow();
        let failed = tried.failed.iter();
        failed
            .map(|(at, pool, why)| FailedAttempt {
                after: at.saturating_duration_since(began),
                pool: pool.clone(),
                why,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::weight::Weight;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";

    fn headers(traceparent: Option<String>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(text) = traceparent {
            headers.insert(TRACEPARENT, text.parse().expect("a value"));
            headers.insert(TRACESTATE, HeaderValue::from_static("a=1,b=2"));
        }
        headers
    }

    #[test]
    fn a_trace_goes_on_where_it_is_recorded_and_begins_by_chance_elsewhere() {
        let check = |share: &str, parents, is_trusted, flags: Option<&str>, is_told: bool| {
            let rule = Tracing {
                collector: None,
                share: Weight::parse(share).expect("a share"),
                parents,
            };
            let headers = headers(flags.map(|flags| format!("{GIVEN}-{flags}")));
            let told = Trace::begin(&rule, is_trusted, &headers);
            assert_eq!(
                told.is_some(),
                is_told,
                "{share} {parents:?} {is_trusted} {flags:?}"
            );
            told
        };
        let told = check("0%", Parents::All, false, Some("01"), true).expect("told");
        assert_eq!(told.trace, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(told.parent, Some(0x00f0_67aa_0ba9_02b7));
        assert_eq!(told.state, "a=1,b=2");
        check("0%", Parents::All, false, Some("03"), true);
        check("100%", Parents::All, false, Some("00"), false);
        check("100%", Parents::All, false, None, true);
        check("0%", Parents::All, false, None, false);
        // What somebody says who is not trusted is not heard; the trace goes on all the same.
        check("0%", Parents::Trusted, false, Some("01"), false);
        check("0%", Parents::Trusted, true, Some("01"), true);
        let told = check("100%", Parents::Trusted, false, Some("00"), true).expect("told");
        assert_eq!(told.parent, Some(0x00f0_67aa_0ba9_02b7));
    }

    #[test]
    fn the_endpoint_is_told_of_our_span_in_the_same_trace() {
        let rule = Tracing {
            collector: None,
            share: Weight::FULL,
            parents: Parents::All,
        };
        let mut headers = headers(Some(format!("{GIVEN}-01")));
        let mut told = Trace::begin(&rule, false, &headers).expect("told");
        told.pass(&mut headers);
        let said = headers[TRACEPARENT].to_str().expect("text").to_owned();
        let id = format!("{:016x}", told.id);
        assert_eq!(said, format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{id}-01"));
        assert_eq!(headers[TRACESTATE], "a=1,b=2");
        assert_ne!(told.id, 0x00f0_67aa_0ba9_02b7);
    }
}
