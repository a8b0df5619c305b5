//! One request as the access log and a collector of traces are told of it: noted as it comes, told when the last of its
//! answer has been handed on.
//!
//! Owns which requests are told. Where none is, nothing is noted. Decides nothing about the request.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version, header};

use super::outcome::Ledger;
use super::trace::{Trace, Tries};
use super::worker::Worker;
use crate::clock;
use crate::config::AccessLog;
use crate::live::{Held, PoolIndex, RolloutIndex};
use crate::rollout::name::Arm;
use crate::rollout::time::WallTime;
use crate::rollout::weight::Weight;
use crate::telemetry::TraceId;
use crate::telemetry::access_log::Line;
use crate::telemetry::spans::Span;
use crate::upstream::endpoint::Endpoint;

/// What is known of a request so far.
pub(super) struct Visit {
    worker: Rc<Worker>,
    /// `None` where the access log is not told.
    told: Option<Told>,
    /// `None` where no span is made of it.
    traced: Option<(Trace, Rc<Tries>)>,
    at: WallTime,
    began: Instant,
    client: IpAddr,
    version: Version,
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
    route: Option<Route>,
    trace: Option<TraceId>,
    endpoint: Option<Arc<Endpoint>>,
    status: StatusCode,
    error: Option<&'static str>,
    bytes: u64,
    whole: bool,
}

/// When the access log tells of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Always,
    /// Only if it went ill.
    Errors,
}

struct Route {
    held: Held,
    pool: PoolIndex,
    chosen: Option<(RolloutIndex, Arm)>,
}

impl Visit {
    /// `None` where this request is not to be told.
    pub(super) fn begin<B>(
        worker: &Rc<Worker>,
        client: IpAddr,
        request: &Request<B>,
    ) -> Option<Box<Self>> {
        let table = worker.table();
        let rules = table.rules();
        let told = match rules.access {
            AccessLog::Off => None,
            AccessLog::Errors => Some(Told::Errors),
            AccessLog::Share(share) => is_drawn(share).then_some(Told::Always),
            AccessLog::All => Some(Told::Always),
        };
        let trace = worker.spans.as_ref().and_then(|_| {
            let is_trusted = rules.trusts(client);
            Trace::begin(&rules.tracing, is_trusted, request.headers())
        });
        if told.is_none() && trace.is_none() {
            return None;
        }
        Some(Box::new(Self {
            worker: Rc::clone(worker),
            told,
            traced: trace.map(|trace| (trace, Rc::default())),
            at: clock::wall(),
            began: clock::now(),
            client,
            version: request.version(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            host: request.headers().get(header::HOST).cloned(),
            route: None,
            trace: None,
            endpoint: None,
            status: StatusCode::OK,
            error: None,
            bytes: 0,
            whole: false,
        }))
    }

    /// Tells the endpoint of the trace, where the request is in one that is told.
    pub(super) fn pass_trace(&mut self, headers: &mut HeaderMap) {
        if let Some((trace, _)) = &mut self.traced {
            trace.pass(headers);
        }
    }

    pub(super) fn routed(
        &mut self,
        held: &Held,
        pool: PoolIndex,
        chosen: Option<(RolloutIndex, Arm)>,
        ledger: &Ledger,
    ) {
        if let Some((_, tries)) = &self.traced {
            ledger.tell(tries);
        }
        self.route = Some(Route {
            held: Rc::clone(held),
            pool,
            chosen,
        });
    }

    pub(super) fn traced(&mut self, trace: Option<TraceId>) {
        self.trace = trace;
    }

    /// The answer's head: an endpoint's, or serin's own.
    pub(super) fn answered(&mut self, status: StatusCode, error: Option<&'static str>) {
        self.status = status;
        self.error = error;
    }

    pub(super) fn answered_by(&mut self, endpoint: &Arc<Endpoint>) {
        self.endpoint = Some(Arc::clone(endpoint));
    }

    pub(super) fn handed_on(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    pub(super) fn ended(&mut self) {
        self.whole = true;
    }

    fn is_told(&self) -> bool {
        match self.told {
            None => false,
            Some(Told::Always) => true,
            Some(Told::Errors) => {
                self.error.is_some() || self.status.is_server_error() || !self.whole
            }
        }
    }

    fn span(&self, trace: &Trace, tries: &Tries) -> Span {
        let route = self.route.as_ref();
        let rollout = route.and_then(|route| {
            let (rollout, _) = route.chosen?;
            Some(route.held.rollout(rollout))
        });
        let meant = || route.map(|route| route.held.pool(route.pool).name.clone());
        Span {
            trace: trace.trace,
            id: trace.id,
            parent: trace.parent,
            state: trace.state.clone(),
            began_ns: trace.began_ns,
            took: clock::now().saturating_duration_since(self.began),
            client: self.client,
            method: self.method.as_str().to_owned(),
            version: protocol(self.version).trim_start_matches("HTTP/"),
            host: self.host().map(str::to_owned),
            path: self.uri.path().to_owned(),
            status: self.status.as_u16(),
            error: self.error,
            rollout: rollout.map(|rollout| rollout.name.clone()),
            stage: rollout.and_then(|rollout| rollout.stage.clone()),
            arm: route.and_then(|route| Some(route.chosen?.1)),
            pool: tries.pool().or_else(meant),
            endpoint: self.endpoint.as_deref().map(|one| one.address().to_owned()),
            attempts: tries.count(),
            failures: tries.failures(self.began),
            bytes: self.bytes,
            whole: self.whole,
        }
    }

    fn host(&self) -> Option<&str> {
        let said = self.host.as_ref().and_then(|host| host.to_str().ok());
        self.uri.authority().map(|host| host.as_str()).or(said)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let (Some(spans), Some((trace, tries))) = (&self.worker.spans, &self.traced) {
            spans.tell(self.span(trace, tries));
        }
        let Some(log) = self.worker.access_log.as_deref().filter(|_| self.is_told()) else {
            return;
        };
        let route = self.route.as_ref();
        let chosen = route.and_then(|route| Some((route, route.chosen?)));
        log.write(&Line {
            at: self.at,
            client: self.client,
            protocol: Some(protocol(self.version)),
            method: Some(self.method.as_str()),
            host: self.host(),
            path: Some(self.uri.path()),
            status: self.status.as_u16(),
            error: self.error,
            rollout: chosen.map(|(route, (rollout, _))| route.held.rollout(rollout).name.as_str()),
            arm: chosen.map(|(_, (_, arm))| arm),
            pool: route.map(|route| route.held.pool(route.pool).name.as_str()),
            endpoint: self.endpoint.as_deref().map(Endpoint::address),
            bytes: self.bytes,
            duration: clock::now().saturating_duration_since(self.began),
            whole: self.whole,
            trace: self.trace,
        });
    }
}

/// A head that was refused before it was a request: told as an error is.
pub(super) fn tell_refused(worker: &Worker, client: IpAddr, status: StatusCode, error: &str) {
    let is_told = match worker.table().rules().access {
        AccessLog::Off => false,
        AccessLog::Errors | AccessLog::All => true,
        AccessLog::Share(share) => is_drawn(share),
    };
    let Some(log) = worker.access_log.as_deref().filter(|_| is_told) else {
        return;
    };
    log.write(&Line {
        at: clock::wall(),
        client,
        protocol: None,
        method: None,
        host: None,
        path: None,
        status: status.as_u16(),
        error: Some(error),
        rollout: None,
        arm: None,
        pool: None,
        endpoint: None,
        bytes: 0,
        duration: std::time::Duration::ZERO,
        whole: true,
        trace: None,
    });
}

/// Chance, by this share.
pub(super) fn is_drawn(share: Weight) -> bool {
    rand::random_range(0..Weight::FULL.ppm()) < share.ppm()
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}
