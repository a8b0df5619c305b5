//! Samples grow coarser with age and end, with the runs they belong to, after the retention.
//!
//! One second for an hour, 10 s for a day, 60 s after that: 30 days of a rollout with 8 segments are some 0.2 GB instead
//! of 10. The sums over all segments beside them (see `samples`) grow coarser alike, and are kept by the hour as well. Each step is one short transaction, so that what must be written meanwhile waits for milliseconds. Who
//! failed is told apart for an hour only; folded rows keep how many failures there were.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::journal::{sql, unsql};
use super::outbox;
use super::samples::{HOURS, MINUTES, Sample, SampleKey, WHOLE, add, of_level, remove};
use crate::rollout::time::{WallTime, millis};

/// From one level to the next.
#[derive(Clone, Copy, Debug)]
struct Fold {
    from: u8,
    older_than_ms: u64,
    into_ms: u64,
    /// The span done in one step.
    step_ms: u64,
}

/// The sums over all segments are few: they take longer steps.
const FOLDS: [Fold; 4] = [
    Fold {
        from: 0,
        step_ms: 60_000,
        ..TENS
    },
    Fold {
        from: 1,
        step_ms: 600_000,
        ..SIXTIES
    },
    Fold {
        from: WHOLE,
        step_ms: 600_000,
        ..TENS
    },
    Fold {
        from: WHOLE + 1,
        step_ms: 3_600_000,
        ..SIXTIES
    },
];

const TENS: Fold = Fold {
    from: 0,
    older_than_ms: 3_600_000,
    into_ms: 10_000,
    step_ms: 0,
};
const SIXTIES: Fold = Fold {
    from: 0,
    older_than_ms: 86_400_000,
    into_ms: 60_000,
    step_ms: 0,
};

/// Coarse rows removed in one step, by span.
const REMOVED_MS: u64 = 3_600_000;

/// What a step did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something, and there may be more.
    More,
    /// A run was removed, and this is the name of its deployment log.
    RunRemoved(String),
    Nothing,
}

/// Does one small piece of what is due.
pub(super) fn step(
    connection: &mut Connection,
    wall: WallTime,
    retention: Duration,
) -> rusqlite::Result<Step> {
    for (rollout, saved_ms) in clocks(connection)? {
        for fold in FOLDS {
            if fold_once(connection, &rollout, saved_ms, fold)? {
                return Ok(Step::More);
            }
        }
        if expire_samples(
            connection,
            &rollout,
            saved_ms.saturating_sub(millis(retention)),
        )? {
            return Ok(Step::More);
        }
    }
    let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    let limit = wall.as_unix_millis().saturating_sub(retention_ms);
    if outbox::expire(connection, WallTime::from_unix_millis(limit))? {
        return Ok(Step::More);
    }
    expire_run(connection, limit)
}

/// Every rollout with the gate time of its saved state: the age of its samples is counted from there.
fn clocks(connection: &Connection) -> rusqlite::Result<Vec<(String, u64)>> {
    connection
        .prepare_cached("SELECT rollout, saved_ms FROM state ORDER BY rollout")?
        .query_map([], |row| Ok((row.get(0)?, unsql(row.get(1)?))))?
        .collect()
}

fn fold_once(
    connection: &mut Connection,
    rollout: &str,
    now_ms: u64,
    fold: Fold,
) -> rusqlite::Result<bool> {
    let old_ms = now_ms.saturating_sub(fold.older_than_ms) / fold.into_ms * fold.into_ms;
    let Some(oldest_ms) = oldest(connection, rollout, fold.from)?.filter(|&oldest| oldest < old_ms)
    else {
        return Ok(false);
    };
    let until_ms = (oldest_ms / fold.into_ms * fold.into_ms + fold.step_ms).min(old_ms);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let rows = of_level(&transaction, rollout, fold.from, oldest_ms, until_ms)?;
    for row in &rows {
        remove(&transaction, rollout, &row.key)?;
    }
    for sample in folded(rows, fold) {
        add(&transaction, rollout, &sample)?;
        if sample.key.level == MINUTES {
            add(&transaction, rollout, &sample.by_the_hour())?;
        }
    }
    transaction.commit()?;
    Ok(true)
}

fn folded(rows: Vec<Sample>, fold: Fold) -> Vec<Sample> {
    let mut sums: BTreeMap<SampleKey, Sample> = BTreeMap::new();
    for mut row in rows {
        row.forget_who_failed();
        row.key.level = fold.from + 1;
        row.key.start_ms = row.key.start_ms / fold.into_ms * fold.into_ms;
        row.width_ms = fold.into_ms;
        match sums.get_mut(&row.key) {
            Some(sum) => sum.cell.merge(&row.cell),
            None => {
                sums.insert(row.key.clone(), row);
            }
        }
    }
    sums.into_values().collect()
}

fn oldest(connection: &Connection, rollout: &str, level: u8) -> rusqlite::Result<Option<u64>> {
    connection
        .prepare_cached("SELECT start_ms FROM samples WHERE rollout = ?1 AND level = ?2 ORDER BY start_ms LIMIT 1")?
        .query_row(params![rollout, level], |row| row.get(0).map(unsql))
        .optional()
}

// Only the coarsest level grows older than a day, so with any retention beyond that it alone expires; a shorter one
// takes from all of them.
fn expire_samples(
    connection: &Connection,
    rollout: &str,
    before_ms: u64,
) -> rusqlite::Result<bool> {
    for level in (0..=HOURS).rev() {
        if let Some(oldest_ms) =
            oldest(connection, rollout, level)?.filter(|&oldest| oldest < before_ms)
        {
            let until_ms = oldest_ms.saturating_add(REMOVED_MS).min(before_ms);
            connection.execute(
                "DELETE FROM samples WHERE rollout = ?1 AND level = ?2 AND start_ms < ?3",
                params![rollout, level, sql(until_ms)],
            )?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes the oldest run whose last event is older than that, but never the latest run of a rollout.
fn expire_run(connection: &mut Connection, before_ms: i64) -> rusqlite::Result<Step> {
    let expired: Option<(String, i64, String)> = connection
        .prepare_cached(
            "SELECT rollout, run, log FROM runs AS old
             WHERE started_ms < ?1
               AND run < (SELECT max(run) FROM runs WHERE rollout = old.rollout)
               AND NOT EXISTS (SELECT 1 FROM events WHERE rollout = old.rollout AND run = old.run AND at_ms >= ?1)
             ORDER BY started_ms LIMIT 1",
        )?
        .query_row([before_ms], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((rollout, run, log)) = expired else {
        return Ok(Step::Nothing);
    };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute(
        "DELETE FROM events WHERE rollout = ?1 AND run <= ?2",
        params![rollout, run],
    )?;
    transaction.execute(
        "DELETE FROM runs WHERE rollout = ?1 AND run = ?2",
        params![rollout, run],
    )?;
    transaction.commit()?;
    Ok(Step::RunRemoved(log))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::assign::LearnerHash;
    use crate::rollout::name::Arm;
    use crate::rollout::slot::{Cell, CellKey};

    const DAY_MS: u64 = 86_400_000;
    const MONTH: Duration = Duration::from_secs(30 * 86_400);

    /// A journal with a saved state at this gate time, and canary samples of one second at these times: each of 3
    /// requests, of which one failed.
    fn journal(saved_ms: u64, starts_ms: &[u64]) -> (tempfile::TempDir, Connection) {
        let directory = tempfile::tempdir().expect("a directory");
        let connection =
            crate::store::schema::open(&directory.path().join("serin.db")).expect("a journal");
        connection
            .execute(
                "INSERT INTO state VALUES ('analyzer', ?1, '', x'')",
                [sql(saved_ms)],
            )
            .expect("a state");
        for &start_ms in starts_ms {
            let mut cell = Cell {
                counted: 3,
                errors: 1,
                ..Cell::default()
            };
            cell.latency.record(20_000, 3);
            cell.failing.insert(LearnerHash::from_raw(start_ms), 1);
            let key = SampleKey {
                level: 0,
                start_ms,
                run: 1,
                cell: CellKey {
                    epoch: 1,
                    arm: Arm::Canary,
                    segment: None,
                },
            };
            add(
                &connection,
                "analyzer",
                &Sample {
                    key,
                    width_ms: 1_000,
                    cell,
                },
            )
            .expect("a sample");
        }
        (directory, connection)
    }

    fn settle(connection: &mut Connection) -> Vec<Step> {
        let wall = WallTime::from_unix_millis(100 * DAY_MS as i64);
        let mut steps = Vec::new();
        while steps.last() != Some(&Step::Nothing) {
            steps.push(step(connection, wall, MONTH).expect("a step"));
        }
        steps
    }

    /// (level, start, width, requests) of every row.
    fn rows(connection: &Connection) -> Vec<(u8, u64, u64, u64)> {
        (0..=2)
            .flat_map(|level| {
                of_level(connection, "analyzer", level, 0, u64::MAX >> 1).expect("rows")
            })
            .map(|row| {
                (
                    row.key.level,
                    row.key.start_ms,
                    row.width_ms,
                    row.cell.counted,
                )
            })
            .collect()
    }

    #[test]
    fn seconds_become_tens_after_an_hour_and_minutes_after_a_day_and_nothing_is_lost() {
        let now = 3 * DAY_MS;
        let hour = now - 3_600_000;
        let day = now - DAY_MS;
        let starts = [
            day - 60_000,
            day - 30_000,
            day - 1_000, // a minute, and one row of it
            hour - 12_000,
            hour - 9_000,
            hour - 1_000, // two tens
            hour,
            hour + 1_000, // still seconds
        ];
        let (_directory, mut connection) = journal(now, &starts);
        settle(&mut connection);
        assert_eq!(
            rows(&connection),
            [
                (0, hour, 1_000, 3),
                (0, hour + 1_000, 1_000, 3),
                (1, hour - 20_000, 10_000, 3),
                (1, hour - 10_000, 10_000, 6),
                (2, day - 60_000, 60_000, 9),
            ]
        );
        let folded = of_level(&connection, "analyzer", 2, 0, now)
            .expect("rows")
            .remove(0)
            .cell;
        assert_eq!((folded.latency.len(), folded.errors), (9, 3));
        assert!(folded.failing.is_empty(), "who failed is not kept");
        assert_eq!(folded.failing_others, 3);
    }

    #[test]
    fn a_day_of_seconds_is_folded_in_short_steps() {
        let starts: Vec<u64> = (0..7_200).map(|second| second * 1_000).collect();
        let (_directory, mut connection) = journal(7_200_000, &starts);
        let steps = settle(&mut connection);
        assert_eq!(
            steps.len(),
            61,
            "one for each minute of the first hour, and one that finds nothing"
        );
        let requests: u64 = rows(&connection).iter().map(|row| row.3).sum();
        assert_eq!((rows(&connection).len(), requests), (360 + 3_600, 21_600));
    }

    #[test]
    fn samples_end_with_the_retention() {
        let now = 40 * DAY_MS;
        let edge = 10 * DAY_MS;
        let (_directory, mut connection) = journal(now, &[0, edge - 60_000, edge]);
        settle(&mut connection);
        assert_eq!(rows(&connection), [(2, edge, 60_000, 3)]);
    }

    #[test]
    fn old_runs_end_with_their_logs_but_never_the_latest() {
        let (_directory, mut connection) = journal(0, &[]);
        let run = |rollout: &str, run: i64, started_day: i64, last_event_day: i64| {
            let day = DAY_MS as i64;
            connection
                .execute(
                    "INSERT INTO runs VALUES (?1, ?2, ?3, ?1 || ?2, NULL)",
                    params![rollout, run, started_day * day],
                )
                .expect("a run");
            for (id, at) in [(run * 10, started_day), (run * 10 + 1, last_event_day)] {
                connection
                    .execute(
                        "INSERT INTO events VALUES (?1, ?2, ?3, ?4, 'paused', '{}')",
                        params![rollout, id, run, at * day],
                    )
                    .expect("an event");
            }
        };
        // The retention ends at day 70.
        run("a", 1, 10, 12);
        run("a", 2, 60, 75);
        run("a", 3, 20, 21);
        run("b", 1, 1, 2);
        assert_eq!(
            settle(&mut connection),
            [Step::RunRemoved("a1".to_owned()), Step::Nothing]
        );
        let kept: i64 = connection
            .query_row("SELECT count(*) FROM events", [], |row| row.get(0))
            .expect("a count");
        assert_eq!(kept, 6);
    }
}
