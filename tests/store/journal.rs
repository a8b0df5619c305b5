//! Events are kept in order, once, and writing waits for nobody.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::Connection;
use serin::rollout::gate::{EventId, EventKind};
use serin::rollout::time::Timestamp;
use serin::store::{Disk, Report};

use crate::make::{PATIENCE, batch, event, one, open, open_on, rollout, settings, slot, snapshot};

#[test]
fn what_was_written_is_there_after_reopening_in_order_and_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = open(directory.path());
    assert!(first.recovered.rollouts.is_empty());
    for id in 1..=100 {
        first.store.write(one(id));
    }
    first.wait_stored(100);
    first.store.close(PATIENCE);

    let second = open(directory.path());
    assert_eq!(second.ids(), (1..=100).collect::<Vec<u64>>());
    assert_eq!(
        second.recovered.rollouts[&rollout()].snapshot,
        snapshot(100, 0)
    );
    let history = second
        .store
        .history(&rollout(), EventId(97), 2)
        .expect("the journal is read");
    assert_eq!(
        history.iter().map(|record| record.id).collect::<Vec<_>>(),
        [98, 99]
    );
    assert_eq!(history[0].reason, "reason 98");
    assert_eq!(history[0].at.to_string(), "2025-11-01T14:01:38.000Z");
}

#[test]
fn an_event_handed_over_twice_is_kept_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path());
    opened.store.write(one(1));
    opened.wait_stored(1);
    opened.store.write(batch(
        vec![
            event(1, 0, EventKind::Resumed),
            event(2, 0, EventKind::Paused),
        ],
        Vec::new(),
    ));
    opened.wait_stored(2);
    assert_eq!(opened.ids(), [1, 2]);
}

#[test]
fn closing_writes_what_waits() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = open(directory.path());
    for id in 1..=50 {
        first.store.write(one(id));
    }
    first.store.close(PATIENCE);
    assert_eq!(open(directory.path()).ids().len(), 50);
}

#[test]
fn runs_are_told_apart() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path());
    opened
        .store
        .write(batch(vec![event(1, 0, EventKind::Resumed)], Vec::new()));
    opened.store.write(batch(
        vec![event(2, 1, EventKind::Started { stages: 2 })],
        Vec::new(),
    ));
    opened.store.write(batch(
        vec![
            event(3, 1, EventKind::Paused),
            event(4, 2, EventKind::Started { stages: 2 }),
        ],
        Vec::new(),
    ));
    opened.wait_stored(4);
    let ids = |run| -> Vec<u64> {
        let events = opened
            .store
            .run_history(&rollout(), run)
            .expect("the journal is read");
        events.iter().map(|record| record.id).collect()
    };
    assert_eq!(
        (ids(0), ids(1), ids(2), ids(3)),
        (vec![1], vec![2, 3], vec![4], vec![])
    );
    let last = opened
        .store
        .last_run_history(&rollout())
        .expect("the journal is read");
    assert_eq!(last.len(), 1);
    let runs = opened.store.runs(&rollout()).expect("the journal is read");
    assert_eq!(runs.iter().map(|run| run.run).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(
        runs[0].plan.as_ref().map(|plan| plan.version.as_str()),
        Some("2.4.0")
    );
}

#[test]
fn samples_of_the_last_half_hour_come_back_merged_and_oldest_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = open(directory.path());
    let saved_at = 4_000;
    let slots = vec![
        slot(100, 9),
        slot(saved_at - 1_801, 1),
        slot(saved_at - 1_800, 2),
        slot(saved_at - 1, 3),
    ];
    first
        .store
        .write(batch(vec![event(saved_at, 0, EventKind::Resumed)], slots));
    // The second that was open when the process ended comes twice.
    first.store.write(batch(
        vec![event(saved_at, 0, EventKind::Resumed)],
        vec![slot(saved_at - 1, 4)],
    ));
    first.store.close(PATIENCE);

    let second = open(directory.path());
    let recent = &second.recovered.rollouts[&rollout()].recent;
    assert_eq!(recent, &[slot(saved_at - 1_800, 2), slot(saved_at - 1, 7)]);
    let all = second
        .store
        .samples(
            &rollout(),
            Timestamp::default(),
            Timestamp::from_millis(saved_at * 1000),
            Duration::from_secs(3_600),
        )
        .expect("the samples are read");
    let requests = |cells: &serin::rollout::slot::Slot| {
        cells.cells.values().map(|cell| cell.counted).sum::<u64>()
    };
    assert_eq!(all.iter().map(requests).collect::<Vec<_>>(), [12, 7]);
}

/// A disk that stands still until it is told to go on, once.
struct Stalled {
    reached: Sender<()>,
    go: Mutex<Option<Receiver<()>>>,
}

impl Disk for Stalled {
    fn before_write(&mut self, _connection: &Connection) -> rusqlite::Result<()> {
        if let Some(go) = self.go.lock().expect("one thread").take() {
            self.reached.send(()).expect("the test waits");
            go.recv_timeout(PATIENCE).expect("the test goes on");
        }
        Ok(())
    }
}

#[test]
fn a_disk_that_stands_still_stops_nobody_and_loses_no_event() {
    let directory = tempfile::tempdir().expect("a directory");
    let (reached, stalled) = channel();
    let (go_on, go) = channel();
    let opened = open_on(
        Stalled {
            reached,
            go: Mutex::new(Some(go)),
        },
        directory.path(),
    );
    opened.store.write(one(1));
    stalled
        .recv_timeout(PATIENCE)
        .expect("the write reached the disk");

    // On a thread of its own, so that a `write` that waits is a failure here and not a test that never ends.
    let (done, finished) = channel();
    let store = opened.store.clone();
    let writer = std::thread::spawn(move || {
        for id in 2..=2_000 {
            store.write(batch(
                vec![event(id, 0, EventKind::Resumed)],
                vec![slot(id, 1)],
            ));
        }
        done.send(()).expect("the test waits");
    });
    finished
        .recv_timeout(PATIENCE)
        .expect("writing does not wait for the disk");
    assert_eq!(
        opened.ids(),
        [0_u64; 0],
        "reading does not wait either, and sees what is committed"
    );
    assert!(
        opened.reports.try_recv().is_err(),
        "nothing is reported before it is stored"
    );

    go_on.send(()).expect("the disk waits");
    opened.wait_stored(2_000);
    writer.join().expect("the writer ended");
    assert_eq!(opened.ids(), (1..=2_000).collect::<Vec<u64>>());
    let kept = opened
        .store
        .samples(
            &rollout(),
            Timestamp::default(),
            Timestamp::from_millis(u64::MAX >> 1),
            Duration::from_secs(1),
        )
        .expect("the samples are read");
    assert_eq!(kept.len(), 600, "ten minutes of samples wait, no more");
    assert_eq!(kept[599].start, Timestamp::from_millis(2_000_000));
}

/// A disk that stands still at the first write until it is told to go on, and then refuses it.
struct Refusing(Stalled);

impl Disk for Refusing {
    fn before_write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let first = self.0.go.lock().expect("one thread").is_some();
        self.0.before_write(connection)?;
        if first {
            Err(rusqlite::Error::InvalidQuery)
        } else {
            Ok(())
        }
    }
}

#[test]
fn what_failed_goes_before_what_came_meanwhile() {
    let directory = tempfile::tempdir().expect("a directory");
    let (reached, stalled) = channel();
    let (go_on, go) = channel();
    let disk = Refusing(Stalled {
        reached,
        go: Mutex::new(Some(go)),
    });
    let opened = open_on(disk, directory.path());
    opened.store.write(batch(
        vec![event(1, 0, EventKind::Resumed)],
        vec![slot(1, 1)],
    ));
    stalled
        .recv_timeout(PATIENCE)
        .expect("the write reached the disk");
    opened.store.write(batch(
        vec![event(2, 0, EventKind::Resumed)],
        vec![slot(1, 2)],
    ));
    go_on.send(()).expect("the disk waits");
    assert!(matches!(opened.next(), Report::Failed { .. }));
    assert_eq!(opened.next(), Report::Works);
    assert_eq!(
        opened.next(),
        Report::Stored {
            rollout: rollout(),
            id: EventId(2)
        }
    );
    opened.store.close(PATIENCE);

    let second = open(directory.path());
    assert_eq!(second.ids(), [1, 2]);
    let found = &second.recovered.rollouts[&rollout()];
    assert_eq!(found.snapshot, snapshot(2, 0), "the newer state");
    assert_eq!(found.recent, [slot(1, 3)], "every count once");
}

/// A disk that is full until it is given room.
struct Full(Arc<Mutex<bool>>);

impl Disk for Full {
    fn before_write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let pages = if *self.0.lock().expect("no panic") {
            1
        } else {
            1_000_000
        };
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
    }
}

#[test]
fn a_full_disk_is_named_and_what_waited_is_written_when_there_is_room() {
    let directory = tempfile::tempdir().expect("a directory");
    let full = Arc::new(Mutex::new(true));
    let opened = open_on(Full(Arc::clone(&full)), directory.path());
    let mut large = event(1, 0, EventKind::Resumed);
    large.reason = "x".repeat(100_000);
    opened.store.write(batch(vec![large], Vec::new()));
    let Report::Failed { message } = opened.next() else {
        panic!("a full disk was not noticed")
    };
    let path = settings(directory.path()).path;
    assert_eq!(
        message,
        format!("cannot write {}: disk is full", path.display())
    );
    opened.store.write(one(2));

    *full.lock().expect("no panic") = false;
    assert_eq!(opened.next(), Report::Works);
    assert_eq!(
        opened.next(),
        Report::Stored {
            rollout: rollout(),
            id: EventId(2)
        }
    );
    assert_eq!(opened.ids(), [1, 2]);
}

#[test]
fn closing_gives_up_on_a_disk_that_stays_full() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open_on(Full(Arc::new(Mutex::new(true))), directory.path());
    let mut large = event(1, 0, EventKind::Resumed);
    large.reason = "x".repeat(100_000);
    opened.store.write(batch(vec![large], Vec::new()));
    assert!(matches!(opened.next(), Report::Failed { .. }));
    opened.store.close(Duration::from_millis(10));
    assert_eq!(opened.ids(), [0_u64; 0]);
}

#[test]
fn another_program_that_holds_the_file_delays_the_record_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path());
    opened.store.write(one(1));
    opened.wait_stored(1);
    let other = Connection::open(settings(directory.path()).path).expect("the journal");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    opened.store.write(one(2));
    assert_eq!(opened.ids(), [1]);
    assert!(opened.reports.try_recv().is_err());
    other
        .execute_batch("COMMIT")
        .expect("the lock is given back");
    opened.wait_stored(2);
    assert_eq!(opened.ids(), [1, 2]);
}
