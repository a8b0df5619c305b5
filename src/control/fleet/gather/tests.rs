//! Seconds of members and of regions: closed when they are whole or late, and counted once whoever takes over in between.

use super::*;
use crate::rollout::assign::LearnerHash;
use crate::rollout::evidence::{First, Sight};
use crate::rollout::gate::PoolHealth;
use crate::rollout::name::Arm;
use crate::rollout::time::WallTime;

/// Where the gate's clock stands when the wall clock shows second 1,000.
const GATE_MS: u64 = 50_000;

fn at(wall_ms: u64) -> Now {
    Now {
        mono: Timestamp::from_millis(GATE_MS + wall_ms - 1_000_000),
        wall: WallTime::from_unix_millis(wall_ms as i64),
    }
}

fn second(second: u64, counted: u64) -> Second {
    let key = CellKey {
        epoch: 3,
        arm: Arm::Canary,
        segment: None,
    };
    let cell = Cell {
        counted,
        ..Cell::default()
    };
    Second {
        second,
        cells: [(key, cell)].into(),
        sights: vec![Sight {
            learner: LearnerHash::from_raw(7),
            arm: Arm::Canary,
            segment: None,
            epoch: 3,
            first: First::default(),
            error: false,
            client_error: false,
            edges: Some(1),
        }],
        ..Second::default()
    }
}

/// A message of member `who`, whose messages lie at every third position.
fn tell(gather: &mut Gather, now: Now, who: &str, n: u64, told: Second) {
    let position = place_of(who, n);
    let member = format!("{who}/1");
    let place = Place {
        position,
        member: &member,
        n,
    };
    gather.take(now, place, Told::Second(Box::new(told)));
}

fn counted(observed: &Observed) -> Vec<(u64, u64)> {
    let count = |slot: &Slot| slot.cells.values().map(|cell| cell.counted).sum();
    let slots = observed.slots.iter();
    slots
        .map(|slot| (slot.start.as_millis(), count(slot)))
        .collect()
}

#[test]
fn a_second_is_the_sum_of_all_who_are_heard_of() {
    let mut gather = Gather::default();
    for (who, n) in [("a", 1), ("b", 1)] {
        tell(&mut gather, at(1_000_900), who, n, second(999, 1));
    }
    gather.observe(at(1_000_950));
    tell(&mut gather, at(1_001_050), "a", 2, second(1_000, 10));
    let waiting = gather.observe(at(1_001_100));
    assert!(waiting.blocks.is_empty(), "b has not told it yet");
    tell(&mut gather, at(1_001_150), "b", 2, second(1_000, 5));
    let closed = gather.observe(at(1_001_200));
    assert_eq!(counted(&closed), [(GATE_MS, 15)]);
    let learners: Vec<usize> = closed.blocks.iter().map(|b| b.sights(0).count()).collect();
    assert_eq!(learners, [1], "one learner, though two members saw him");
}

#[test]
fn what_is_late_counts_in_figures_and_is_no_evidence() {
    let mut gather = Gather::default();
    for (who, n) in [("a", 1), ("b", 1)] {
        tell(&mut gather, at(1_000_000), who, n, second(999, 1));
    }
    tell(&mut gather, at(1_001_100), "a", 2, second(1_000, 10));
    let closed = gather.observe(at(1_003_100));
    assert_eq!(closed.blocks.len(), 2, "two seconds after its end");
    tell(&mut gather, at(1_003_200), "b", 2, second(1_000, 5));
    let late = gather.observe(at(1_003_300));
    assert!(late.blocks.is_empty());
    let epochs: Vec<u64> = late.slots[0].cells.keys().map(|key| key.epoch).collect();
    assert_eq!((counted(&late)[0].1, epochs), (5, vec![0]));
}

#[test]
fn nothing_is_lost_or_doubled_when_another_member_goes_on() {
    let mut told = Vec::new();
    for n in 1..=40_u64 {
        for who in ["a", "b"] {
            // One of them a second behind, so that what is closed lies behind what is not.
            told.push((who, n, second(999 + n - u64::from(who == "b"), n)));
        }
    }
    let whole: u64 = told.iter().flat_map(|(_, n, _)| Some(*n)).sum();
    // The lead changes after each number of messages; the new leader reads from `low` on, as the stream has it.
    for change in 0..told.len() {
        let mut sum = 0;
        let mut first = Gather::default();
        for (who, n, second) in &told[..change] {
            let now = at((999 + n) * 1000 + 1_100);
            tell(&mut first, now, who, *n, second.clone());
            sum += total(&first.observe(now));
        }
        let record = FleetRecord {
            marks: first.marks(),
            ..FleetRecord::by("a", 1)
        };
        let mut last = at(1_000_000);
        // One that leads for a moment, and reads as much of it as there is time for.
        let record = in_between(&record, &told, change / 2, &mut sum);
        let mut next = Gather::after(&record, last);
        for (who, n, second) in &told {
            let position = place_of(who, *n);
            if position <= next.low() && position <= record.marks.low {
                continue;
            }
            last = at((999 + n) * 1000 + 1_100);
            tell(&mut next, last, who, *n, second.clone());
            // One that the stream delivers twice.
            tell(&mut next, last, who, *n, second.clone());
            sum += total(&next.observe(last));
        }
        let after = at(last.wall.as_unix_millis() as u64 + 5_000);
        sum += total(&next.observe(after));
        assert_eq!(sum, whole, "after {change} messages");
    }
}

/// A leader that looks before it has read, and reads so many of the messages.
fn in_between(
    record: &FleetRecord,
    told: &[(&str, u64, Second)],
    many: usize,
    sum: &mut u64,
) -> FleetRecord {
    let late = at(1_060_000);
    let mut gather = Gather::after(record, late);
    *sum += total(&gather.observe(late));
    let behind = told
        .iter()
        .filter(|(who, n, _)| place_of(who, *n) > record.marks.low);
    for (who, n, second) in behind.take(many) {
        tell(&mut gather, late, who, *n, second.clone());
        if n % 2 == 0 {
            *sum += total(&gather.observe(late));
        }
    }
    FleetRecord {
        marks: gather.marks(),
        ..FleetRecord::by("c", 2)
    }
}

/// A region of "a" and "b" whose sums lie at every tenth position of the fleet's stream; each message of theirs is new to one who adds
/// up, who gives it up to another one after `each` of them.
fn sums_of_a_region(told: &[(&str, u64, Second)], each: usize) -> Vec<(u64, Sum)> {
    let mut sums: Vec<(u64, Sum)> = Vec::new();
    let add = |now, gather: &mut Gather, sums: &mut Vec<(u64, Sum)>| {
        while let Some(sum) = gather.sum(now) {
            sums.push((10 * (sums.len() as u64 + 1), sum));
        }
    };
    let mut done = 0;
    let (mut now_ms, mut now) = (0, at(1_000_000));
    while done < told.len() {
        let mut gather = Gather::after_sum(sums.last().map(|(_, sum)| sum), now);
        let low = gather.low();
        let known = told.iter().take(done + each);
        for (who, n, second) in known.filter(|(who, n, _)| place_of(who, *n) > low) {
            now_ms = now_ms.max((999 + n) * 1000 + 400);
            now = at(now_ms);
            tell(&mut gather, now, who, *n, second.clone());
            add(now, &mut gather, &mut sums);
        }
        done += each;
    }
    let late = at(now_ms + 60_000);
    let mut gather = Gather::after_sum(sums.last().map(|(_, sum)| sum), late);
    let low = gather.low();
    for (who, n, second) in told.iter().filter(|(who, n, _)| place_of(who, *n) > low) {
        tell(&mut gather, late, who, *n, second.clone());
    }
    add(late, &mut gather, &mut sums);
    sums
}

#[test]
fn what_regions_tell_in_the_place_of_their_members_is_what_those_told() {
    let mut told = Vec::new();
    for n in 1..=12_u64 {
        for who in ["a", "b"] {
            // One of them a second behind, so that what is closed lies behind what is not.
            told.push((who, n, second(999 + n - u64::from(who == "b"), n)));
        }
    }
    let whole: u64 = told.iter().map(|(_, n, _)| n).sum();
    for each in 1..=told.len() {
        let sums = sums_of_a_region(&told, each);
        // The lead of the fleet changes after each number of sums.
        for change in 0..=sums.len() {
            let mut gather = Gather::default();
            let mut counted = 0;
            let (mut now_ms, mut now) = (0, at(1_000_000));
            for (number, (position, sum)) in sums.iter().enumerate() {
                if number == change {
                    let record = FleetRecord {
                        marks: gather.marks(),
                        heard: gather.here(now),
                        ..FleetRecord::by("x", 2)
                    };
                    gather = Gather::after(&record, now);
                    for (position, sum) in &sums[..number] {
                        if *position > gather.low() {
                            tell_sum(&mut gather, now, *position, sum);
                        }
                    }
                }
                now_ms = now_ms.max((sum.second.second + 1) * 1000 + 400);
                now = at(now_ms);
                tell_sum(&mut gather, now, *position, sum);
                counted += total(&gather.observe(now));
            }
            counted += total(&gather.observe(at(1_200_000)));
            assert_eq!(counted, whole, "one after {each} messages, {change} sums");
        }
    }
}

fn tell_sum(gather: &mut Gather, now: Now, position: u64, sum: &Sum) {
    let place = Place {
        position,
        member: "region:eu/1",
        n: position,
    };
    gather.take(now, place, Told::Sum(Box::new(sum.clone())));
}

#[test]
fn a_region_speaks_for_its_members() {
    let mut region = Gather::after_sum(None, at(1_000_000));
    for who in ["a", "b"] {
        tell(&mut region, at(1_001_050), who, 1, second(1_000, 5));
    }
    let sum = region.sum(at(1_001_100)).expect("all told it");
    assert_eq!(
        (&*sum.heard, sum.second.second),
        (&["a".to_owned(), "b".to_owned()][..], 1_000)
    );
    tell(&mut region, at(1_002_050), "a", 2, second(1_001, 5));
    assert!(region.sum(at(1_002_900)).is_none(), "b is waited for");
    let sooner = region.sum(at(1_003_000)).expect("a second after its end");
    // b fell silent, and that is told with what comes next.
    tell(&mut region, at(1_006_050), "a", 3, second(1_005, 5));
    let next = region.sum(at(1_006_100)).expect("a alone is waited for");
    let silent = Parting::FellSilent {
        member: "b".to_owned(),
        second: 1_000,
    };
    assert_eq!(
        (&*next.partings, &*next.heard),
        (&[silent.clone()][..], &["a".to_owned()][..])
    );

    let mut fleet = Gather::default();
    let now = at(1_006_200);
    for (position, sum) in [(10, &sum), (20, &sooner)] {
        tell_sum(&mut fleet, now, position, sum);
    }
    tell(&mut fleet, now, "c", 30, second(1_005, 1));
    assert_eq!(fleet.many(now), 3, "two of the region, and one by himself");
    assert_eq!(fleet.regions(now), [("region:eu".to_owned(), 2)].into());
    tell_sum(&mut fleet, now, 200, &next);
    assert_eq!(fleet.many(now), 2);
    assert_eq!(fleet.take_partings(now), [silent]);
}

fn place_of(who: &str, n: u64) -> u64 {
    n * 3 + u64::from(who.as_bytes()[0] - b'a')
}

fn total(observed: &Observed) -> u64 {
    counted(observed).iter().map(|(_, counted)| counted).sum()
}

#[test]
fn pools_are_as_the_mean_member_sees_them() {
    let mut gather = Gather::default();
    for (who, usable) in [("a", 1), ("b", 0), ("c", 0)] {
        let pool = PoolHealth {
            endpoints: 1,
            usable,
            probes_sent: 2,
            probes_answered: 1,
        };
        let told = Second {
            pools: [pool; 2],
            ..second(1_000, 1)
        };
        tell(&mut gather, at(1_001_100), who, 1, told);
    }
    let seen = gather.observe(at(1_001_200)).pools[0];
    let again = gather.observe(at(1_001_450)).pools[0];
    assert_eq!((seen.endpoints, seen.usable, seen.probes_sent), (1, 1, 6));
    assert_eq!((again.usable, again.probes_sent), (1, 0), "each probe once");
}
