//! Which of many hypotheses fall, with the share of wrongly named ones held at alpha: e-BH.
//!
//! Wang & Ramdas, "False discovery rate control with e-values" (2022): of K e-values the k largest are rejected, with k the
//! largest for which `k e_(k) >= K / alpha`. It holds however the e-values depend on each other.

/// The indexes of the rejected hypotheses, ascending. `ln_es` has ln E of every hypothesis, in nats, those that stand low
/// as well: K is their number.
pub fn rejected(ln_es: &[f64], alpha: f64) -> Vec<usize> {
    let ln_needed = (ln_es.len() as f64).ln() - alpha.ln();
    let mut by_evidence: Vec<usize> = (0..ln_es.len()).collect();
    by_evidence.sort_by(|&a, &b| ln_es[b].total_cmp(&ln_es[a]));
    let count = (1..=by_evidence.len())
        .rev()
        .find(|&k| (k as f64).ln() + ln_es[by_evidence[k - 1]] >= ln_needed)
        .unwrap_or(0);
    by_evidence.truncate(count);
    by_evidence.sort_unstable();
    by_evidence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_k_largest_fall_together_or_not_at_all() {
        let check = |es: &[f64], expected: &[usize]| {
            let ln_es: Vec<f64> = es.iter().map(|e| e.ln()).collect();
            assert_eq!(rejected(&ln_es, 0.1), expected, "{es:?}");
        };
        check(&[], &[]);
        check(&[9.0], &[]);
        check(&[11.0], &[0]);
        // 2 x 11 reaches 2 / 0.1 where 1 x 15 alone does not.
        check(&[15.0, 11.0], &[0, 1]);
        check(&[15.0, 9.0], &[]);
        check(&[0.0, 31.0, 1.0], &[1]);
    }
}
