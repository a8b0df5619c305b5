//! `serin evidence`: the gate's arithmetic on numbers that a person gives it, offline.
//!
//! One arm against a limit here, blocks of both arms in `blocks`. Computes nothing itself: the gate's own functions do.

mod blocks;

use std::fmt;
use std::io::{BufRead, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::EXIT_USAGE;
use super::figures::percent;
use crate::rollout::stats::{DEFAULT_ALPHA, DEFAULT_ODDS_MARGIN, combine, fixed, interval};

/// Beyond this E is no number any more that can be printed.
const LN_PRINTABLE: f64 = 700.0;

/// Shows what numbers prove: failures against a limit, or blocks of canary against baseline
#[derive(Args, Clone, Debug, Default)]
pub struct EvidenceArgs {
    /// How many failed
    #[arg(long, value_name = "K", conflicts_with = "blocks")]
    pub errors: Option<u64>,

    /// Of how many
    #[arg(long, value_name = "N", conflicts_with = "blocks")]
    pub requests: Option<u64>,

    /// The limit that was to be kept, "1%" or 0.01
    #[arg(
        long,
        value_name = "P",
        value_parser = parse_rate,
        allow_negative_numbers = true,
        conflicts_with = "blocks"
    )]
    pub at_most: Option<f64>,

    /// The chance of a false alarm, over all looks together [default: 0.01]
    #[arg(long, value_name = "A", value_parser = parse_rate, allow_negative_numbers = true)]
    pub alpha: Option<f64>,

    /// Blocks as JSON, [[base_err, base_req, canary_err, canary_req], ...]; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub blocks: Option<PathBuf>,

    /// Canary's odds of failing, as a multiple of baseline's, that are forgiven [default: 1.5]
    #[arg(
        long,
        value_name = "PSI",
        value_parser = parse_odds_ratio,
        allow_negative_numbers = true
    )]
    pub odds_ratio: Option<f64>,

    /// Evidence of a regression that begins at an unknown block, as the gate weighs it
    #[arg(long)]
    pub late_onset: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Why there is no result, and whose fault it is.
#[derive(Debug)]
enum Refusal {
    /// What was typed cannot be meant.
    Usage(String),
    /// What was read is no list of blocks.
    Input(String),
}

/// Prints to `out`, or what is wrong to `err`. Exit 0 with a result, 1 for a file that is none, 2 for wrong usage.
pub fn run(
    args: &EvidenceArgs,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> ExitCode {
    let result = match &args.blocks {
        Some(path) => blocks::read(path, input).map(|read| blocks::shown(args, &read)),
        None => against_limit(args),
    };
    match result {
        Ok(text) => match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(why) if why.kind() != ErrorKind::BrokenPipe => ExitCode::FAILURE,
            Ok(()) | Err(_) => ExitCode::SUCCESS,
        },
        Err(refusal) => {
            // Where even this cannot be said, the exit code says it.
            writeln!(err, "serin: {refusal}").ok();
            refusal.code()
        }
    }
}

/// `--errors K --requests N --at-most P`: process 1 and the interval.
fn against_limit(args: &EvidenceArgs) -> Result<String, Refusal> {
    let (Some(errors), Some(requests), Some(limit)) = (args.errors, args.requests, args.at_most)
    else {
        let needed = "--errors, --requests and --at-most are needed together, or --blocks";
        return Err(Refusal::Usage(needed.to_owned()));
    };
    if args.late_onset || args.odds_ratio.is_some() {
        let why = "--late-onset and --odds-ratio are about --blocks";
        return Err(Refusal::Usage(why.to_owned()));
    }
    if errors > requests {
        let why = format!("--errors {errors}: more than the {requests} requests");
        return Err(Refusal::Usage(why));
    }
    if fixed::width(limit) == 0 {
        let shown = percent(limit);
        let why = format!("--at-most {shown}: no rate is left between it and a dead canary");
        return Err(Refusal::Usage(why));
    }
    let alpha = args.alpha();
    let ln_e = combine::ln_mean(&fixed::ln_lrs(limit, errors, requests));
    let alarm = ln_e >= combine::ln_limit(alpha);
    let possible = interval::rate(errors, requests, alpha);
    if args.json {
        let shown = json!({
            "ln_e": ln_e,
            "e": Some(ln_e.exp()).filter(|e| e.is_finite()),
            "alpha": alpha,
            "ln_limit": combine::ln_limit(alpha),
            "alarm": alarm,
            "interval": { "lower": possible.lower, "upper": possible.upper, "level": 1.0 - alpha },
        });
        return Ok(format!("{shown:#}\n"));
    }
    let limit = percent(limit);
    let verdict = if alarm {
        format!("alarm: more than {limit} fail")
    } else {
        format!("no alarm: that more than {limit} fail is not proven")
    };
    Ok(format!(
        "{errors} of {requests} failed, at most {limit} may\n{}verdict   {verdict}\n\
         interval  {} to {} ({}, at all times together)\n",
        evidence_lines(ln_e, alpha),
        percent(possible.lower),
        percent(possible.upper),
        percent(1.0 - alpha),
    ))
}

/// ln E with E, and where the alarm is.
fn evidence_lines(ln_e: f64, alpha: f64) -> String {
    let limit = combine::ln_limit(alpha);
    format!(
        "ln E      {ln_e:.6} (E = {})\nalarm at  {limit:.6} (E = {}, alpha {alpha})\n",
        e_text(ln_e),
        e_text(limit),
    )
}

fn e_text(ln_e: f64) -> String {
    if ln_e > LN_PRINTABLE {
        return format!("e^{ln_e:.1}");
    }
    let e = ln_e.exp();
    if (0.001..1e6).contains(&e) {
        format!("{e:.4}")
    } else {
        format!("{e:.3e}")
    }
}

// === arguments ===

impl EvidenceArgs {
    fn alpha(&self) -> f64 {
        self.alpha.unwrap_or(DEFAULT_ALPHA)
    }

    fn odds_margin(&self) -> f64 {
        self.odds_ratio.unwrap_or(DEFAULT_ODDS_MARGIN)
    }
}

/// A share between 0 and 1, neither of them; finer than a weight, which ends at a part per million.
fn parse_rate(text: &str) -> Result<f64, String> {
    let parsed = match text.strip_suffix('%') {
        Some(percent) => percent.trim_end().parse().map(|share: f64| share / 100.0),
        None => text.parse(),
    };
    parsed
        .ok()
        .filter(|share| *share > 0.0 && *share < 1.0)
        .ok_or_else(|| "it must be a share between 0 and 1, like \"1%\" or 0.01".to_owned())
}

fn parse_odds_ratio(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|ratio: &f64| ratio.is_finite() && *ratio > 0.0)
        .ok_or_else(|| "it must be a number above 0, like 1.5".to_owned())
}

// === impl Refusal ===

impl Refusal {
    fn code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(EXIT_USAGE),
            Self::Input(_) => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Usage(why) | Self::Input(why)) = self;
        f.write_str(why)
    }
}
