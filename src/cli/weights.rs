//! `weights`: reads the weights, or sets them by hand.

use std::process::ExitCode;

use serde_json::{Map, Value};

use super::client::{Client, ClientArgs};

#[derive(Debug, clap::Args)]
pub(super) struct WeightsArgs {
    /// POOL=PARTS for both pools, e.g. original=99 ultra_fast=1; none reads them
    #[arg(value_parser = parse_part)]
    pub(super) parts: Vec<(String, f64)>,
    /// Name of the rollout; may be left out where there is one
    #[arg(long)]
    pub(super) rollout: Option<String>,
    /// Leave a weight set outside a run without its triggers
    #[arg(long)]
    pub(super) no_guard: bool,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

pub(super) fn run(args: &WeightsArgs) -> anyhow::Result<ExitCode> {
    super::block_on(async {
        let client = Client::from_args(&args.client)?;
        let path = path(args);
        let weights = if args.parts.is_empty() {
            client.get(&path).await?
        } else {
            client.post(&path, &body(&args.parts)?).await?
        };
        super::print(&if args.client.json {
            format!("{weights:#}\n")
        } else {
            lines(&weights)
        })?;
        Ok(ExitCode::SUCCESS)
    })
}

fn path(args: &WeightsArgs) -> String {
    let mut query = Vec::new();
    if let Some(rollout) = &args.rollout {
        let name =
            percent_encoding::utf8_percent_encode(rollout, percent_encoding::NON_ALPHANUMERIC);
        query.push(format!("rollout={name}"));
    }
    if args.no_guard && !args.parts.is_empty() {
        query.push("guard=false".to_owned());
    }
    if query.is_empty() {
        "/api/traffic-weights".to_owned()
    } else {
        format!("/api/traffic-weights?{}", query.join("&"))
    }
}

fn parse_part(text: &str) -> Result<(String, f64), String> {
    let (pool, parts) = text.split_once('=').ok_or("it must be POOL=PARTS")?;
    let parts: f64 = parts
        .parse()
        .map_err(|_| format!("{parts:?} is not a number"))?;
    if !parts.is_finite() {
        return Err(format!("{parts} is not a finite number"));
    }
    Ok((pool.to_owned(), parts))
}

fn body(parts: &[(String, f64)]) -> anyhow::Result<Value> {
    let mut weights = Map::new();
    for (pool, share) in parts {
        if weights.insert(pool.clone(), Value::from(*share)).is_some() {
            anyhow::bail!("the pool {pool:?} is named twice");
        }
    }
    Ok(Value::Object(weights))
}

/// One line a pool: `original    99%`.
fn lines(weights: &Value) -> String {
    let pools = weights.as_object().into_iter().flatten();
    pools
        .map(|(pool, share)| {
            format!(
                "{pool:<16} {}%\n",
                trim(share.as_f64().unwrap_or_default() * 100.0)
            )
        })
        .collect()
}

/// A percentage to the ppm, without closing zeros.
fn trim(percent: f64) -> String {
    let text = format!("{percent:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_and_shares_printed() {
        assert_eq!(parse_part("original=99"), Ok(("original".to_owned(), 99.0)));
        for text in [
            "original",
            "original=",
            "original=x",
            "original=inf",
            "original=NaN",
        ] {
            assert!(parse_part(text).is_err(), "{text}");
        }
        assert!(body(&[("a".into(), 1.0), ("a".into(), 2.0)]).is_err());
        let weights = serde_json::json!({ "original": 0.99, "ultra_fast": 0.01 });
        assert_eq!(
            lines(&weights),
            "original         99%\nultra_fast       1%\n"
        );
    }
}
