//! The Prometheus text format, line by line: the samples in it.
//!
//! Reads what is well formed and passes over the rest: a line that is none of ours must not hide one that is.

use std::borrow::Cow;

/// Names with their values.
type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// One sample. Times are not read: what is scraped now is of now.
#[derive(Debug, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) metric: &'a str,
    pub(super) labels: Labels<'a>,
    pub(super) value: f64,
}

impl Sample<'_> {
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_ref())
    }
}

/// Every sample of a text.
pub(super) fn samples(text: &str) -> impl Iterator<Item = Sample<'_>> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(sample)
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let end = line.find(|c: char| c == '{' || c.is_ascii_whitespace())?;
    let (metric, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    // What may follow the value is its time.
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Sample {
        metric,
        labels,
        value,
    })
}

/// What stands in the braces, and what comes after them.
fn labels(mut rest: &str) -> Option<(Labels<'_>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start().strip_prefix('"')?;
        let (value, after) = quoted(after)?;
        labels.push((name.trim(), value));
        rest = after;
    }
}

fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let end = text.find(['"', '\\'])?;
    if text[end..].starts_with('"') {
        return Some((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((Cow::Owned(value), &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_as_prometheus_writes_them() {
        // From the format's own description.
        let text = r#"
# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3 1395066363000

msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""} 1.458255915e9
metric_without_timestamp_and_labels 12.47
something_weird{problem="division by zero"} +Inf -3982045
http_request_duration_seconds_bucket{le="0.05",} 24054
not a sample
broken{a="b 1
"#;
        let read: Vec<Sample<'_>> = samples(text).collect();
        let values: Vec<(&str, f64)> = read
            .iter()
            .map(|sample| (sample.metric, sample.value))
            .collect();
        assert_eq!(
            values,
            [
                ("http_requests_total", 1027.0),
                ("http_requests_total", 3.0),
                ("msdos_file_access_time_seconds", 1_458_255_915.0),
                ("metric_without_timestamp_and_labels", 12.47),
                ("something_weird", f64::INFINITY),
                ("http_request_duration_seconds_bucket", 24_054.0),
            ]
        );
        assert_eq!(read[1].label("code"), Some("400"));
        assert_eq!(read[2].label("path"), Some("C:\\DIR\\FILE.TXT"));
        assert_eq!(
            read[2].label("error"),
            Some("Cannot find file:\n\"FILE.TXT\"")
        );
        assert_eq!(read[3].label("path"), None);
    }
}
