//! The tables, their version, and how a file is opened: created, migrated forward, or left alone.
//!
//! A file that a newer serin made, that is damaged, or that is no journal is never written. Before a migration
//! the file is copied beside itself (`serin.db.schema-1`); the steps then run in one transaction.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::fault::{explain, is_damage};
use super::{StoreError, samples};

/// "SERN": says that a SQLite file is ours.
const APPLICATION_ID: i64 = 0x5345_524e;
/// A write waits this long for somebody who reads the file with other tools.
const BUSY_PATIENCE: Duration = Duration::from_secs(10);
/// Files up to this size are checked page by page at start (some 0.2 s); larger ones only where they are read.
const CHECKED_WHOLE: u64 = 64 << 20;
/// The log of writes is cut back to this size after a checkpoint.
const WAL_LIMIT: i64 = 16 << 20;

/// What leads from one version to the next.
#[derive(Clone, Copy)]
enum Step {
    Sql(&'static str),
    Code(fn(&Connection) -> rusqlite::Result<()>),
}

/// Step i leads from version i to version i + 1. A step is never changed once released.
const STEPS: &[Step] = &[
    Step::Sql(
        "
    CREATE TABLE events (
        rollout TEXT NOT NULL,
        id      INTEGER NOT NULL,
        run     INTEGER NOT NULL,
        at_ms   INTEGER NOT NULL,   -- wall time
        kind    TEXT NOT NULL,
        json    TEXT NOT NULL,      -- records::event::EventRecord
        PRIMARY KEY (rollout, id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX events_by_run ON events (rollout, run, id);

    CREATE TABLE runs (
        rollout    TEXT NOT NULL,
        run        INTEGER NOT NULL,
        started_ms INTEGER NOT NULL,    -- wall time
        log        TEXT NOT NULL UNIQUE,
        plan       TEXT,                -- records::plan::PlanRecord
        PRIMARY KEY (rollout, run)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE state (
        rollout  TEXT NOT NULL PRIMARY KEY,
        saved_ms INTEGER NOT NULL,      -- gate time
        json     TEXT NOT NULL,         -- records::state
        counts   BLOB NOT NULL
    ) STRICT;

    CREATE TABLE samples (
        rollout  TEXT NOT NULL,
        level    INTEGER NOT NULL,      -- 0 as measured, 1 folded to 10 s, 2 folded to 60 s; see store::samples
        start_ms INTEGER NOT NULL,      -- gate time
        run      INTEGER NOT NULL,
        epoch    INTEGER NOT NULL,
        arm      INTEGER NOT NULL,      -- 0 baseline, 1 canary
        segment  TEXT NOT NULL,         -- '' where none was said
        width_ms INTEGER NOT NULL,
        cell     BLOB NOT NULL,         -- records::compact
        PRIMARY KEY (rollout, level, start_ms, run, epoch, arm, segment)
    ) STRICT, WITHOUT ROWID;
",
    ),
    Step::Sql(
        "
    CREATE TABLE outbox (
        seq      INTEGER PRIMARY KEY AUTOINCREMENT,
        channel  TEXT NOT NULL,
        id       TEXT NOT NULL,             -- of the notice, stable
        rollout  TEXT NOT NULL,
        event    INTEGER,                   -- events.id, where that is what is told
        kind     TEXT NOT NULL,             -- event, reminder, progress
        body     TEXT,                      -- what is told, where it is no event
        added_ms INTEGER NOT NULL,          -- wall time, as are the next two
        next_ms  INTEGER NOT NULL,          -- not tried before
        done_ms  INTEGER,                   -- delivered or given up
        attempts INTEGER NOT NULL DEFAULT 0,
        fault    TEXT,                      -- of the last attempt
        UNIQUE (channel, id)
    ) STRICT;
    CREATE INDEX outbox_waiting ON outbox (channel, seq) WHERE done_ms IS NULL;
    CREATE INDEX outbox_by_age ON outbox (added_ms);
",
    ),
    // Levels 3 to 6: the samples over all epochs and segments.
    Step::Code(samples::sum_up),
];

/// Opens the file for writing, made or migrated as needed.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    open_with(path, STEPS)
}

/// Opens the file for reading only.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_PATIENCE)?;
    Ok(connection)
}

fn open_with(path: &Path, steps: &[Step]) -> Result<Connection, StoreError> {
    let fault = |why: String| StoreError::Open {
        path: path.to_owned(),
        why,
    };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)
            .map_err(|error| fault(format!("{}: {error}", directory.display())))?;
    }
    let found = match std::fs::metadata(path) {
        Ok(file) if !file.is_file() => return Err(fault("not a file".to_owned())),
        Ok(file) if file.len() > 0 => inspect(path, file.len(), steps.len() as i64)?,
        Ok(_) | Err(_) => 0,
    };
    if found > 0 && found < steps.len() as i64 {
        copy_beside(path, found)?;
    }
    let mut connection = Connection::open(path).map_err(|error| judge(path, &error))?;
    prepare(&connection).map_err(|error| judge(path, &error))?;
    migrate(&mut connection, steps).map_err(|error| judge(path, &error))?;
    Ok(connection)
}

fn judge(path: &Path, error: &rusqlite::Error) -> StoreError {
    let (path, why) = (path.to_owned(), explain(error));
    if is_damage(error) {
        StoreError::Damaged { path, why }
    } else {
        StoreError::Open { path, why }
    }
}

/// The version of a file that is there, read without writing a byte of it.
fn inspect(path: &Path, len: u64, known: i64) -> Result<i64, StoreError> {
    let damaged = |why: &str| StoreError::Damaged {
        path: path.to_owned(),
        why: why.to_owned(),
    };
    let connection = open_reader(path).map_err(|error| judge(path, &error))?;
    let read = |pragma: &str| -> Result<i64, StoreError> {
        connection
            .pragma_query_value(None, pragma, |row| row.get(0))
            .map_err(|error| judge(path, &error))
    };
    let (found, owner) = (read("user_version")?, read("application_id")?);
    if owner != APPLICATION_ID {
        return Err(damaged("it is not a journal of serin's"));
    }
    if found > known {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known,
        });
    }
    if len <= CHECKED_WHOLE {
        let answer: String = connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|error| judge(path, &error))?;
        if answer != "ok" {
            return Err(damaged(answer.trim()));
        }
    }
    Ok(found)
}

fn copy_beside(path: &Path, version: i64) -> Result<(), StoreError> {
    let copy = beside(path, version);
    let fault = |why: String| StoreError::Open {
        path: path.to_owned(),
        why: format!("cannot keep a copy: {why}"),
    };
    // A copy from an attempt that did not come to its end is made again.
    if copy.exists() {
        std::fs::remove_file(&copy).map_err(|error| fault(error.to_string()))?;
    }
    let connection = open_reader(path).map_err(|error| judge(path, &error))?;
    connection
        .execute("VACUUM INTO ?1", [copy.to_string_lossy()])
        .map(|_| ())
        .map_err(|error| fault(explain(&error)))
}

fn beside(path: &Path, version: i64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".schema-{version}"));
    name.into()
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_PATIENCE)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        tracing::warn!(
            mode,
            "the file system of the state cannot share memory: readers wait for the writer"
        );
    }
    connection.pragma_update(None, "journal_size_limit", WAL_LIMIT)?;
    connection.pragma_update(None, "synchronous", "NORMAL")
}

fn migrate(connection: &mut Connection, steps: &[Step]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for step in steps
        .iter()
        .skip(usize::try_from(found).unwrap_or(usize::MAX))
    {
        match step {
            Step::Sql(text) => transaction.execute_batch(text)?,
            Step::Code(run) => run(&transaction)?,
        }
    }
    // Written even where nothing changed: this is the first proof that the file can be written at all.
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", steps.len() as i64)?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[Step] = &[
        Step::Sql("CREATE TABLE a (x INTEGER) STRICT"),
        Step::Sql("ALTER TABLE a ADD COLUMN y INTEGER NOT NULL DEFAULT 7"),
    ];
    const BROKEN: &[Step] = &[
        Step::Sql("CREATE TABLE a (x INTEGER) STRICT"),
        Step::Sql("CREATE TABLE b (x INTEGER) STRICT; SELECT nonsense"),
    ];

    fn version(path: &Path) -> i64 {
        let connection = open_reader(path).expect("the file is there");
        connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .expect("a version")
    }

    #[test]
    fn an_old_file_is_migrated_and_its_copy_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("serin.db");
        let old = open_with(&path, &TWO[..1]).expect("version 1");
        old.execute("INSERT INTO a VALUES (1)", []).expect("a row");
        drop(old);

        let new = open_with(&path, TWO).expect("version 2");
        let row: (i64, i64) = new
            .query_row("SELECT x, y FROM a", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .expect("the row");
        assert_eq!((row, version(&path)), ((1, 7), 2));
        assert_eq!(version(&beside(&path, 1)), 1);
    }

    #[test]
    fn a_migration_that_fails_changes_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("serin.db");
        drop(open_with(&path, &TWO[..1]).expect("version 1"));

        assert!(matches!(
            open_with(&path, BROKEN),
            Err(StoreError::Open { .. })
        ));
        assert_eq!(version(&path), 1);
        let again = open_with(&path, TWO).expect("version 2");
        let tables: i64 = again
            .query_row(
                "SELECT count(*) FROM sqlite_schema WHERE name = 'b'",
                [],
                |row| row.get(0),
            )
            .expect("a count");
        assert_eq!(tables, 0);
    }
}
