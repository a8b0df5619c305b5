//! What mirrors found, as readings of the signal `mirror_difference`.
//!
//! Four readings in each of the signal's intervals, each of the comparisons since the last one: a window over them is
//! all that differed in it / all that was compared. Where nothing was compared nothing is said, and the figure grows old.

use std::time::Duration;

use super::driver::Driver;
use crate::rollout::gate::{Heard, Input};
use crate::rollout::name::{Arm, RolloutName, SignalName};
use crate::rollout::signal::{MIRROR_DIFFERENCE, MIRROR_INTERVAL, Observation, Said, SeriesKey};
use crate::rollout::time::{Now, Timestamp};
use crate::telemetry::{MirrorMeter, Mirrored};

/// From one reading to the next: what lies within a quarter of an interval is kept as one.
const EVERY: Duration = Duration::from_secs(MIRROR_INTERVAL.as_secs() / 4);

/// What a mirror had found when it was read last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    at: Timestamp,
    same: u64,
    different: u64,
}

impl Driver {
    /// Gives the gates what the mirrors found.
    pub(super) fn hear_mirrors(&mut self, now: Now) {
        for name in self.names() {
            if let Some(said) = self.found(now, &name) {
                let observation = Observation {
                    of: key(),
                    at: now.mono,
                    interval: MIRROR_INTERVAL,
                    said,
                };
                let heard = Heard {
                    signals: vec![observation],
                    ..Heard::default()
                };
                self.tell(now, &name, Input::Heard(Box::new(heard)));
            }
        }
    }

    fn found(&mut self, now: Now, name: &RolloutName) -> Option<Said> {
        let charge = self.rollouts.get_mut(name)?;
        if now.mono.since(charge.mirrored.at) < EVERY {
            return None;
        }
        let mirror = self.config.rollouts.get(name)?.mirror.as_ref()?;
        mirror.compare.as_ref()?;
        let meter = self.telemetry.known_mirror(name)?;
        charge.mirrored.read(now.mono, &meter)
    }
}

impl Found {
    fn read(&mut self, at: Timestamp, meter: &MirrorMeter) -> Option<Said> {
        let before = *self;
        *self = Self {
            at,
            same: meter.counted(Mirrored::Same),
            different: meter.counted(Mirrored::Different),
        };
        let different = self.different.saturating_sub(before.different);
        let count = different + self.same.saturating_sub(before.same);
        (count > 0).then(|| Said::Value {
            value: different as f64 / count as f64,
            count,
        })
    }
}

// The figure is canary's, against baseline.
fn key() -> SeriesKey {
    SeriesKey {
        name: SignalName::parse(MIRROR_DIFFERENCE).expect("the name is well formed"),
        arm: Arm::Canary,
        segment: None,
    }
}
