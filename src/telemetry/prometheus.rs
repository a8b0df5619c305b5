//! Writes what Prometheus scrapes: its own text format 0.0.4, or OpenMetrics 1.0 for who asks for that.
//!
//! Owns escaping, the order of lines, how numbers look and what the two forms differ in. Knows no metric of its own:
//! whoever has something to show adds families. Sources:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>,
//! <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>.

use std::fmt::Write;

use super::trace::TraceId;
use crate::rollout::time::WallTime;

/// Which of the two a text is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    #[default]
    Text,
    /// Alone has exemplars.
    OpenMetrics,
}

/// A text under construction. Every family is added once, whole.
#[derive(Debug, Default)]
pub struct Exposition {
    form: Form,
    text: String,
}

/// The samples of one family of counters or gauges.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
}

/// The samples of one family of histograms.
#[derive(Debug)]
pub struct HistogramFamily<'a> {
    form: Form,
    text: &'a mut String,
    name: &'a str,
}

/// A label's name and its value. The value may be any text.
pub type Label<'a> = (&'a str, &'a str);

/// One bucket of a histogram, in the unit that its name ends in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// It holds what is at or below it; the last one's is infinite.
    pub edge: f64,
    pub below: u64,
    pub exemplar: Option<Exemplar>,
}

/// One measurement that a bucket counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar {
    pub trace: TraceId,
    pub value: f64,
    pub at: WallTime,
}

// === impl Form ===

impl Form {
    /// The `content-type` of the text.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

// === impl Exposition ===

impl Exposition {
    pub fn new(form: Form) -> Self {
        let text = String::new();
        Self { form, text }
    }

    /// Begins a family of counters, whose name ends in `_total`.
    pub fn counter<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        // OpenMetrics names the family without what its samples end in.
        let family = match self.form {
            Form::Text => name,
            Form::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
        };
        self.head(family, "counter", help);
        let text = &mut self.text;
        Family { text, name }
    }

    /// Begins a family of gauges.
    pub fn gauge<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.head(name, "gauge", help);
        let text = &mut self.text;
        Family { text, name }
    }

    /// Begins a family of histograms; by custom the name ends in the unit.
    pub fn histogram<'a>(&'a mut self, name: &'a str, help: &str) -> HistogramFamily<'a> {
        self.head(name, "histogram", help);
        let (form, text) = (self.form, &mut self.text);
        HistogramFamily { form, text, name }
    }

    /// The text as it is to be sent.
    pub fn finish(mut self) -> String {
        match self.form {
            Form::Text => {}
            Form::OpenMetrics => self.text.push_str("# EOF\n"),
        }
        self.text
    }

    fn head(&mut self, family: &str, kind: &str, help: &str) {
        let mut line = |parts: &[&str]| parts.iter().for_each(|part| self.text.push_str(part));
        line(&["# HELP ", family, " "]);
        let quotes = match self.form {
            Form::Text => Quotes::Plain,
            Form::OpenMetrics => Quotes::Escaped,
        };
        escape(&mut self.text, help, quotes);
        let mut line = |parts: &[&str]| parts.iter().for_each(|part| self.text.push_str(part));
        line(&["\n# TYPE ", family, " ", kind, "\n"]);
        if let (Form::OpenMetrics, Some(unit)) = (self.form, unit(family)) {
            line(&["# UNIT ", family, " ", unit, "\n"]);
        }
    }
}

/// The base unit that a family's name ends in.
fn unit(family: &str) -> Option<&'static str> {
    let units = ["seconds", "bytes"].into_iter();
    let mut ends = units.filter(|unit| {
        let rest = family.strip_suffix(unit);
        rest.is_some_and(|rest| rest.ends_with('_'))
    });
    ends.next()
}

// === impl Family ===

impl Family<'_> {
    /// Adds one sample. Whole numbers up to 2^53 are written exactly.
    pub fn sample(&mut self, labels: &[Label<'_>], value: f64) -> &mut Self {
        line(self.text, [self.name, ""], labels, value);
        self.text.push('\n');
        self
    }

    /// Adds the only sample, where it is known.
    pub fn known(&mut self, value: Option<f64>) -> &mut Self {
        if let Some(value) = value {
            self.sample(&[], value);
        }
        self
    }

    /// Adds one count.
    pub fn count(&mut self, labels: &[Label<'_>], count: u64) -> &mut Self {
        self.sample(labels, count as f64)
    }
}

// === impl HistogramFamily ===

impl HistogramFamily<'_> {
    /// Adds one histogram: its buckets by ascending edge, up to the infinite one, which holds all, and the sum of what was
    /// measured.
    pub fn sample(&mut self, labels: &[Label<'_>], buckets: &[Bucket], sum: f64) -> &mut Self {
        for bucket in buckets {
            self.bucket(labels, bucket);
        }
        let count = buckets.last().map_or(0, |bucket| bucket.below);
        for (suffix, value) in [("_sum", sum), ("_count", count as f64)] {
            line(self.text, [self.name, suffix], labels, value);
            self.text.push('\n');
        }
        self
    }

    fn bucket(&mut self, labels: &[Label<'_>], bucket: &Bucket) {
        // One spelling in both forms, so that a series is the same one whichever was scraped.
        let mut shown = String::new();
        canonical(&mut shown, bucket.edge);
        let mut labels = labels.to_vec();
        labels.push(("le", &shown));
        line(
            self.text,
            [self.name, "_bucket"],
            &labels,
            bucket.below as f64,
        );
        if let (Form::OpenMetrics, Some(exemplar)) = (self.form, bucket.exemplar) {
            write_exemplar(self.text, exemplar);
        }
        self.text.push('\n');
    }
}

fn write_exemplar(text: &mut String, exemplar: Exemplar) {
    let Exemplar { trace, value, at } = exemplar;
    let seconds = at.as_unix_millis() as f64 / 1e3;
    write!(text, " # {{trace_id=\"{trace}\"}} {value} {seconds}")
        .expect("writing to a string cannot fail");
}

// All of a sample but the end of its line.
fn line(text: &mut String, name: [&str; 2], labels: &[Label<'_>], value: f64) {
    name.into_iter().for_each(|part| text.push_str(part));
    for (place, (label, value)) in labels.iter().enumerate() {
        text.push(if place == 0 { '{' } else { ',' });
        text.push_str(label);
        text.push_str("=\"");
        escape(text, value, Quotes::Escaped);
        text.push('"');
    }
    if !labels.is_empty() {
        text.push('}');
    }
    text.push(' ');
    number(text, value);
}

#[derive(Clone, Copy, PartialEq)]
enum Quotes {
    Plain,
    Escaped,
}

fn escape(text: &mut String, raw: &str, quotes: Quotes) {
    for c in raw.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quotes == Quotes::Escaped => text.push_str("\\\""),
            c => text.push(c),
        }
    }
}

fn number(text: &mut String, value: f64) {
    if value.is_nan() {
        text.push_str("NaN");
    } else if value.is_infinite() {
        text.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        write!(text, "{value}").expect("writing to a string cannot fail");
    }
}

/// A number that is a label's value: always with a point, as OpenMetrics wants it.
fn canonical(text: &mut String, value: f64) {
    number(text, value);
    if value.is_finite() && value.fract() == 0.0 {
        text.push_str(".0");
    }
}
