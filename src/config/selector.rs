//! The query of a scraped signal: series of a Prometheus text, added up, or the ratio of two such sums.
//!
//! `cache_hits_total{tier="1"} / (cache_hits_total + cache_misses_total)`. Owns the grammar; scrapes nothing.

use std::fmt;

/// What is read from one endpoint's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub numerator: Vec<Selector>,
    /// Empty where it is no ratio.
    pub denominator: Vec<Selector>,
}

/// Series of one metric with these labels among theirs; several that match are added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    pub metric: String,
    pub labels: Vec<(String, String)>,
}

/// A text that is read from its front.
struct Rest<'a>(&'a str);

impl Query {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let fault = |why: String| format!("{text:?}: {why}");
        let mut rest = Rest(text);
        let numerator = rest.sum().map_err(fault)?;
        let denominator = match rest.takes('/') {
            true => rest.sum().map_err(fault)?,
            false => Vec::new(),
        };
        match rest.skip_blanks() {
            "" => Ok(Self {
                numerator,
                denominator,
            }),
            left => Err(fault(format!(
                "{left:?} is not understood; a query is METRIC{{label=\"value\"}}, sums with + and one /"
            ))),
        }
    }

    pub fn is_ratio(&self) -> bool {
        !self.denominator.is_empty()
    }
}

impl Selector {
    /// Whether a series is one of these.
    pub fn matches<'a>(&self, metric: &str, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let same = |(name, value): &(String, String)| label(name) == Some(value.as_str());
        self.metric == metric && self.labels.iter().all(same)
    }
}

impl<'a> Rest<'a> {
    fn skip_blanks(&mut self) -> &'a str {
        self.0 = self.0.trim_start();
        self.0
    }

    fn takes(&mut self, wanted: char) -> bool {
        let found = self.skip_blanks().strip_prefix(wanted);
        self.0 = found.unwrap_or(self.0);
        found.is_some()
    }

    fn needs(&mut self, wanted: char) -> Result<(), String> {
        match self.takes(wanted) {
            true => Ok(()),
            false => Err(format!("{wanted:?} is missing before {:?}", self.0)),
        }
    }

    fn sum(&mut self) -> Result<Vec<Selector>, String> {
        let in_parentheses = self.takes('(');
        let mut terms = vec![self.selector()?];
        while self.takes('+') {
            terms.push(self.selector()?);
        }
        if in_parentheses {
            self.needs(')')?;
        }
        Ok(terms)
    }

    fn selector(&mut self) -> Result<Selector, String> {
        let metric = self.name(|c| c == ':')?;
        let mut labels = Vec::new();
        if self.takes('{') {
            while !self.takes('}') {
                let name = self.name(|_| false)?;
                self.needs('=')?;
                labels.push((name, self.quoted()?));
                if !self.takes(',') {
                    self.needs('}')?;
                    break;
                }
            }
        }
        Ok(Selector { metric, labels })
    }

    fn name(&mut self, also: impl Fn(char) -> bool) -> Result<String, String> {
        let text = self.skip_blanks();
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || also(c);
        let end = text.find(|c: char| !is_part(c)).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(format!("there is no name before {text:?}"));
        }
        self.0 = rest;
        Ok(name.to_owned())
    }

    fn quoted(&mut self) -> Result<String, String> {
        self.needs('"')?;
        let mut value = String::new();
        let mut chars = self.0.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.0 = &self.0[at + 1..];
                    return Ok(value);
                }
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                c => value.push(c),
            }
        }
        Err("the closing \" is missing".to_owned())
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |terms: &[Selector]| {
            let terms: Vec<String> = terms.iter().map(ToString::to_string).collect();
            terms.join(" + ")
        };
        match self.is_ratio() {
            true => write!(
                f,
                "({}) / ({})",
                sum(&self.numerator),
                sum(&self.denominator)
            ),
            false => f.write_str(&sum(&self.numerator)),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.metric)?;
        if self.labels.is_empty() {
            return Ok(());
        }
        let labels: Vec<String> = self
            .labels
            .iter()
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect();
        write!(f, "{{{}}}", labels.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_sums_of_series_and_at_most_one_ratio() {
        for (text, shown) in [
            (
                "process_resident_memory_bytes",
                "process_resident_memory_bytes",
            ),
            (" a:b + c ", "a:b + c"),
            ("a{x=\"1\",y=\"/+,}\"}", "a{x=\"1\",y=\"/+,}\"}"),
            ("a{x = \"1\", }", "a{x=\"1\"}"),
            ("a{}/b", "(a) / (b)"),
            ("hits/(hits+misses)", "(hits) / (hits + misses)"),
            ("a{x=\"q\\\"q\"}", "a{x=\"q\\\"q\"}"),
        ] {
            let query = Query::parse(text).expect(text);
            assert_eq!(query.to_string(), shown, "{text}");
            assert_eq!(Query::parse(shown), Ok(query), "{shown} does not read back");
        }
        for text in [
            "",
            "1a",
            "a b",
            "a{x}",
            "a{x=1}",
            "a{x=\"1}",
            "a{x=\"1\" y=\"2\"}",
            "a/b/c",
            "(a",
            "a+",
            "rate(a[1m])",
        ] {
            assert!(Query::parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
