//! How the writer fares: what it wrote, how long that took, what failed, and how large the journal is. Counts only.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::telemetry::Durations;

/// Since the store was opened. Written by the store's thread; read without waiting.
#[derive(Debug, Default)]
pub struct Vitals {
    /// How long each transaction took that was written, to its end on the disk where it had events.
    pub writes: Durations,
    failures: AtomicU64,
    lost_slots: AtomicU64,
    bytes: AtomicU64,
}

impl Vitals {
    pub(super) fn wrote(&self, took: Duration) {
        self.writes.add(took);
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn lost(&self, slots: u64) {
        self.lost_slots.fetch_add(slots, Ordering::Relaxed);
    }

    /// Looks how large the journal is. Asks the file system, which may stall: for the store's own thread.
    pub(super) fn measure(&self, path: &Path) {
        let beside = |end: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            PathBuf::from(name)
        };
        let files = [path.to_owned(), beside("-wal")];
        let sizes = files.iter().filter_map(|file| file.metadata().ok());
        let bytes = sizes.map(|found| found.len()).sum();
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Attempts to write that failed; each is made again.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Seconds of samples that were given up while the journal could not be written.
    pub fn lost_slots(&self) -> u64 {
        self.lost_slots.load(Ordering::Relaxed)
    }

    /// Size of the journal with its log of writes, as of the last write.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}
