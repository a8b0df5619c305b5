//! How a condition is read: the grammar, part by part, and what each fault says.
//!
//! Knows the words and nothing of what they are compared with.

use std::time::Duration;

use super::{Condition, ConditionError, Metric, Op, Selector, Unit, number};
use crate::rollout::name::SignalName;
use crate::rollout::time::parse_duration;

// What a condition says after its value.
#[derive(Default)]
struct Tail {
    sustained: Option<Duration>,
    over: Option<Duration>,
    throughout: bool,
}

pub(super) fn condition(text: &str) -> Result<Condition, ConditionError> {
    let fault = |why: String| ConditionError(format!("{text:?}: {why}"));
    refuse_later_versions(text).map_err(fault)?;
    let start = text
        .find(['<', '>', '='])
        .ok_or_else(|| fault("there is no comparison: <, <=, >, >= or ==".to_owned()))?;
    let (left, rest) = text.split_at(start);
    let (metric, selector, absolute) = parse_left(left.trim()).map_err(fault)?;
    let (op, rest) = parse_op(rest).map_err(fault)?;
    let mut words = rest.split_whitespace();
    let value = words
        .next()
        .ok_or_else(|| fault(format!("there is no value after {}", op.as_str())))?;
    let unit = if selector == Selector::Delta {
        Unit::Share
    } else {
        metric.unit()
    };
    let negative = selector == Selector::Delta || matches!(metric, Metric::Signal(_));
    let value = parse_value(value, unit, negative).map_err(fault)?;
    let tail = parse_tail(words).map_err(fault)?;
    Ok(Condition {
        metric,
        selector,
        absolute,
        op,
        value,
        sustained: tail.sustained.unwrap_or_default(),
        over: tail.over,
        throughout: tail.throughout,
    })
}

fn refuse_later_versions(text: &str) -> Result<(), String> {
    for name in ["regression(", "segment_variance", "per segment"] {
        if text.contains(name) {
            let name = if name == "regression(" {
                "regression(..)"
            } else {
                name
            };
            return Err(format!("{name} is not in this version"));
        }
    }
    Ok(())
}

fn parse_left(left: &str) -> Result<(Metric, Selector, bool), String> {
    let (name, absolute) = match left.strip_prefix('|') {
        Some(inner) => match inner.strip_suffix('|') {
            Some(inner) => (inner.trim(), true),
            None => return Err("the closing | is missing".to_owned()),
        },
        None => (left, false),
    };
    let (name, selector) = match name.split_once('{') {
        Some((name, selector)) => (name, parse_selector(selector)?),
        None => (name, Selector::Canary),
    };
    if name.is_empty() {
        return Err("there is no metric before the comparison".to_owned());
    }
    let ours = Metric::ALL
        .into_iter()
        .find(|metric| metric.as_str() == name);
    let metric = match ours {
        Some(metric) => metric,
        None => SignalName::parse(name)
            .map(Metric::Signal)
            .map_err(|_| unknown_metric(name))?,
    };
    if matches!(metric, Metric::Incidents | Metric::SegmentVariance) && selector != Selector::Canary
    {
        return Err(format!("{name} is a figure of the rollout, not for an arm"));
    }
    Ok((metric, selector, absolute))
}

fn unknown_metric(name: &str) -> String {
    let known: Vec<&str> = Metric::ALL.iter().map(|metric| metric.as_str()).collect();
    format!(
        "{name:?} is not a metric ({}) nor the name of a signal",
        known.join(", ")
    )
}

fn parse_selector(text: &str) -> Result<Selector, String> {
    match text.strip_suffix('}').map(str::trim) {
        Some("canary") => Ok(Selector::Canary),
        Some("baseline") => Ok(Selector::Baseline),
        Some("delta") => Ok(Selector::Delta),
        Some(other) => Err(format!("{other:?} is not canary, baseline or delta")),
        None => Err("the closing } is missing".to_owned()),
    }
}

fn parse_op(rest: &str) -> Result<(Op, &str), String> {
    const OPS: [Op; 5] = [
        Op::LessOrEqual,
        Op::GreaterOrEqual,
        Op::Equal,
        Op::Less,
        Op::Greater,
    ];
    for op in OPS {
        if let Some(rest) = rest.strip_prefix(op.as_str()) {
            if rest.starts_with(['<', '>', '=']) {
                break;
            }
            return Ok((op, rest));
        }
    }
    Err("the comparison must be <, <=, >, >= or ==".to_owned())
}

fn parse_value(text: &str, unit: Unit, may_be_negative: bool) -> Result<f64, String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) if may_be_negative => ("-", digits),
        Some(_) => return Err(format!("{text:?} is negative")),
        None => ("", text),
    };
    let number = |digits: &str, exponent: &str| {
        let plain = digits.starts_with(|c: char| c.is_ascii_digit())
            && digits.ends_with(|c: char| c.is_ascii_digit())
            && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        // Scaled as text, so that "99.9%" is the very number that 0.999 is.
        let parsed = format!("{sign}{digits}{exponent}").parse::<f64>().ok();
        parsed.filter(|value| plain && value.is_finite())
    };
    let value = match unit {
        Unit::Share => match digits.strip_suffix('%') {
            Some(percent) => number(percent, "e-2"),
            None => number(digits, ""),
        },
        Unit::Latency => return parse_duration(digits).map(|limit| limit.as_micros() as f64),
        Unit::Number => number::parse(text),
        Unit::Rate => number(digits.strip_suffix("/s").unwrap_or(digits), ""),
        Unit::Count => number(digits, "").filter(|count| count.fract() == 0.0),
    };
    value.ok_or_else(|| {
        let wanted = match unit {
            Unit::Share => "a share like 1% or 0.01",
            Unit::Latency => "a duration like 200ms",
            Unit::Number => "a number like 0.6, 60%, 1GiB or 250ms",
            Unit::Rate => "a number per second",
            Unit::Count => "a whole number",
        };
        format!("{text:?} is not {wanted}")
    })
}

fn parse_tail<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Tail, String> {
    let mut tail = Tail::default();
    while let Some(word) = words.next() {
        match word {
            "for" if tail.sustained.is_none() => {
                tail.sustained = Some(parse_span("for", words.next())?)
            }
            "over" if tail.over.is_none() => {
                let over = parse_span("over", words.next())?;
                if over.is_zero() {
                    return Err("a window `over` 0s holds nothing".to_owned());
                }
                tail.over = Some(over);
            }
            "throughout" if !tail.throughout => tail.throughout = true,
            "for" | "over" | "throughout" => return Err(format!("{word:?} stands twice")),
            other => {
                return Err(format!(
                    "{other:?} is not understood; for, over or throughout may follow the value"
                ));
            }
        }
    }
    Ok(tail)
}

fn parse_span(word: &str, text: Option<&str>) -> Result<Duration, String> {
    let text = text.ok_or_else(|| format!("there is no duration after {word:?}"))?;
    parse_duration(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Condition {
        Condition::parse(text).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn the_clients_conditions_mean_what_they_say() {
        let check = |text: &str,
                     metric,
                     selector,
                     op,
                     value,
                     sustained_s,
                     over_s: Option<u64>,
                     throughout| {
            let meant = Condition {
                metric,
                selector,
                absolute: text.starts_with('|'),
                op,
                value,
                sustained: Duration::from_secs(sustained_s),
                over: over_s.map(Duration::from_secs),
                throughout,
            };
            assert_eq!(parse(text), meant, "{text}");
        };
        use Metric::*;
        use Selector::*;
        check(
            "error_rate < 1%",
            ErrorRate,
            Canary,
            Op::Less,
            0.01,
            0,
            None,
            false,
        );
        check(
            "error_rate<1%",
            ErrorRate,
            Canary,
            Op::Less,
            0.01,
            0,
            None,
            false,
        );
        check(
            "p99 < 200ms",
            P99,
            Canary,
            Op::Less,
            200_000.0,
            0,
            None,
            false,
        );
        check(
            "availability > 99.9%",
            Availability,
            Canary,
            Op::Greater,
            0.999,
            0,
            None,
            false,
        );
        check(
            "error_rate > 1.5% for 2m",
            ErrorRate,
            Canary,
            Op::Greater,
            0.015,
            120,
            None,
            false,
        );
        check(
            "p99 > 250ms for 5m",
            P99,
            Canary,
            Op::Greater,
            250_000.0,
            300,
            None,
            false,
        );
        check(
            "error_rate > 50% for 0s over 1s",
            ErrorRate,
            Canary,
            Op::Greater,
            0.5,
            0,
            Some(1),
            false,
        );
        check(
            "p95{delta} < 15%",
            P95,
            Delta,
            Op::Less,
            0.15,
            0,
            None,
            false,
        );
        check(
            "|p95{delta}| < 15% throughout",
            P95,
            Delta,
            Op::Less,
            0.15,
            0,
            None,
            true,
        );
        check(
            "client_error_rate{delta} > 50% for 2m",
            ClientErrorRate,
            Delta,
            Op::Greater,
            0.5,
            120,
            None,
            false,
        );
        check(
            "availability{delta} < -5% over 10m for 1m",
            Availability,
            Delta,
            Op::Less,
            -0.05,
            60,
            Some(600),
            false,
        );
        check(
            "error_rate{baseline} <= 0.01",
            ErrorRate,
            Baseline,
            Op::LessOrEqual,
            0.01,
            0,
            None,
            false,
        );
        check(
            "throughput{canary} >= 50",
            Throughput,
            Canary,
            Op::GreaterOrEqual,
            50.0,
            0,
            None,
            false,
        );
        check(
            "incidents == 0 throughout",
            Incidents,
            Canary,
            Op::Equal,
            0.0,
            0,
            None,
            true,
        );
        check(
            "uptime > 99%",
            Uptime,
            Canary,
            Op::Greater,
            0.99,
            0,
            None,
            false,
        );
        check(
            "abandoned > 2% for 1m",
            Abandoned,
            Canary,
            Op::Greater,
            0.02,
            60,
            None,
            false,
        );
        check(
            "p999 < 1.5s",
            P999,
            Canary,
            Op::Less,
            1_500_000.0,
            0,
            None,
            false,
        );
    }

    #[test]
    fn a_name_that_is_none_of_ours_is_a_signals() {
        let check = |text: &str, name: &str, selector, value, printed: &str| {
            let condition = parse(text);
            let name = SignalName::parse(name).expect(name);
            assert_eq!(condition.metric, Metric::Signal(name), "{text}");
            assert_eq!(
                (condition.selector, condition.value),
                (selector, value),
                "{text}"
            );
            assert_eq!(condition.to_string(), printed);
            assert_eq!(parse(printed), condition, "{printed} does not read back");
        };
        use Selector::*;
        check(
            "memory < 1GiB",
            "memory",
            Canary,
            1_073_741_824.0,
            "memory < 1GiB",
        );
        check(
            "cache.hit-rate > 60%",
            "cache.hit-rate",
            Canary,
            0.6,
            "cache.hit-rate > 0.6",
        );
        check(
            "cpu{baseline} > -0.5 over 5m",
            "cpu",
            Baseline,
            -0.5,
            "cpu{baseline} > -0.5 over 5m",
        );
        check(
            "cpu{delta} > -5% for 1m",
            "cpu",
            Delta,
            -0.05,
            "cpu{delta} > -5% for 1m",
        );
        check(
            "|revenue_impact| < 3%",
            "revenue_impact",
            Canary,
            0.03,
            "|revenue_impact| < 3%",
        );
        check(
            "revenue_impact < -5% for 10m",
            "revenue_impact",
            Canary,
            -0.05,
            "revenue_impact < -5% for 10m",
        );
    }

    #[test]
    fn what_is_no_condition_is_refused_with_its_reason() {
        let check = |text: &str, why: &str| {
            let error = Condition::parse(text).expect_err(text).to_string();
            assert!(error.contains(why), "{text:?} gave {error:?}, not {why:?}");
        };
        check("", "no comparison");
        check("error_rate", "no comparison");
        check("< 1%", "no metric");
        check("error_rate <", "no value");
        check("error_rate =< 1%", "comparison must be");
        check("error_rate = 1%", "comparison must be");
        check("error_rate <<= 1%", "comparison must be");
        check("error_rate < -1%", "negative");
        check("error_rate < 1%%", "not a share");
        check("error_rate < 1e2%", "not a share");
        check("error_rate < NaN", "not a share");
        check("error_rate < inf", "not a share");
        check("error_rate < .5%", "not a share");
        check("error_rate < 200ms", "not a share");
        check("p99 < 200", "not a duration");
        check("p99 < 20%", "not a duration");
        check("throughput > fast", "number per second");
        check("incidents == 0.5", "whole number");
        check("incidents{delta} == 0", "not for an arm");
        check("p99{other} < 200ms", "not canary, baseline or delta");
        check("p99{delta < 200ms", "closing }");
        check("|p99 < 200ms", "closing |");
        check("speed! < 3", "not a metric");
        check("cache_hit_rate > fast", "not a number");
        check("error_rate < 1% for", "no duration after");
        check("error_rate < 1% for soon", "not a duration");
        check("error_rate < 1% for 1m for 2m", "stands twice");
        check("error_rate < 1% over 0s", "holds nothing");
        check("error_rate < 1% please", "not understood");
        check("regression(any)", "regression(..) is not in this version");
        check(
            "segment_variance < 5%",
            "segment_variance is not in this version",
        );
        check(
            "error_rate < 1% per segment",
            "per segment is not in this version",
        );
    }
}
