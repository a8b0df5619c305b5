//! Who of the fleet is heard of: each member's last word, its process, and its pools as it sees them. A region that adds up is one of
//! them, for as many as are heard there.
//!
//! Tells once of each who fell silent or came back as another process. Adds up no counts.

use std::collections::BTreeMap;

use crate::fleet::{is_region, name_of};
use crate::records::fleet::{Marks, Parting};
use crate::rollout::gate::PoolHealth;

/// A member that told nothing for so long is not waited for.
const SILENT_AFTER_MS: u64 = 4_000;
/// The stream keeps messages for so long: whoever has been silent for longer tells nothing twice any more.
const FORGOTTEN_AFTER_MS: u64 = 600_000;

#[derive(Debug, Default)]
pub(super) struct Members {
    known: BTreeMap<String, Known>,
    /// Since when those are silent who were spoken of.
    silent: BTreeMap<String, u64>,
    partings: Vec<Parting>,
}

/// A member as heard last.
#[derive(Debug)]
struct Known {
    /// Of which process, with its name; none where only an earlier leader heard it.
    life: Option<String>,
    at_ms: u64,
    second: u64,
    /// How many members it speaks for.
    many: u32,
    pools: [PoolHealth; 2],
    /// Probes since they were last given: sent, and answered.
    probes: [(u64, u64); 2],
}

impl Members {
    /// Those whom an earlier leader heard: silent from now on unless they are heard again.
    pub(super) fn of(heard: &[String], marks: &Marks, now_ms: u64) -> Self {
        let known = heard.iter().map(|name| {
            let of = |life: &&String| name_of(life) == name;
            let last = Known {
                life: marks.taken.keys().find(of).cloned(),
                second: marks.closed,
                ..Known::new(now_ms)
            };
            (name.clone(), last)
        });
        Self {
            known: known.collect(),
            ..Self::default()
        }
    }

    /// A process of a member told a second, for so many members.
    pub(super) fn heard(
        &mut self,
        now_ms: u64,
        life: &str,
        second: u64,
        (pools, many): ([PoolHealth; 2], usize),
    ) {
        let name = name_of(life);
        self.silent.remove(name);
        let known = self
            .known
            .entry(name.to_owned())
            .or_insert_with(|| Known::new(now_ms));
        if let Some(before) = known.life.replace(life.to_owned())
            && before != life
            // Whoever adds up goes on exactly where the one before stood.
            && !is_region(name)
        {
            self.partings.push(Parting::IsAnother {
                member: name.to_owned(),
                second: known.second,
            });
        }
        known.at_ms = now_ms;
        known.second = known.second.max(second);
        known.pools = pools;
        known.many = u32::try_from(many).unwrap_or(u32::MAX).max(1);
        for (sum, pool) in known.probes.iter_mut().zip(pools) {
            sum.0 += pool.probes_sent;
            sum.1 += pool.probes_answered;
        }
    }

    /// What a region has to tell of its members.
    pub(super) fn part(&mut self, partings: Vec<Parting>) {
        self.partings.extend(partings);
    }

    /// Of the regions that are heard of: for how many members each speaks.
    pub(super) fn regions(&self, now_ms: u64) -> BTreeMap<String, u64> {
        let known = self.known.iter();
        known
            .filter(|(name, known)| is_region(name) && known.is_heard(now_ms))
            .map(|(name, known)| (name.clone(), u64::from(known.many)))
            .collect()
    }

    /// For how many members those speak who are heard of.
    pub(super) fn many(&self, now_ms: u64) -> usize {
        let here = self.known.values().filter(|known| known.is_heard(now_ms));
        here.map(|known| known.many as usize).sum()
    }

    /// Who is heard of, by name.
    pub(super) fn here(&self, now_ms: u64) -> Vec<String> {
        let here = self
            .known
            .iter()
            .filter(|(_, known)| known.is_heard(now_ms));
        here.map(|(name, _)| name.clone()).collect()
    }

    /// What is to be told of members; `taken` is rid of those who have been silent for long.
    pub(super) fn take_partings(
        &mut self,
        now_ms: u64,
        taken: &mut BTreeMap<String, u64>,
    ) -> Vec<Parting> {
        let mut partings = std::mem::take(&mut self.partings);
        let silent = &mut self.silent;
        self.known.retain(|name, known| {
            let is_heard = known.is_heard(now_ms);
            if !is_heard {
                silent.insert(name.clone(), now_ms);
                partings.push(Parting::FellSilent {
                    member: name.clone(),
                    second: known.second,
                });
            }
            is_heard
        });
        for life in taken.keys() {
            let name = name_of(life);
            if !self.known.contains_key(name) && !silent.contains_key(name) {
                silent.insert(name.to_owned(), now_ms);
            }
        }
        let is_gone = |since: &u64| now_ms.saturating_sub(*since) >= FORGOTTEN_AFTER_MS;
        taken.retain(|life, _| !silent.get(name_of(life)).is_some_and(is_gone));
        silent.retain(|_, since| !is_gone(since));
        partings
    }

    /// The pools as the mean member sees them, rounded up: a pool is usable while any member can use it. Probes of all.
    pub(super) fn health(&mut self, now_ms: u64) -> [PoolHealth; 2] {
        let known = self.known.values_mut();
        let here: Vec<&mut Known> = known.filter(|known| known.is_heard(now_ms)).collect();
        let many = here.iter().fold(0, |sum, one| one.many.saturating_add(sum));
        let many = many.max(1);
        let mut sums = [PoolHealth::default(); 2];
        for member in here {
            let each = member.pools.iter().zip(&mut member.probes);
            for (sum, (pool, probes)) in sums.iter_mut().zip(each) {
                let of_all = |each: u32| each.saturating_mul(member.many);
                sum.endpoints = sum.endpoints.saturating_add(of_all(pool.endpoints));
                sum.usable = sum.usable.saturating_add(of_all(pool.usable));
                let (sent, answered) = std::mem::take(probes);
                sum.probes_sent += sent;
                sum.probes_answered += answered;
            }
        }
        sums.map(|sum| PoolHealth {
            endpoints: sum.endpoints.div_ceil(many),
            usable: sum.usable.div_ceil(many),
            ..sum
        })
    }
}

impl Known {
    fn new(at_ms: u64) -> Self {
        Self {
            life: None,
            at_ms,
            second: 0,
            many: 1,
            pools: [PoolHealth::default(); 2],
            probes: [(0, 0); 2],
        }
    }

    const fn is_heard(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.at_ms) < SILENT_AFTER_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_falls_silent_or_comes_back_as_another_is_told_of_once() {
        let mut members = Members::default();
        let mut taken: BTreeMap<String, u64> = [("a/1".to_owned(), 7)].into();
        let health = ([PoolHealth::default(); 2], 1);
        members.heard(1_000, "a/1", 1, health);
        assert_eq!(members.take_partings(4_999, &mut taken), []);
        members.heard(5_000, "a/2", 4, health);
        let another = Parting::IsAnother {
            member: "a".to_owned(),
            second: 1,
        };
        assert_eq!(members.take_partings(5_000, &mut taken), [another]);
        let silent = Parting::FellSilent {
            member: "a".to_owned(),
            second: 4,
        };
        assert_eq!(members.take_partings(9_000, &mut taken), [silent]);
        assert_eq!(members.take_partings(9_250, &mut taken), []);
        assert!(members.here(9_250).is_empty());
    }

    #[test]
    fn whoever_is_gone_for_longer_than_the_stream_keeps_is_forgotten() {
        let mut members = Members::default();
        let mut taken: BTreeMap<String, u64> =
            [("a/1".to_owned(), 7), ("b/1".to_owned(), 2)].into();
        let health = ([PoolHealth::default(); 2], 1);
        for at_ms in (0..=FORGOTTEN_AFTER_MS).step_by(1_000) {
            members.heard(at_ms, "b/1", 1, health);
            members.take_partings(at_ms, &mut taken);
            assert_eq!(
                taken.contains_key("a/1"),
                at_ms < FORGOTTEN_AFTER_MS,
                "{at_ms}"
            );
        }
        assert!(taken.contains_key("b/1"));
    }
}
