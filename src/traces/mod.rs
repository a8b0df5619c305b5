//! Spans of requests to a collector of OpenTelemetry: OTLP over HTTP, in protobuf, from a thread of its own.
//!
//! `otlp` has the protocol's messages, `encode` makes them of spans. A batch is sent when it is full or a second old; one
//! that the collector cannot take now is sent again, ever more rarely, until it is too old. Meanwhile the line behind it fills, and
//! what does not fit is dropped and counted by who tells it: a collector that is slow or gone delays no request.

mod encode;
mod otlp;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use prost::Message;
use tokio::sync::mpsc::Receiver;

use crate::clock;
use crate::config::Collector;
use crate::outbound::{Answer, Call, CallError, Client};
use crate::shutdown::{Shutdown, Stage, Watched};
use crate::telemetry::spans::{Loss, Span, Spans};
use otlp::ExportTraceServiceResponse;

/// Spans of one batch: some hundred KiB.
const BATCH: usize = 512;
/// What has waited so long is sent, however little it is.
const DELAY: Duration = Duration::from_secs(1);
/// Before the first repetition; doubled with each.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A batch that nobody took for so long is dropped: by then its line has overflowed many times.
const PATIENCE: Duration = Duration::from_secs(60);
/// For everything that is left at the end.
const LAST_CALL: Duration = Duration::from_secs(2);
/// What is read of an answer.
const ANSWER: usize = 16 << 10;

/// What the thread is made of.
pub struct Parts {
    pub collector: Collector,
    /// Told what became of spans.
    pub spans: Arc<Spans>,
    /// Where they come from.
    pub line: Receiver<Span>,
    pub shutdown: Shutdown,
}

struct Exporter {
    client: Client,
    collector: Collector,
    spans: Arc<Spans>,
    /// The last warning, so that a lasting fault is told once.
    warned: Option<String>,
}

/// What became of one attempt to send a batch.
#[derive(Debug)]
enum Sent {
    /// So many of it were refused.
    Taken {
        rejected: u64,
        why: String,
    },
    /// Not now: again, after so long where the collector says it.
    Later {
        why: String,
        after: Option<Duration>,
    },
    Refused {
        why: String,
    },
}

/// Sends what comes until shutdown reaches `Stopped`, and then what is left, for two seconds at most.
///
/// # Errors
/// The thread cannot be started.
pub fn start(parts: Parts) -> io::Result<Watched> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Watched::spawn("traces", move || {
        runtime.block_on(run(parts));
        runtime.shutdown_background();
    })
}

async fn run(parts: Parts) {
    let Parts {
        collector,
        spans,
        mut line,
        mut shutdown,
    } = parts;
    let mut exporter = Exporter {
        client: Client::new(),
        collector,
        spans,
        warned: None,
    };
    let mut batch = Vec::with_capacity(BATCH);
    let stopped = async {
        shutdown.reached(Stage::Stopped).await;
    };
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => break,
            () = fill(&mut line, &mut batch) => {}
        }
        let delivered = tokio::select! {
            () = &mut stopped => false,
            () = exporter.deliver(&batch) => true,
        };
        if !delivered {
            break;
        }
        batch.clear();
    }
    let last = exporter.finish(&mut line, batch);
    if tokio::time::timeout(LAST_CALL, last).await.is_err() {
        tracing::debug!("not every span was sent before the end");
    }
}

/// Until the batch is full, or its first span has waited long enough. May be dropped and called again.
async fn fill(line: &mut Receiver<Span>, batch: &mut Vec<Span>) {
    if batch.is_empty() && line.recv_many(batch, BATCH).await == 0 {
        // Nobody can tell anything any more.
        return std::future::pending().await;
    }
    let deadline = tokio::time::sleep(DELAY);
    tokio::pin!(deadline);
    while batch.len() < BATCH {
        let room = BATCH - batch.len();
        tokio::select! {
            () = &mut deadline => return,
            more = line.recv_many(batch, room) => {
                if more == 0 {
                    return;
                }
            }
        }
    }
}

// === impl Exporter ===

impl Exporter {
    /// Sends a batch until it is taken, refused, or too old. Dropped in between, nothing of it is counted.
    async fn deliver(&mut self, batch: &[Span]) {
        let body = encode::request(&self.collector.service, batch);
        let began = clock::now();
        let mut pause = PAUSE;
        loop {
            let sent = self.send(body.clone()).await;
            let Some(after) = self.settle(batch.len() as u64, sent, began) else {
                return;
            };
            tokio::time::sleep(after.unwrap_or(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// What is left when everything ends: each batch is sent once.
    async fn finish(&mut self, line: &mut Receiver<Span>, mut batch: Vec<Span>) {
        line.close();
        loop {
            if batch.is_empty() && line.recv_many(&mut batch, BATCH).await == 0 {
                return;
            }
            let body = encode::request(&self.collector.service, &batch);
            if let Sent::Taken { rejected, .. } = self.send(body).await {
                self.spans
                    .export((batch.len() as u64).saturating_sub(rejected));
            }
            batch.clear();
        }
    }

    /// Counts what became of a batch; whether it is sent again, and after how long if that was said.
    fn settle(&mut self, count: u64, sent: Sent, began: Instant) -> Option<Option<Duration>> {
        match sent {
            Sent::Taken { rejected, why } => {
                let rejected = rejected.min(count);
                self.spans.export(count - rejected);
                if rejected > 0 {
                    self.lose(Loss::Rejected, rejected, why);
                } else if self.warned.take().is_some() {
                    tracing::info!("the collector takes spans again");
                }
                None
            }
            Sent::Refused { why } => {
                self.lose(Loss::Rejected, count, why);
                None
            }
            Sent::Later { why, .. }
                if clock::now().saturating_duration_since(began) >= PATIENCE =>
            {
                self.lose(Loss::Unreachable, count, why);
                None
            }
            Sent::Later { why, after } => {
                self.warn(why);
                Some(after.map(|after| after.min(LONGEST_PAUSE)))
            }
        }
    }

    fn lose(&mut self, loss: Loss, count: u64, why: String) {
        self.spans.lose(loss, count);
        self.warn(why);
    }

    fn warn(&mut self, why: String) {
        if self.warned.as_ref() != Some(&why) {
            tracing::warn!(why, "spans are not taken by the collector");
            self.warned = Some(why);
        }
    }

    async fn send(&self, body: Bytes) -> Sent {
        let mut headers: Vec<(HeaderName, HeaderValue)> = self.collector.headers.clone();
        let kind = HeaderValue::from_static("application/x-protobuf");
        headers.push((CONTENT_TYPE, kind));
        let call = Call {
            method: Method::POST,
            url: self.collector.endpoint.clone(),
            headers,
            body,
            timeout: self.collector.timeout,
            limit: ANSWER,
        };
        judge(self.client.call(call).await)
    }
}

/// <https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>: which answers mean "again".
fn judge(answer: Result<Answer, CallError>) -> Sent {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            return Sent::Later {
                why: error.to_string(),
                after: None,
            };
        }
    };
    let why = format!("it answered {}", answer.status);
    match answer.status {
        status if status.is_success() => taken(&answer.body),
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Sent::Later {
            why,
            after: answer.retry_after,
        },
        _ => Sent::Refused { why },
    }
}

// An answer that is none is as good as one that says nothing.
fn taken(body: &[u8]) -> Sent {
    let said = ExportTraceServiceResponse::decode(body).unwrap_or_default();
    let partial = said.partial_success.unwrap_or_default();
    Sent::Taken {
        rejected: u64::try_from(partial.rejected_spans).unwrap_or(0),
        why: format!("it refused some: {}", partial.error_message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use otlp::ExportTracePartialSuccess;

    fn answered(status: u16, retry_after: Option<u64>, body: Vec<u8>) -> Sent {
        judge(Ok(Answer {
            status: StatusCode::from_u16(status).expect("a status"),
            retry_after: retry_after.map(Duration::from_secs),
            body: body.into(),
            cut: false,
        }))
    }

    #[test]
    fn what_the_collector_cannot_take_now_is_sent_again_and_what_it_refuses_is_not() {
        for status in [429, 502, 503, 504] {
            let sent = answered(status, Some(7), Vec::new());
            let wanted = Some(Duration::from_secs(7));
            assert!(
                matches!(sent, Sent::Later { after, .. } if after == wanted),
                "{sent:?}"
            );
        }
        for status in [301, 400, 401, 404, 413, 500, 501] {
            let sent = answered(status, None, Vec::new());
            assert!(matches!(sent, Sent::Refused { .. }), "{sent:?}");
        }
        let sent = judge(Err(CallError::Timeout(DELAY)));
        assert!(matches!(sent, Sent::Later { after: None, .. }), "{sent:?}");
        for body in [Vec::new(), b"<html>".to_vec()] {
            let sent = answered(200, None, body);
            assert!(matches!(sent, Sent::Taken { rejected: 0, .. }), "{sent:?}");
        }
        let partial = ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess {
                rejected_spans: 3,
                error_message: "too old".to_owned(),
            }),
        };
        let sent = answered(200, None, partial.encode_to_vec());
        assert!(matches!(sent, Sent::Taken { rejected: 3, .. }), "{sent:?}");
    }
}
