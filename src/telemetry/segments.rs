//! Names of segments as small numbers, so that the hot write compares no text.
//!
//! Reading takes no lock. Bounded: once `max_segments` names are known every further one is
//! `other`, without a lock and without being kept. A number, once given, stays.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;

use super::{SegmentId, lock};
use crate::rollout::segments::{MAX_SEGMENT_LEN, OTHER_SEGMENT};

const NONE: SegmentId = SegmentId(0);
const OTHER: SegmentId = SegmentId(1);
/// The number of the first name told apart.
const FIRST: usize = 2;
/// How many names fit into the numbers left.
const MOST: usize = u16::MAX as usize - FIRST;

/// The segments of one rollout.
#[derive(Debug)]
pub(super) struct Segments {
    known: ArcSwap<Known>,
    writing: Mutex<()>,
}

#[derive(Clone, Debug)]
struct Known {
    by_name: HashMap<Arc<str>, SegmentId>,
    /// By number, from `FIRST` on.
    names: Vec<Arc<str>>,
    other: Arc<str>,
    max: usize,
}

impl Segments {
    pub(super) fn new(max_segments: usize) -> Self {
        let known = Known {
            by_name: HashMap::new(),
            names: Vec::new(),
            other: Arc::from(OTHER_SEGMENT),
            max: max_segments.min(MOST),
        };
        Self {
            known: ArcSwap::from_pointee(known),
            writing: Mutex::new(()),
        }
    }

    /// Changes the bound. Names known beyond a lower one stay known.
    pub(super) fn set_max(&self, max_segments: usize) {
        let _writing = lock(&self.writing);
        let max = max_segments.min(MOST);
        let known = self.known.load();
        if known.max != max {
            let changed = Known {
                max,
                ..Known::clone(&known)
            };
            self.known.store(Arc::new(changed));
        }
    }

    /// The number of a name; an empty name is none.
    pub(super) fn id(&self, name: &str) -> SegmentId {
        self.known
            .load()
            .find(name)
            .unwrap_or_else(|| self.learn(name))
    }

    /// Whether a name is counted as `other` now. Learns nothing.
    pub(super) fn is_other(&self, name: &str) -> bool {
        self.known.load().find(name) == Some(OTHER)
    }

    /// The name of a number; `None` for none.
    pub(super) fn name(&self, id: SegmentId) -> Option<Arc<str>> {
        if id == NONE {
            return None;
        }
        let known = self.known.load();
        let place = usize::from(id.0).checked_sub(FIRST);
        let name = place.and_then(|place| known.names.get(place));
        Some(Arc::clone(name.unwrap_or(&known.other)))
    }

    fn learn(&self, name: &str) -> SegmentId {
        let _writing = lock(&self.writing);
        let known = self.known.load();
        // Another thread may have learnt it, or filled the last place, since the look without a lock.
        if let Some(id) = known.find(name) {
            return id;
        }
        let (id, grown) = known.with(name);
        self.known.store(Arc::new(grown));
        id
    }
}

impl Known {
    // `None` where the name is new and there is room for it.
    fn find(&self, name: &str) -> Option<SegmentId> {
        if name.is_empty() {
            return Some(NONE);
        }
        if let Some(&id) = self.by_name.get(name) {
            return Some(id);
        }
        let full = self.names.len() >= self.max;
        (full || name == OTHER_SEGMENT || name.len() > MAX_SEGMENT_LEN).then_some(OTHER)
    }

    fn with(&self, name: &str) -> (SegmentId, Self) {
        let number = u16::try_from(self.names.len() + FIRST).expect("names are fewer than MOST");
        let (id, name) = (SegmentId(number), Arc::<str>::from(name));
        let mut grown = self.clone();
        grown.by_name.insert(Arc::clone(&name), id);
        grown.names.push(name);
        (id, grown)
    }
}
