//! What 13 days leave in the journal, and what it costs to read of them: one table, not criterion's, because a journal of that age is made once
//! and read a few times.
//!
//! Usage: `cargo bench --bench journal [-- SEGMENTS ...]`, 1, 8 and 64 if none are named. The largest is some 0.7 GB while it runs.

#![expect(
    clippy::disallowed_methods,
    reason = "a bench reads the machine's own clock"
)]

#[path = "../tests/store/make.rs"]
#[expect(dead_code, reason = "the store's tests use the rest")]
mod make;

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use serin::control::points;
use serin::records::compact::encode_cell;
use serin::rollout::name::Arm;
use serin::rollout::slot::{Cell, CellKey, Slot};
use serin::rollout::time::Timestamp;
use serin::store::{Report, Store};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
const NOW_MS: u64 = 13 * DAY_MS;
/// Of a second, over all segments and both arms.
const REQUESTS: u64 = 1_000;
const READS: usize = 9;
const WRITES: u64 = 200;

fn main() {
    let named: Vec<usize> = std::env::args()
        .filter_map(|word| word.parse().ok())
        .collect();
    let segments = if named.is_empty() {
        vec![1, 8, 64]
    } else {
        named
    };
    println!(
        "| segments | journal | 13 days by the hour | the last day by 10 min | the last hour by 10 s | a second written, with an event: median, worst |"
    );
    println!("|---|---|---|---|---|---|");
    for segments in segments {
        samples(segments);
    }
    println!();
    println!("| events | journal | the last 200 | all |");
    println!("|---|---|---|---|");
    for events in [100, 1_000, 10_000, 100_000] {
        history(events);
    }
}

fn samples(segments: usize) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = make::settings(directory.path()).path;
    drop(closed(make::open(directory.path())));
    aged(&path, segments);
    let opened = make::open(directory.path());
    let read = |from_ms: u64, step_s: u64| {
        let span = [from_ms, NOW_MS].map(Timestamp::from_millis);
        median(READS, || {
            let step = Duration::from_secs(step_s);
            let found = points(&opened.store, &make::rollout(), (span[0], span[1]), step);
            assert!(found.expect("it is read").len() > 100);
        })
    };
    let (days, day, hour) = (
        read(0, 3_600),
        read(NOW_MS - DAY_MS, 600),
        read(NOW_MS - HOUR_MS, 10),
    );
    let mut writes: Vec<Duration> = (1..=WRITES)
        .map(|id| {
            let at = Timestamp::from_millis(NOW_MS + id * 1_000);
            let mut slot = Slot::empty(at, Duration::from_secs(1));
            slot.cells = cells(segments, 1).collect();
            let event = make::event(id, 0, serin::rollout::gate::EventKind::Resumed);
            let began = Instant::now();
            opened.store.write(make::batch(vec![event], vec![slot]));
            while !matches!(opened.next(), Report::Stored { .. }) {}
            began.elapsed()
        })
        .collect();
    writes.sort_unstable();
    println!(
        "| {segments} | {} MB | {days:.1?} | {day:.1?} | {hour:.1?} | {:.1?}, {:.1?} |",
        size(&path) / 1_000_000,
        writes[writes.len() / 2],
        writes[writes.len() - 1]
    );
    closed(opened);
}

fn history(events: u64) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = make::settings(directory.path()).path;
    let opened = make::open(directory.path());
    let all = (1..=events).map(|id| make::event(id, 0, serin::rollout::gate::EventKind::Resumed));
    opened.store.write(make::batch(all.collect(), Vec::new()));
    while !matches!(opened.next(), Report::Stored { .. }) {}
    let read = |after: u64, limit: usize| {
        median(READS, || {
            let after = serin::rollout::gate::EventId(after);
            let found = opened.store.history(&make::rollout(), after, limit);
            assert!(!found.expect("it is read").is_empty());
        })
    };
    let last = read(events.saturating_sub(200), 200);
    let whole = read(0, usize::try_from(events).expect("few"));
    println!(
        "| {events} | {} kB | {last:.1?} | {whole:.1?} |",
        size(&path) / 1_000
    );
    closed(opened);
}

fn median(many: usize, mut work: impl FnMut()) -> Duration {
    let mut took: Vec<Duration> = (0..many)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed()
        })
        .collect();
    took.sort_unstable();
    took[many / 2]
}

/// What the segments of both arms count in so many seconds.
fn cells(segments: usize, seconds: u64) -> impl Iterator<Item = (CellKey, Cell)> {
    let each = REQUESTS * seconds / (2 * segments as u64);
    let names = (0..segments).map(|at| format!("segment-{at}"));
    names.flat_map(move |name| {
        Arm::ALL.map(|arm| {
            let mut cell = Cell {
                counted: each,
                errors: each / 1_000,
                ..Cell::default()
            };
            // Spread as latencies are: some thirty buckets.
            for bucket in 0..30 {
                cell.latency.record(5_000 << (bucket / 6), each / 30 + 1);
                cell.latency.record(5_000 + 900 * bucket, each / 60 + 1);
            }
            let key = CellKey {
                epoch: 1,
                arm,
                segment: Some(name.as_str().into()),
            };
            (key, cell)
        })
    })
}

/// Fills a journal with what is kept of 13 days, as the store folds them.
fn aged(path: &Path, segments: usize) {
    let mut connection = Connection::open(path).expect("the journal");
    let transaction = connection.transaction().expect("it is ours");
    let mut insert = transaction
        .prepare(
            "INSERT INTO samples (rollout, level, start_ms, run, epoch, arm, segment, width_ms, cell) VALUES (?1, ?2, ?3, 1, 1, ?4, ?5, ?6, ?7)",
        )
        .expect("the table");
    let folds = [
        (2_u8, 0, NOW_MS - DAY_MS, 60_000),
        (1, NOW_MS - DAY_MS, NOW_MS - HOUR_MS, 10_000),
        (0, NOW_MS - HOUR_MS, NOW_MS, 1_000),
    ];
    let name = make::rollout().to_string();
    for (level, from, to, width) in folds {
        let cells: Vec<(usize, String, Vec<u8>)> = cells(segments, width / 1_000)
            .map(|(key, cell)| {
                let segment = key.segment.as_deref().unwrap_or_default().to_owned();
                (key.arm.index(), segment, encode_cell(&cell))
            })
            .collect();
        for start in (from..to).step_by(width as usize) {
            for (arm, segment, cell) in &cells {
                insert
                    .execute(params![
                        name,
                        level,
                        start as i64,
                        *arm as i64,
                        segment,
                        width as i64,
                        cell
                    ])
                    .expect("a row");
            }
        }
    }
    drop(insert);
    // As a journal of the version before: opened again, it is summed up.
    transaction
        .pragma_update(None, "user_version", 2)
        .expect("a version");
    transaction.commit().expect("a disk");
}

fn closed(opened: make::Opened) -> Store {
    let make::Opened { store, .. } = opened;
    store.close(Duration::from_secs(600));
    store
}

/// With what is not in its place yet.
fn size(path: &Path) -> u64 {
    let log = path.with_extension("db-wal");
    let of = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    of(path) + of(&log)
}
