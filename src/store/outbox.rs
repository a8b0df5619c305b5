//! Notices on their way: one row for each channel and id, written with the event that it tells of, kept until it is
//! delivered or given up, and as a mark after that, so that one id is one notice.
//!
//! Never sends anything and never decides when to try again.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::StoreError;
use super::journal::{read_fault, sql};
use crate::rollout::gate::EventId;
use crate::rollout::name::RolloutName;
use crate::rollout::time::WallTime;

/// An event of a batch that a channel is to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub channel: String,
    pub event: EventId,
}

/// A notice that is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    pub channel: String,
    /// Stable: the second with the same id is none.
    pub id: String,
    pub rollout: RolloutName,
    pub kind: PostKind,
    /// What is sent.
    pub body: String,
    pub at: WallTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostKind {
    /// Nobody acted on a hold.
    Reminder,
    /// How things stand; takes the place of the one before, where that is still on its way.
    Progress,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    Delivered,
    /// To be tried again from then on.
    Failed {
        next: WallTime,
        why: String,
    },
    GivenUp {
        why: String,
    },
}

/// Up to which event the notices of a rollout are settled, by channel.
pub type Notified = BTreeMap<String, EventId>;

/// A change of the outbox that comes from outside of the journal.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Post(Post),
    Settle {
        seq: i64,
        at: WallTime,
        settled: Settled,
    },
    /// Another process settled them.
    SettledElsewhere {
        rollout: RolloutName,
        notified: Notified,
        at: WallTime,
    },
}

/// A notice that is not delivered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its place in the order of sending.
    pub seq: i64,
    /// `analyzer/17` for the event 17 of the rollout `analyzer`.
    pub id: String,
    /// `None` where the event that it tells of is not kept any more.
    pub body: Option<String>,
    pub added: WallTime,
    pub attempts: u32,
    pub next: WallTime,
}

/// What a channel has to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Those whose time has come, in the order of sending.
    pub waiting: Vec<Waiting>,
    /// How many are not delivered, due or not.
    pub total: u64,
    /// When the next one is due that is not yet.
    pub next: Option<WallTime>,
}

impl PostKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Reminder => "reminder",
            Self::Progress => "progress",
        }
    }
}

/// The id of the notice of an event.
fn event_id(rollout: &RolloutName, event: EventId) -> String {
    format!("{rollout}/{}", event.0)
}

/// Adds the notice of an event that is in the journal.
pub(super) fn add(
    connection: &Connection,
    rollout: &RolloutName,
    notice: &Notice,
    at: WallTime,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO outbox (channel, id, rollout, event, kind, added_ms, next_ms)
             VALUES (?1, ?2, ?3, ?4, 'event', ?5, ?5) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            notice.channel,
            event_id(rollout, notice.event),
            rollout.as_str(),
            sql(notice.event.0),
            at.as_unix_millis()
        ])?;
    Ok(())
}

pub(super) fn apply(connection: &Connection, change: &Change) -> rusqlite::Result<()> {
    match change {
        Change::Post(post) => add_post(connection, post),
        Change::Settle { seq, at, settled } => settle(connection, *seq, *at, settled),
        Change::SettledElsewhere {
            rollout,
            notified,
            at,
        } => settle_up_to(connection, rollout, notified, *at),
    }
}

fn add_post(connection: &Connection, post: &Post) -> rusqlite::Result<()> {
    match post.kind {
        PostKind::Progress => {
            connection
                .prepare_cached(
                    "DELETE FROM outbox WHERE channel = ?1 AND rollout = ?2 AND kind = 'progress'
                     AND id <> ?3",
                )?
                .execute(params![post.channel, post.rollout.as_str(), post.id])?;
        }
        PostKind::Reminder => {}
    }
    connection
        .prepare_cached(
            "INSERT INTO outbox (channel, id, rollout, kind, body, added_ms, next_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            post.channel,
            post.id,
            post.rollout.as_str(),
            post.kind.as_str(),
            post.body,
            post.at.as_unix_millis()
        ])?;
    Ok(())
}

fn settle(
    connection: &Connection,
    seq: i64,
    at: WallTime,
    settled: &Settled,
) -> rusqlite::Result<()> {
    let done = "UPDATE outbox SET attempts = attempts + 1, done_ms = ?2, body = NULL, fault = ?3 WHERE seq = ?1";
    let again =
        "UPDATE outbox SET attempts = attempts + 1, next_ms = ?2, fault = ?3 WHERE seq = ?1";
    let (statement, when, why) = match settled {
        Settled::Delivered => (done, at, None),
        Settled::GivenUp { why } => (done, at, Some(why)),
        Settled::Failed { next, why } => (again, *next, Some(why)),
    };
    connection
        .prepare_cached(statement)?
        .execute(params![seq, when.as_unix_millis(), why])?;
    Ok(())
}

fn settle_up_to(
    connection: &Connection,
    rollout: &RolloutName,
    notified: &Notified,
    at: WallTime,
) -> rusqlite::Result<()> {
    let mut settle = connection.prepare_cached(
        "UPDATE outbox SET done_ms = ?4, body = NULL
         WHERE channel = ?1 AND rollout = ?2 AND event <= ?3 AND done_ms IS NULL",
    )?;
    for (channel, event) in notified {
        let at = at.as_unix_millis();
        settle.execute(params![channel, rollout.as_str(), sql(event.0), at])?;
    }
    Ok(())
}

/// Of each of these channels, the last event before the first whose notice waits: with its notices, an event is written at
/// once, so that what is in the journal and does not wait is settled, or none was wanted.
pub(super) fn notified(
    connection: &Connection,
    rollout: &RolloutName,
    channels: &[String],
) -> Result<Notified, StoreError> {
    let read = || -> rusqlite::Result<Notified> {
        let last: Option<i64> = connection
            .prepare_cached("SELECT max(id) FROM events WHERE rollout = ?1")?
            .query_row(params![rollout.as_str()], |row| row.get(0))?;
        let mut waiting = connection.prepare_cached(
            "SELECT min(event) FROM outbox WHERE channel = ?1 AND rollout = ?2 AND done_ms IS NULL",
        )?;
        let mut notified = Notified::new();
        for channel in channels {
            let of = params![channel, rollout.as_str()];
            let first: Option<i64> = waiting.query_row(of, |row| row.get(0))?;
            let up_to = first.map(|first| first - 1).or(last).unwrap_or(0);
            let event = EventId(u64::try_from(up_to).unwrap_or(0));
            notified.insert(channel.clone(), event);
        }
        Ok(notified)
    };
    read().map_err(read_fault)
}

/// What a channel has to do at `now`, at most `limit` of it.
pub(super) fn due(
    connection: &Connection,
    channel: &str,
    now: WallTime,
    limit: usize,
) -> Result<Due, StoreError> {
    let read = || -> rusqlite::Result<Due> {
        let mut statement = connection.prepare_cached(
            "SELECT o.seq, o.id, COALESCE(o.body, e.json), o.added_ms, o.attempts, o.next_ms
             FROM outbox o LEFT JOIN events e ON e.rollout = o.rollout AND e.id = o.event
             WHERE o.channel = ?1 AND o.done_ms IS NULL AND o.next_ms <= ?2
             ORDER BY o.seq LIMIT ?3",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![channel, now.as_unix_millis(), limit], |row| {
            Ok(Waiting {
                seq: row.get(0)?,
                id: row.get(1)?,
                body: row.get(2)?,
                added: WallTime::from_unix_millis(row.get(3)?),
                attempts: row.get(4)?,
                next: WallTime::from_unix_millis(row.get(5)?),
            })
        })?;
        let waiting = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        let mut counted = connection.prepare_cached(
            "SELECT count(*), min(CASE WHEN next_ms > ?2 THEN next_ms END)
             FROM outbox WHERE channel = ?1 AND done_ms IS NULL",
        )?;
        counted.query_row(params![channel, now.as_unix_millis()], |row| {
            let (total, next): (i64, Option<i64>) = (row.get(0)?, row.get(1)?);
            Ok(Due {
                waiting,
                total: u64::try_from(total).unwrap_or(0),
                next: next.map(WallTime::from_unix_millis),
            })
        })
    };
    read().map_err(read_fault)
}

/// Removes a row that is older than `before`: delivered, or of a channel that nobody serves any more.
pub(super) fn expire(connection: &Connection, before: WallTime) -> rusqlite::Result<bool> {
    // A channel that is served gives its own up, and counts them, a day before.
    const UNSERVED_MS: i64 = 86_400_000;
    let before = before.as_unix_millis();
    let seq: Option<i64> = connection
        .prepare_cached(
            "SELECT seq FROM outbox WHERE added_ms < ?1 AND (done_ms IS NOT NULL OR added_ms < ?2)
             ORDER BY seq LIMIT 1",
        )?
        .query_row(params![before, before.saturating_sub(UNSERVED_MS)], |row| {
            row.get(0)
        })
        .optional()?;
    let Some(last) = seq.map(|seq| seq.saturating_add(999)) else {
        return Ok(false);
    };
    connection.execute(
        "DELETE FROM outbox WHERE seq <= ?3 AND added_ms < ?1 AND (done_ms IS NOT NULL OR added_ms < ?2)",
        params![before, before.saturating_sub(UNSERVED_MS), last],
    )?;
    Ok(true)
}
