//! A histogram without its empty buckets: latency to requests, in ascending order.
//!
//! A second of traffic fills some hundred of a histogram's buckets. A sorted row of them is built, joined and read
//! several times faster than a tree; nothing is decided here.

use super::slot::LatencySum;

/// Latency in microseconds (the highest that its bucket stands for) and requests, ascending, none empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bars(Vec<(u64, u64)>);

impl Bars {
    pub fn of(latency: &LatencySum) -> Self {
        let steps = latency.iter_recorded();
        Self(
            steps
                .map(|step| (step.value_iterated_to(), step.count_at_value()))
                .collect(),
        )
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }

    /// Requests in buckets beyond a limit in microseconds.
    pub fn above(&self, limit_us: u64) -> u64 {
        let from = self.0.partition_point(|&(latency, _)| latency <= limit_us);
        self.0[from..].iter().map(|&(_, requests)| requests).sum()
    }

    /// Requests in the bucket that this latency stands for.
    pub fn at(&self, latency_us: u64) -> u64 {
        let place = self
            .0
            .binary_search_by_key(&latency_us, |&(latency, _)| latency);
        place.map_or(0, |place| self.0[place].1)
    }

    /// Takes out what was added before.
    pub fn take_away(&mut self, other: &Self) {
        for (latency, requests) in &mut self.0 {
            *requests = requests.saturating_sub(other.at(*latency));
        }
        self.0.retain(|&(_, requests)| requests > 0);
    }

    pub fn merge(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        if other.0.is_empty() {
            return;
        }
        let mut sum = Vec::with_capacity(self.0.len() + other.0.len());
        let (mut mine, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(&&(a, n)), Some(&&(b, m))) = (mine.peek(), theirs.peek()) {
            sum.push(match a.cmp(&b) {
                std::cmp::Ordering::Less => (a, n),
                std::cmp::Ordering::Equal => (a, n + m),
                std::cmp::Ordering::Greater => (b, m),
            });
            if a <= b {
                mine.next();
            }
            if b <= a {
                theirs.next();
            }
        }
        sum.extend(mine);
        sum.extend(theirs);
        self.0 = sum;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::rollout::slot::latency_sum;

    fn bars(latencies: &[(u64, u64)]) -> Bars {
        let mut sum = latency_sum();
        for &(latency, requests) in latencies {
            sum.saturating_record_n(latency, requests);
        }
        Bars::of(&sum)
    }

    #[test]
    fn joining_is_the_sum_of_each_bucket() {
        let rows: [&[(u64, u64)]; 4] = [
            &[],
            &[(500, 2)],
            &[(300, 1), (500, 4), (9_000_000, 1)],
            &[(120, 7), (300, 5), (40_000, 3)],
        ];
        for a in rows {
            for b in rows {
                let mut joined = bars(a);
                joined.merge(&bars(b));
                let mut expected = BTreeMap::<u64, u64>::new();
                for (latency, requests) in bars(a).iter().chain(bars(b).iter()) {
                    *expected.entry(latency).or_default() += requests;
                }
                assert!(joined.iter().eq(expected), "{a:?} and {b:?}");
                joined.take_away(&bars(b));
                assert_eq!(joined, bars(a), "{a:?} and not {b:?}");
            }
        }
    }

    #[test]
    fn above_counts_what_is_beyond_and_not_what_is_at_the_limit() {
        let bars = Bars(vec![(100, 1), (200, 10), (300, 100)]);
        for (limit, above) in [(99, 111), (100, 110), (199, 110), (200, 100), (300, 0)] {
            assert_eq!(bars.above(limit), above, "{limit}");
        }
    }
}
