//! Slots in SQL: one row per slot, split epoch, arm and segment. What comes twice for one key is added up.
//!
//! Levels: 0 as measured, 1 folded to 10 s, 2 folded to 60 s (see `fold`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};

use super::StoreError;
use super::journal::{read_fault, sql, unsql};
use crate::records::compact::{decode_cell, encode_cell};
use crate::rollout::name::{Arm, RolloutName};
use crate::rollout::slot::{Cell, CellKey, Slot};
use crate::rollout::time::{Timestamp, millis};

/// One row's key beside the rollout.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SampleKey {
    pub(super) level: u8,
    pub(super) start_ms: u64,
    pub(super) run: u64,
    pub(super) cell: CellKey,
}

/// One row.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) key: SampleKey,
    pub(super) width_ms: u64,
    pub(super) cell: Cell,
}

pub(super) fn append(
    connection: &Connection,
    rollout: &RolloutName,
    run: u64,
    slot: &Slot,
) -> rusqlite::Result<()> {
    for (key, cell) in &slot.cells {
        let key = SampleKey {
            level: 0,
            start_ms: slot.start.as_millis(),
            run,
            cell: key.clone(),
        };
        add(
            connection,
            rollout.as_str(),
            &Sample {
                key,
                width_ms: millis(slot.width),
                cell: cell.clone(),
            },
        )?;
    }
    Ok(())
}

/// Inserts a row, or adds its counts to the one that has its key.
pub(super) fn add(connection: &Connection, rollout: &str, sample: &Sample) -> rusqlite::Result<()> {
    if insert(connection, rollout, sample)? {
        return Ok(());
    }
    let mut whole = sample.clone();
    match find(connection, rollout, &sample.key) {
        Ok(there) => {
            whole.cell.merge(&there.cell);
            whole.width_ms = whole.width_ms.max(there.width_ms);
        }
        // A row that cannot be read must not stop the journal for ever.
        Err(rusqlite::Error::FromSqlConversionFailure(_, _, why)) => {
            tracing::error!(rollout, start_ms = sample.key.start_ms, %why, "a damaged sample is replaced");
        }
        Err(error) => return Err(error),
    }
    remove(connection, rollout, &sample.key)?;
    insert(connection, rollout, &whole).map(|_| ())
}

fn insert(connection: &Connection, rollout: &str, sample: &Sample) -> rusqlite::Result<bool> {
    let (key, cell) = (&sample.key, &sample.key.cell);
    let added = connection
        .prepare_cached(
            "INSERT INTO samples (rollout, level, start_ms, run, epoch, arm, segment, width_ms, cell)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            rollout,
            key.level,
            sql(key.start_ms),
            sql(key.run),
            sql(cell.epoch),
            cell.arm.index() as i64,
            segment_text(cell),
            sql(sample.width_ms),
            encode_cell(&sample.cell)
        ])?;
    Ok(added > 0)
}

fn find(connection: &Connection, rollout: &str, key: &SampleKey) -> rusqlite::Result<Sample> {
    connection
        .prepare_cached(&format!("{COLUMNS} WHERE rollout = ?1 AND {BY_KEY}"))?
        .query_row(
            params![
                rollout,
                key.level,
                sql(key.start_ms),
                sql(key.run),
                sql(key.cell.epoch),
                key.cell.arm.index() as i64,
                segment_text(&key.cell)
            ],
            sample,
        )
}

pub(super) fn remove(
    connection: &Connection,
    rollout: &str,
    key: &SampleKey,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(&format!(
            "DELETE FROM samples WHERE rollout = ?1 AND {BY_KEY}"
        ))?
        .execute(params![
            rollout,
            key.level,
            sql(key.start_ms),
            sql(key.run),
            sql(key.cell.epoch),
            key.cell.arm.index() as i64,
            segment_text(&key.cell)
        ])?;
    Ok(())
}

const COLUMNS: &str =
    "SELECT level, start_ms, run, epoch, arm, segment, width_ms, cell FROM samples";
const BY_KEY: &str =
    "level = ?2 AND start_ms = ?3 AND run = ?4 AND epoch = ?5 AND arm = ?6 AND segment = ?7";

/// Rows of one level that begin in `from..to`, oldest first.
pub(super) fn of_level(
    connection: &Connection,
    rollout: &str,
    level: u8,
    from_ms: u64,
    to_ms: u64,
) -> rusqlite::Result<Vec<Sample>> {
    connection
        .prepare_cached(&format!(
            "{COLUMNS} WHERE rollout = ?1 AND level = ?2 AND start_ms >= ?3 AND start_ms < ?4 ORDER BY start_ms"
        ))?
        .query_map(params![rollout, level, sql(from_ms), sql(to_ms)], sample)?
        .collect()
}

/// What begins in `from..to` at the finest level only, a slot for each start, oldest first.
pub(super) fn recent(
    connection: &Connection,
    rollout: &str,
    from: Timestamp,
    to: Timestamp,
) -> rusqlite::Result<Vec<Slot>> {
    let rows = of_level(connection, rollout, 0, from.as_millis(), to.as_millis())?;
    Ok(slots(rows, Duration::ZERO))
}

pub(super) fn between(
    connection: &Connection,
    rollout: &RolloutName,
    from: Timestamp,
    to: Timestamp,
    step: Duration,
) -> Result<Vec<Slot>, StoreError> {
    let mut rows = Vec::new();
    for level in [2, 1, 0] {
        let found = of_level(
            connection,
            rollout.as_str(),
            level,
            from.as_millis(),
            to.as_millis(),
        );
        rows.extend(found.map_err(read_fault)?);
    }
    Ok(slots(rows, step))
}

// A step of zero keeps the starts as they are.
fn slots(rows: Vec<Sample>, step: Duration) -> Vec<Slot> {
    let step_ms = millis(step).max(1);
    let mut slots = BTreeMap::new();
    for row in rows {
        let start = row.key.start_ms / step_ms * step_ms;
        let slot = slots
            .entry(start)
            .or_insert_with(|| Slot::empty(Timestamp::from_millis(start), Duration::ZERO));
        slot.width = slot
            .width
            .max(step)
            .max(Duration::from_millis(row.width_ms));
        slot.cells.entry(row.key.cell).or_default().merge(&row.cell);
    }
    slots.into_values().collect()
}

fn segment_text(key: &CellKey) -> &str {
    key.segment.as_deref().unwrap_or("")
}

fn sample(row: &Row<'_>) -> rusqlite::Result<Sample> {
    let arm: i64 = row.get(4)?;
    let arm = usize::try_from(arm)
        .ok()
        .and_then(|index| Arm::ALL.get(index).copied());
    let segment: String = row.get(5)?;
    let cell: Vec<u8> = row.get(7)?;
    Ok(Sample {
        key: SampleKey {
            level: row.get(0)?,
            start_ms: unsql(row.get(1)?),
            run: unsql(row.get(2)?),
            cell: CellKey {
                epoch: unsql(row.get(3)?),
                arm: arm.ok_or_else(|| {
                    rusqlite::Error::IntegralValueOutOfRange(4, row.get(4).unwrap_or(-1))
                })?,
                segment: (!segment.is_empty()).then(|| Arc::from(segment)),
            },
        },
        width_ms: unsql(row.get(6)?),
        cell: decode_cell(&cell).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(7, Type::Blob, Box::new(error))
        })?,
    })
}
