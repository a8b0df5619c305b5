//! Several e-values as one: means and weighted sums, in natural logarithms.
//!
//! The mean of e-values is an e-value however they depend on each other (Vovk & Wang, "E-values: calibration,
//! combination and applications", 2021), and so is a weighted sum whose weights were fixed beforehand and add up to at
//! most 1. Products are not: nothing here multiplies.

/// The processes that share alpha.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    Errors,
    ClientErrors,
    Latency,
    /// One arm against the fixed limits of the stage's triggers.
    Absolute,
    /// All segments together; each has an equal share of it.
    Segments,
}

impl Part {
    pub const ALL: [Self; 5] = [
        Self::Errors,
        Self::ClientErrors,
        Self::Latency,
        Self::Absolute,
        Self::Segments,
    ];

    /// The share of alpha, fixed at the start. What a plan lacks stays unused: its share is nobody's.
    pub const fn weight(self) -> f64 {
        match self {
            Self::Errors | Self::Latency => 0.3,
            Self::ClientErrors | Self::Absolute => 0.1,
            Self::Segments => 0.2,
        }
    }

    /// ln (w E) of this part, in nats: what `regression(X)` compares with [`ln_limit`].
    pub fn ln_weighted(self, ln_e: f64) -> f64 {
        self.weight().ln() + ln_e
    }
}

/// What ln (w E) has to reach: ln (1 / alpha), in nats.
pub fn ln_limit(alpha: f64) -> f64 {
    -alpha.ln()
}

/// ln of the sum of w E over the parts that there are, in nats: `regression(any)`. `-inf` for none.
pub fn ln_weighted_sum(ln_es: &[(Part, f64)]) -> f64 {
    ln_sum(ln_es.iter().map(|&(part, ln_e)| part.ln_weighted(ln_e)))
}

/// ln of the mean of e-values with equal weights, in nats. 0 (E = 1: nothing was learnt) for none.
pub fn ln_mean(ln_es: &[f64]) -> f64 {
    if ln_es.is_empty() {
        return 0.0;
    }
    ln_sum(ln_es.iter().copied()) - (ln_es.len() as f64).ln()
}

/// ln (e^a + e^b + ...), summed below the largest so that nothing overflows; `-inf` for none.
pub fn ln_sum(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if largest.is_infinite() {
        return largest;
    }
    largest + terms.map(|term| (term - largest).exp()).sum::<f64>().ln()
}

/// ln (e^a + e^b).
pub fn ln_add(a: f64, b: f64) -> f64 {
    let (high, low) = if a < b { (b, a) } else { (a, b) };
    if high.is_infinite() {
        return high;
    }
    high + (low - high).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_are_all_of_alpha() {
        let all: f64 = Part::ALL.iter().map(|part| part.weight()).sum();
        assert!((all - 1.0).abs() < 1e-15);
    }

    #[test]
    fn what_would_overflow_or_vanish_is_summed() {
        assert_eq!(ln_sum([1000.0, 1000.0].into_iter()), 1000.0 + 2_f64.ln());
        assert_eq!(ln_sum([-1000.0, -1000.0].into_iter()), -1000.0 + 2_f64.ln());
        assert_eq!(ln_sum(std::iter::empty()), f64::NEG_INFINITY);
        assert_eq!(
            ln_sum([f64::NEG_INFINITY; 2].into_iter()),
            f64::NEG_INFINITY
        );
        assert_eq!(ln_add(f64::NEG_INFINITY, -3.0), -3.0);
        assert_eq!(ln_add(-3.0, f64::NEG_INFINITY), -3.0);
        assert_eq!(ln_add(710.0, 710.0), 710.0 + 2_f64.ln());
        assert_eq!(ln_mean(&[]), 0.0);
    }

    #[test]
    fn a_part_alone_needs_its_own_share_of_alpha() {
        let limit = ln_limit(0.01);
        let enough = (100.0_f64 / 0.3).ln();
        assert!(Part::Errors.ln_weighted(enough + 1e-12) >= limit);
        assert!(Part::Errors.ln_weighted(enough - 1e-12) < limit);
        // 0.3 x 200 + 0.1 x 500 = 110.
        let sum = ln_weighted_sum(&[(Part::Errors, 200_f64.ln()), (Part::Absolute, 500_f64.ln())]);
        assert!((sum - 110_f64.ln()).abs() < 1e-12);
    }
}
