//! Spans of requests on their way to a collector: a line of bounded length that nobody waits in.
//!
//! A worker hands a span over and goes on: where the line is full, because the collector is slow or gone, the span is
//! dropped and counted. Knows neither what a span becomes nor where it is sent.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::prometheus::Exposition;
use crate::rollout::name::{Arm, PoolName, RolloutName, StageName};

/// One request as it is told. What is not known is left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub trace: u128,
    pub id: u64,
    /// The client's span, where it said one.
    pub parent: Option<u64>,
    /// `tracestate`, as the client said it.
    pub state: String,
    /// When its head was read, in nanoseconds of Unix time, and how long it took to the end of the answer.
    pub began_ns: u64,
    pub took: Duration,
    pub client: IpAddr,
    pub method: String,
    /// `1.0`, `1.1` or `2`.
    pub version: &'static str,
    pub host: Option<String>,
    /// Without the query: queries may name learners.
    pub path: String,
    pub status: u16,
    /// Why serin answered by itself.
    pub error: Option<&'static str>,
    pub rollout: Option<RolloutName>,
    pub stage: Option<StageName>,
    /// The learner's own, whoever answered in the end.
    pub arm: Option<Arm>,
    /// That was tried last, which is the one that answered.
    pub pool: Option<PoolName>,
    pub endpoint: Option<String>,
    pub attempts: u32,
    pub failures: Vec<FailedAttempt>,
    /// Of the answer's body, as handed on.
    pub bytes: u64,
    /// The answer's body was handed on to its end.
    pub whole: bool,
}

/// An attempt that failed, and was perhaps followed by another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedAttempt {
    /// Since the request's beginning.
    pub after: Duration,
    pub pool: PoolName,
    pub why: &'static str,
}

/// Where spans go, and what became of them.
#[derive(Debug)]
pub struct Spans {
    line: Sender<Span>,
    exported: AtomicU64,
    lost: [AtomicU64; Loss::ALL.len()],
}

/// Why a span does not reach the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The line was full.
    Queue,
    /// The collector could not be reached in time, or answered that it cannot take it.
    Unreachable,
    /// The collector refused it.
    Rejected,
}

// === impl Loss ===

impl Loss {
    const ALL: [Self; 3] = [Self::Queue, Self::Unreachable, Self::Rejected];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue_full",
            Self::Unreachable => "unreachable",
            Self::Rejected => "rejected",
        }
    }
}

// === impl Spans ===

impl Spans {
    /// A line for so many spans, and its other end.
    pub(super) fn new(length: usize) -> (Self, Receiver<Span>) {
        let (line, end) = channel(length.max(1));
        let spans = Self {
            line,
            exported: AtomicU64::new(0),
            lost: Default::default(),
        };
        (spans, end)
    }

    /// Hands a span over. Never waits.
    pub fn tell(&self, span: Span) {
        if self.line.try_send(span).is_err() {
            self.lose(Loss::Queue, 1);
        }
    }

    /// So many were taken by the collector.
    pub fn export(&self, spans: u64) {
        self.exported.fetch_add(spans, Ordering::Relaxed);
    }

    /// So many were not.
    pub fn lose(&self, loss: Loss, spans: u64) {
        let lost = self.lost.iter().zip(Loss::ALL);
        for (count, _) in lost.filter(|(_, of)| *of == loss) {
            count.fetch_add(spans, Ordering::Relaxed);
        }
    }

    pub(super) fn expose(&self, out: &mut Exposition) {
        out.counter(
            "serin_spans_exported_total",
            "Spans of requests that the collector of traces took.",
        )
        .count(&[], self.exported.load(Ordering::Relaxed));
        let mut lost = out.counter(
            "serin_spans_dropped_total",
            "Spans of requests that did not reach the collector of traces, by reason.",
        );
        for (count, loss) in self.lost.iter().zip(Loss::ALL) {
            let reason = [("reason", loss.as_str())];
            lost.count(&reason, count.load(Ordering::Relaxed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span() -> Span {
        Span {
            trace: 1,
            id: 2,
            parent: None,
            state: String::new(),
            began_ns: 0,
            took: Duration::ZERO,
            client: IpAddr::from([192, 0, 2, 7]),
            method: "GET".to_owned(),
            version: "1.1",
            host: None,
            path: "/".to_owned(),
            status: 200,
            error: None,
            rollout: None,
            stage: None,
            arm: None,
            pool: None,
            endpoint: None,
            attempts: 1,
            failures: Vec::new(),
            bytes: 0,
            whole: true,
        }
    }

    #[test]
    fn a_line_that_nobody_empties_drops_what_comes_and_counts_it() {
        let (spans, mut end) = Spans::new(2);
        for _ in 0..5 {
            spans.tell(span());
        }
        assert_eq!(spans.lost[0].load(Ordering::Relaxed), 3);
        assert!(end.try_recv().is_ok() && end.try_recv().is_ok());
        spans.tell(span());
        assert!(end.try_recv().is_ok() && end.try_recv().is_err());
        drop(end);
        spans.tell(span());
        spans.lose(Loss::Rejected, 7);
        let lost = spans
            .lost
            .each_ref()
            .map(|count| count.load(Ordering::Relaxed));
        assert_eq!(lost, [4, 0, 7]);
    }
}
