//! `serin evidence --blocks`: process 2 over a list of blocks, ln E after each.

use std::fs;
use std::io::BufRead;
use std::path::Path;

use serde_json::json;

use super::{EvidenceArgs, Refusal, evidence_lines};
use crate::rollout::stats::compare::{BlockCounts, ln_lrs};
use crate::rollout::stats::{LnLrs, MULTIPLIERS, Onset, combine};

/// The blocks of a file, or of `input` for `-`.
pub(super) fn read(path: &Path, input: &mut dyn BufRead) -> Result<Vec<BlockCounts>, Refusal> {
    let from_input = path == Path::new("-");
    let name = if from_input {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let refused = |why: String| Refusal::Input(format!("{name}: {why}"));
    let text = if from_input {
        let mut text = String::new();
        input.read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    let text = text.map_err(|why| refused(why.to_string()))?;
    let rows: Vec<[u64; 4]> = serde_json::from_str(&text).map_err(|why| {
        refused(format!(
            "not a list of [base_err, base_req, canary_err, canary_req]: {why}"
        ))
    })?;
    rows.into_iter()
        .enumerate()
        .map(|(index, row)| {
            block(row).map_err(|why| refused(format!("block {}: {why}", index + 1)))
        })
        .collect()
}

/// A block with an empty arm is skipped whatever else it says, as the gate does.
fn block(row: [u64; 4]) -> Result<BlockCounts, String> {
    let [baseline_failed, baseline, canary_failed, canary] = row;
    let block = BlockCounts {
        baseline_failed,
        baseline,
        canary_failed,
        canary,
    };
    if block.has_both_arms() {
        for (arm, failed, all) in [
            ("baseline", baseline_failed, baseline),
            ("canary", canary_failed, canary),
        ] {
            if failed > all {
                return Err(format!("{failed} errors of {all} requests on {arm}"));
            }
        }
    }
    Ok(block)
}

pub(super) fn shown(args: &EvidenceArgs, blocks: &[BlockCounts]) -> String {
    let ln_es = ln_e_per_block(args, blocks);
    let alpha = args.alpha();
    let alarm = ln_es
        .iter()
        .position(|ln_e| *ln_e >= combine::ln_limit(alpha));
    if args.json {
        let shown = json!({
            "ln_e_per_block": ln_es,
            "alpha": alpha,
            "ln_limit": combine::ln_limit(alpha),
            "alarm": alarm.is_some(),
            "alarm_at_block": alarm.map(|index| index + 1),
        });
        return format!("{shown:#}\n");
    }
    let head = ["block", "baseline", "canary", "ln E"];
    let mut text = format!(
        "{:>6}  {:>16}  {:>16}  {:>12}\n",
        head[0], head[1], head[2], head[3]
    );
    for (index, (block, ln_e)) in blocks.iter().zip(&ln_es).enumerate() {
        let baseline = format!("{} of {}", block.baseline_failed, block.baseline);
        let canary = format!("{} of {}", block.canary_failed, block.canary);
        let skipped = if block.has_both_arms() {
            ""
        } else {
            "  skipped: an arm is empty"
        };
        let number = index + 1;
        text += &format!("{number:>6}  {baseline:>16}  {canary:>16}  {ln_e:>12.6}{skipped}\n");
    }
    text += &evidence_lines(ln_es.last().copied().unwrap_or_default(), alpha);
    let margin = args.odds_margin();
    text + &match alarm {
        Some(index) => format!(
            "verdict   alarm at block {}: canary's odds of failing are more than {margin} times baseline's\n",
            index + 1
        ),
        None => format!(
            "verdict   no alarm: that canary's odds of failing are more than {margin} times baseline's is not proven\n"
        ),
    }
}

/// ln E after each block. It stays where it was over a block with an empty arm.
fn ln_e_per_block(args: &EvidenceArgs, blocks: &[BlockCounts]) -> Vec<f64> {
    let mut evidence = if args.late_onset {
        Evidence::Late(Onset::new(MULTIPLIERS.len()))
    } else {
        Evidence::Plain([0.0; MULTIPLIERS.len()])
    };
    let mut after = |block: &BlockCounts| {
        if let Some(ln_lrs) = ln_lrs(args.odds_margin(), *block) {
            evidence.add(ln_lrs);
        }
        evidence.ln_e()
    };
    blocks.iter().map(&mut after).collect()
}

enum Evidence {
    /// Sums of ln LR since the first block.
    Plain(LnLrs),
    Late(Onset),
}

impl Evidence {
    fn add(&mut self, ln_lrs: LnLrs) {
        match self {
            Self::Plain(sums) => {
                for (sum, ln_lr) in sums.iter_mut().zip(ln_lrs) {
                    *sum += ln_lr;
                }
            }
            Self::Late(onset) => onset.add(&ln_lrs),
        }
    }

    fn ln_e(&self) -> f64 {
        match self {
            Self::Plain(sums) => combine::ln_mean(sums),
            Self::Late(onset) => onset.ln_e(),
        }
    }
}
