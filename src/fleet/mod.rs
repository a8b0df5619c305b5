//! The fleet's link: several proxies carry one rollout, joined by NATS with JetStream.
//!
//! Owns a thread that holds the lease of the lead, the records of rollouts, the messages of members and the orders of
//! operators in JetStream. Moves bytes, knows who leads, and decides nothing: what the bytes say is its caller's. Nothing
//! of consensus, leases or replication is done here: a key with a time limit is the lease, compare-and-set on its
//! revision is the fence, and the servers keep the copies.
//!
//! A region that adds up its members' messages has a link of its own, with a lease for whoever does it and a stream of what its
//! members tell: `start_region`. It knows no records and no orders.
//!
//! `member` is the task that waits for everything; `lease`, `records`, `letters` and `orders` are what it holds, and ask
//! nobody. `engine` writes and reads, `tail` follows a stream, `connect` makes the connection, `names` says how all of it is
//! called.

mod connect;
mod engine;
mod lease;
mod letters;
mod member;
mod names;
mod orders;
mod records;
mod tail;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::config::Fleet;
use crate::rollout::name::RolloutName;
use crate::shutdown::{Shutdown, Watched};
use names::Names;

/// Both ends of the thread. Sending never waits; what comes is in the order it happened.
#[derive(Debug)]
pub struct Link {
    pub asks: UnboundedSender<Ask>,
    pub news: UnboundedReceiver<News>,
}

/// What a member wants of its fleet.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// A message of this member for the leader: to the stream, in the order given for each rollout, once. While NATS is
    /// away the newest 600 of each rollout are kept; older ones are dropped, counted and logged.
    Tell {
        rollout: RolloutName,
        /// 1, 2, 3 .. over all rollouts of a process.
        n: u64,
        body: Bytes,
    },
    /// In the place of a region's members: to the stream for the leader, if the last one of this region lies at `behind` (0: if there is
    /// none). Answered with `Summed` or `Unsummed`.
    Sum {
        rollout: RolloutName,
        region: String,
        /// As that of `Tell`, over both.
        n: u64,
        behind: u64,
        body: Bytes,
    },
    /// The last message in the place of a region's members: answered with `LastSum`, or not at all while it cannot be read.
    LastSum {
        rollout: RolloutName,
        region: String,
    },
    /// Of a leader: replaces the record of a rollout if nobody else wrote it since this member saw or wrote it. One write per
    /// rollout is under way; a newer one that waits replaces an older one that waits, whose ticket is answered with it.
    /// An ask with another term than the one led in is answered `Fenced`.
    Record {
        rollout: RolloutName,
        term: u64,
        ticket: u64,
        body: Bytes,
    },
    /// What this member says of itself, from now on: renewed every second, and gone 5 s after the last.
    Present { body: Bytes },
    /// An order for whoever leads, by its id, which makes it one order however often it is given. An id is 1 to 200 bytes.
    /// Answered by `News::Order` or `News::Ordered` with what is there, or by `News::Refused`.
    Order { id: String, body: Bytes },
    /// Of a leader: the outcome of an order. The first one counts.
    Ordered { id: String, body: Bytes },
    /// Of a leader: deliver the messages of members behind this position (0: all that are kept). Replaces an earlier one.
    Follow { after: u64 },
    /// No more messages of members.
    Unfollow,
    /// Whether to deliver what the members say of themselves; it is delivered until this says otherwise. Among thousands a
    /// member that does not lead has no use for it.
    Watch(bool),
    /// Leave the lead, if it is held, and take it at the earliest after so long.
    Resign { not_before: Duration },
    /// Whether this member may lead; it may until it is told otherwise. A leader that may no longer resigns.
    MayLead(bool),
}

/// What happened in the fleet.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// JetStream can be read and written. Records follow, and then `CaughtUp`.
    Connected,
    /// JetStream cannot be reached, or does not answer: told at once when the connection goes, and when nothing was
    /// acknowledged for 2 s. A leader leads on until it is told `Led`: its lease may outlive a short absence.
    Away {
        /// For operators.
        why: String,
    },
    /// This member leads from now on. Every record that was written before was delivered as `State`.
    Leading {
        /// Grows with each leader: the revision with which the lease was taken.
        term: u64,
    },
    /// Another member leads, or nobody; also how a leader learns that it leads no more.
    Led { by: Option<String>, term: u64 },
    /// The record lies in the bucket.
    Recorded {
        rollout: RolloutName,
        ticket: u64,
        revision: u64,
    },
    /// Somebody else wrote the record since, or the term is over. This member does not lead any more.
    Fenced {
        rollout: RolloutName,
        ticket: u64,
        why: String,
    },
    /// The record is larger than the servers take: nothing was written.
    TooLarge {
        rollout: RolloutName,
        ticket: u64,
        /// Bytes, as is the limit.
        size: usize,
        limit: usize,
    },
    /// A record as it lies in the bucket: all of them behind `Connected`, and each time one changes, also by oneself.
    State {
        rollout: RolloutName,
        revision: u64,
        body: Bytes,
    },
    /// Every record that there is was delivered since `Connected`. Members may follow later: see `MembersSeen`.
    CaughtUp,
    /// What comes from now on of `Told` is what the last `Follow` asked for.
    Follows { after: u64 },
    /// To a leader that follows: a message of a member, in the order of the stream.
    Told {
        /// Grows; where a later `Follow` goes on.
        position: u64,
        rollout: RolloutName,
        /// Who told it in which life: see `name_of`.
        member: String,
        /// Grows by member and rollout, and a member in one life never tells the same twice.
        n: u64,
        body: Bytes,
    },
    /// An order that has no outcome yet. To a new leader those that wait are delivered again.
    Order { id: String, body: Bytes },
    /// An order has its outcome.
    Ordered { id: String, body: Bytes },
    /// An order is not known to lie in the bucket: it may be given again under the same id.
    Refused { id: String, why: String },
    /// Every member that there is was delivered since `Connected`, or since `Watch`.
    MembersSeen,
    /// What a member says of itself; `None` when it fell silent.
    Member { name: String, body: Option<Bytes> },
    /// Everything that this member told of a rollout, up to `n`, lies in the stream, but for what was dropped.
    Kept { rollout: RolloutName, n: u64 },
    /// A message in the place of a region's members lies in the stream.
    Summed {
        rollout: RolloutName,
        n: u64,
        position: u64,
    },
    /// It is not known to: another one may be the last now.
    Unsummed {
        rollout: RolloutName,
        n: u64,
        why: String,
    },
    /// The last message in the place of a region's members, with its position; `None` where there is none.
    LastSum {
        rollout: RolloutName,
        found: Option<(u64, Bytes)>,
    },
    /// A message of this member found no room while NATS was away, or was larger than the servers take.
    Dropped {
        rollout: RolloutName,
        n: u64,
        /// Of this rollout, so far.
        count: u64,
    },
}

/// The name of the member that `News::Told` is of, without its life.
pub fn name_of(member: &str) -> &str {
    member.split_once('/').map_or(member, |(name, _)| name)
}

/// What comes before a region's name where it stands in the place of its members. No member's name holds it.
const REGION: &str = "region:";

/// The name under which a region tells.
pub fn name_of_region(region: &str) -> String {
    format!("{REGION}{region}")
}

/// Whether a name is that of a region.
pub fn is_region(name: &str) -> bool {
    name.starts_with(REGION)
}

/// Who that is, for operators.
pub fn in_words(name: &str) -> String {
    match name.strip_prefix(REGION) {
        Some(region) => format!("region {region}"),
        None => format!("member {name}"),
    }
}

/// Joins the fleet until shutdown reaches `Stopped`; the lease is given back then.
///
/// # Errors
/// The thread cannot be started.
pub fn start(settings: Fleet, shutdown: Shutdown) -> io::Result<(Link, Watched)> {
    let names = Names::new(&settings.bucket);
    begin("fleet", settings, names, shutdown)
}

/// Joins the region that adds up its members' seconds, until shutdown reaches `Stopped`. Its leader is the one who adds up.
///
/// # Errors
/// The thread cannot be started.
pub fn start_region(settings: Fleet, shutdown: Shutdown) -> io::Result<(Link, Watched)> {
    let names = Names::of_region(&settings.bucket, &settings.region);
    begin("region", settings, names, shutdown)
}

fn begin(
    thread: &str,
    settings: Fleet,
    names: Names,
    shutdown: Shutdown,
) -> io::Result<(Link, Watched)> {
    let (asks, asked) = unbounded_channel();
    let (told, news) = unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let thread = Watched::spawn(thread, move || {
        runtime.block_on(member::run(settings, names, asked, told, shutdown));
        runtime.shutdown_background();
    })?;
    Ok((Link { asks, news }, thread))
}
