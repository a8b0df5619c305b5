//! What became of the notices of each channel.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::prometheus::Exposition;

/// One channel's counters.
#[derive(Debug, Default)]
pub struct ChannelMeter {
    delivered: AtomicU64,
    failed: AtomicU64,
    given_up: AtomicU64,
    waiting: AtomicU64,
}

/// Every channel that ever was, by its name.
#[derive(Debug, Default)]
pub(super) struct Channels(BTreeMap<String, Arc<ChannelMeter>>);

impl ChannelMeter {
    pub fn delivered(&self) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt that will be made again.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// A notice that was not delivered within the retention.
    pub fn given_up(&self) {
        self.given_up.fetch_add(1, Ordering::Relaxed);
    }

    /// How many are on their way now.
    pub fn set_waiting(&self, waiting: u64) {
        self.waiting.store(waiting, Ordering::Relaxed);
    }
}

/// What a counter of a channel shows.
type OfChannel = fn(&ChannelMeter) -> &AtomicU64;

const COUNTERS: [(&str, &str, OfChannel); 3] = [
    (
        "serin_notices_delivered_total",
        "Notices that a channel took.",
        |channel| &channel.delivered,
    ),
    (
        "serin_notices_failed_total",
        "Attempts to deliver a notice that failed and are made again.",
        |channel| &channel.failed,
    ),
    (
        "serin_notices_given_up_total",
        "Notices that were not delivered within the retention.",
        |channel| &channel.given_up,
    ),
];

impl Channels {
    pub(super) fn channel(&mut self, name: &str) -> Arc<ChannelMeter> {
        Arc::clone(self.0.entry(name.to_owned()).or_default())
    }

    pub(super) fn expose(&self, out: &mut Exposition) {
        for (name, help, read) in COUNTERS {
            let mut family = out.counter(name, help);
            for (channel, meter) in &self.0 {
                let count = read(meter).load(Ordering::Relaxed);
                family.count(&[("channel", channel)], count);
            }
        }
        let mut waiting = out.gauge("serin_notices_waiting", "Notices on their way.");
        for (channel, meter) in &self.0 {
            let count = meter.waiting.load(Ordering::Relaxed);
            waiting.count(&[("channel", channel)], count);
        }
    }
}
