//! Notices are written with their events, once, and stay until they are settled.

use std::time::Duration;

use serin::records::event::EventRecord;
use serin::rollout::gate::{EventId, EventKind};
use serin::rollout::time::WallTime;
use serin::store::{Due, Notice, Post, PostKind, Settled, Store};

use crate::make::{Opened, PATIENCE, batch, event, open, rollout, settings};

const CHANNEL: &str = "ops";
/// After everything here.
const LATER: WallTime = WallTime::from_unix_millis(i64::MAX);

fn told(id: u64) -> serin::store::Batch {
    let mut told = batch(vec![event(id, 0, EventKind::Resumed)], Vec::new());
    told.notices.push(Notice {
        channel: CHANNEL.to_owned(),
        event: EventId(id),
    });
    told
}

fn due(store: &Store, now: WallTime) -> Due {
    store.due(CHANNEL, now, 100).expect("the outbox is read")
}

fn ids(due: &Due) -> Vec<&str> {
    due.waiting.iter().map(|one| one.id.as_str()).collect()
}

/// Does something to the outbox and waits until it is written.
fn changed(opened: &Opened, change: impl FnOnce(&Store)) {
    let mut moves = opened.store.outbox_changes();
    moves.mark_unchanged();
    change(&opened.store);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime
        .block_on(async { tokio::time::timeout(PATIENCE, moves.changed()).await })
        .expect("in time")
        .expect("the store lives");
}

fn post(id: &str, kind: PostKind) -> Post {
    Post {
        channel: CHANNEL.to_owned(),
        id: id.to_owned(),
        rollout: rollout(),
        kind,
        body: format!("{{\"id\":\"{id}\"}}"),
        at: WallTime::from_unix_millis(0),
    }
}

#[test]
fn a_notice_is_stored_with_its_event_and_outlives_the_process() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path());
    opened.store.write(told(1));
    opened
        .store
        .write(batch(vec![event(2, 0, EventKind::Paused)], Vec::new()));
    opened.store.write(told(3));
    opened.wait_stored(3);
    opened.store.close(Duration::from_secs(5));
    drop(opened);

    let opened = open(directory.path());
    let waiting = due(&opened.store, LATER);
    assert_eq!(ids(&waiting), ["analyzer/1", "analyzer/3"]);
    assert_eq!((waiting.total, waiting.next), (2, None));
    let body = waiting.waiting[1].body.as_deref().expect("its event");
    let read: EventRecord = serde_json::from_str(body).expect("a record");
    assert_eq!(read, event(3, 0, EventKind::Resumed));
    assert!(
        due(&opened.store, WallTime::from_unix_millis(0))
            .waiting
            .is_empty()
    );
}

#[test]
fn what_failed_waits_for_its_time_and_what_was_taken_never_comes_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path());
    opened.store.write(told(1));
    opened.store.write(told(2));
    opened.wait_stored(2);
    let seqs: Vec<i64> = due(&opened.store, LATER)
        .waiting
        .iter()
        .map(|one| one.seq)
        .collect();
    let at = WallTime::from_unix_millis(5);
    let next = WallTime::from_unix_millis(1_000);
    changed(&opened, |store| {
        store.settle(seqs[0], at, Settled::Delivered);
    });
    changed(&opened, |store| {
        let why = "no answer".to_owned();
        store.settle(seqs[1], at, Settled::Failed { next, why });
    });
    let early = due(&opened.store, WallTime::from_unix_millis(999));
    assert_eq!(
        (early.waiting.len(), early.total, early.next),
        (0, 1, Some(next))
    );
    let then = due(&opened.store, next);
    assert_eq!(
        (ids(&then), then.waiting[0].attempts),
        (vec!["analyzer/2"], 1)
    );

    // The same id is the same notice, delivered as it is.
    changed(&opened, |store| {
        store.post(post("analyzer/1", PostKind::Reminder));
    });
    assert_eq!(ids(&due(&opened.store, LATER)), ["analyzer/2"]);
    changed(&opened, |store| {
        let why = "a month of silence".to_owned();
        store.settle(seqs[1], at, Settled::GivenUp { why });
    });
    assert_eq!(due(&opened.store, LATER), Due::default());
}

#[test]
fn only_the_latest_progress_waits() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path());
    for id in ["progress-1", "progress-2"] {
        changed(&opened, |store| store.post(post(id, PostKind::Progress)));
    }
    changed(&opened, |store| {
        store.post(post("reminder-1", PostKind::Reminder));
    });
    changed(&opened, |store| {
        store.post(post("reminder-2", PostKind::Reminder));
    });
    let waiting = due(&opened.store, LATER);
    assert_eq!(ids(&waiting), ["progress-2", "reminder-1", "reminder-2"]);
    assert_eq!(
        waiting.waiting[0].body.as_deref(),
        Some("{\"id\":\"progress-2\"}")
    );
}

#[test]
fn a_state_of_before_there_was_an_outbox_gets_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path());
    opened.store.write(told(1));
    opened.wait_stored(1);
    opened.store.close(Duration::from_secs(5));
    drop(opened);
    let path = settings(directory.path()).path;
    let file = rusqlite::Connection::open(&path).expect("the file");
    file.execute_batch("DROP TABLE outbox; PRAGMA user_version = 1")
        .expect("as it was");
    drop(file);

    let opened = open(directory.path());
    assert_eq!(opened.ids(), [1]);
    assert_eq!(due(&opened.store, LATER), Due::default());
    opened.store.write(told(2));
    opened.wait_stored(2);
    assert_eq!(ids(&due(&opened.store, LATER)), ["analyzer/2"]);
    assert!(path.with_file_name("serin.db.schema-1").exists());
}

#[test]
fn what_another_process_told_waits_no_more_and_an_event_of_another_is_told_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path());
    for id in 1..=4 {
        opened.store.write(told(id));
    }
    opened.wait_stored(4);
    let channels = [CHANNEL.to_owned(), "other".to_owned()];
    let notified = || {
        let read = opened.store.notified(&rollout(), &channels);
        let read = read.expect("the outbox is read");
        [CHANNEL, "other"].map(|channel| read[channel].0)
    };
    assert_eq!(notified(), [0, 4], "nothing is wanted of the other one");
    let up_to_two = [(CHANNEL.to_owned(), EventId(2))];
    changed(&opened, |store| {
        store.settled_elsewhere(&rollout(), up_to_two.into());
    });
    assert_eq!(
        ids(&due(&opened.store, LATER)),
        ["analyzer/3", "analyzer/4"]
    );
    assert_eq!(notified(), [2, 4]);
    // Event 2 is another one after all: of what was told of the former nothing is left.
    let mut other = batch(vec![event(2, 0, EventKind::Paused)], Vec::new());
    other.replaces = true;
    other.notices = told(2).notices;
    changed(&opened, |store| store.write(other));
    assert_eq!(
        ids(&due(&opened.store, LATER)),
        ["analyzer/3", "analyzer/4", "analyzer/2"]
    );
    assert_eq!(notified(), [1, 4]);
}
