//! The request's table of contents: what happens to it, in order. Each step is a leaf of its own.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};
use http_body::Body;
use http_body_util::BodyExt;
use xxhash_rust::xxh3::xxh3_64;

use super::answer::{Answer, Turn};
use super::body::{Source, UploadLimits};
use super::check;
use super::choose::{self, Choice};
use super::forward::{Passed, Start, forward};
use super::grpc;
use super::headers::{self, Peer, X_SERIN_POOL};
use super::ids::Dice;
use super::incoming::Incoming;
use super::learner::{Asker, client_address};
use super::meter::Meter;
use super::mirror::Shadow;
use super::order::Order;
use super::outcome::{Ledger, OwnArm};
use super::passage::Passage;
use super::respond::{self, Fault};
use super::seen::Seen;
use super::translate;
use super::transport::Secured;
use super::upgrade::Asked;
use super::visit::Visit;
use super::worker::Worker;
use crate::clock;
use crate::config::Balance;
use crate::live::{Held, Matched, PoolIndex, RolloutIndex, Rules, Target};
use crate::proxy_protocol::Introduction;
use crate::rollout::evidence::Assigned;
use crate::rollout::name::Arm;
use crate::upstream::admission::Overloaded;
use crate::upstream::http1::Spelling;
use crate::upstream::pool::Pool;

/// One client's connection, as its requests see it.
pub(super) struct Client {
    worker: Rc<Worker>,
    meter: Arc<Meter>,
    /// Whose connection it is, for pools that are told.
    whose: Introduction,
    ip: IpAddr,
    address: Rc<str>,
    peer: Peer,
    /// Where the client speaks TLS.
    secured: Option<Secured>,
    /// What the connection goes on with once the answer under way is written. HTTP/2 has tunnels in its streams.
    switched: RefCell<Option<Switched>>,
}

/// A tunnel of HTTP/1, and the turn of its request, which lasts as long.
type Switched = (Box<Passage>, Turn);

/// Where a request goes, and what is owed to the records for it.
struct Destination {
    pool: PoolIndex,
    chosen: Option<(RolloutIndex, Choice)>,
    ledger: Rc<Ledger>,
}

/// Answers one request: with upstream's answer, or with serin's own.
pub(super) async fn handle(
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let is_http2 = request.version() == Version::HTTP_2;
    let turn = Turn::begin(&client.meter);
    let has_body = !request.body().is_end_stream();
    let is_head = request.method() == Method::HEAD;
    let mut visit = Visit::begin(&client.worker, client.ip, &request);
    let asked = if is_http2 {
        Spelling::default()
    } else {
        client.meter.spellings().take_request()
    };
    let mut answered = Spelling::default();
    let mut response = match serve(&client, request, asked, visit.as_deref_mut()).await {
        Ok((mut response, spelling, reply)) => {
            answered = spelling;
            client
                .worker
                .recorder
                .record_answer(response.status().as_u16(), None);
            if let Some(visit) = &mut visit {
                visit.answered(response.status(), None);
            }
            match reply {
                Passed::Download(download) => {
                    if let (Some(visit), Some(endpoint)) = (&mut visit, download.endpoint()) {
                        visit.answered_by(endpoint);
                    }
                    response.map(|()| Answer::download(download, turn, visit))
                }
                Passed::Tunnel(passage) => {
                    // It is told as it is opened: how long it lasts is nobody's answer.
                    if let Some(visit) = &mut visit {
                        visit.ended();
                    }
                    if is_http2 {
                        client
                            .worker
                            .date
                            .put(response.headers_mut(), &client.worker.clock);
                        return Ok(response.map(|()| Answer::tunnel(passage, turn)));
                    }
                    client.meter.spellings().put_answer(answered);
                    *client.switched.borrow_mut() = Some((passage, turn));
                    return Ok(response.map(|()| Answer::switched()));
                }
            }
        }
        Err(fault) => {
            if has_body {
                client.meter.set_unread();
            }
            tracing::debug!(%fault, client = %client.ip, "answered by serin");
            client
                .worker
                .recorder
                .record_answer(fault.status().as_u16(), Some(fault.reason()));
            if let Some(visit) = &mut visit {
                visit.answered(fault.status(), Some(fault.reason()));
            }
            let (response, text) = respond::answer(fault);
            // The length of what is not sent is in the head.
            let text = if is_head { Bytes::new() } else { text };
            response.map(|()| Answer::text(text, turn, visit))
        }
    };
    if is_http2 {
        // HTTP/2 says it by frames.
        response.headers_mut().remove(CONNECTION);
        client
            .worker
            .date
            .put(response.headers_mut(), &client.worker.clock);
        return Ok(response);
    }
    client.meter.spellings().put_answer(answered);
    if client.worker.is_draining() {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

async fn serve(
    client: &Client,
    request: Request<Incoming>,
    spelling: Spelling,
    mut visit: Option<&mut Visit>,
) -> Result<(Response<()>, Spelling, Passed), Fault> {
    let began = clock::now();
    let held = client.worker.table();
    let (mut parts, body) = request.into_parts();
    let rules = held.rules();
    let is_http2 = parts.version == Version::HTTP_2;
    let mut asked = None;
    if is_http2 {
        asked = Asked::by_connect(&mut parts, rand::random)?;
    }
    let seen = Seen::of(&parts.headers);
    if is_http2 {
        translate::canonical(&mut parts, seen)?;
    }
    let host = check::head(&parts, &rules.limits)?;
    let is_misdirected = |secured: &Secured| !secured.is_for(host);
    if client.secured.as_ref().is_some_and(is_misdirected) {
        return Err(Fault::WrongHost);
    }
    let matched = held.route(host, parts.uri.path()).ok_or(Fault::NoRoute)?;
    let admitted = client.worker.admit(&rules.admission, None).await;
    let (place, mut has_waited) = admitted.map_err(|Overloaded| Fault::Overloaded)?;
    let is_trusted = rules.trusts(client.ip);
    let address = client.address(rules, is_trusted, &parts.headers);

    let is_call = seen.any(Seen::CONTENT_TYPE) && grpc::is_call(&parts.headers);
    let limits = UploadLimits {
        bytes: rules.limits.body_bytes,
        idle: if !body.is_end_stream() && headers::is_stream(&parts.headers) {
            rules.timeouts.stream_idle
        } else {
            rules.timeouts.body_idle
        },
    };
    if !is_http2 && seen.any(Seen::UPGRADE) {
        asked = Asked::by_upgrade(&parts, !body.is_end_stream())?;
    }
    declared_length(&body, limits.bytes)?;
    let body = if is_http2 && is_declared_empty(&body) {
        has_waited = true;
        ended(&client.worker, body, limits.idle).await?
    } else {
        body
    };
    let is_chunked =
        seen.any(Seen::TRANSFER_ENCODING) || is_http2 && !seen.any(Seen::CONTENT_LENGTH);
    headers::check_hops(&parts.headers, seen)?;
    headers::check_trailer(&parts.headers, seen, rules)?;
    // Nothing is counted of what is refused above.
    let destination = client.destination(&held, matched, &parts, &address, is_trusted, began);
    headers::strip_request_hops(&mut parts.headers, seen);
    headers::strip_claims(&mut parts.headers, rules, is_trusted);
    let trace = headers::forward(&mut parts.headers, &client.peer, dice());
    destination.ledger.traced(trace);
    if let Some(visit) = &mut visit {
        visit.pass_trace(&mut parts.headers);
    }
    let is_idempotent = matched.idempotent || is_idempotent(&parts);
    // HTTP/2 tells of a request that it was not processed, and then any may go again.
    let keeps = is_idempotent || held.pool(destination.pool).transport.is_http2();
    let source = Source::new(body, keeps, limits, &client.worker.deadlines);
    keep_framing(&mut parts.headers, is_chunked, source.is_some());
    if let Some(asked) = &asked {
        asked.put(&mut parts.headers);
    }

    let mut order = Order {
        uri: origin_form(parts.uri),
        method: parts.method,
        headers: parts.headers,
        spelling,
        source,
        asked,
        is_idempotent,
        is_call,
        address,
        shadow: None,
    };
    let Destination {
        pool,
        chosen,
        ledger,
    } = destination;
    if let Some(visit) = visit {
        let chosen = chosen.map(|(rollout, choice)| (rollout, choice.arm));
        visit.routed(&held, pool, chosen, &ledger);
        visit.traced(trace);
    }
    order.shadow = Shadow::cast(&client.worker, &held, chosen, client.whose, &order);
    let key = chosen.map_or_else(
        || address_key(held.pool(pool), &order.address),
        |(_, choice)| choice.key(),
    );
    let start = Start {
        worker: Rc::clone(&client.worker),
        ledger,
        held,
        pool,
        chosen,
        key,
        whose: client.whose,
        began,
        now: if has_waited { clock::now() } else { began },
    };
    let (mut head, spelling, mut passed) = forward(start, order).await?;
    passed.hold(place);
    if matches!(passed, Passed::Download(_)) {
        headers::strip_answer_hops(&mut head.headers);
    }
    head.version = Version::HTTP_11;
    Ok((Response::from_parts(head, ()), spelling, passed))
}

// === impl Client ===

impl Client {
    pub(super) fn new(
        worker: &Rc<Worker>,
        meter: &Arc<Meter>,
        whose: Introduction,
        secured: Option<Secured>,
    ) -> Rc<Self> {
        let ip = whose.source.ip().to_canonical();
        let text = ip.to_string();
        let node = if ip.is_ipv6() {
            format!("\"[{text}]\"")
        } else {
            text.clone()
        };
        let address =
            HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        Rc::new(Self {
            worker: Rc::clone(worker),
            meter: Arc::clone(meter),
            whose,
            ip,
            address: text.into(),
            peer: Peer {
                address,
                node,
                scheme: if secured.is_some() { "https" } else { "http" },
            },
            secured,
            switched: RefCell::default(),
        })
    }

    /// The tunnel that the connection goes on with, where it is to.
    pub(super) fn take_switched(&self) -> Option<Switched> {
        self.switched.borrow_mut().take()
    }

    fn address(&self, rules: &Rules, is_trusted: bool, headers: &HeaderMap) -> Rc<str> {
        if !is_trusted {
            return Rc::clone(&self.address);
        }
        client_address(self.ip, &rules.trusted, headers)
            .to_string()
            .into()
    }

    fn destination(
        &self,
        held: &Held,
        matched: Matched,
        parts: &Parts,
        address: &str,
        is_trusted: bool,
        now: Instant,
    ) -> Destination {
        let index = match matched.target {
            Target::Pool(pool) => {
                return Destination {
                    pool,
                    chosen: None,
                    ledger: Ledger::new(&self.worker, None),
                };
            }
            Target::Rollout(index) => index,
        };
        let rollout = held.rollout(index);
        let asker = Asker {
            headers: &parts.headers,
            uri: &parts.uri,
            address,
        };
        let forced = if is_trusted {
            forced_arm(held, index, &parts.headers)
        } else {
            None
        };
        let choice = choose::choose(rollout, asker, forced, rand::random());
        let owed = choice.counts().then(|| {
            let own = self.own_arm(held, index, &choice, asker);
            (Rc::clone(held), own)
        });
        if choice.arm == Arm::Baseline {
            self.worker.earn_failover(index, now);
        }
        let ledger = Ledger::new(&self.worker, owed);
        Destination {
            pool: rollout.pool(choice.arm),
            chosen: Some((index, choice)),
            ledger,
        }
    }

    fn own_arm(
        &self,
        held: &Held,
        index: RolloutIndex,
        choice: &Choice,
        asker: Asker<'_>,
    ) -> OwnArm {
        let rollout = held.rollout(index);
        let learner = choice.learner();
        let segment = choose::segment_of(rollout, asker);
        let segment = segment.map_or_else(Default::default, |name| rollout.meter.segment(&name));
        let (arm, epoch) = (choice.arm, rollout.split.epoch);
        if let Some(learner) = learner {
            let assigned = Assigned {
                learner,
                arm,
                segment,
                epoch,
            };
            self.worker
                .recorder
                .record_learner(&rollout.meter, assigned);
        }
        OwnArm {
            rollout: index,
            arm,
            segment,
            epoch,
            learner,
        }
    }
}

// No other client may use what speaks for this one.
impl Drop for Client {
    fn drop(&mut self) {
        self.worker.connections.forget(&self.whose);
        self.worker.mirrors.forget(&self.whose);
    }
}

// The arm whose pool a trusted peer names.
fn forced_arm(held: &Held, index: RolloutIndex, headers: &HeaderMap) -> Option<Arm> {
    let name = headers.get(X_SERIN_POOL)?;
    let rollout = held.rollout(index);
    Arm::ALL
        .into_iter()
        .find(|&arm| held.pool(rollout.pool(arm)).name.as_str().as_bytes() == name.as_bytes())
}

// Only a ring asks for it.
fn address_key(pool: &Pool, address: &str) -> u64 {
    match pool.config().balance {
        Balance::Ring => xxh3_64(address.as_bytes()),
        Balance::RoundRobin | Balance::LeastRequests | Balance::P2c => 0,
    }
}

fn declared_length(body: &Incoming, limit: u64) -> Result<(), Fault> {
    let is_over = limit != 0 && body.size_hint().lower() > limit;
    if is_over {
        Err(Fault::BodyTooLarge)
    } else {
        Ok(())
    }
}

// HTTP/2 may say that a body is empty before it says that it has ended.
fn is_declared_empty(body: &Incoming) -> bool {
    body.size_hint().exact() == Some(0) && !body.is_end_stream()
}

// A request without a body is whole with its head: it is sent on when nothing has come behind that.
async fn ended(worker: &Worker, mut body: Incoming, limit: Duration) -> Result<Incoming, Fault> {
    loop {
        let next = worker.deadlines.within(limit, body.frame()).await;
        match next.map_err(|_| Fault::ClientTimeout)? {
            None => return Ok(body),
            Some(Ok(_)) if body.is_end_stream() => return Ok(body),
            Some(Ok(_)) => {}
            Some(Err(_)) => return Err(Fault::BadRequest("broken body")),
        }
    }
}

fn is_idempotent(parts: &Parts) -> bool {
    parts.method.is_idempotent() || parts.headers.contains_key("idempotency-key")
}

// hyper sends a body of unknown length with a GET only where the head says so.
fn keep_framing(headers: &mut HeaderMap, is_chunked: bool, has_body: bool) {
    if is_chunked && has_body {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        headers.remove(CONTENT_LENGTH);
    }
}

fn origin_form(uri: Uri) -> Uri {
    if uri.scheme().is_none() {
        return uri;
    }
    let path = uri.into_parts().path_and_query;
    path.map_or_else(Uri::default, Uri::from)
}

pub(super) fn dice() -> Dice {
    Dice {
        trace: rand::random(),
        span: rand::random(),
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn idempotent_is_what_the_standard_says_or_the_client_vouches_for() {
        let check = |method: Method, key: bool, expected: bool| {
            let mut request = Request::builder().method(method.clone());
            if key {
                request = request.header("idempotency-key", "k");
            }
            let (parts, ()) = request.body(()).expect("a request").into_parts();
            assert_eq!(is_idempotent(&parts), expected, "{method} {key}");
        };
        for method in [
            Method::GET,
            Method::HEAD,
            Method::OPTIONS,
            Method::PUT,
            Method::DELETE,
        ] {
            check(method, false, true);
        }
        check(Method::POST, false, false);
        check(Method::PATCH, false, false);
        check(Method::POST, true, true);
    }

    #[test]
    fn absolute_targets_become_paths() {
        let check = |target: &str, expected: &str| {
            assert_eq!(
                origin_form(target.parse().expect("a target")).to_string(),
                expected
            );
        };
        check("/a?b", "/a?b");
        check("http://h:1/a?b", "/a?b");
        check("http://h", "/");
        check("*", "*");
    }
}
