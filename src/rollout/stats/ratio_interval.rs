//! What a business figure may be: mean per learner on canary / on baseline - 1, at a level that holds at all times.
//!
//! Learners are hashed into groups, and all that is kept of a group is how many learners of each arm it holds and the sum
//! of their values: what one learner bought twice is then one observation, and no value of a learner is stored. With m the
//! means per learner, a ratio r is possible if the difference `D = m_c - r m_b` is within its noise. Its variance V(r) comes
//! from how the groups differ (the linearised difference of each group, the cluster-robust variance of a ratio; Fieller,
//! "Some problems in interval estimation", 1954), so nothing is supposed of the values' distribution but a finite variance.
//!
//! That it holds at all times: with growing samples, D / V has independent increments of variance 1 / V whatever the split
//! of the arms does (Scharfstein, Tsiatis & Robins, 1997), so the normal mixture over effects of the size tau is a
//! martingale, and
//!
//! ```text
//! D^2 / V  <  2 (1 + 1 / u) [ln(1 / alpha) + ln(1 + u) / 2],     u = (tau m_b)^2 / V
//! ```
//!
//! at all times with chance 1 - alpha: the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas,
//! "Time-uniform central limit theory and asymptotic confidence sequences" (2024), which is about 1.5 times as wide as an
//! interval for one look. It is asymptotic: below [`GROUPS_NEEDED`] it says nothing.

use super::interval::Interval;

/// Groups that learners are hashed into: enough for a variance to be known to 5 %, few enough to keep for every figure.
pub const GROUPS: usize = 1024;
/// Groups of an arm whose sum is not 0. With fewer a few learners make the mean, and no normal law holds for it.
pub const GROUPS_NEEDED: usize = 100;
/// The relative effect that the interval is made for: the client's "revenue neutral within 3 %".
const EFFECT: f64 = 0.03;

/// What one group holds of one arm.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GroupTotal {
    pub learners: u64,
    /// The sum of their values, in the figure's own unit.
    pub sum: f64,
}

/// Both arms of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Group {
    pub baseline: GroupTotal,
    pub canary: GroupTotal,
}

/// The point and what is possible around it, both as canary / baseline - 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatioInterval {
    pub point: f64,
    pub interval: Interval,
}

/// The means of both arms and how the groups scatter about them.
struct Moments {
    canary: f64,
    baseline: f64,
    /// Variances and covariance of the two means.
    var_canary: f64,
    var_baseline: f64,
    covariance: f64,
}

/// The possible values of canary / baseline - 1. `None` while an arm has too few groups with values, and where
/// baseline's mean is not clearly above 0, so that there is nothing to be a multiple of.
pub fn ratio_interval(groups: &[Group], alpha: f64) -> Option<RatioInterval> {
    let moments = Moments::of(groups)?;
    let ratio = moments.canary / moments.baseline;
    let squared = squared_multiple(&moments, ratio, alpha);
    let (low, high) = moments.within(squared)?;
    let finite = [ratio, low, high].iter().all(|edge| edge.is_finite());
    finite.then_some(RatioInterval {
        point: ratio - 1.0,
        interval: Interval {
            lower: low - 1.0,
            upper: high - 1.0,
        },
    })
}

/// How many standard errors D may be away from 0, squared. Taken at the point, where V differs from V(r) at the edges by less
/// than the interval's own width squared.
fn squared_multiple(moments: &Moments, ratio: f64, alpha: f64) -> f64 {
    let variance = moments.variance(ratio);
    if variance <= 0.0 {
        return 0.0;
    }
    let u = (EFFECT * moments.baseline).powi(2) / variance;
    2.0 * (1.0 + 1.0 / u) * (0.5 * u.ln_1p() - alpha.ln())
}

impl Moments {
    fn of(groups: &[Group]) -> Option<Self> {
        let with_values = |arm: fn(&Group) -> GroupTotal| {
            groups.iter().filter(|group| arm(group).sum != 0.0).count()
        };
        let enough = with_values(|group| group.baseline) >= GROUPS_NEEDED
            && with_values(|group| group.canary) >= GROUPS_NEEDED;
        let (baseline_learners, baseline) = mean(groups, |group| group.baseline);
        let (canary_learners, canary) = mean(groups, |group| group.canary);
        if !enough || baseline_learners <= 0.0 || canary_learners <= 0.0 || baseline <= 0.0 {
            return None;
        }
        let (mut var_canary, mut var_baseline, mut covariance) = (0.0, 0.0, 0.0);
        for group in groups {
            let off_canary = off(group.canary, canary, canary_learners);
            let off_baseline = off(group.baseline, baseline, baseline_learners);
            var_canary += off_canary * off_canary;
            var_baseline += off_baseline * off_baseline;
            covariance += off_canary * off_baseline;
        }
        let count = groups.len() as f64;
        let corrected = count / (count - 1.0);
        Some(Self {
            canary,
            baseline,
            var_canary: corrected * var_canary,
            var_baseline: corrected * var_baseline,
            covariance: corrected * covariance,
        })
    }

    /// V(r): the variance of `m_c - r m_b`.
    fn variance(&self, ratio: f64) -> f64 {
        self.var_canary - 2.0 * ratio * self.covariance + ratio * ratio * self.var_baseline
    }

    /// Fieller's set: the ratios r with `(m_c - r m_b)^2 <= squared V(r)`, by the roots of that quadratic in r. `None` where
    /// baseline's mean could be 0, so that the set has no end.
    fn within(&self, squared: f64) -> Option<(f64, f64)> {
        let a = self.baseline * self.baseline - squared * self.var_baseline;
        let half_b = self.canary * self.baseline - squared * self.covariance;
        let c = self.canary * self.canary - squared * self.var_canary;
        if a <= 0.0 {
            return None;
        }
        // Below 0 only by rounding: the point itself is in the set.
        let root = (half_b * half_b - a * c).max(0.0).sqrt();
        Some(((half_b - root) / a, (half_b + root) / a))
    }
}

/// Learners, and the mean of their values.
fn mean(groups: &[Group], arm: impl Fn(&Group) -> GroupTotal) -> (f64, f64) {
    let mut total = GroupTotal::default();
    for group in groups {
        let part = arm(group);
        total.learners += part.learners;
        total.sum += part.sum;
    }
    let learners = total.learners as f64;
    (learners, total.sum / learners)
}

/// What a group adds to the error of its arm's mean.
fn off(group: GroupTotal, mean: f64, learners: f64) -> f64 {
    (group.sum - mean * group.learners as f64) / learners
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(baseline: impl Fn(usize) -> f64, canary: impl Fn(usize) -> f64) -> Vec<Group> {
        let total = |learners, sum| GroupTotal { learners, sum };
        (0..GROUPS)
            .map(|group| Group {
                baseline: total(10, baseline(group)),
                canary: total(2, canary(group)),
            })
            .collect()
    }

    #[test]
    fn values_without_noise_leave_one_ratio() {
        let seen = ratio_interval(&groups(|_| 50.0, |_| 10.5), 0.05).expect("enough groups");
        assert!((seen.point - 0.05).abs() < 1e-12);
        assert!((seen.interval.lower - 0.05).abs() < 1e-9);
        assert!((seen.interval.upper - 0.05).abs() < 1e-9);
    }

    #[test]
    fn too_few_values_or_nothing_to_be_a_multiple_of_say_nothing() {
        let only = |count: usize| move |group: usize| if group < count { 3.0 } else { 0.0 };
        assert!(ratio_interval(&groups(|_| 50.0, only(GROUPS_NEEDED - 1)), 0.05).is_none());
        assert!(ratio_interval(&groups(|_| 50.0, only(GROUPS_NEEDED)), 0.05).is_some());
        assert!(ratio_interval(&groups(|_| -50.0, |_| 10.0), 0.05).is_none());
        let of_both_signs = |group: usize| if group.is_multiple_of(2) { 90.0 } else { -89.0 };
        assert!(ratio_interval(&groups(of_both_signs, |_| 10.0), 0.05).is_none());
        assert!(ratio_interval(&[], 0.05).is_none());
    }

    #[test]
    fn the_width_is_that_of_the_formula() {
        // Values of +-1 about the mean on canary alone: V = var of its mean = 1 / (4 x 1024) x 1024 / 1023.
        let noisy = |group: usize| if group.is_multiple_of(2) { 11.0 } else { 9.0 };
        let seen = ratio_interval(&groups(|_| 50.0, noisy), 0.05).expect("enough groups");
        let variance = 1.0 / (4.0 * 1023.0);
        let u = (0.03_f64 * 5.0).powi(2) / variance;
        let errors = (2.0 * (1.0 + 1.0 / u) * (20_f64.ln() + (1.0 + u).ln() / 2.0)).sqrt();
        let expected = errors * variance.sqrt() / 5.0;
        assert!((seen.interval.upper - expected).abs() < 1e-12, "{seen:?}");
        assert!((seen.interval.lower + expected).abs() < 1e-12, "{seen:?}");
    }
}
