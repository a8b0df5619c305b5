//! A cell in bytes: counters as varints, the histogram as runs of neighbouring buckets.
//!
//! The first bucket of a run is written as its lowest value in units of 64 us, the finest step of the frozen layout, so
//! that no bucket numbering has to be frozen beside it; the others follow with their counts alone.

use std::collections::BTreeMap;

use super::DecodeError;
use super::varint::{Reader, put};
use crate::rollout::assign::LearnerHash;
use crate::rollout::latencies::{Bucket, Latencies};
use crate::rollout::slot::{
    Cell, LATENCY_EDGES, LATENCY_MAX_US, LAYOUT_VERSION, MAX_FAILING_LEARNERS,
};

/// The finest step of the layout: the largest power of two that is not above 100 us.
const UNIT_US: u64 = 64;
/// Of the layout there is, the second way of writing it down: in runs.
const CODING: u8 = LAYOUT_VERSION + 1;
/// The first way, each bucket with its distance from the last: still read.
const SINGLE: u8 = LAYOUT_VERSION;

pub fn encode_cell(cell: &Cell) -> Vec<u8> {
    let mut out = vec![CODING];
    for count in [
        cell.counted,
        cell.errors,
        cell.failed,
        cell.client_errors,
        cell.abandoned,
        cell.failing_others,
    ] {
        put(&mut out, count);
    }
    put(&mut out, cell.over_limit.len() as u64);
    for (&limit, &over) in &cell.over_limit {
        put(&mut out, limit);
        put(&mut out, over);
    }
    encode_edges(&mut out, &cell.over_edge);
    put(&mut out, cell.failing.len() as u64);
    for (learner, &failures) in &cell.failing {
        out.extend_from_slice(&learner.raw().to_be_bytes());
        put(&mut out, failures);
    }
    encode_latency(&mut out, &cell.latency);
    out
}

// Edges beyond the slowest latency are all 0 and are left out.
fn encode_edges(out: &mut Vec<u8>, edges: &[u64; LATENCY_EDGES]) {
    let used = edges
        .iter()
        .rposition(|&over| over > 0)
        .map_or(0, |last| last + 1);
    put(out, used as u64);
    for &over in &edges[..used] {
        put(out, over);
    }
}

/// Of each run: twice the distance from the last, and one more if others follow its first bucket; then how many but one;
/// then the count of each.
fn encode_latency(out: &mut Vec<u8>, latency: &Latencies) {
    let mut buckets = latency.buckets().peekable();
    let mut last = 0;
    while let Some((first, count)) = buckets.next() {
        let (mut end, mut others) = (first, Vec::new());
        while let Some((next, count)) = buckets.next_if(|(next, _)| *next == end.next()) {
            others.push(count);
            end = next;
        }
        put(
            out,
            (first.lowest_us() / UNIT_US - last) << 1 | u64::from(!others.is_empty()),
        );
        if !others.is_empty() {
            put(out, others.len() as u64 - 1);
        }
        put(out, count);
        others.into_iter().for_each(|count| put(out, count));
        last = end.lowest_us() / UNIT_US;
    }
}

pub fn decode_cell(bytes: &[u8]) -> Result<Cell, DecodeError> {
    let mut reader = Reader::new(bytes);
    let found = reader.byte()?;
    if found != CODING && found != SINGLE {
        return Err(DecodeError::Version {
            found,
            known: CODING,
        });
    }
    Ok(Cell {
        counted: reader.number()?,
        errors: reader.number()?,
        failed: reader.number()?,
        client_errors: reader.number()?,
        abandoned: reader.number()?,
        failing_others: reader.number()?,
        over_limit: decode_limits(&mut reader)?,
        over_edge: decode_edges(&mut reader)?,
        failing: decode_failing(&mut reader)?,
        latency: match found {
            SINGLE => decode_single_latencies(reader)?,
            _ => decode_latency(reader)?,
        },
    })
}

fn decode_limits(reader: &mut Reader<'_>) -> Result<BTreeMap<u64, u64>, DecodeError> {
    let mut limits = BTreeMap::new();
    for _ in 0..reader.count()? {
        let (limit, over) = (reader.number()?, reader.number()?);
        if limits
            .last_key_value()
            .is_some_and(|(&last, _)| last >= limit)
        {
            return Err(DecodeError::Range("the order of the latency limits"));
        }
        limits.insert(limit, over);
    }
    Ok(limits)
}

fn decode_edges(reader: &mut Reader<'_>) -> Result<[u64; LATENCY_EDGES], DecodeError> {
    let mut edges = [0; LATENCY_EDGES];
    let used = reader.count()?;
    let places = edges
        .get_mut(..used)
        .ok_or(DecodeError::Range("the number of latency edges"))?;
    for place in places.iter_mut() {
        *place = reader.number()?;
    }
    if places.last() == Some(&0) {
        return Err(DecodeError::Range("the last latency edge"));
    }
    Ok(edges)
}

fn decode_failing(reader: &mut Reader<'_>) -> Result<BTreeMap<LearnerHash, u64>, DecodeError> {
    let count = reader.count()?;
    if count > MAX_FAILING_LEARNERS {
        return Err(DecodeError::Range("the number of failing learners"));
    }
    let mut failing = BTreeMap::new();
    for _ in 0..count {
        let raw = reader.take(8)?.try_into().map_err(|_| DecodeError::Short)?;
        let learner = LearnerHash::from_raw(u64::from_be_bytes(raw));
        if failing
            .last_key_value()
            .is_some_and(|(&last, _)| last >= learner)
        {
            return Err(DecodeError::Range("the order of the failing learners"));
        }
        failing.insert(learner, reader.number()?);
    }
    Ok(failing)
}

fn decode_latency(mut reader: Reader<'_>) -> Result<Latencies, DecodeError> {
    let mut latency = Latencies::default();
    let mut last: Option<Bucket> = None;
    while reader.end().is_err() {
        let head = reader.number()?;
        let mut bucket = after(last, head >> 1)?;
        if last.is_some_and(|end| end.next() == bucket) {
            return Err(DecodeError::Range("a run of latencies"));
        }
        let others = match head & 1 {
            1 => reader.number()?.checked_add(1),
            _ => Some(0),
        };
        let others = others.ok_or(DecodeError::Range("the length of a run"))?;
        record(&mut latency, bucket, reader.number()?)?;
        for _ in 0..others {
            bucket = bucket.next();
            record(&mut latency, bucket, reader.number()?)?;
        }
        last = Some(bucket);
    }
    Ok(latency)
}

/// As version 1 wrote them: each bucket with its distance from the last.
fn decode_single_latencies(mut reader: Reader<'_>) -> Result<Latencies, DecodeError> {
    let mut latency = Latencies::default();
    let mut last = None;
    while reader.end().is_err() {
        let (distance, count) = (reader.number()?, reader.number()?);
        let bucket = after(last, distance)?;
        record(&mut latency, bucket, count)?;
        last = Some(bucket);
    }
    Ok(latency)
}

/// The bucket whose lowest latency lies so many units behind that of the last.
fn after(last: Option<Bucket>, distance: u64) -> Result<Bucket, DecodeError> {
    let from = last.map_or(0, Bucket::lowest_us);
    let lowest = from.saturating_add(distance.saturating_mul(UNIT_US));
    let bucket = Bucket::of(lowest);
    let is_behind = last.is_none_or(|last| last < bucket);
    if !is_behind || bucket.lowest_us() != lowest {
        return Err(DecodeError::Range("a latency"));
    }
    Ok(bucket)
}

fn record(latency: &mut Latencies, bucket: Bucket, count: u64) -> Result<(), DecodeError> {
    if bucket.lowest_us() > LATENCY_MAX_US {
        return Err(DecodeError::Range("a latency"));
    }
    if count == 0 || latency.len().checked_add(count).is_none() {
        return Err(DecodeError::Range("a count of latencies"));
    }
    latency.add(bucket, count);
    Ok(())
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn random_cell(dice: &mut StdRng) -> Cell {
        let mut cell = Cell::default();
        for count in [
            &mut cell.counted,
            &mut cell.errors,
            &mut cell.failed,
            &mut cell.client_errors,
        ] {
            *count = dice.random_range(0..1_000_000);
        }
        cell.abandoned = dice.random();
        cell.failing_others = dice.random_range(0..3);
        for _ in 0..dice.random_range(0..4) {
            cell.over_limit
                .insert(dice.random_range(1..100_000_000), dice.random_range(0..100));
        }
        for place in 0..dice.random_range(0..=LATENCY_EDGES) {
            cell.over_edge[place] = dice.random_range(0..10_000);
        }
        for _ in 0..dice.random_range(0..2_000) {
            let magnitude = dice.random_range(1.0..8.079_f64);
            cell.latency
                .record(10_f64.powf(magnitude) as u64, dice.random_range(1..5_000));
        }
        for _ in 0..dice.random_range(0..40) {
            cell.failing.insert(
                LearnerHash::from_raw(dice.random()),
                dice.random_range(1..9),
            );
        }
        cell
    }

    fn seed() -> u64 {
        let seed = std::env::var("SERIN_SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(20_251_101);
        println!("SERIN_SEED={seed}");
        seed
    }

    #[test]
    fn every_cell_comes_back_as_it_was() {
        let mut dice = StdRng::seed_from_u64(seed());
        for _ in 0..300 {
            let cell = random_cell(&mut dice);
            assert_eq!(decode_cell(&encode_cell(&cell)), Ok(cell));
        }
        let mut edges = Cell::default();
        for value in [100, 127, 128, LATENCY_MAX_US - 1, LATENCY_MAX_US] {
            edges.latency.record(value, 1);
            assert_eq!(
                decode_cell(&encode_cell(&edges)),
                Ok(edges.clone()),
                "{value} us"
            );
        }
    }

    #[test]
    fn no_bytes_make_it_panic_and_what_is_accepted_encodes_back() {
        let mut dice = StdRng::seed_from_u64(seed());
        for _ in 0..20_000 {
            let mut bytes = encode_cell(&Cell::default());
            if dice.random_bool(0.5) {
                let mut cell = Cell::default();
                cell.latency
                    .record(dice.random_range(1..1 << 27), dice.random());
                cell.failing.insert(LearnerHash::from_raw(dice.random()), 1);
                bytes = encode_cell(&cell);
            }
            for _ in 0..dice.random_range(1..6) {
                let place = dice.random_range(0..bytes.len());
                bytes[place] = dice.random();
            }
            bytes.truncate(dice.random_range(0..=bytes.len() + 3));
            if let Ok(cell) = decode_cell(&bytes) {
                let again = encode_cell(&cell);
                assert_eq!(decode_cell(&again).as_ref(), Ok(&cell));
                assert!(bytes[0] == SINGLE || again == bytes, "{bytes:?}");
            }
        }
    }

    #[test]
    fn one_second_of_ordinary_traffic_takes_few_bytes() {
        let mut cell = Cell {
            counted: 3_000,
            ..Cell::default()
        };
        for ms in 10..110_u64 {
            cell.latency.record(ms * 1000, 30);
        }
        assert_eq!(encode_cell(&Cell::default()).len(), 10);
        assert!(
            encode_cell(&cell).len() < 300,
            "{} bytes",
            encode_cell(&cell).len()
        );
    }

    #[test]
    fn another_layout_version_is_named() {
        let mut bytes = encode_cell(&Cell::default());
        bytes[0] = 9;
        assert_eq!(
            decode_cell(&bytes),
            Err(DecodeError::Version {
                found: 9,
                known: CODING
            })
        );
    }

    #[test]
    fn what_the_first_coding_wrote_is_still_read() {
        // Nine counters and lists at 0, the edges' too; 640 us (10 units of 64) 3 times, 704 us twice, 6.4 ms 200 times.
        let mut bytes = vec![1, 9, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend([10, 3, 1, 2, 89, 200, 1]);
        let mut cell = Cell {
            counted: 9,
            ..Cell::default()
        };
        for (us, count) in [(640, 3), (704, 2), (6_400, 200)] {
            cell.latency.record(us, count);
        }
        assert_eq!(decode_cell(&bytes), Ok(cell));
    }
}
