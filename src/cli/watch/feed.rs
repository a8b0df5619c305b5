//! The connection: asks for the state in its time, listens to the events, carries orders; all of it is put into one queue.
//!
//! An event is a reason to ask at once, so that a decision is seen when it is made and the time in between can be long.
//! A proxy that is away is asked again and again; nothing here ends by itself.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{Notify, mpsc};

use super::action::{Done, Failure, Order};
use super::model::Heard;
use super::series::{POINTS, step};
use super::sse::Reader;
use crate::admin::wire::{RolloutAnswer, SamplesAnswer};
use crate::cli::client::{Client, ClientError};
use crate::cli::printable;
use crate::cli::session::{self, SILENCE, Session};
use crate::clock;
use crate::records::Moment;
use crate::records::event::EventRecord;
use crate::records::sample::SampleRecord;
use crate::rollout::time::WallTime;

/// More than a screen's worth waits for the screen.
const QUEUE: usize = 64;
/// Between two tries while nothing answers.
const AGAIN: Duration = Duration::from_secs(1);
/// Events of before the watch began that are asked for.
const EARLIER: u64 = 40;
/// A state is tens of kilobytes: however many events come, it is asked for no more often.
const SHORTEST: Duration = Duration::from_millis(250);

/// What reaches the loop, and how the loop reaches out.
pub(super) struct Feed {
    pub(super) heard: mpsc::Receiver<Heard>,
    link: Link,
}

/// What every task of the feed has.
#[derive(Clone)]
struct Link {
    client: Client,
    /// `/api/rollouts/R`.
    path: Arc<str>,
    out: mpsc::Sender<Heard>,
    /// Something happened: the state is asked for at once.
    nudge: Arc<Notify>,
}

impl Feed {
    /// Begins to ask for the rollout at `path`, every `every`.
    pub(super) fn start(client: Client, path: &str, every: Duration) -> Self {
        let (out, heard) = mpsc::channel(QUEUE);
        let link = Link {
            client,
            path: path.into(),
            out,
            nudge: Arc::default(),
        };
        tokio::spawn(link.clone().states(every));
        tokio::spawn(link.clone().events());
        Self { heard, link }
    }

    /// Sends an order; what becomes of it is heard.
    pub(super) fn send(&self, order: Order) {
        tokio::spawn(self.link.clone().act(order));
    }
}

impl Link {
    async fn states(self, every: Duration) {
        let mut session = Session::new(self.client.clone());
        let mut newest = None;
        loop {
            let asked = clock::now();
            let answered = self.state(&mut session, &mut newest).await;
            let is_lost = answered.is_err();
            if let Err(why) = answered
                && !self.tell(Heard::Lost(shown(&why))).await
            {
                return;
            }
            // Who has a slow link is not asked more of it than half of its time.
            let took = clock::now().saturating_duration_since(asked);
            if is_lost {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            tokio::time::sleep(SHORTEST.max(took)).await;
            tokio::select! {
                () = tokio::time::sleep(every.saturating_sub(took)) => {}
                () = self.nudge.notified() => {}
            }
        }
    }

    /// The state, and what was counted since the newest step that is known.
    async fn state(
        &self,
        session: &mut Session,
        newest: &mut Option<(Duration, Moment)>,
    ) -> Result<(), ClientError> {
        let answer: Box<RolloutAnswer> = self.read(session.get(&self.path).await?)?;
        let (at, step) = (answer.status.at, step(&answer.status));
        if !self.tell(Heard::State(answer)).await {
            return Ok(());
        }
        let from = newest.filter(|(last, _)| *last == step).map_or_else(
            || back(at, step * POINTS as u32),
            |(_, newest)| back(newest, step),
        );
        match self.samples(session, step, from).await {
            Ok(samples) => {
                if let Some(last) = samples.last() {
                    *newest = Some((step, last.at));
                }
                self.tell(Heard::Samples { step, samples }).await;
            }
            Err(why @ ClientError::Refused { .. }) => {
                self.tell(Heard::NoSamples(shown(&why))).await;
            }
            Err(why) => return Err(why),
        }
        Ok(())
    }

    async fn samples(
        &self,
        session: &mut Session,
        step: Duration,
        from: Moment,
    ) -> Result<Vec<SampleRecord>, ClientError> {
        let path = format!("{}/samples?step={}s&from={from}", self.path, step.as_secs());
        let answer: SamplesAnswer = self.read(session.get(&path).await?)?;
        Ok(answer.samples)
    }

    /// Text of the answer that would command the terminal is made harmless before anything reads it.
    fn read<T: DeserializeOwned>(&self, answer: Value) -> Result<T, ClientError> {
        let read = serde_json::from_value(printable::document(answer));
        read.map_err(|why| {
            self.client
                .strange(format!("{why}; is the proxy a newer serin?"))
        })
    }

    async fn events(self) {
        let mut last = None;
        loop {
            let ended = self.follow(&mut last).await;
            let why = match ended {
                Ok(()) => "the stream ended".to_owned(),
                Err(why) => shown(&why),
            };
            if !self.tell(Heard::EventsStopped(why)).await {
                return;
            }
            // A stream that ends is the first sign of a proxy that ends.
            self.nudge.notify_one();
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn follow(&self, last: &mut Option<u64>) -> anyhow::Result<()> {
        let after = match last {
            Some(last) => *last,
            None => self.newest_event().await?.saturating_sub(EARLIER),
        };
        let path = format!("{}/events", self.path);
        let mut body = session::events(&self.client, &path, after).await?;
        if !self.tell(Heard::EventsFlow).await {
            return Ok(());
        }
        let mut reader = Reader::default();
        while let Ok(frame) = tokio::time::timeout(SILENCE, body.frame()).await {
            let Some(frame) = frame else {
                return Ok(());
            };
            let Ok(bytes) = frame?.into_data() else {
                continue;
            };
            for document in reader.read(&bytes)? {
                let event: Box<EventRecord> = self.read(document)?;
                *last = Some(event.id);
                if !self.tell(Heard::Event(event)).await {
                    return Ok(());
                }
                self.nudge.notify_one();
            }
        }
        anyhow::bail!("nothing was heard for {} s", SILENCE.as_secs())
    }

    async fn newest_event(&self) -> Result<u64, ClientError> {
        let answer: Box<RolloutAnswer> = self.read(self.client.get(&self.path).await?)?;
        Ok(answer.status.last_event)
    }

    async fn act(self, order: Order) {
        let result = self.carry(&order).await;
        self.tell(Heard::Done(Done { order, result })).await;
        self.nudge.notify_one();
    }

    async fn carry(&self, order: &Order) -> Result<Box<RolloutAnswer>, Failure> {
        let (method, resource, body) = order.call();
        let path = format!("{}/{resource}", self.path);
        let fits = self
            .client
            .request(method, &path, "application/json", Some(body.to_string()));
        let request = fits.map_err(|why| Failure::NotSent(why.to_string()))?;
        let connected = self.client.within(self.client.connect()).await;
        let mut sender = connected.map_err(|why| Failure::NotSent(why.to_string()))?;
        let answered = self.client.within(async {
            let answer = sender.send_request(request).await;
            let answer = answer.map_err(|why| self.client.unreachable(why.to_string()))?;
            let body = self.client.read(answer).await?;
            self.read(self.client.parse(&body)?)
        });
        answered.await.map_err(|why| match why {
            ClientError::Refused { .. } => Failure::Refused(shown(&why)),
            ClientError::Url { .. } | ClientError::Token | ClientError::Tls(_) => {
                Failure::NotSent(shown(&why))
            }
            ClientError::Unreachable { .. } | ClientError::Strange { .. } => {
                Failure::Unanswered(shown(&why))
            }
        })
    }

    /// False when nobody listens any more.
    async fn tell(&self, heard: Heard) -> bool {
        self.out.send(heard).await.is_ok()
    }
}

/// What an error says may be what the other side said.
fn shown(why: &impl std::fmt::Display) -> String {
    printable::line(&why.to_string()).into_owned()
}

fn back(at: Moment, by: Duration) -> Moment {
    let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    WallTime::from_unix_millis(at.unix_millis().saturating_sub(by)).into()
}
