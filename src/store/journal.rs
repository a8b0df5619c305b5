//! Events, runs and states in SQL: appending and reading. One row per event, keyed by rollout and number.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::{RunSummary, StoreError};
use crate::records::Moment;
use crate::records::event::{Detail, EventRecord};
use crate::records::plan::PlanRecord;
use crate::records::state;
use crate::rollout::gate::{EventId, Snapshot};
use crate::rollout::name::RolloutName;
use crate::rollout::plan::Plan;
use crate::rollout::time::WallTime;

/// Numbers in the journal are SQLite's, 63 bits: enough for 292 million years of milliseconds.
pub(super) fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Adds an event. One that is there already, from a transaction whose end was not learnt, stays as it is.
pub(super) fn append(
    connection: &Connection,
    rollout: &RolloutName,
    record: &EventRecord,
) -> rusqlite::Result<()> {
    let json = text(record)?;
    let added = connection
        .prepare_cached(
            "INSERT INTO events (rollout, id, run, at_ms, kind, json) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            rollout.as_str(),
            sql(record.id),
            sql(record.run),
            record.at.unix_millis(),
            record.kind(),
            json
        ])?;
    if added == 0 {
        let there: String = connection
            .prepare_cached("SELECT json FROM events WHERE rollout = ?1 AND id = ?2")?
            .query_row(params![rollout.as_str(), sql(record.id)], |row| row.get(0))?;
        if there != json {
            tracing::error!(%rollout, id = record.id, there, refused = json, "an event's number was used twice; the first stays");
        }
    }
    Ok(())
}

fn text(record: &EventRecord) -> rusqlite::Result<String> {
    serde_json::to_string(record)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// Forgets an event of this number that is another one, and its notices.
pub(super) fn forget_other(
    connection: &Connection,
    rollout: &RolloutName,
    record: &EventRecord,
) -> rusqlite::Result<()> {
    let json = text(record)?;
    let gone = connection
        .prepare_cached("DELETE FROM events WHERE rollout = ?1 AND id = ?2 AND json != ?3")?
        .execute(params![rollout.as_str(), sql(record.id), json])?;
    if gone > 0 {
        connection
            .prepare_cached("DELETE FROM outbox WHERE rollout = ?1 AND event = ?2")?
            .execute(params![rollout.as_str(), sql(record.id)])?;
    }
    Ok(())
}

/// Notes a run by its first event, with its plan and the name of its deployment log.
pub(super) fn begin_run(
    connection: &Connection,
    rollout: &RolloutName,
    event: &EventRecord,
    plan: Option<&Plan>,
) -> rusqlite::Result<()> {
    if !matches!(event.detail, Detail::Started { .. })
        || run_is_known(connection, rollout, event.run)?
    {
        return Ok(());
    }
    let plan = plan
        .map(PlanRecord::from)
        .and_then(|record| serde_json::to_string(&record).ok());
    connection.execute(
        "INSERT INTO runs (rollout, run, started_ms, log, plan) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            rollout.as_str(),
            sql(event.run),
            event.at.unix_millis(),
            free_log_name(connection, event.at)?,
            plan
        ],
    )?;
    Ok(())
}

fn run_is_known(
    connection: &Connection,
    rollout: &RolloutName,
    run: u64,
) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM runs WHERE rollout = ?1 AND run = ?2")?
        .exists(params![rollout.as_str(), sql(run)])
}

/// `canary-<start>.json`; the second rollout that starts in the same millisecond gets `-2`, and so on.
fn free_log_name(connection: &Connection, started: Moment) -> rusqlite::Result<String> {
    let mut taken = connection.prepare_cached("SELECT 1 FROM runs WHERE log = ?1")?;
    let base = format!("canary-{}", started.compact());
    let mut name = format!("{base}.json");
    let mut number = 2;
    while taken.exists([&name])? {
        name = format!("{base}-{number}.json");
        number += 1;
    }
    Ok(name)
}

/// Replaces the state of a rollout.
pub(super) fn save_state(
    connection: &Connection,
    rollout: &RolloutName,
    snapshot: &Snapshot,
) -> rusqlite::Result<()> {
    let bytes = state::encode(snapshot);
    connection
        .prepare_cached(
            "INSERT INTO state (rollout, saved_ms, json, counts) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (rollout) DO UPDATE SET saved_ms = ?2, json = ?3, counts = ?4",
        )?
        .execute(params![
            rollout.as_str(),
            sql(state::saved(snapshot).as_millis()),
            bytes.json,
            bytes.counts
        ])?;
    Ok(())
}

pub(super) fn history(
    connection: &Connection,
    rollout: &RolloutName,
    after: EventId,
    limit: usize,
) -> Result<Vec<EventRecord>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    events(
        connection,
        "SELECT json FROM events WHERE rollout = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
        params![rollout.as_str(), sql(after.0), limit],
    )
}

pub(super) fn run_history(
    connection: &Connection,
    rollout: &RolloutName,
    run: u64,
) -> Result<Vec<EventRecord>, StoreError> {
    events(
        connection,
        "SELECT json FROM events WHERE rollout = ?1 AND run = ?2 ORDER BY id",
        params![rollout.as_str(), sql(run)],
    )
}

/// The number of the latest run that has an event.
pub(super) fn last_run(
    connection: &Connection,
    rollout: &RolloutName,
) -> Result<Option<u64>, StoreError> {
    let run: Option<i64> = connection
        .query_row(
            "SELECT max(run) FROM events WHERE rollout = ?1",
            [rollout.as_str()],
            |row| row.get(0),
        )
        .map_err(read_fault)?;
    Ok(run.map(unsql))
}

/// The runs of a rollout, oldest first.
pub(super) fn runs(
    connection: &Connection,
    rollout: &RolloutName,
    deployment_logs: &Path,
) -> Result<Vec<RunSummary>, StoreError> {
    let read = || {
        let mut statement = connection.prepare_cached(
            "SELECT run, started_ms, log, plan FROM runs WHERE rollout = ?1 ORDER BY run",
        )?;
        let rows = statement.query_map([rollout.as_str()], |row| {
            Ok((
                row.get(0)?,
                row.get(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, Option<String>>(3)?,
            ))
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    let rows = read().map_err(read_fault)?;
    Ok(rows
        .into_iter()
        .map(|(run, started_ms, log, plan)| RunSummary {
            run: unsql(run),
            started: Moment(WallTime::from_unix_millis(started_ms)),
            plan: plan.and_then(|json| serde_json::from_str(&json).ok()),
            log: deployment_logs.join(log),
        })
        .collect())
}

/// The texts of a run's events, oldest first.
pub(super) fn run_texts(
    connection: &Connection,
    rollout: &str,
    run: u64,
) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached("SELECT json FROM events WHERE rollout = ?1 AND run = ?2 ORDER BY id")?
        .query_map(params![rollout, sql(run)], |row| row.get(0))?
        .collect()
}

/// The log's file name and the plan's text of a run.
pub(super) fn run_log(
    connection: &Connection,
    rollout: &str,
    run: u64,
) -> rusqlite::Result<Option<(String, Option<String>)>> {
    connection
        .prepare_cached("SELECT log, plan FROM runs WHERE rollout = ?1 AND run = ?2")?
        .query_row(params![rollout, sql(run)], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
}

fn events(
    connection: &Connection,
    query: &str,
    with: &[&dyn rusqlite::ToSql],
) -> Result<Vec<EventRecord>, StoreError> {
    let texts = || {
        let mut statement = connection.prepare_cached(query)?;
        let rows = statement.query_map(with, |row| row.get(0))?;
        rows.collect::<rusqlite::Result<Vec<String>>>()
    };
    texts()
        .map_err(read_fault)?
        .iter()
        .map(|json| {
            serde_json::from_str(json)
                .map_err(|error| StoreError::Read(format!("an event: {error}")))
        })
        .collect()
}

pub(super) fn read_fault(error: rusqlite::Error) -> StoreError {
    StoreError::Read(super::fault::explain(&error))
}
