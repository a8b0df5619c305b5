//! A consistent hash: which endpoint a key belongs to, the same in every process that has the same endpoints.
//!
//! Each endpoint has points on a circle, by the hash of its address alone; a key belongs to the next point. An endpoint
//! that comes or goes moves only the keys of its own stretches. (Karger et al. 1997; ketama.)

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Points of an endpoint of weight 1. 160 keep the shares of equal endpoints within some 10 % of each other.
const POINTS: u32 = 160;
/// Points in all: heavier weights than this allows are rounded.
const POINTS_MAX: u64 = 1 << 17;

#[derive(Debug)]
pub(super) struct Ring {
    /// Where a point lies and whose it is, in order.
    points: Vec<(u64, u32)>,
}

impl Ring {
    /// A ring of addresses with their weights.
    pub(super) fn build<'a>(endpoints: impl Iterator<Item = (&'a str, u32)> + Clone) -> Self {
        let weights: u64 = endpoints.clone().map(|(_, weight)| u64::from(weight)).sum();
        let each = u64::from(POINTS).min(POINTS_MAX / weights.max(1)).max(1);
        let mut points = Vec::new();
        for (index, (address, weight)) in endpoints.enumerate() {
            let count = each * u64::from(weight);
            points.extend((0..count).map(|point| {
                let at = xxh3_64_with_seed(address.as_bytes(), point);
                (at, u32::try_from(index).unwrap_or(u32::MAX))
            }));
        }
        points.sort_unstable();
        Self { points }
    }

    /// The endpoints by their nearness to a key; each may come more than once.
    pub(super) fn from(&self, key: u64) -> impl Iterator<Item = usize> {
        let at = spread(key);
        let next = self.points.partition_point(|(point, _)| *point < at);
        let (before, after) = self.points.split_at(next);
        after
            .iter()
            .chain(before)
            .map(|(_, endpoint)| *endpoint as usize)
    }
}

/// Scatters keys over the whole circle. A canary's learners all have small hashes: unscattered they would share one
/// endpoint. (The finalizer of SplitMix64.)
pub(super) const fn spread(key: u64) -> u64 {
    let mut hash = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(endpoints: &[(&str, u32)]) -> Ring {
        Ring::build(endpoints.iter().copied())
    }

    fn owner(ring: &Ring, key: u64) -> usize {
        ring.from(key).next().expect("somebody")
    }

    #[test]
    fn shares_follow_the_weights_also_of_learners_with_small_hashes() {
        let ring = ring(&[("a:1", 1), ("b:1", 1), ("c:1", 2)]);
        // One per cent of all hashes, as a canary of 1 % has them.
        let step = u64::MAX / 100 / 40_000;
        let mut counts = [0_u32; 3];
        for key in 0..40_000 {
            counts[owner(&ring, key * step)] += 1;
        }
        for (count, expected) in counts.into_iter().zip([10_000_u32, 10_000, 20_000]) {
            assert!(count.abs_diff(expected) < expected / 5, "{counts:?}");
        }
    }

    #[test]
    fn who_leaves_moves_only_its_own_keys() {
        let all = ring(&[("a:1", 1), ("b:1", 1), ("c:1", 1)]);
        let fewer = ring(&[("a:1", 1), ("c:1", 1)]);
        let mut moved = 0;
        for key in 0..10_000 {
            match owner(&all, key) {
                0 => assert_eq!(owner(&fewer, key), 0, "key {key} left a"),
                2 => assert_eq!(owner(&fewer, key), 1, "key {key} left c"),
                _ => moved += 1,
            }
            // Whoever is asked past a closed endpoint finds the same as if it were gone.
            let open = all
                .from(key)
                .find(|index| *index != 1)
                .expect("two are open");
            assert_eq!(open / 2, owner(&fewer, key));
        }
        assert!((2_000..5_000).contains(&moved), "{moved} keys moved");
    }

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        let one = ring(&[("a:1", 1), ("b:1", 1)]);
        let other = ring(&[("b:1", 1), ("a:1", 1)]);
        for key in 0..1000 {
            assert_eq!(owner(&one, key), 1 - owner(&other, key));
        }
    }
}
