//! JetStream as this room uses it: what is made at the beginning, one write that is acknowledged, one read.
//!
//! Every write says what became of it: it lies there, somebody else was first, or nobody knows.

use std::error::Error;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::{GetStreamErrorKind, PublishError, PublishErrorKind};
use async_nats::jetstream::kv;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{self, LastRawMessageErrorKind, Stream};
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{HeaderMap, header};
use bytes::Bytes;

use super::names::Names;

/// The oldest server whose keys can have a time limit of their own.
const OLDEST: (u32, u32) = (2, 11);
/// Of every request and acknowledgement.
const PATIENCE: Duration = Duration::from_secs(2);
/// From one look at what the server said of itself to the next, and how many.
const LOOK: Duration = Duration::from_millis(20);
const LOOKS: u32 = 50;
/// Copies of everything in a cluster: one of three servers may be lost.
const COPIES: usize = 3;
/// How long the mark of a key that ran out is kept, for those who watch.
const MARKS: Duration = Duration::from_secs(60);
/// How long an order and its outcome are known.
const ORDERS_KEPT: Duration = Duration::from_secs(60 * 60);
/// How long the messages of members are kept for a new leader.
const TOLD_KEPT: Duration = Duration::from_secs(10 * 60);
/// The same in a region: not longer than its last sum lies in the stream for the leader, even if that one is full.
const REGION_KEPT: Duration = Duration::from_secs(2 * 60);
/// Of all messages of members together.
const TOLD_BYTES: i64 = 256 << 20;
/// Of those who follow one stream; each member is one or two of them. Servers allow a thousand where nothing is said (2.15).
const FOLLOWERS: i32 = 100_000;
/// Within this time a message that is sent again is not kept twice.
const DUPLICATES: Duration = Duration::from_secs(2 * 60);

/// Who wrote a record: the life of a member and the number of its write.
const BY: &str = "Serin-By";
const OPERATION: &str = "KV-Operation";

/// A fleet's buckets and stream, ready to be used.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    client: Client,
    context: Context,
    pub(super) states: Stream,
    /// A region has none.
    pub(super) orders: Option<Stream>,
    pub(super) told: Stream,
}

/// One write.
#[derive(Clone, Debug, Default)]
pub(super) struct Put {
    pub(super) subject: String,
    pub(super) body: Bytes,
    /// Only if this is the last revision of the subject; 0: only if there is none.
    pub(super) expected: Option<u64>,
    pub(super) time_limit: Option<Duration>,
    /// Who wrote it.
    pub(super) by: Option<String>,
    /// A message of this id is kept once.
    pub(super) id: Option<String>,
    /// The key is to be gone.
    pub(super) delete: bool,
}

/// Why a write is not known to lie in JetStream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PutFault {
    /// Somebody else wrote since.
    Stale,
    /// More bytes than the server takes.
    TooLarge { limit: usize },
    /// It may or may not lie there.
    Unknown(String),
}

/// What lies under a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lying {
    pub(super) revision: u64,
    /// `None` where the key is gone.
    pub(super) body: Option<Bytes>,
    pub(super) by: Option<String>,
}

impl Engine {
    /// Looks at the server that is connected, and makes what is not there yet.
    ///
    /// # Errors
    /// Why this fleet cannot be used now, for operators.
    pub(super) async fn open(client: Client, names: &Names) -> Result<Self, String> {
        check_version(&client).await?;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(PATIENCE);
        check_account(&context).await?;
        let states = bucket(&context, states(names)).await?;
        let orders = match names.is_region {
            true => None,
            false => Some(bucket(&context, orders(names)).await?),
        };
        let told = made(&context, &names.told(), |copies| {
            let config = told(names, copies);
            let context = context.clone();
            async move { create(context.create_stream(config).await.map(drop)) }
        })
        .await?;
        Ok(Self {
            client,
            context,
            states,
            orders,
            told,
        })
    }

    /// Writes, and waits for the acknowledgement. Answers the revision.
    pub(super) async fn put(&self, put: Put) -> Result<u64, PutFault> {
        let size = put.body.len();
        let mut message = PublishMessage::build().payload(put.body);
        if let Some(revision) = put.expected {
            message = message.expected_last_subject_sequence(revision);
        }
        if let Some(limit) = put.time_limit {
            message = message.ttl(limit);
        }
        if let Some(by) = &put.by {
            message = message.header(BY, by.as_str());
        }
        if let Some(id) = &put.id {
            message = message.message_id(id);
        }
        if put.delete {
            message = message.header(OPERATION, "DEL");
        }
        let limit = self.client.max_payload();
        if size > limit {
            return Err(PutFault::TooLarge { limit });
        }
        let sent = self.context.send_publish(put.subject, message).await;
        let acknowledged = match sent {
            Ok(sent) => sent.await,
            Err(why) => Err(why),
        };
        acknowledged
            .map(|kept| kept.sequence)
            .map_err(|why| match why.kind() {
                PublishErrorKind::WrongLastSequence => PutFault::Stale,
                PublishErrorKind::MaxPayloadExceeded => PutFault::TooLarge { limit },
                _ => put_fault(&why, limit),
            })
    }

    /// What lies under a subject of the bucket of states, as its leader among the servers has it.
    ///
    /// # Errors
    /// It cannot be known now.
    pub(super) async fn read(&self, subject: &str) -> Result<Option<Lying>, String> {
        read(&self.states, subject).await
    }

    /// The same for the bucket of orders.
    ///
    /// # Errors
    /// It cannot be known now.
    pub(super) async fn read_order(&self, subject: &str) -> Result<Option<Lying>, String> {
        match &self.orders {
            Some(orders) => read(orders, subject).await,
            None => Ok(None),
        }
    }

    /// The same for the stream of what members tell.
    ///
    /// # Errors
    /// It cannot be known now.
    pub(super) async fn read_told(&self, subject: &str) -> Result<Option<Lying>, String> {
        read(&self.told, subject).await
    }
}

async fn read(stream: &Stream, subject: &str) -> Result<Option<Lying>, String> {
    match stream.get_last_raw_message_by_subject(subject).await {
        Ok(found) => {
            let headers = Some(&found.headers);
            Ok(Some(Lying::of(found.sequence, found.payload, headers)))
        }
        Err(why) if why.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(why) => Err(in_words(&why)),
    }
}

impl Lying {
    /// From a message: what the servers put in the place of a key that ran out, or that was deleted, is no value.
    pub(super) fn of(revision: u64, body: Bytes, headers: Option<&HeaderMap>) -> Self {
        let has = |name: &str| headers.and_then(|headers| headers.get(name));
        let gone = has(OPERATION).is_some_and(|said| said.as_str() != "PUT")
            || has(header::NATS_MARKER_REASON.as_ref()).is_some();
        Self {
            revision,
            body: (!gone).then_some(body),
            by: has(BY).map(|by| by.as_str().to_owned()),
        }
    }
}

/// An error and what caused it, as far as that adds a word.
pub(super) fn in_words(error: &(dyn Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        cause = error.source();
    }
    words
}

// The codes that have no kind of their own.
fn put_fault(why: &PublishError, limit: usize) -> PutFault {
    let said = why
        .source()
        .and_then(|cause| cause.downcast_ref::<jetstream::Error>());
    match said.map(jetstream::Error::error_code) {
        Some(
            ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT,
        ) => PutFault::Stale,
        Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM) => PutFault::TooLarge { limit },
        _ => PutFault::Unknown(in_words(why)),
    }
}

async fn check_version(client: &Client) -> Result<(), String> {
    let mut info = client.server_info();
    let mut looks = 0;
    // What the server said of itself is shown a moment after the connection.
    while info.version.is_empty() && looks < LOOKS {
        tokio::time::sleep(LOOK).await;
        info = client.server_info();
        looks += 1;
    }
    let mut parts = info.version.split('.').map(|part| part.parse::<u32>().ok());
    let found = parts.next().flatten().zip(parts.next().flatten());
    if found.is_some_and(|found| found >= OLDEST) {
        return Ok(());
    }
    let (version, host, port) = (&info.version, &info.host, info.port);
    let (major, minor) = OLDEST;
    Err(format!(
        "nats-server {version} at {host}:{port} is too old: {major}.{minor} or newer is needed (per-key time limits)"
    ))
}

async fn check_account(context: &Context) -> Result<(), String> {
    use async_nats::jetstream::context::AccountErrorKind as Kind;
    let Err(why) = context.query_account().await else {
        return Ok(());
    };
    let off = "JetStream is not enabled: start nats-server with -js";
    Err(match why.kind() {
        Kind::JetStream(said)
            if matches!(
                said.error_code(),
                ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT
            ) =>
        {
            format!("{off} ({said})")
        }
        Kind::JetStreamUnavailable => off.to_owned(),
        Kind::TimedOut => "JetStream does not answer: have its servers a quorum?".to_owned(),
        _ => {
            let words = in_words(&why);
            if words.contains("no responders") {
                off.to_owned()
            } else {
                format!("JetStream cannot be used: {words}")
            }
        }
    })
}

fn states(names: &Names) -> kv::Config {
    kv::Config {
        bucket: names.states(),
        description: "serin: who leads, records of rollouts, members".to_owned(),
        history: 1,
        storage: stream::StorageType::File,
        limit_markers: Some(MARKS),
        ..Default::default()
    }
}

fn orders(names: &Names) -> kv::Config {
    kv::Config {
        bucket: names.orders(),
        description: "serin: orders and their outcomes".to_owned(),
        max_age: ORDERS_KEPT,
        ..states(names)
    }
}

fn told(names: &Names, copies: usize) -> stream::Config {
    stream::Config {
        name: names.told(),
        description: Some("serin: what members tell the leader".to_owned()),
        subjects: vec![names.all_told()],
        max_age: match names.is_region {
            true => REGION_KEPT,
            false => TOLD_KEPT,
        },
        max_bytes: TOLD_BYTES,
        duplicate_window: DUPLICATES,
        discard: stream::DiscardPolicy::Old,
        storage: stream::StorageType::File,
        num_replicas: copies,
        ..Default::default()
    }
}

async fn bucket(context: &Context, config: kv::Config) -> Result<Stream, String> {
    let name = format!("KV_{}", config.bucket);
    let found = made(context, &name, |copies| {
        let config = kv::Config {
            num_replicas: copies,
            ..config.clone()
        };
        let context = context.clone();
        async move {
            let made = context.create_key_value(config).await;
            create(made.map(drop))
        }
    })
    .await?;
    if found.cached_info().config.allow_message_ttl {
        return Ok(found);
    }
    let bucket = &config.bucket;
    Err(format!(
        "the bucket {bucket} was made without per-key time limits: delete it, or name another one in fleet.bucket"
    ))
}

/// What became of an attempt to make a stream.
enum Made {
    Yes,
    /// The server is no cluster: it has one copy.
    Alone(String),
    No(String),
}

/// The stream of this name; made if it is not there, in three copies, or in one where the server is no cluster.
async fn made<F>(context: &Context, name: &str, make: impl Fn(usize) -> F) -> Result<Stream, String>
where
    F: Future<Output = Made>,
{
    if let Some(found) = get(context, name).await? {
        return roomy(context, name, found).await;
    }
    let made = match make(COPIES).await {
        Made::Alone(why) => {
            tracing::info!(name, why, "one copy is kept of what the fleet knows");
            make(1).await
        }
        made => made,
    };
    match (made, get(context, name).await?) {
        // Also where another member was first.
        (_, Some(found)) => roomy(context, name, found).await,
        (Made::Yes, None) => Err(format!("{name} was made, and is not there")),
        (Made::Alone(why) | Made::No(why), None) => Err(format!("{name} cannot be made: {why}")),
    }
}

/// The same with room for all who follow it. A server that does not change it has no limit of its own, or keeps that.
async fn roomy(context: &Context, name: &str, found: Stream) -> Result<Stream, String> {
    let config = &found.cached_info().config;
    if config.max_consumers >= FOLLOWERS {
        return Ok(found);
    }
    let wanted = stream::Config {
        max_consumers: FOLLOWERS,
        ..config.clone()
    };
    if let Err(why) = context.update_stream(wanted).await {
        tracing::debug!(
            name,
            why = in_words(&why),
            "a stream of the fleet keeps its limit of followers"
        );
        return Ok(found);
    }
    Ok(get(context, name).await?.unwrap_or(found))
}

fn create<E: Error + 'static>(made: Result<(), E>) -> Made {
    let Err(why) = made else { return Made::Yes };
    let words = in_words(&why);
    let mut cause: Option<&(dyn Error + 'static)> = Some(&why);
    let mut code = None;
    while let Some(error) = cause {
        let said = error.downcast_ref::<jetstream::Error>();
        code = code.or_else(|| said.map(jetstream::Error::error_code));
        cause = error.source();
    }
    match code {
        Some(ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED) => Made::Alone(words),
        // Not every error of the library hands on what the server said.
        None if words.contains("not supported in non-clustered mode") => Made::Alone(words),
        // A cluster that is just being started looks like one that is too small, and what is made stays.
        Some(ErrorCode::CLUSTER_NO_PEERS | ErrorCode::INSUFFICIENT_RESOURCES) => Made::No(format!(
            "{COPIES} servers with room are needed in a cluster ({words})"
        )),
        _ => Made::No(words),
    }
}

async fn get(context: &Context, name: &str) -> Result<Option<Stream>, String> {
    match context.get_stream(name).await {
        Ok(found) => Ok(Some(found)),
        Err(why) => match why.kind() {
            GetStreamErrorKind::JetStream(said)
                if said.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                Ok(None)
            }
            _ => Err(format!("{name} cannot be read: {}", in_words(&why))),
        },
    }
}
