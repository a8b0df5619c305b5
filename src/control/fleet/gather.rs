//! The seconds of all members, put together to those that the leading gate is given; or those of a region's members, to what is
//! told in their place.
//!
//! A second is closed when every member that is heard of has told it, or two seconds after its end; one in a region, that the leader may
//! still wait for it. What comes later counts in the run's figures and is no evidence. What comes twice is known by its number. `marks`
//! say which messages are in what was given, so that another leader goes on exactly there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::members::Members;
use super::seconds::thinned;
use crate::fleet::name_of;
use crate::records::fleet::{FleetRecord, Marks, Parting, Posted, Second, Sum, Told};
use crate::rollout::evidence::Block;
use crate::rollout::gate::{Heard, Observed};
use crate::rollout::learners::LearnerSketch;
use crate::rollout::slot::{Cell, CellKey, Slot};
use crate::rollout::time::{Now, Timestamp};

/// How long a second waits for members that have not told it.
const PATIENCE_MS: u64 = 2_000;
/// So much less in a region, whose sum has another way to go.
const REGION_SOONER_MS: u64 = 1_000;
/// Seconds from a clock that is ahead are kept no further than this.
const MOST_AHEAD_S: u64 = 30;

/// The members' seconds of one rollout.
#[derive(Debug, Default)]
pub(super) struct Gather {
    open: BTreeMap<u64, Open>,
    /// The last position that was read: the stream gives each once.
    read: u64,
    late: Vec<Second>,
    /// Readings and results, in the order in which they came.
    posted: Vec<Posted>,
    /// Of everything that was taken.
    marks: Marks,
    /// Of what was given: what a gate's state holds.
    given: Marks,
    /// What the leader before had given already, while messages are read that it had taken; `None` when the stream is beyond
    /// them.
    before: Option<Marks>,
    members: Members,
    /// Seconds closed since the record before, for those who follow.
    closed: Vec<Slot>,
    /// Gate time less wall time, in milliseconds.
    offset_ms: Option<i64>,
    /// How much sooner than in the fleet a second is closed.
    sooner_ms: u64,
}

/// What of a message is not in the state yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fresh {
    Nothing,
    All,
    /// Only what is of a second behind this one: an earlier leader had read the message, and had not closed that second.
    After(u64),
}

#[derive(Debug)]
struct Open {
    slot: Slot,
    block: Block,
    learners: [LearnerSketch; 2],
    from: BTreeSet<String>,
    /// Of the first message of it.
    position: u64,
}

/// Where a message of a member lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) position: u64,
    /// With what tells its processes apart.
    pub(super) member: &'a str,
    pub(super) n: u64,
}

impl Gather {
    /// Goes on from where the record says that another one was.
    pub(super) fn after(record: &FleetRecord, now: Now) -> Self {
        Self::behind(&record.marks, &record.heard, now)
    }

    /// The same for the sums of a region, which go on from the last one.
    pub(super) fn after_sum(last: Option<&Sum>, now: Now) -> Self {
        let first = Sum::default();
        let last = last.unwrap_or(&first);
        Self {
            sooner_ms: REGION_SOONER_MS,
            ..Self::behind(&last.marks, &last.heard, now)
        }
    }

    fn behind(marks: &Marks, heard: &[String], now: Now) -> Self {
        Self {
            members: Members::of(heard, marks, wall_ms(now)),
            marks: marks.clone(),
            given: marks.clone(),
            read: marks.low,
            before: (marks.high > marks.low).then(|| marks.clone()),
            ..Self::default()
        }
    }

    pub(super) const fn low(&self) -> u64 {
        self.given.low
    }

    /// Which messages are in what was given.
    pub(super) fn marks(&self) -> Marks {
        self.given.clone()
    }

    /// What was posted to members since it was last asked, with how far our gate's clock is ahead of theirs. To be given before
    /// what is observed then.
    pub(super) fn take_said(&mut self, now: Now) -> Vec<(Heard, i64)> {
        self.settle_offset(now);
        let posted = std::mem::take(&mut self.posted);
        let off = |posted: &Posted| self.offset_from(posted.sent_ms, posted.sent_clock_ms);
        posted
            .into_iter()
            .map(|posted| {
                let off = off(&posted);
                (posted.heard, off)
            })
            .collect()
    }

    /// What of a message is new.
    fn fresh(&mut self, place: Place<'_>) -> Fresh {
        if place.position <= self.read {
            return Fresh::Nothing;
        }
        self.read = place.position;
        let before = self.before.as_ref();
        let known = before.filter(|before| place.position <= before.high);
        let closed = known.map(|before| before.closed);
        if before.is_some_and(|before| place.position >= before.high) {
            self.before = None;
        }
        let beyond = place.position > self.marks.high;
        if beyond {
            self.marks.high = place.position;
            if !self.marks.taken.contains_key(place.member) {
                // A former process of the member told its last before.
                let others = |life: &String| name_of(life) != name_of(place.member);
                self.marks.taken.retain(|life, _| others(life));
            }
            let taken = self.marks.taken.entry(place.member.to_owned()).or_default();
            if place.n <= *taken {
                return Fresh::Nothing;
            }
            *taken = place.n;
        }
        closed.map_or(Fresh::All, Fresh::After)
    }

    /// Takes what a member told, as far as it is new.
    pub(super) fn take(&mut self, now: Now, place: Place<'_>, told: Told) {
        let fresh = self.fresh(place);
        match told {
            Told::Second(second) => {
                if fresh.has(second.second) {
                    self.take_second(now, place, *second, 1);
                }
            }
            Told::Posted(posted) => {
                if fresh == Fresh::All {
                    self.posted.push(*posted);
                }
            }
            Told::Sum(sum) => {
                if fresh == Fresh::All {
                    self.late.extend(sum.late);
                    self.posted.extend(sum.posted);
                    self.members.part(sum.partings);
                }
                if fresh.has(sum.second.second) {
                    self.take_second(now, place, sum.second, sum.heard.len());
                }
            }
        }
    }

    fn take_second(&mut self, now: Now, place: Place<'_>, told: Second, many: usize) {
        let now_ms = wall_ms(now);
        let name = name_of(place.member);
        self.members
            .heard(now_ms, place.member, told.second, (told.pools, many));
        if told.second <= self.marks.closed || told.second > now_ms / 1000 + MOST_AHEAD_S {
            if !told.cells.is_empty() {
                self.late.push(Second {
                    second: told.second,
                    cells: told.cells,
                    ..Second::default()
                });
            }
            return;
        }
        let slot = Slot {
            start: Timestamp::default(),
            width: Duration::from_secs(1),
            cells: told.cells,
        };
        let open = self
            .open
            .entry(told.second)
            .or_insert_with(|| Open::new(place.position));
        open.position = open.position.min(place.position);
        open.block.add(&slot, told.sights);
        open.block.assign(told.assigned);
        open.slot.merge(&slot);
        for (all, more) in open.learners.iter_mut().zip(&told.learners) {
            all.merge(more);
        }
        open.from.insert(name.to_owned());
    }

    /// Closes what is to be closed, as a gate is told it.
    pub(super) fn observe(&mut self, now: Now) -> Observed {
        let now_ms = wall_ms(now);
        self.settle_offset(now);
        if self.before.is_some() {
            // What an earlier leader had not closed is being read again: until that is whole nothing can be said of any position.
            return Observed {
                slots: Vec::new(),
                pools: self.members.health(now_ms),
                learners: Default::default(),
                blocks: Vec::new(),
                gap: Duration::ZERO,
            };
        }
        let mut observed = Observed {
            slots: Vec::new(),
            pools: self.members.health(now_ms),
            learners: Default::default(),
            blocks: Vec::new(),
            gap: Duration::ZERO,
        };
        let expected = self.members.here(now_ms);
        while let Some((second, open)) = self.next_due(now_ms, &expected) {
            self.close(second, open, &mut observed);
        }
        self.marks.closed = self.marks.closed.max(self.overdue(now_ms));
        let start = self.gate_time(self.marks.closed);
        for late in std::mem::take(&mut self.late) {
            observed.slots.push(Slot {
                start,
                width: Duration::from_secs(1),
                cells: of_before(late.cells),
            });
        }
        self.settle_given();
        observed
    }

    /// The next second of a region that is to be closed, with everything that is to be told beside it.
    pub(super) fn sum(&mut self, now: Now) -> Option<Sum> {
        if self.before.is_some() {
            return None;
        }
        let now_ms = wall_ms(now);
        let heard = self.members.here(now_ms);
        let (second, open) = self.next_due(now_ms, &heard)?;
        self.marks.closed = self.marks.closed.max(second);
        self.settle_given();
        let block = open.block;
        Some(Sum {
            second: Second {
                second,
                cells: open.slot.cells,
                pools: self.members.health(now_ms),
                sights: thinned(block.sights(0).cloned().collect(), |sight| sight.learner),
                assigned: thinned(block.assigned().to_vec(), |one| one.learner),
                learners: open.learners,
            },
            late: std::mem::take(&mut self.late),
            posted: std::mem::take(&mut self.posted),
            partings: self.members.take_partings(now_ms, &mut self.marks.taken),
            heard,
            marks: self.given.clone(),
        })
    }

    // Seconds are closed in their order.
    fn next_due(&mut self, now_ms: u64, expected: &[String]) -> Option<(u64, Open)> {
        let overdue = self.overdue(now_ms);
        let (&second, open) = self.open.first_key_value()?;
        let is_over = (second + 1) * 1000 <= now_ms;
        let is_whole = || expected.iter().all(|name| open.from.contains(name));
        let is_due = second <= overdue || (is_over && is_whole());
        is_due.then(|| self.open.pop_first()).flatten()
    }

    // Whoever has not told this second yet is not waited for.
    const fn overdue(&self, now_ms: u64) -> u64 {
        let patience = PATIENCE_MS - self.sooner_ms;
        (now_ms.saturating_sub(patience) / 1000).saturating_sub(1)
    }

    fn settle_given(&mut self) {
        let open = self.open.values().map(|open| open.position).min();
        self.given = Marks {
            low: open.map_or(self.marks.high, |position| position.saturating_sub(1)),
            ..self.marks.clone()
        };
    }

    /// Who is heard of, by name.
    pub(super) fn here(&self, now: Now) -> Vec<String> {
        self.members.here(wall_ms(now))
    }

    /// How many members are heard of, by themselves or by the word of their region.
    pub(super) fn many(&self, now: Now) -> usize {
        self.members.many(wall_ms(now))
    }

    /// Of the regions among them: how many members are heard there.
    pub(super) fn regions(&self, now: Now) -> BTreeMap<String, u64> {
        self.members.regions(wall_ms(now))
    }

    /// Members that are to be spoken of since this was asked last: each once.
    pub(super) fn take_partings(&mut self, now: Now) -> Vec<Parting> {
        self.members
            .take_partings(wall_ms(now), &mut self.marks.taken)
    }

    /// Seconds closed since it was last asked, for those who follow.
    pub(super) fn take_closed(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.closed)
    }

    /// The gate's time of a moment of another member's gate, by what its wall clock said.
    fn offset_from(&self, sent_ms: u64, sent_clock_ms: u64) -> i64 {
        let theirs = i64::try_from(sent_clock_ms).unwrap_or(i64::MAX)
            - i64::try_from(sent_ms).unwrap_or(i64::MAX);
        self.offset_ms.unwrap_or(theirs) - theirs
    }

    fn close(&mut self, second: u64, open: Open, observed: &mut Observed) {
        let start = self.gate_time(second);
        let mut block = open.block;
        block.start = start;
        let slot = Slot { start, ..open.slot };
        if !slot.cells.is_empty() {
            self.closed.push(slot.clone());
        }
        observed.slots.push(slot);
        observed.blocks.push(block);
        for (all, more) in observed.learners.iter_mut().zip(&open.learners) {
            all.merge(more);
        }
        self.marks.closed = self.marks.closed.max(second);
    }

    fn settle_offset(&mut self, now: Now) {
        let gate = i64::try_from(now.mono.as_millis()).unwrap_or(i64::MAX);
        let offset = gate - now.wall.as_unix_millis();
        // The two clocks are read one after the other: what is below this is no step of either.
        if self
            .offset_ms
            .is_none_or(|known| (known - offset).abs() > 50)
        {
            self.offset_ms = Some(offset);
        }
    }

    fn gate_time(&self, second: u64) -> Timestamp {
        let wall = i64::try_from(second.saturating_mul(1000)).unwrap_or(i64::MAX);
        let gate = wall.saturating_add(self.offset_ms.unwrap_or(0));
        Timestamp::from_millis(u64::try_from(gate).unwrap_or(0) / 1000 * 1000)
    }
}

impl Fresh {
    fn has(self, second: u64) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::After(closed) => second > closed,
        }
    }
}

impl Open {
    fn new(position: u64) -> Self {
        Self {
            slot: Slot::empty(Timestamp::default(), Duration::from_secs(1)),
            block: Block::new(Timestamp::default()),
            learners: Default::default(),
            from: BTreeSet::new(),
            position,
        }
    }
}

// What came too late is of no split that is watched: it counts in the run's figures alone.
fn of_before(cells: BTreeMap<CellKey, Cell>) -> BTreeMap<CellKey, Cell> {
    let mut all = Slot::empty(Timestamp::default(), Duration::ZERO);
    for (key, cell) in cells {
        let mut one = Slot::empty(Timestamp::default(), Duration::ZERO);
        one.cells.insert(CellKey { epoch: 0, ..key }, cell);
        all.merge(&one);
    }
    all.cells
}

fn wall_ms(now: Now) -> u64 {
    u64::try_from(now.wall.as_unix_millis()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
