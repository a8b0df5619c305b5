//! Every published vector, to 1e-9.

use std::collections::BTreeSet;

use serde_json::Value;
use serin::rollout::stats::compare::BlockCounts;
use serin::rollout::stats::ratio_mismatch::{self, Split};
use serin::rollout::stats::{MULTIPLIERS, Onset, combine, compare, ebh, fixed, interval};

use super::enumeration::Margins;

const VECTORS: &str = include_str!("../data/statistics_vectors.json");

#[test]
fn every_published_vector_comes_out() {
    let file: Value = serde_json::from_str(VECTORS).expect("the vectors are JSON");
    let vectors = file["vectors"].as_array().expect("a list");
    let mut families = BTreeSet::new();
    for vector in vectors {
        let id = vector["id"].as_str().expect("an id");
        let family = id.split('.').next().expect("a name");
        families.insert(family);
        let (input, output) = (&vector["input"], &vector["output"]);
        match family {
            "C2" => check_rate_interval(id, input, output),
            "S1" => check_mismatch(id, input, output),
            "E1" => check_expectation(id, input, output),
            "X2" => check_mean(id, input, output),
            "G1" => check_fixed(id, input, output),
            "G2" => check_compare(id, input, output),
            "G3" => check_latency(id, input, output),
            "G4" => check_onset(id, input, output),
            "H1" => check_ebh(id, input, output),
            other => panic!("{id}: nothing checks {other}"),
        }
    }
    assert_eq!(vectors.len(), 19, "{families:?}");
    assert_eq!(families.len(), 9, "{families:?}");
}

fn close(id: &str, seen: f64, expected: &Value) {
    let expected = number(expected);
    assert!(
        (seen - expected).abs() <= 1e-9 * expected.abs(),
        "{id}: {seen} is not {expected}"
    );
}

fn check_rate_interval(id: &str, input: &Value, output: &Value) {
    // The prior that the vectors name is the one that is built in.
    assert_eq!(
        (number(&input["t_opt"]), number(&input["alpha_opt"])),
        (500.0, 0.05)
    );
    let seen = interval::rate(
        count(&input["errors"]),
        count(&input["requests"]),
        number(&input["alpha"]),
    );
    close(id, seen.lower, &output["lower"]);
    close(id, seen.upper, &output["upper"]);
}

fn check_mismatch(id: &str, input: &Value, output: &Value) {
    assert_eq!(number(&input["k"]), 100.0);
    let seen = ratio_mismatch::ln_odds(Split {
        baseline: count(&input["counts"][0]),
        canary: count(&input["counts"][1]),
        canary_share: number(&input["theta_0"][1]),
    });
    close(id, seen, &output["log_odds"]);
    close(id, seen.exp(), &output["odds"]);
}

fn check_expectation(id: &str, input: &Value, output: &Value) {
    let psi0 = number(&input["psi0"]);
    let margins = Margins {
        canary: count(&input["nc"]),
        baseline: count(&input["nb"]),
        failed: count(&input["total_errors"]),
    };
    let expectation = margins.expectation(psi0, |block| {
        compare::ln_lr(psi0, number(&input["psi1"]) / psi0, block)
    });
    close(id, expectation, &output["expectation"]);
}

fn check_mean(id: &str, input: &Value, output: &Value) {
    let ln_es: Vec<f64> = numbers(input).iter().map(|e| e.ln()).collect();
    close(id, combine::ln_mean(&ln_es).exp(), &output["e"]);
}

fn check_fixed(id: &str, input: &Value, output: &Value) {
    let ln_lrs = fixed::ln_lrs(
        number(&input["p0"]),
        count(&input["errors"]),
        count(&input["requests"]),
    );
    let ln_e = combine::ln_mean(&ln_lrs);
    close(id, ln_e, &output["log_e"]);
    close(id, ln_e.exp(), &output["e"]);
}

fn check_compare(id: &str, input: &Value, output: &Value) {
    let ln_e = combine::ln_mean(&summed(&input["blocks"], number(&input["psi0"])));
    close(id, ln_e, &output["log_e"]);
    close(id, ln_e.exp(), &output["e"]);
}

fn check_latency(id: &str, input: &Value, output: &Value) {
    let by_block = input["blocks_edges"].as_array().expect("blocks");
    let edges = by_block[0].as_array().expect("edges").len();
    let mut all = Vec::new();
    for edge in 0..edges {
        let blocks = by_block.iter().map(|block| block[edge].clone()).collect();
        all.extend(summed(&Value::Array(blocks), number(&input["psi0"])));
    }
    let ln_e = combine::ln_mean(&all);
    close(id, ln_e, &output["log_e"]);
    close(id, ln_e.exp(), &output["e"]);
}

fn check_onset(id: &str, input: &Value, output: &Value) {
    assert_eq!(numbers(&input["grid"]), MULTIPLIERS);
    let mut onset = Onset::new(MULTIPLIERS.len());
    let expected = output["log_e_per_block"].as_array().expect("a list");
    let blocks = input["blocks"].as_array().expect("a list");
    assert_eq!(blocks.len(), expected.len());
    for (block, expected) in blocks.iter().zip(expected) {
        let ln_lrs = compare::ln_lrs(number(&input["psi0"]), counts(block));
        onset.add(&ln_lrs.expect("both arms are there"));
        close(id, onset.ln_e(), expected);
    }
}

fn check_ebh(id: &str, input: &Value, output: &Value) {
    let (es, alpha) = (numbers(&input["e"]), number(&input["alpha"]));
    let ln_es: Vec<f64> = es.iter().map(|e| e.ln()).collect();
    let rejected: Vec<u64> = ebh::rejected(&ln_es, alpha)
        .iter()
        .map(|&i| i as u64)
        .collect();
    let expected: Vec<u64> = output["rejected_indices"]
        .as_array()
        .expect("a list")
        .iter()
        .map(count)
        .collect();
    assert_eq!(rejected, expected, "{id}");
    let ln_mean = combine::ln_mean(&ln_es);
    close(id, ln_mean.exp(), &output["mean"]);
    let limit = combine::ln_limit(alpha);
    assert_eq!(ln_mean >= limit, output["global_rollback"], "{id}");
    // Bonferroni: one of K alone, against K / alpha.
    let ln_worst = ln_es.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let alone = ln_worst >= limit + (es.len() as f64).ln();
    assert_eq!(alone, output["bonferroni_rollback"], "{id}");
}

/// ln LR summed over blocks, those with an empty arm left out.
fn summed(blocks: &Value, psi0: f64) -> Vec<f64> {
    let mut sums = vec![0.0; MULTIPLIERS.len()];
    for block in blocks.as_array().expect("a list") {
        if let Some(ln_lrs) = compare::ln_lrs(psi0, counts(block)) {
            sums.iter_mut()
                .zip(ln_lrs)
                .for_each(|(sum, ln_lr)| *sum += ln_lr);
        }
    }
    sums
}

fn counts(block: &Value) -> BlockCounts {
    BlockCounts {
        baseline_failed: count(&block[0]),
        baseline: count(&block[1]),
        canary_failed: count(&block[2]),
        canary: count(&block[3]),
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn count(value: &Value) -> u64 {
    value.as_u64().expect("a count")
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(number)
        .collect()
}
