//! Follows a stream of the servers: every message behind a place, or the last of each key and then each change.
//!
//! A consumer of the servers lives on one of them and dies with it, and a slow reader may lose messages: both are noticed,
//! by silence and by a gap, and the stream is followed again from where it was.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, push};
use async_nats::jetstream::stream::Stream;
use bytes::Bytes;
use futures_util::StreamExt;

use super::engine::{Lying, in_words};
use crate::clock;

/// The servers say so often that they have nothing to say; without a word for twice as long they are asked again.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Before a stream is followed again: doubled with each time that it did not last, and spread, so that a fleet whose server was
/// busy does not come back at once.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// What was followed for so long had worked.
const LASTED: Duration = Duration::from_secs(10);
/// The servers forget a consumer that nobody listens to.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// Where to begin.
#[derive(Clone, Copy, Debug)]
pub(super) enum From {
    /// The last message of each subject, and then each new one.
    Latest,
    /// Every message behind this position.
    Behind(u64),
}

/// What is seen of a stream.
#[derive(Debug)]
pub(super) enum Piece {
    /// Followed from the beginning again; with nothing to come before something new happens, if `empty`.
    Began {
        empty: bool,
    },
    Message(Seen),
}

#[derive(Debug)]
pub(super) struct Seen {
    pub(super) subject: String,
    pub(super) lying: Lying,
    /// `Nats-Msg-Id`.
    pub(super) id: Option<String>,
    /// Nothing more lies behind it now.
    pub(super) last: bool,
}

/// Follows for ever. `out` answers whether anybody still listens.
pub(super) async fn follow(
    stream: Stream,
    filters: Vec<String>,
    mut from: From,
    out: impl Fn(Piece) -> bool,
) {
    let mut pause = PAUSE;
    loop {
        let began = clock::now();
        match follow_once(&stream, &filters, &mut from, &out).await {
            Ok(()) => return,
            Err(why) => tracing::debug!(?filters, why, "a stream of the fleet is followed again"),
        }
        if clock::now().saturating_duration_since(began) >= LASTED {
            pause = PAUSE;
        }
        tokio::time::sleep(pause.mul_f64(0.5 + 0.5 * rand::random::<f64>())).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// `Ok` when nobody listens any more.
async fn follow_once(
    stream: &Stream,
    filters: &[String],
    from: &mut From,
    out: &impl Fn(Piece) -> bool,
) -> Result<(), String> {
    let deliver_policy = match *from {
        From::Latest => DeliverPolicy::LastPerSubject,
        From::Behind(position) => DeliverPolicy::ByStartSequence {
            start_sequence: position.saturating_add(1),
        },
    };
    let config = push::Config {
        deliver_subject: inbox(),
        deliver_policy,
        ack_policy: AckPolicy::None,
        max_deliver: 1,
        filter_subjects: filters.to_vec(),
        idle_heartbeat: HEARTBEAT,
        memory_storage: true,
        num_replicas: 1,
        inactive_threshold: FORGOTTEN,
        ..Default::default()
    };
    let consumer = stream
        .create_consumer(config)
        .await
        .map_err(|why| in_words(&why))?;
    let empty = consumer.cached_info().num_pending == 0;
    let mut messages = consumer.messages().await.map_err(|why| in_words(&why))?;
    if !out(Piece::Began { empty }) {
        return Ok(());
    }
    let mut count = 0;
    while let Some(message) = messages.next().await {
        let message = message.map_err(|why| in_words(&why))?;
        let info = message.info().map_err(|why| why.to_string())?;
        count += 1;
        if info.consumer_sequence != count {
            let lost = info.consumer_sequence.saturating_sub(count);
            return Err(format!("{lost} messages were lost on their way"));
        }
        if let From::Behind(position) = from {
            *position = info.stream_sequence;
        }
        let seen = seen(&message, info.stream_sequence, info.pending == 0);
        if !out(Piece::Message(seen)) {
            return Ok(());
        }
    }
    Err("its messages ended".to_owned())
}

fn seen(message: &async_nats::jetstream::Message, position: u64, last: bool) -> Seen {
    let headers = message.headers.as_ref();
    let id = headers.and_then(|headers| headers.get(async_nats::header::NATS_MESSAGE_ID));
    let body: Bytes = message.payload.clone();
    Seen {
        subject: message.subject.to_string(),
        lying: Lying::of(position, body, headers),
        id: id.map(|id| id.as_str().to_owned()),
        last,
    }
}

fn inbox() -> String {
    format!("_INBOX.{:032x}", rand::random::<u128>())
}
