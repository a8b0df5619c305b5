//! One condition of a plan: what it says, how it is read and printed.
//!
//! `METRIC[{selector}] OP VALUE [for DURATION] [over DURATION] [throughout]`. Owns the grammar and
//! the units; never evaluates anything (see `verdict`).

mod number;
mod parse;

use std::fmt;
use std::time::Duration;

use super::name::SignalName;
use super::signal::IMPACT;
use super::time::format_duration;

/// A measured figure that a condition may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Metric {
    /// errors / counted.
    ErrorRate,
    /// answers 4xx / counted.
    ClientErrorRate,
    /// learners who went away before the answer's head / requests.
    Abandoned,
    P50,
    P95,
    P99,
    P999,
    /// 1 - failed / counted.
    Availability,
    /// probes answered / probes sent.
    Uptime,
    /// counted requests per second; canary means both arms together.
    Throughput,
    /// Incidents that are open.
    Incidents,
    /// The largest |delta of a segment - delta overall| of the success rate (gate.md, "What counts").
    SegmentVariance,
    /// Whether an evidence process is at its limit; its figure is ln(w E). Compared with nothing: it stands alone.
    Regression(Regression),
    /// A pushed, pulled or scraped figure, or a business figure, by its name.
    Signal(SignalName),
}

/// The evidence that `regression(..)` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Regression {
    Errors,
    ClientErrors,
    Latency,
    /// The weighted sum of all.
    Any,
}

/// The arm, or the comparison, that a condition reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Selector {
    #[default]
    Canary,
    Baseline,
    /// canary / baseline - 1.
    Delta,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
}

/// What a number of this metric means, and so how its value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A share, 0.0 to 1.0, written `1.5%` or `0.015`.
    Share,
    /// Microseconds, written as a duration.
    Latency,
    /// Per second.
    Rate,
    Count,
    /// What its source says, without a unit of ours. In a plan `60%` is 0.6, `1GiB` are bytes, `250ms` are seconds.
    Number,
}

/// A condition as meant. `value` is in the unit of the metric: a share, microseconds, a rate or a
/// count; with the selector `delta` always a share.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    pub metric: Metric,
    pub selector: Selector,
    /// `|x|`: the absolute value is compared.
    pub absolute: bool,
    pub op: Op,
    pub value: f64,
    /// How long it must stay true; zero means at once.
    pub sustained: Duration,
    /// The window the metric is computed on; `None` takes the default of the list it stands in.
    pub over: Option<Duration>,
    pub throughout: bool,
}

/// Why a text is not a condition: one sentence that names the part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionError(pub String);

// === impl Metric ===

impl Metric {
    /// Those that every rollout has, without evidence and signals.
    pub const ALL: [Self; 12] = [
        Self::ErrorRate,
        Self::ClientErrorRate,
        Self::Abandoned,
        Self::P50,
        Self::P95,
        Self::P99,
        Self::P999,
        Self::Availability,
        Self::Uptime,
        Self::Throughput,
        Self::Incidents,
        Self::SegmentVariance,
    ];

    /// The metric of this name: one of ours, evidence, else a signal; `None` where it is no name at all.
    pub fn named(name: &str) -> Option<Self> {
        let evidence = Regression::ALL.map(Self::Regression);
        let mut ours = Self::ALL.into_iter().chain(evidence);
        ours.find(|metric| metric.as_str() == name)
            .or_else(|| SignalName::parse(name).ok().map(Self::Signal))
    }

    pub fn as_str(&self) -> &str {
        match self {
            Self::ErrorRate => "error_rate",
            Self::ClientErrorRate => "client_error_rate",
            Self::Abandoned => "abandoned",
            Self::P50 => "p50",
            Self::P95 => "p95",
            Self::P99 => "p99",
            Self::P999 => "p999",
            Self::Availability => "availability",
            Self::Uptime => "uptime",
            Self::Throughput => "throughput",
            Self::Incidents => "incidents",
            Self::SegmentVariance => "segment_variance",
            Self::Regression(which) => which.as_str(),
            Self::Signal(name) => name.as_str(),
        }
    }

    pub fn unit(self) -> Unit {
        match self {
            Self::ErrorRate
            | Self::ClientErrorRate
            | Self::Abandoned
            | Self::Availability
            | Self::Uptime
            | Self::SegmentVariance => Unit::Share,
            Self::P50 | Self::P95 | Self::P99 | Self::P999 => Unit::Latency,
            Self::Throughput => Unit::Rate,
            Self::Incidents => Unit::Count,
            Self::Signal(_) if self.is_impact() => Unit::Share,
            Self::Regression(_) | Self::Signal(_) => Unit::Number,
        }
    }

    /// The name of a signal.
    pub const fn signal(self) -> Option<SignalName> {
        match self {
            Self::Signal(name) => Some(name),
            Self::ErrorRate
            | Self::ClientErrorRate
            | Self::Abandoned
            | Self::P50
            | Self::P95
            | Self::P99
            | Self::P999
            | Self::Availability
            | Self::Uptime
            | Self::Throughput
            | Self::Incidents
            | Self::SegmentVariance
            | Self::Regression(_) => None,
        }
    }

    /// Whether it compares the arms' business results, as `revenue_impact` does.
    pub fn is_impact(&self) -> bool {
        matches!(self, Self::Signal(name) if name.as_str().ends_with(IMPACT))
    }

    /// For a percentile: the share of requests above it, as one in so many. Whole numbers, so that
    /// a count is compared with it exactly.
    pub const fn one_above_in(self) -> Option<u64> {
        match self {
            Self::P50 => Some(2),
            Self::P95 => Some(20),
            Self::P99 => Some(100),
            Self::P999 => Some(1000),
            Self::ErrorRate
            | Self::ClientErrorRate
            | Self::Abandoned
            | Self::Availability
            | Self::Uptime
            | Self::Throughput
            | Self::Incidents
            | Self::SegmentVariance
            | Self::Regression(_)
            | Self::Signal(_) => None,
        }
    }
}

// === impl Regression ===

impl Regression {
    pub const ALL: [Self; 4] = [Self::Errors, Self::ClientErrors, Self::Latency, Self::Any];

    /// As a condition is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Errors => "regression(errors)",
            Self::ClientErrors => "regression(client_errors)",
            Self::Latency => "regression(latency)",
            Self::Any => "regression(any)",
        }
    }
}

// === impl Selector ===

impl Selector {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::Baseline => "baseline",
            Self::Delta => "delta",
        }
    }
}

// === impl Op ===

impl Op {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Equal => "==",
        }
    }
}

// === impl Unit ===

impl Unit {
    /// A figure for a person: `1.42%`, `212ms`, `26000/s`, `3`. Rounded, so it need not read back.
    pub fn show(self, figure: f64) -> String {
        if !figure.is_finite() {
            return if figure > 0.0 {
                "infinite".to_owned()
            } else {
                "none".to_owned()
            };
        }
        match self {
            Self::Share => format!("{}%", short(figure * 100.0)),
            Self::Latency if figure >= 1e6 => format!("{}s", short(figure / 1e6)),
            Self::Latency => format!("{}ms", short(figure / 1e3)),
            Self::Rate => format!("{}/s", short(figure)),
            Self::Count => format!("{figure:.0}"),
            Self::Number => short(figure),
        }
    }
}

// === impl Condition ===

impl Condition {
    /// Reads a condition. What later versions know (`regression(..)`, `segment_variance`, `per segment`) is
    /// refused by its name with "not in this version". A name that is none of ours is a signal's; whether it is
    /// declared, the plan knows.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        parse::condition(text)
    }

    /// Whether `figure`, in the metric's unit, satisfies the comparison. NaN never does.
    pub fn holds(&self, figure: f64) -> bool {
        let figure = if self.absolute { figure.abs() } else { figure };
        match self.op {
            Op::Less => figure < self.value,
            Op::LessOrEqual => figure <= self.value,
            Op::Greater => figure > self.value,
            Op::GreaterOrEqual => figure >= self.value,
            Op::Equal => figure == self.value,
        }
    }

    /// The unit of `value` and of the figure: a share for `delta`, else the metric's.
    pub fn unit(&self) -> Unit {
        match self.selector {
            Selector::Canary | Selector::Baseline => self.metric.unit(),
            Selector::Delta => Unit::Share,
        }
    }

    /// The latency in whole microseconds that this condition compares with; `None` for anything else.
    pub fn latency_limit_us(&self) -> Option<u64> {
        (self.unit() == Unit::Latency).then_some(self.value as u64)
    }

    /// Whether it says nothing where nobody is on baseline.
    pub fn needs_baseline_traffic(&self) -> bool {
        match self.selector {
            Selector::Canary => self.metric.is_impact(),
            Selector::Delta => true,
            // Machines without learners have a memory all the same.
            Selector::Baseline => !matches!(
                self.metric,
                Metric::Uptime | Metric::Throughput | Metric::Signal(_)
            ),
        }
    }

    /// Whether the first minute of a stage is left out of it: comparisons and latencies are distorted
    /// while the canary is cold.
    pub fn waits_for_warmup(&self) -> bool {
        self.selector == Selector::Delta || self.metric.unit() == Unit::Latency
    }
}

/// At most three significant decimals, no trailing zeros.
fn short(figure: f64) -> String {
    let decimals = match figure.abs() {
        size if size >= 100.0 => 0,
        size if size >= 1.0 => 2,
        _ => 4,
    };
    let text = format!("{figure:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A share as a percentage where that reads back as the same number, else as it is.
fn exact_share(share: f64) -> String {
    for decimals in 0..=12 {
        let percent = format!("{:.decimals$}", share * 100.0);
        if format!("{percent}e-2").parse() == Ok(share) {
            return format!("{percent}%");
        }
    }
    format!("{share}")
}

impl fmt::Display for Condition {
    /// Prints the form that `parse` reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bar = if self.absolute { "|" } else { "" };
        write!(f, "{bar}{}", self.metric.as_str())?;
        if self.selector != Selector::Canary {
            write!(f, "{{{}}}", self.selector.as_str())?;
        }
        write!(f, "{bar} {} ", self.op.as_str())?;
        match self.unit() {
            Unit::Share => f.write_str(&exact_share(self.value))?,
            Unit::Latency => {
                f.write_str(&format_duration(Duration::from_micros(self.value as u64)))?
            }
            Unit::Rate | Unit::Count => write!(f, "{}", self.value)?,
            Unit::Number => f.write_str(&number::shown(self.value))?,
        }
        if !self.sustained.is_zero() {
            write!(f, " for {}", format_duration(self.sustained))?;
        }
        if let Some(over) = self.over {
            write!(f, " over {}", format_duration(over))?;
        }
        if self.throughout {
            f.write_str(" throughout")?;
        }
        Ok(())
    }
}

impl fmt::Display for ConditionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConditionError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Condition {
        Condition::parse(text).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn what_is_printed_reads_back() {
        for text in [
            "error_rate < 1%",
            "error_rate > 0.0001%",
            "availability > 99.95%",
            "|p95{delta}| < 15% throughout",
            "p99{baseline} >= 1s500ms for 5m over 10m",
            "throughput > 26000",
            "incidents == 0",
            "availability{delta} < -5% for 1m",
            "error_rate > 50% over 1s",
        ] {
            assert_eq!(parse(text).to_string(), text);
        }
        for numerator in 0..3_000_u32 {
            let value = f64::from(numerator) / 2_999.0;
            let condition = Condition {
                value,
                ..parse("error_rate < 1%")
            };
            assert_eq!(parse(&condition.to_string()), condition);
        }
    }

    #[test]
    fn each_comparison_is_exact_at_its_edge() {
        let check = |text: &str, below: bool, at: bool, above: bool| {
            let condition = parse(text);
            // 999 of 100,000, 1,000 of 100,000 and 1,001 of 100,000.
            let seen = [999.0, 1_000.0, 1_001.0].map(|errors| condition.holds(errors / 100_000.0));
            assert_eq!(seen, [below, at, above], "{text}");
            assert!(!condition.holds(f64::NAN), "{text} holds for NaN");
        };
        check("error_rate < 1%", true, false, false);
        check("error_rate <= 1%", true, true, false);
        check("error_rate > 1%", false, false, true);
        check("error_rate >= 1%", false, true, true);
        check("error_rate == 1%", false, true, false);
        let change = parse("|error_rate{delta}| < 5%");
        assert!(change.holds(-0.049) && !change.holds(-0.051) && !change.holds(f64::INFINITY));
    }

    #[test]
    fn figures_are_shown_short() {
        let check = |unit: Unit, figure: f64, shown: &str| assert_eq!(unit.show(figure), shown);
        check(Unit::Share, 0.0142, "1.42%");
        check(Unit::Share, 0.00007, "0.007%");
        check(Unit::Share, f64::INFINITY, "infinite");
        check(Unit::Latency, 212_350.0, "212ms");
        check(Unit::Latency, 1_500_000.0, "1.5s");
        check(Unit::Rate, 26_000.4, "26000/s");
        check(Unit::Count, 3.0, "3");
    }
}
