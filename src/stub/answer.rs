//! What an analyzer answers to one request.
//!
//! Owns the paths, what a request may ask for (`?bytes=`, `?delay_ms=`, `?status=`, or the headers
//! `x-analyzer-bytes`, `-delay-ms`, `-status`) and the body's bytes. Knows no socket: a reset is
//! asked for, and done below.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;

use super::analyzer::Inner;
use super::behaviour::Change;
use super::chance::Draw;
use super::wire::End;
use super::{LEARNER_HEADER, POOL_HEADER, SEGMENT_HEADER};
use crate::clock;

/// The largest body that a request may ask for: 64 GiB.
const BYTES_MAX: u64 = 1 << 36;
/// The longest delay that a request may ask for, in milliseconds.
const DELAY_MAX_MS: u64 = 600_000;
/// The largest `POST /behaviour`.
const CHANGE_MAX: usize = 64 << 10;
/// Headers that ask for the same as a query's names.
const ASKING: [(HeaderName, &str); 3] = [
    (HeaderName::from_static("x-analyzer-bytes"), "bytes"),
    (HeaderName::from_static("x-analyzer-delay-ms"), "delay_ms"),
    (HeaderName::from_static("x-analyzer-status"), "status"),
];
const FILLER: &[u8] = &[b'x'; 16 << 10];

const POOL: HeaderName = HeaderName::from_static(POOL_HEADER);
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Why a request gets no answer: the connection ends instead.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("told to reset the connection")]
    Reset,
    #[error("told to cut the body short")]
    Cut,
}

/// The body of an answer.
#[derive(Debug)]
pub(super) enum AnswerBody {
    Whole(Bytes),
    /// So many more bytes that say nothing.
    Filler(u64),
    /// The rest of a promise that will be broken: what is still sent, and whether it was flushed.
    Cut {
        half: Bytes,
        flushed: bool,
    },
}

/// What a request asked of its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Asked {
    bytes: Option<u64>,
    delay_ms: u64,
    status: Option<StatusCode>,
}

#[derive(Serialize)]
struct Said<'a> {
    pool: &'a str,
    learner: Option<&'a str>,
    request: u64,
}

/// Answers one request.
pub(super) async fn answer(
    inner: Arc<Inner>,
    end: End,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, NoAnswer> {
    match (request.method(), request.uri().path()) {
        (_, "/health") => Ok(health(&inner)),
        (&Method::GET, "/behaviour") => Ok(json(
            &inner,
            StatusCode::OK,
            &inner.told().behaviour.shown(),
        )),
        (&Method::POST, "/behaviour") => Ok(change(&inner, request.into_body()).await),
        (&Method::GET, "/metrics") => Ok(metrics(&inner)),
        (&Method::GET, "/counts") => Ok(json(&inner, StatusCode::OK, &inner.counts())),
        _ => learner(&inner, &end, request).await,
    }
}

fn health(inner: &Inner) -> Response<AnswerBody> {
    inner.counters.probes.fetch_add(1, Ordering::Relaxed);
    if inner.told().behaviour.sick {
        return text(inner, StatusCode::SERVICE_UNAVAILABLE, "sick\n");
    }
    text(inner, StatusCode::OK, "ok\n")
}

/// The Prometheus text that an analyzer of the client's has.
fn metrics(inner: &Inner) -> Response<AnswerBody> {
    let behaviour = inner.told().behaviour;
    let requests = inner.counters.requests.load(Ordering::Relaxed);
    let hits = inner
        .counters
        .cache_hits
        .load(Ordering::Relaxed)
        .min(requests);
    let mut text = String::new();
    for (name, kind, value) in [
        (
            "process_resident_memory_bytes",
            "gauge",
            behaviour.memory_bytes,
        ),
        ("analyzer_cpu_cores", "gauge", behaviour.cpu),
        (
            "analyzer_cache_hit_ratio",
            "gauge",
            behaviour.cache_hit_rate,
        ),
        ("analyzer_requests_total", "counter", requests as f64),
        ("analyzer_cache_hits_total", "counter", hits as f64),
        (
            "analyzer_cache_misses_total",
            "counter",
            (requests - hits) as f64,
        ),
    ] {
        let pool = &inner.pool;
        text.push_str(&format!(
            "# TYPE {name} {kind}\n{name}{{pool=\"{pool}\"}} {value}\n"
        ));
    }
    self::text(inner, StatusCode::OK, &text)
}

async fn change(inner: &Arc<Inner>, body: Incoming) -> Response<AnswerBody> {
    let refused = |why: String| text(inner, StatusCode::UNPROCESSABLE_ENTITY, &format!("{why}\n"));
    let bytes = match Limited::new(body, CHANGE_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return refused(error.to_string()),
    };
    let change: Change = match serde_json::from_slice(&bytes) {
        Ok(change) => change,
        Err(error) => return refused(error.to_string()),
    };
    match inner.apply(&change) {
        Ok(behaviour) => json(inner, StatusCode::OK, &behaviour.shown()),
        Err(error) => refused(error.to_string()),
    }
}

async fn learner(
    inner: &Inner,
    end: &End,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, NoAnswer> {
    let told = inner.told();
    let behaviour = told.behaviour;
    let number = inner.begin();
    let hits = |draw, share| inner.chance.hits(draw, number, share);
    if hits(Draw::CacheHit, behaviour.cache_hit_rate) {
        count(&inner.counters.cache_hits);
    }
    let (head, body) = request.into_parts();
    read_out(body).await;
    if hits(Draw::Hang, behaviour.hang) {
        count(&inner.counters.hung);
        std::future::pending::<()>().await;
    }
    if hits(Draw::Reset, behaviour.reset) {
        count(&inner.counters.reset);
        end.by_reset();
        return Err(NoAnswer::Reset);
    }
    let asked = match Asked::read(&head) {
        Ok(asked) => asked,
        Err(why) => return Ok(text(inner, StatusCode::BAD_REQUEST, why)),
    };
    let slowness = behaviour.slowness(clock::now().saturating_duration_since(told.since));
    let latency = inner
        .chance
        .latency(number, behaviour.latency)
        .mul_f64(slowness);
    wait(latency + Duration::from_millis(asked.delay_ms)).await;

    let mut status = asked.status.unwrap_or(StatusCode::OK);
    let segment = head.headers.get(SEGMENT_HEADER);
    let errs = behaviour.errs_for(segment.map(HeaderValue::as_bytes));
    if errs && hits(Draw::Error, behaviour.error_rate) {
        count(&inner.counters.errors);
        status =
            StatusCode::from_u16(behaviour.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let learner = head.headers.get(LEARNER_HEADER);
    let said = Said {
        pool: &inner.pool,
        learner: learner.and_then(|id| id.to_str().ok()),
        request: number,
    };
    let mut answer = json(inner, status, &said);
    if let Some(bytes) = asked.bytes {
        answer.headers_mut().insert(CONTENT_TYPE, BINARY);
        *answer.body_mut() = AnswerBody::Filler(bytes);
    }
    if hits(Draw::CutBody, behaviour.cut_body) {
        count(&inner.counters.cut);
        cut(&mut answer);
    }
    Ok(answer)
}

// A body is read to its end, so that the connection can carry the next request.
async fn read_out(mut body: Incoming) {
    while !body.is_end_stream() {
        match body.frame().await {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return,
        }
    }
}

async fn wait(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

fn cut(answer: &mut Response<AnswerBody>) {
    let promised = answer.body().size_hint().lower();
    answer.headers_mut().insert(CONTENT_LENGTH, promised.into());
    let half = usize::try_from(promised / 2).unwrap_or(usize::MAX);
    let half = match answer.body() {
        AnswerBody::Whole(bytes) => bytes.slice(..half),
        AnswerBody::Filler(_) | AnswerBody::Cut { .. } => {
            Bytes::from_static(&FILLER[..half.min(FILLER.len())])
        }
    };
    *answer.body_mut() = AnswerBody::Cut {
        half,
        flushed: false,
    };
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn json(inner: &Inner, status: StatusCode, what: &impl Serialize) -> Response<AnswerBody> {
    let bytes = serde_json::to_vec(what).expect("plain structs with text keys are JSON");
    response(inner, status, JSON, bytes.into())
}

fn text(inner: &Inner, status: StatusCode, text: &str) -> Response<AnswerBody> {
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response(
        inner,
        status,
        plain,
        Bytes::copy_from_slice(text.as_bytes()),
    )
}

fn response(
    inner: &Inner,
    status: StatusCode,
    kind: HeaderValue,
    bytes: Bytes,
) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Whole(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
        .headers_mut()
        .insert(POOL, inner.pool_header.clone());
    response
}

// === impl Asked ===

impl Asked {
    fn read(head: &http::request::Parts) -> Result<Self, &'static str> {
        let mut asked = Self::default();
        for pair in head.uri.query().unwrap_or("").split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            asked.take(name, value)?;
        }
        for (header, name) in ASKING {
            if let Some(value) = head.headers.get(header) {
                let value = value.to_str().map_err(|_| "a header is not text\n")?;
                asked.take(name, value)?;
            }
        }
        Ok(asked)
    }

    // Names that are not ours belong to the learner's own query.
    fn take(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        match name {
            "bytes" => {
                let bytes = number(value, BYTES_MAX);
                self.bytes = Some(bytes.ok_or("bytes is not a number up to 64 GiB\n")?);
            }
            "delay_ms" => {
                let delay = number(value, DELAY_MAX_MS);
                self.delay_ms = delay.ok_or("delay_ms is not a number up to 600000\n")?;
            }
            "status" => {
                let status = value
                    .parse()
                    .ok()
                    .filter(|status| (200..600).contains(status));
                let status = status.and_then(|status| StatusCode::from_u16(status).ok());
                self.status = Some(status.ok_or("status is not between 200 and 599\n")?);
            }
            _ => {}
        }
        Ok(())
    }
}

fn number(text: &str, most: u64) -> Option<u64> {
    text.parse().ok().filter(|number| *number <= most)
}

// === impl AnswerBody ===

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = NoAnswer;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, NoAnswer>>> {
        let bytes = match &mut *self {
            Self::Whole(bytes) => std::mem::take(bytes),
            Self::Filler(left) => {
                let now = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(FILLER.len());
                *left -= now as u64;
                Bytes::from_static(&FILLER[..now])
            }
            Self::Cut { half, flushed } => {
                if half.is_empty() {
                    ready!(flush_first(flushed, cx));
                    return Poll::Ready(Some(Err(NoAnswer::Cut)));
                }
                std::mem::take(half)
            }
        };
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Filler(left) => *left == 0,
            Self::Cut { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Filler(left) => SizeHint::with_exact(*left),
            Self::Cut { .. } => SizeHint::new(),
        }
    }
}

// hyper flushes when the body has nothing for the moment, and not when it fails: so it has nothing
// once, and what was written before the failure reaches the other side.
fn flush_first(flushed: &mut bool, cx: &Context<'_>) -> Poll<()> {
    if *flushed {
        return Poll::Ready(());
    }
    *flushed = true;
    cx.waker().wake_by_ref();
    Poll::Pending
}
