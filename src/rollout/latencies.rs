//! Latencies in the frozen layout: how many requests fell in each bucket, without the empty ones.
//!
//! Owns the layout's buckets. It is that of an HdrHistogram of 2 significant digits from 100 us to 120 s (Tene,
//! "HdrHistogram"): steps of 64 us up to 16 ms, then 128 steps an octave. A second of traffic fills some hundred of two
//! thousand buckets, so a sorted row is built, joined and read faster than the whole. Judges nothing.

/// Shortest latency told apart, in microseconds.
pub const LATENCY_MIN_US: u64 = 100;
/// Longest latency told apart, in microseconds: what is longer counts as this.
pub const LATENCY_MAX_US: u64 = 120_000_000;
/// Significant decimal digits of a recorded latency.
pub const SIGNIFICANT_DIGITS: u8 = 2;

/// log2 of the finest step in microseconds: the largest power of two that is not above the shortest latency.
const UNIT_BITS: u32 = LATENCY_MIN_US.ilog2();
/// log2 of the steps that a latency is told apart in: 256, twice as many as two digits need.
const STEP_BITS: u32 = 8;
/// Steps of an octave above the first.
const HALF: u64 = 1 << (STEP_BITS - 1);

/// Requests by the bucket that their latency fell in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// Ascending, none empty.
    row: Vec<(Bucket, u64)>,
    len: u64,
}

/// A span of latencies that are not told apart, by its place in the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket(u16);

impl Bucket {
    /// The one that a latency in microseconds falls in; the last for all that is longer than the longest.
    pub const fn of(latency_us: u64) -> Self {
        let us = if latency_us < LATENCY_MAX_US {
            latency_us
        } else {
            LATENCY_MAX_US
        };
        let octave = (us >> (UNIT_BITS + STEP_BITS)).checked_ilog2();
        let octave = match octave {
            Some(above) => above as u64 + 1,
            None => 0,
        };
        // At most 14 octaves of 128 steps and the first of 256.
        Self((octave * HALF + (us >> (UNIT_BITS as u64 + octave))) as u16)
    }

    /// Its lowest latency in microseconds.
    pub const fn lowest_us(self) -> u64 {
        let (octave, step) = self.parts();
        step << (UNIT_BITS as u64 + octave)
    }

    /// Its highest latency in microseconds: what it stands for in every figure.
    pub const fn highest_us(self) -> u64 {
        let (octave, step) = self.parts();
        ((step + 1) << (UNIT_BITS as u64 + octave)) - 1
    }

    /// The next longer one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    const fn parts(self) -> (u64, u64) {
        let place = self.0 as u64;
        let octave = (place / HALF).saturating_sub(1);
        (octave, place - octave * HALF)
    }
}

impl Latencies {
    /// Requests with a recorded latency.
    pub const fn len(&self) -> u64 {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// With room for requests in so many buckets.
    pub fn with_room(buckets: usize) -> Self {
        Self {
            row: Vec::with_capacity(buckets),
            len: 0,
        }
    }

    /// Takes in requests of this latency in microseconds.
    pub fn record(&mut self, latency_us: u64, requests: u64) {
        self.add(Bucket::of(latency_us), requests);
    }

    /// Takes in requests that fell in a bucket.
    pub fn add(&mut self, bucket: Bucket, requests: u64) {
        // Mostly they come in ascending order.
        let place = match self.row.last() {
            Some(&(last, _)) if last >= bucket => self
                .row
                .binary_search_by_key(&bucket, |&(bucket, _)| bucket),
            Some(_) | None => Err(self.row.len()),
        };
        self.add_at(place, bucket, requests);
    }

    /// Each bucket that requests fell in, ascending.
    pub fn buckets(&self) -> impl Iterator<Item = (Bucket, u64)> {
        self.row.iter().copied()
    }

    /// Requests in buckets whose highest latency lies above a limit in microseconds.
    pub fn above(&self, limit_us: u64) -> u64 {
        let is_within = |&(bucket, _): &(Bucket, u64)| bucket.highest_us() <= limit_us;
        let from = self.row.partition_point(is_within);
        self.row[from..].iter().map(|&(_, requests)| requests).sum()
    }

    /// The smallest latency in microseconds that at most one in `one_above_in` requests exceeded, as its bucket's
    /// highest; `None` without requests.
    pub fn percentile_us(&self, one_above_in: u64) -> Option<u64> {
        let rank = self.len - self.len / one_above_in.max(1);
        let mut seen = 0_u64;
        let mut row = self.row.iter();
        let found = row.find(|(_, requests)| {
            seen = seen.saturating_add(*requests);
            seen >= rank
        });
        found.map(|(bucket, _)| bucket.highest_us())
    }

    pub fn merge(&mut self, other: &Self) {
        if self.row.is_empty() {
            self.clone_from(other);
            return;
        }
        let mut from = 0;
        for &(bucket, requests) in &other.row {
            while self.row.get(from).is_some_and(|(mine, _)| *mine < bucket) {
                from += 1;
            }
            match self.row.get_mut(from).filter(|(mine, _)| *mine == bucket) {
                Some((_, sum)) => *sum = sum.saturating_add(requests),
                None => self.row.insert(from, (bucket, requests)),
            }
            from += 1;
        }
        self.len = self.len.saturating_add(other.len);
    }

    /// Takes out what was added before.
    pub fn take_away(&mut self, other: &Self) {
        for (bucket, requests) in &mut self.row {
            let place = other
                .row
                .binary_search_by_key(bucket, |&(bucket, _)| bucket);
            let taken = place.map_or(0, |place| other.row[place].1);
            *requests = requests.saturating_sub(taken);
        }
        self.row.retain(|&(_, requests)| requests > 0);
        self.len = self.row.iter().map(|&(_, requests)| requests).sum();
    }

    fn add_at(&mut self, place: Result<usize, usize>, bucket: Bucket, requests: u64) {
        if requests == 0 {
            return;
        }
        match place {
            Ok(place) => self.row[place].1 = self.row[place].1.saturating_add(requests),
            Err(place) => self.row.insert(place, (bucket, requests)),
        }
        self.len = self.len.saturating_add(requests);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn latencies(requests: &[(u64, u64)]) -> Latencies {
        let mut latencies = Latencies::default();
        for &(us, requests) in requests {
            latencies.record(us, requests);
        }
        latencies
    }

    #[test]
    fn joining_is_the_sum_of_each_bucket() {
        let rows: [&[(u64, u64)]; 5] = [
            &[],
            &[(500, 2)],
            &[(300, 1), (500, 4), (9_000_000, 1)],
            &[(120, 7), (300, 5), (40_000, 3)],
            &[(40_000, 3), (120, 7), (300, 0)],
        ];
        for a in rows {
            for b in rows {
                let mut joined = latencies(a);
                joined.merge(&latencies(b));
                let mut expected = BTreeMap::<Bucket, u64>::new();
                for &(us, requests) in a.iter().chain(b).filter(|(_, requests)| *requests > 0) {
                    *expected.entry(Bucket::of(us)).or_default() += requests;
                }
                assert_eq!(joined.len(), expected.values().sum::<u64>());
                assert!(joined.buckets().eq(expected), "{a:?} and {b:?}");
                joined.take_away(&latencies(b));
                assert_eq!(joined, latencies(a), "{a:?} and not {b:?}");
            }
        }
    }

    #[test]
    fn above_counts_what_is_beyond_and_not_what_is_at_the_limit() {
        // Steps of 64 us: 64 to 127, 192 to 255, 256 to 319.
        let latencies = latencies(&[(100, 1), (200, 10), (300, 100)]);
        for (limit, above) in [(126, 111), (127, 110), (254, 110), (255, 100), (319, 0)] {
            assert_eq!(latencies.above(limit), above, "{limit}");
        }
    }
}
