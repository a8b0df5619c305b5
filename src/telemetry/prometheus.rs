//! Writes the Prometheus text format, version 0.0.4.
//!
//! Owns escaping, the order of lines and how numbers look. Knows no metric of its own: whoever has
//! something to show adds families. Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::Write;

/// The `content-type` of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A text under construction. Every family is added once, whole.
#[derive(Debug, Default)]
pub struct Exposition {
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
    text: &'a mut String,
    name: &'a str,
}

/// A label's name and its value. The value may be any text.
pub type Label<'a> = (&'a str, &'a str);

// === impl Exposition ===

impl Exposition {
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a family of counters; by custom the name ends in `_total`.
    pub fn counter<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.head(name, "counter", help);
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
        let text = &mut self.text;
        HistogramFamily { text, name }
    }

    /// The text as it is to be sent.
    pub fn finish(self) -> String {
        self.text
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.text.push_str("# HELP ");
        self.text.push_str(name);
        self.text.push(' ');
        escape(&mut self.text, help, Quotes::Plain);
        for part in ["\n# TYPE ", name, " ", kind, "\n"] {
            self.text.push_str(part);
        }
    }
}

// === impl Family ===

impl Family<'_> {
    /// Adds one sample. Whole numbers up to 2^53 are written exactly.
    pub fn sample(&mut self, labels: &[Label<'_>], value: f64) -> &mut Self {
        line(self.text, [self.name, ""], labels, value);
        self
    }

    /// Adds one count.
    pub fn count(&mut self, labels: &[Label<'_>], count: u64) -> &mut Self {
        self.sample(labels, count as f64)
    }
}

// === impl HistogramFamily ===

impl HistogramFamily<'_> {
    /// Adds one histogram: per ascending edge how many were at or below it, how many there were in all, and their
    /// sum, edges and sum in the unit that the name ends in.
    pub fn sample(
        &mut self,
        labels: &[Label<'_>],
        cumulative: &[(f64, u64)],
        count: u64,
        sum: f64,
    ) -> &mut Self {
        for &(edge, below) in cumulative {
            self.bucket(labels, edge, below);
        }
        self.bucket(labels, f64::INFINITY, count);
        line(self.text, [self.name, "_sum"], labels, sum);
        line(self.text, [self.name, "_count"], labels, count as f64);
        self
    }

    fn bucket(&mut self, labels: &[Label<'_>], edge: f64, below: u64) {
        let mut shown = String::new();
        number(&mut shown, edge);
        let mut labels = labels.to_vec();
        labels.push(("le", &shown));
        line(self.text, [self.name, "_bucket"], &labels, below as f64);
    }
}

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
    text.push('\n');
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
