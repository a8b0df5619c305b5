//! Shares as bars of a fixed width: how far a stage is, how near evidence is to its limit.

use super::{percent, span};
use crate::records::evaluation::EvaluationRecord;
use crate::records::evidence::EvidenceRecord;
use crate::records::status::StatusRecord;
use crate::rollout::condition::Metric;

/// `[=====>        ]`, `width` characters with its ends; what is out of bounds is at the bound.
pub(in crate::cli) fn bar(share: f64, width: usize) -> String {
    let inside = width.saturating_sub(2);
    // A bar is full only when all of it is there.
    let filled = (share.clamp(0.0, 1.0) * inside as f64).floor() as usize;
    let head = if filled > 0 && filled < inside {
        ">"
    } else {
        ""
    };
    let body = "=".repeat(filled.saturating_sub(head.len()));
    format!("[{:<inside$}]", format!("{body}{head}"))
}

/// `[=====>     ] 43m of 4h, 3h17m left`; nothing where no stage has a clock.
pub(in crate::cli) fn progress(status: &StatusRecord, width: usize) -> Option<String> {
    let end = status.stage_ends_at_ms.filter(|end| *end > 0)?;
    let done = status.stage_time_ms.min(end);
    let bar = bar(done as f64 / end as f64, width);
    let mut text = format!("{bar} {} of {}", span(status.stage_time_ms), span(end));
    match end - done {
        0 => text.push_str(", its time is over"),
        left => text.push_str(&format!(", {} left", span(left))),
    }
    if status.warming_up {
        text.push_str(", warming up");
    }
    Some(text)
}

/// `[==>       ] ln(E) 1.20 of 4.61 (alpha 1%), no alarm`.
pub(in crate::cli) fn evidence(
    status: &StatusRecord,
    evidence: &EvidenceRecord,
    width: usize,
) -> String {
    let (ln, how) = match (evidence.by_request_alone, evidence.alarm) {
        (true, _) => (
            evidence.ln_weighted_by_request,
            "by request alone: it may hold and never rolls back",
        ),
        (false, false) => (evidence.ln_weighted, "no alarm"),
        (false, true) if is_read(status) => (evidence.ln_weighted, "ALARM"),
        // Else somebody asks at night why nothing is done about it.
        (false, true) => (
            evidence.ln_weighted,
            "ALARM, and NO condition of the stage acts on it",
        ),
    };
    format!(
        "{} ln(E) {ln:.2} of {:.2} (alpha {}), {how}",
        bar(ln / evidence.ln_limit, width),
        evidence.ln_limit,
        percent(evidence.alpha)
    )
}

fn is_read(status: &StatusRecord) -> bool {
    let reads = |one: &EvaluationRecord| matches!(one.metric, Metric::Regression(_));
    !status.phase.is_in_a_run() || status.evaluations.iter().any(reads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_empty_at_nothing_and_full_at_all() {
        for (share, shown) in [
            (f64::NEG_INFINITY, "[          ]"),
            (-1.0, "[          ]"),
            (0.0, "[          ]"),
            (0.1, "[>         ]"),
            (0.5, "[====>     ]"),
            (0.999, "[========> ]"),
            (1.0, "[==========]"),
            (7.0, "[==========]"),
            (f64::NAN, "[          ]"),
        ] {
            assert_eq!(bar(share, 12), shown, "{share}");
        }
        assert_eq!(bar(0.5, 0), "[]");
    }
}
