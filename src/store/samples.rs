//! Slots in SQL: one row per slot, split epoch, arm and segment; and one per slot and arm over all of them, for charts and reports, so that
//! a month of many segments is read in no time. What comes twice for one key is added up.
//!
//! Levels: 0 as measured, 1 folded to 10 s, 2 folded to 60 s (see `fold`). 3, 4 and 5 are the same over all epochs and segments; 6 is what
//! is in 5 by the hour.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::StoreError;
use super::journal::{read_fault, sql, unsql};
use crate::records::compact::{decode_cell, encode_cell};
use crate::rollout::name::{Arm, RolloutName};
use crate::rollout::slot::{Cell, CellKey, Slot};
use crate::rollout::time::{Timestamp, millis};

/// The level over all epochs and segments of level 0; behind it those of the levels that are folded of that.
pub(super) const WHOLE: u8 = 3;
/// By the hour, of what is as old as `MINUTES`, and beside it.
pub(super) const MINUTES: u8 = WHOLE + 2;
pub(super) const HOURS: u8 = WHOLE + 3;
pub(super) const HOUR_MS: u64 = 3_600_000;
/// Summed up in one piece where an older journal has no sums yet.
const PIECE_MS: u64 = 600_000;

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
    let rows = slot.cells.iter().map(|(key, cell)| Sample {
        key: SampleKey {
            level: 0,
            start_ms: slot.start.as_millis(),
            run,
            cell: key.clone(),
        },
        width_ms: millis(slot.width),
        cell: cell.clone(),
    });
    let rows: Vec<Sample> = rows.collect();
    for row in rows.iter().chain(&whole(&rows)) {
        add(connection, rollout.as_str(), row)?;
    }
    Ok(())
}

/// The same over all epochs and segments. Who failed is not told apart there.
fn whole(rows: &[Sample]) -> Vec<Sample> {
    let mut sums: BTreeMap<SampleKey, Sample> = BTreeMap::new();
    for row in rows {
        let key = SampleKey {
            level: row.key.level + WHOLE,
            cell: CellKey {
                epoch: 0,
                arm: row.key.cell.arm,
                segment: None,
            },
            ..row.key
        };
        let sum = sums.entry(key.clone()).or_insert_with(|| Sample {
            key,
            width_ms: row.width_ms,
            cell: Cell::default(),
        });
        sum.width_ms = sum.width_ms.max(row.width_ms);
        sum.cell.merge(&row.cell);
    }
    let mut sums: Vec<Sample> = sums.into_values().collect();
    sums.iter_mut().for_each(Sample::forget_who_failed);
    sums
}

/// Sums up every row of a journal that was written before there were sums.
pub(super) fn sum_up(connection: &Connection) -> rusqlite::Result<()> {
    let mut named = connection.prepare("SELECT DISTINCT rollout FROM samples")?;
    let rollouts: Vec<String> = named
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for rollout in rollouts {
        for level in 0..WHOLE {
            let mut from_ms = 0;
            while let Some(start_ms) = next(connection, &rollout, level, from_ms)? {
                let until_ms = (start_ms / PIECE_MS + 1) * PIECE_MS;
                for row in whole(&of_level(connection, &rollout, level, start_ms, until_ms)?) {
                    add(connection, &rollout, &row)?;
                    if row.key.level == MINUTES {
                        add(connection, &rollout, &row.by_the_hour())?;
                    }
                }
                from_ms = until_ms;
            }
        }
    }
    Ok(())
}

/// Where the first row of a level begins that is not before a moment.
fn next(
    connection: &Connection,
    rollout: &str,
    level: u8,
    from_ms: u64,
) -> rusqlite::Result<Option<u64>> {
    connection
        .prepare_cached("SELECT start_ms FROM samples WHERE rollout = ?1 AND level = ?2 AND start_ms >= ?3 ORDER BY start_ms LIMIT 1")?
        .query_row(params![rollout, level, sql(from_ms)], |row| row.get(0).map(unsql))
        .optional()
}

impl Sample {
    /// Keeps how many failures there were.
    pub(super) fn forget_who_failed(&mut self) {
        self.cell.failing_others += self.cell.failing.values().sum::<u64>();
        self.cell.failing.clear();
    }

    /// The same as a part of its hour.
    pub(super) fn by_the_hour(&self) -> Self {
        Self {
            key: SampleKey {
                level: HOURS,
                start_ms: self.key.start_ms / HOUR_MS * HOUR_MS,
                ..self.key.clone()
            },
            width_ms: HOUR_MS,
            cell: self.cell.clone(),
        }
    }
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

/// Over all epochs and segments.
pub(super) fn between(
    connection: &Connection,
    rollout: &RolloutName,
    from: Timestamp,
    to: Timestamp,
    step: Duration,
) -> Result<Vec<Slot>, StoreError> {
    let (from_ms, to_ms) = (from.as_millis(), to.as_millis());
    // Whole hours are read as such where a slot is one or more of them; what is before the first and behind the last is not.
    let hours = match millis(step) % HOUR_MS {
        0 if !step.is_zero() => from_ms.next_multiple_of(HOUR_MS)..to_ms / HOUR_MS * HOUR_MS,
        _ => to_ms..to_ms,
    };
    let hours = if hours.is_empty() {
        to_ms..to_ms
    } else {
        hours
    };
    let spans = [
        (MINUTES, from_ms..hours.start),
        (HOURS, hours.clone()),
        (MINUTES, hours.end..to_ms),
        (WHOLE + 1, from_ms..to_ms),
        (WHOLE, from_ms..to_ms),
    ];
    let mut rows = Vec::new();
    for (level, span) in spans {
        let found = of_level(connection, rollout.as_str(), level, span.start, span.end);
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

#[cfg(test)]
mod tests {
    use super::super::fold::{self, Step};
    use super::*;
    use crate::rollout::assign::LearnerHash;
    use crate::rollout::time::WallTime;

    const DAY_MS: u64 = 24 * HOUR_MS;
    const NOW_MS: u64 = 13 * DAY_MS;
    const MONTH: Duration = Duration::from_secs(30 * 86_400);

    fn rollout() -> RolloutName {
        RolloutName::parse("analyzer").expect("a name")
    }

    /// A slot in which both arms and three segments count; each counts otherwise.
    fn slot(start_ms: u64) -> Slot {
        let mut slot = Slot::empty(Timestamp::from_millis(start_ms), Duration::from_secs(1));
        for (number, segment) in (1..).zip([None, Some("eu"), Some("us")]) {
            for arm in Arm::ALL {
                let key = CellKey {
                    epoch: number,
                    arm,
                    segment: segment.map(Arc::from),
                };
                let mut cell = Cell {
                    counted: number * (1 + arm.index() as u64) + start_ms / 1_000 % 7,
                    errors: 1,
                    failed: 1,
                    ..Cell::default()
                };
                cell.failing.insert(LearnerHash::from_raw(number), 1);
                cell.latency.record(1_000 * number, cell.counted);
                slot.cells.insert(key, cell);
            }
        }
        slot
    }

    /// From the first hours to the last second, with gaps.
    fn starts() -> Vec<u64> {
        let of = |from: u64, many: u64, every: u64| (0..many).map(move |n| from + n * every);
        of(1_800_000, 40, 500_000)
            .chain(of(3 * DAY_MS, 30, 7_000))
            .chain(of(NOW_MS - DAY_MS - 100_000, 40, 9_000))
            .chain(of(NOW_MS - HOUR_MS - 30_000, 60, 1_000))
            .chain(of(NOW_MS - 10_000, 10, 1_000))
            .collect()
    }

    fn settle(connection: &mut Connection) {
        let wall = WallTime::from_unix_millis(100 * DAY_MS as i64);
        while fold::step(connection, wall, MONTH).expect("a step") != Step::Nothing {}
    }

    /// Start, requests, errors and latencies over 1.5 ms of each arm.
    fn found(
        connection: &Connection,
        from_ms: u64,
        to_ms: u64,
        step_ms: u64,
    ) -> Vec<(u64, [[u64; 3]; 2])> {
        let [from, to] = [from_ms, to_ms].map(Timestamp::from_millis);
        let step = Duration::from_millis(step_ms);
        let found = between(connection, &rollout(), from, to, step).expect("rows");
        let of = |slot: &Slot, arm| {
            let cell = slot.arm(arm);
            [cell.counted, cell.errors, cell.latency.above(1_500)]
        };
        found
            .iter()
            .map(|slot| (slot.start.as_millis(), Arm::ALL.map(|arm| of(slot, arm))))
            .collect()
    }

    /// The same, summed up here.
    fn expected(from_ms: u64, to_ms: u64, step_ms: u64) -> Vec<(u64, [[u64; 3]; 2])> {
        let mut sums: BTreeMap<u64, [[u64; 3]; 2]> = BTreeMap::new();
        for start in starts() {
            if !(from_ms..to_ms).contains(&start) {
                continue;
            }
            let sum = sums.entry(start / step_ms * step_ms).or_default();
            for (key, cell) in &slot(start).cells {
                let of_arm = &mut sum[key.arm.index()];
                of_arm[0] += cell.counted;
                of_arm[1] += cell.errors;
                of_arm[2] += cell.latency.above(1_500);
            }
        }
        sums.into_iter().collect()
    }

    fn journal() -> (tempfile::TempDir, Connection) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("serin.db");
        let connection = super::super::schema::open(&path).expect("a journal");
        connection
            .execute(
                "INSERT INTO state VALUES ('analyzer', ?1, '', x'')",
                [sql(NOW_MS)],
            )
            .expect("a state");
        for start in starts() {
            append(&connection, &rollout(), 1, &slot(start)).expect("a slot");
        }
        (directory, connection)
    }

    fn check(connection: &Connection) {
        let (minute, hour) = (60_000, HOUR_MS);
        for (from, to, step) in [
            (0, NOW_MS, hour),
            (0, NOW_MS, DAY_MS),
            (0, NOW_MS, 10 * minute),
            // Not of whole hours: those at both ends are read by the minute.
            (30 * minute, NOW_MS - 25 * hour - minute, hour),
            (3 * DAY_MS + minute, 3 * DAY_MS + 2 * minute, hour),
            (NOW_MS - hour, NOW_MS, 1_000),
        ] {
            let seen = found(connection, from, to, step);
            assert_eq!(seen, expected(from, to, step), "{from}..{to} by {step}");
        }
    }

    #[test]
    fn sums_over_segments_are_what_was_counted_however_old_they_are() {
        let (_directory, mut connection) = journal();
        settle(&mut connection);
        check(&connection);
        let hours = of_level(&connection, "analyzer", HOURS, 0, NOW_MS).expect("rows");
        assert!(!hours.is_empty());
        assert!(hours.iter().all(|row| row.cell.failing.is_empty()));
    }

    #[test]
    fn a_journal_without_sums_is_summed_up() {
        let (_directory, mut connection) = journal();
        settle(&mut connection);
        connection
            .execute("DELETE FROM samples WHERE level >= ?1", [WHOLE])
            .expect("rows");
        assert!(found(&connection, 0, NOW_MS, DAY_MS).is_empty());
        sum_up(&connection).expect("rows");
        check(&connection);
        // What is measured from then on is added.
        settle(&mut connection);
        check(&connection);
    }
}
