//! One channel: takes what is due from the outbox and sends it, one after the other, until each is taken.
//!
//! A receiver that cannot be reached is left alone for a while, and what waits for it waits together. A notice that it
//! refuses (4xx) is tried again by itself and lets the others pass. Nothing is given up before the retention is over.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::watch;

use super::backoff::pause;
use super::message;
use crate::clock;
use crate::config::Channel;
use crate::outbound::{Answer, CallError, Client};
use crate::rollout::time::WallTime;
use crate::store::{Due, Settled, Store, Waiting};
use crate::telemetry::ChannelMeter;

/// Notices read at once.
const PAGE: usize = 64;
/// A receiver that asks for more rest (`Retry-After`) gets this much: there may be a rollback to tell of.
const LONGEST_ASKED: Duration = Duration::from_secs(600);
/// How long the outbox is not looked at where nothing says that it changed.
const LOOK: Duration = Duration::from_secs(10);

/// What serves one channel.
pub(super) struct Delivery {
    pub(super) channel: Channel,
    pub(super) client: Client,
    pub(super) store: Store,
    pub(super) retention: Duration,
    pub(super) meter: Arc<ChannelMeter>,
}

/// What was settled here and may not be written yet, by the notice's place.
#[derive(Default)]
struct Settlements(HashMap<i64, Settlement>);

struct Settlement {
    attempts: u32,
    /// `None`: done.
    next: Option<WallTime>,
}

/// How an attempt ended.
enum Ended {
    Taken,
    /// Of the notice's own: the others go on.
    Refused(String),
    /// The receiver is not there, or asks to be left alone for a time.
    Away(String, Option<Duration>),
}

impl Delivery {
    /// Runs until it is dropped.
    pub(super) async fn run(self) {
        let mut changes = self.store.outbox_changes();
        let mut settlements = Settlements::default();
        let mut failures = 0;
        loop {
            changes.mark_unchanged();
            let Some(due) = self.due().await else {
                tokio::time::sleep(LOOK).await;
                continue;
            };
            self.meter.set_waiting(due.total);
            settlements.keep(&due);
            let rest = self.send_all(&due, &mut settlements, &mut failures).await;
            if rest.is_zero() {
                wait(&mut changes, due.next).await;
            } else {
                tokio::time::sleep(rest).await;
            }
        }
    }

    async fn due(&self) -> Option<Due> {
        let (store, name) = (self.store.clone(), self.channel.name.clone());
        let read = tokio::task::spawn_blocking(move || store.due(&name, clock::wall(), PAGE)).await;
        match read {
            Ok(Ok(due)) => Some(due),
            Ok(Err(why)) => {
                tracing::warn!(channel = self.channel.name, %why, "the outbox cannot be read");
                None
            }
            Err(why) => {
                tracing::warn!(channel = self.channel.name, %why, "reading the outbox ended");
                None
            }
        }
    }

    /// Sends what is due; answers for how long the receiver is to be left alone.
    async fn send_all(
        &self,
        due: &Due,
        settlements: &mut Settlements,
        failures: &mut u32,
    ) -> Duration {
        for notice in &due.waiting {
            if !settlements.is_open(notice, clock::wall()) {
                continue;
            }
            let ended = self.send(notice).await;
            let (settled, rest) = match ended {
                Ended::Taken => {
                    *failures = 0;
                    self.meter.delivered();
                    (Settled::Delivered, Duration::ZERO)
                }
                Ended::Refused(why) => {
                    let pause = pause(notice.attempts.saturating_add(1), rand::random());
                    (self.failed(notice, why, pause), Duration::ZERO)
                }
                Ended::Away(why, asked) => {
                    *failures = failures.saturating_add(1);
                    let asked = asked.unwrap_or_default().min(LONGEST_ASKED);
                    let pause = pause(*failures, rand::random()).max(asked);
                    (self.failed(notice, why, pause), pause)
                }
            };
            settlements.add(notice, &settled);
            self.store.settle(notice.seq, clock::wall(), settled);
            if !rest.is_zero() {
                return rest;
            }
        }
        Duration::ZERO
    }

    async fn send(&self, notice: &Waiting) -> Ended {
        let Some(body) = &notice.body else {
            return Ended::Refused("its event is not kept any more".to_owned());
        };
        let call = match message::call(&self.channel, &notice.id, body, clock::wall()) {
            Ok(call) => call,
            Err(why) => return Ended::Refused(why),
        };
        match self.client.call(call).await {
            Ok(Answer { status, .. }) if status.is_success() => Ended::Taken,
            Ok(answer) => answered(&answer),
            Err(why @ (CallError::Connect(_) | CallError::Failed(_) | CallError::Timeout(_))) => {
                Ended::Away(why.to_string(), None)
            }
        }
    }

    fn failed(&self, notice: &Waiting, why: String, pause: Duration) -> Settled {
        let now = clock::wall();
        let age_ms = now
            .as_unix_millis()
            .saturating_sub(notice.added.as_unix_millis());
        let (channel, id) = (&self.channel.name, &notice.id);
        if u128::try_from(age_ms).unwrap_or(0) > self.retention.as_millis() {
            tracing::error!(
                channel,
                id,
                why,
                "a notice was given up: nobody took it within the retention"
            );
            self.meter.given_up();
            return Settled::GivenUp { why };
        }
        tracing::warn!(channel, id, why, again_in = ?pause, "a notice was not taken");
        self.meter.failed();
        let next_ms = now
            .as_unix_millis()
            .saturating_add(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX));
        Settled::Failed {
            next: WallTime::from_unix_millis(next_ms),
            why,
        }
    }
}

/// Whose fault an answer other than a success is.
fn answered(answer: &Answer) -> Ended {
    let status = answer.status;
    let why = format!("answered {}", status.as_u16());
    let busy = [
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::TOO_EARLY,
    ];
    if status.is_client_error() && !busy.contains(&status) {
        Ended::Refused(why)
    } else {
        Ended::Away(why, answer.retry_after)
    }
}

/// Waits until the outbox changes or something in it is due.
async fn wait(changes: &mut watch::Receiver<u64>, next: Option<WallTime>) {
    let now_ms = clock::wall().as_unix_millis();
    let until = next.map_or(LOOK, |next| {
        let ms = next.as_unix_millis().saturating_sub(now_ms).max(1);
        Duration::from_millis(u64::try_from(ms).unwrap_or(1)).min(LOOK)
    });
    match tokio::time::timeout(until, changes.changed()).await {
        Ok(Ok(())) | Err(_) => {}
        // The store has ended: there is nothing to come.
        Ok(Err(_)) => std::future::pending().await,
    }
}

impl Settlements {
    /// Whether a notice as read is still to be sent: what was settled since may not be written yet.
    fn is_open(&self, notice: &Waiting, now: WallTime) -> bool {
        self.0.get(&notice.seq).is_none_or(|settled| {
            let written = notice.attempts >= settled.attempts;
            written || settled.next.is_some_and(|next| next <= now)
        })
    }

    fn add(&mut self, notice: &Waiting, settled: &Settled) {
        let next = match settled {
            Settled::Delivered | Settled::GivenUp { .. } => None,
            Settled::Failed { next, .. } => Some(*next),
        };
        let attempts = notice.attempts.saturating_add(1);
        self.0.insert(notice.seq, Settlement { attempts, next });
    }

    /// Forgets what is written, once all that waits was read.
    fn keep(&mut self, due: &Due) {
        let whole = due.waiting.len() < PAGE;
        self.0.retain(|seq, settled| {
            let read = due.waiting.iter().find(|notice| notice.seq == *seq);
            match read {
                Some(notice) => notice.attempts < settled.attempts,
                None => !whole,
            }
        });
    }
}
