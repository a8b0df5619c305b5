//! Learners who failed already: each counts as failing once, so that one bot that always fails is no release fault.
//!
//! One set for both arms, or learners who always fail would count afresh as a growing weight moves them. A learner has
//! his place by the low bits of his hash (assignment reads the high ones), among 2^22: two learners share one rarely
//! enough. Sets are cleared in epochs, or they would be blind after hours; who was marked in the epoch before stays
//! left out, and failing there marks him again. Knows nothing of what failing means.

use std::sync::Arc;
use std::time::Duration;

use super::block::{Crowd, Sight};
use crate::rollout::name::Arm;
use crate::rollout::stats::compare::BlockCounts;
use crate::rollout::time::Timestamp;

/// Places in a set.
pub const PLACES: u32 = 1 << 22;
/// Places in one page, so that a set costs what is in it.
pub const PAGE_PLACES: u32 = 1 << 12;
/// 64 places a word.
pub const PAGE_WORDS: usize = PAGE_PLACES as usize / 64;
const PAGES: usize = (PLACES / PAGE_PLACES) as usize;

/// An epoch's longest and, where many are marked, shortest time.
const EPOCH: Duration = Duration::from_secs(3600);
const SHORT_EPOCH: Duration = Duration::from_secs(600);
/// Beyond one marked in so many active learners of an arm the rest is too few to see by.
const MARKED_ONE_IN: u64 = 10;
/// So many marks are saved four times a second without a thought, and hide one learner in 128 behind another's failure.
/// An edge that many exceed, under heavy traffic, has an epoch of a minute or more instead of ten.
const MOST_MARKS: u64 = 1 << 15;
/// How long the share of those marked is measured for, and on how many at least.
const MINUTE: Duration = Duration::from_secs(60);
const SHARE_NEEDS: u64 = 100;

/// Marked places, page by page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Marks {
    /// Empty, or one for each page.
    pages: Vec<Option<Arc<Page>>>,
    /// All pages laid over each other: where it has no mark, none of them has. It stays in the cache where the pages
    /// do not, and most who are looked for are not marked.
    shadow: Option<Arc<Page>>,
    len: u64,
}

pub type Page = [u64; PAGE_WORDS];

/// The marks of the present and the previous epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Erred {
    pub current: Marks,
    pub previous: Marks,
    /// When the epoch began: the first block.
    pub began: Option<Timestamp>,
    /// Canary learners counted as failing, in this epoch and in the previous one.
    pub failing: [u64; 2],
    pub minute: Minute,
}

/// Active learners of each block of the present minute, and how many of them were marked in this epoch;
/// by `Arm::index`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Minute {
    pub began: Timestamp,
    pub active: [u64; 2],
    pub marked: [u64; 2],
}

// === impl Marks ===

impl Marks {
    pub fn contains(&self, place: u32) -> bool {
        let (page, word, bit) = within(place);
        let has = |page: &Page| page[word] >> bit & 1 == 1;
        if !self.shadow.as_deref().is_some_and(has) {
            return false;
        }
        let page = self.pages.get(page).and_then(Option::as_deref);
        page.is_some_and(has)
    }

    pub fn insert(&mut self, place: u32) {
        let (page, word, bit) = within(place);
        if self.pages.is_empty() {
            self.pages.resize(PAGES, None);
        }
        let page = self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE_WORDS]));
        if page[word] >> bit & 1 == 1 {
            return;
        }
        Arc::make_mut(page)[word] |= 1 << bit;
        self.len += 1;
        let shadow = self.shadow.get_or_insert_with(|| Arc::new([0; PAGE_WORDS]));
        if shadow[word] >> bit & 1 == 0 {
            Arc::make_mut(shadow)[word] |= 1 << bit;
        }
    }

    /// Pages with a mark, with their numbers, in order.
    pub fn pages(&self) -> impl Iterator<Item = (usize, &Page)> {
        let pages = self.pages.iter().enumerate();
        pages.filter_map(|(number, page)| Some((number, page.as_deref()?)))
    }

    pub const fn len(&self) -> u64 {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

fn within(place: u32) -> (usize, usize, u32) {
    let place = place % PLACES;
    let (page, rest) = (place / PAGE_PLACES, place % PAGE_PLACES);
    (page as usize, rest as usize / 64, rest % 64)
}

// === impl Erred ===

impl Erred {
    /// Begins a new epoch if it is time, and answers whether it did. Asked before a block is counted, so that no block ends
    /// its own epoch; asked again in the same block it does nothing.
    pub fn turn(&mut self, block: Timestamp) -> bool {
        let began = *self.began.get_or_insert(block);
        let age = block.since(began);
        let crowded = self.minute_is_over(block) && self.minute.is_crowded();
        let full = self.current.len() > MOST_MARKS;
        let turns = age >= EPOCH || age >= SHORT_EPOCH && crowded || age >= MINUTE && full;
        if turns {
            self.previous = std::mem::take(&mut self.current);
            self.failing = [0, self.failing[0]];
            self.began = Some(block);
        }
        if self.minute_is_over(block) {
            self.minute = Minute {
                began: block,
                ..Minute::default()
            };
        }
        turns
    }

    /// Whether he has not failed in this epoch or the one before.
    pub fn is_fresh(&self, sight: &Sight) -> bool {
        let place = place_of(sight);
        !self.current.contains(place) && !self.previous.contains(place)
    }

    /// Counts a block: those who had not failed before, and of them those who do now; then marks everyone who
    /// failed. `failed` is `None` for who cannot be judged.
    pub fn count<'a>(
        &mut self,
        sights: impl Iterator<Item = &'a Sight> + Clone,
        failed: impl Fn(&Sight) -> Option<bool>,
    ) -> BlockCounts {
        self.count_beside(&Crowd::default(), sights, failed)
    }

    /// The same with those who are not named: none of them fails or had failed.
    pub fn count_beside<'a>(
        &mut self,
        crowd: &Crowd,
        sights: impl Iterator<Item = &'a Sight> + Clone,
        failed: impl Fn(&Sight) -> Option<bool>,
    ) -> BlockCounts {
        let (mut seen, mut failing) = (crowd.learners, [0; 2]);
        for (active, learners) in self.minute.active.iter_mut().zip(crowd.learners) {
            *active += learners;
        }
        let nobody_failed_before = self.current.is_empty() && self.previous.is_empty();
        let mut any_failed = false;
        for sight in sights.clone() {
            let Some(failed) = failed(sight) else {
                continue;
            };
            let (arm, place) = (sight.arm.index(), place_of(sight));
            // Without a branch on what was found: it is a guess each time, and the next looks need not wait for it.
            let (marked, was_marked) = match nobody_failed_before {
                true => (false, false),
                false => (self.current.contains(place), self.previous.contains(place)),
            };
            let fresh = u64::from(!(marked | was_marked));
            self.minute.active[arm] += 1;
            self.minute.marked[arm] += u64::from(marked);
            any_failed |= failed;
            seen[arm] += fresh;
            failing[arm] += fresh & u64::from(failed);
        }
        if any_failed {
            for sight in sights.filter(|sight| failed(sight) == Some(true)) {
                self.current.insert(place_of(sight));
            }
        }
        let [baseline, canary] = seen;
        let (baseline_failed, canary_failed) =
            (failing[Arm::Baseline.index()], failing[Arm::Canary.index()]);
        self.failing[0] += canary_failed;
        BlockCounts {
            baseline_failed,
            baseline,
            canary_failed,
            canary,
        }
    }

    /// Counts a block in which none of these learners fails, by `Arm::index`. `None` where somebody had failed before:
    /// then they have to be told apart.
    pub fn count_well(&mut self, learners: [u64; 2]) -> Option<BlockCounts> {
        if !(self.current.is_empty() && self.previous.is_empty()) {
            return None;
        }
        for (active, learners) in self.minute.active.iter_mut().zip(learners) {
            *active += learners;
        }
        let [baseline, canary] = learners;
        Some(BlockCounts {
            baseline,
            canary,
            ..BlockCounts::default()
        })
    }

    /// Canary learners counted as failing over the present and the previous epoch.
    pub fn failing_learners(&self) -> u64 {
        self.failing.iter().sum()
    }

    fn minute_is_over(&self, block: Timestamp) -> bool {
        block.since(self.minute.began) >= MINUTE
    }
}

impl Minute {
    fn is_crowded(&self) -> bool {
        let arms = self.active.iter().zip(&self.marked);
        arms.into_iter()
            .any(|(&active, &marked)| active >= SHARE_NEEDS && marked * MARKED_ONE_IN > active)
    }
}

fn place_of(sight: &Sight) -> u32 {
    (sight.learner.raw() % u64::from(PLACES)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::assign::LearnerHash;
    use crate::rollout::evidence::First;

    fn sight(learner: u64, arm: Arm, error: bool) -> Sight {
        Sight {
            learner: LearnerHash::from_raw(learner),
            arm,
            segment: None,
            epoch: 1,
            first: First::default(),
            error,
            client_error: false,
            edges: None,
        }
    }

    fn count(erred: &mut Erred, second: u64, sights: &[Sight]) -> [u64; 4] {
        erred.turn(Timestamp::from_millis(second * 1000));
        let counts = erred.count(sights.iter(), |sight| Some(sight.error));
        [
            counts.baseline_failed,
            counts.baseline,
            counts.canary_failed,
            counts.canary,
        ]
    }

    #[test]
    fn who_failed_counts_once_whichever_arm_he_stands_on_next() {
        let mut erred = Erred::default();
        let bot = |arm| [sight(7, arm, true), sight(8, Arm::Canary, false)];
        assert_eq!(count(&mut erred, 1, &bot(Arm::Baseline)), [1, 1, 0, 1]);
        assert_eq!(count(&mut erred, 2, &bot(Arm::Canary)), [0, 0, 0, 1]);
        assert_eq!(erred.failing_learners(), 0, "he was counted on baseline");
        // The high bits tell arms apart and no places.
        let same_place = sight(7 + (1 << 60), Arm::Canary, true);
        assert_eq!(count(&mut erred, 3, &[same_place]), [0, 0, 0, 0]);
    }

    #[test]
    fn after_an_epoch_who_did_not_fail_again_may_be_counted_again() {
        let mut erred = Erred::default();
        let fails = |learner| [sight(learner, Arm::Canary, true)];
        count(&mut erred, 0, &fails(1));
        count(&mut erred, 1, &fails(2));
        assert_eq!(erred.failing_learners(), 2);
        // In the second epoch both are left out still; 1 fails on.
        assert_eq!(count(&mut erred, 3600, &fails(1)), [0, 0, 0, 0]);
        assert_eq!(count(&mut erred, 3601, &fails(3)), [0, 0, 1, 1]);
        assert_eq!(erred.failing_learners(), 3);
        // In the third, 2 counts again.
        assert_eq!(count(&mut erred, 7199, &[]), [0, 0, 0, 0]);
        assert_eq!(count(&mut erred, 7200, &fails(1)), [0, 0, 0, 0]);
        assert_eq!(count(&mut erred, 7201, &fails(2)), [0, 0, 1, 1]);
        assert_eq!(erred.failing_learners(), 2);
    }

    #[test]
    fn an_epoch_is_short_where_too_many_are_marked() {
        let check = |bad: u64, turns: bool| {
            let mut erred = Erred::default();
            for second in 0..700 {
                let learners = (0..100).map(|i| sight(i, Arm::Canary, i < bad));
                count(&mut erred, second, &learners.collect::<Vec<_>>());
            }
            assert_eq!(
                !erred.previous.is_empty(),
                turns,
                "{bad} of 100 always fail"
            );
            assert_eq!(erred.current.len(), bad);
        };
        check(10, false);
        check(11, true);
    }

    #[test]
    fn an_epoch_is_a_minute_where_a_set_would_grow_without_bound() {
        let check = |marks: u64, turns: bool| {
            let mut erred = Erred::default();
            let failing: Vec<Sight> = (0..marks).map(|id| sight(id, Arm::Canary, true)).collect();
            count(&mut erred, 0, &failing);
            count(&mut erred, 59, &[]);
            assert!(erred.previous.is_empty(), "{marks} marks");
            count(&mut erred, 60, &[]);
            assert_eq!(!erred.previous.is_empty(), turns, "{marks} marks");
        };
        check(MOST_MARKS, false);
        check(MOST_MARKS + 1, true);
    }
}
