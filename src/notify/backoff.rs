//! When a notice that was not taken is tried again: soon, then less and less often, never all at one moment.

use std::time::Duration;

/// After the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// A receiver that comes back is found within this time, however long it was away, unless it asked for more.
const LONGEST: Duration = Duration::from_secs(60);

/// The pause after `failures` failures in a row, between half and the whole of what doubles each time; `chance` is drawn
/// from 0.0 to 1.0, so that channels which failed together do not come back together.
pub(super) fn pause(failures: u32, chance: f64) -> Duration {
    let doubled = FIRST.saturating_mul(
        1_u32
            .checked_shl(failures.saturating_sub(1))
            .unwrap_or(u32::MAX),
    );
    doubled
        .min(LONGEST)
        .mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let longest_ms = |failures| pause(failures, 1.0).as_millis();
        let told: Vec<u128> = [1, 2, 3, 6, 7, 8, 32, 33, u32::MAX]
            .into_iter()
            .map(longest_ms)
            .collect();
        assert_eq!(
            told,
            [
                1000, 2000, 4000, 32_000, 60_000, 60_000, 60_000, 60_000, 60_000
            ]
        );
        assert_eq!(pause(3, 0.0).as_millis(), 2000);
        assert_eq!(pause(0, 1.0).as_millis(), 1000);
    }
}
