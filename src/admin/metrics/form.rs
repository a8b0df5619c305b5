//! Which form of the metrics a scraper asks for (RFC 9110, 12.5.1).

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

use crate::telemetry::prometheus::Form;

const OPEN_METRICS: &str = "application/openmetrics-text";
/// The versions of OpenMetrics whose text is the one that is written.
const VERSIONS: [&str; 2] = ["1.0.0", "0.0.1"];

/// OpenMetrics where that is asked for by name and nothing is liked better; the text format for everybody else.
pub(super) fn asked(headers: &HeaderMap) -> Form {
    let lines = headers.get_all(ACCEPT).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    let ranges = lines.flat_map(|line| line.split(',')).filter_map(range);
    let (mut open, mut text) = (0.0_f64, 0.0_f64);
    for (form, weight) in ranges {
        match form {
            Form::OpenMetrics => open = open.max(weight),
            Form::Text => text = text.max(weight),
        }
    }
    if open > 0.0 && open >= text {
        Form::OpenMetrics
    } else {
        Form::Text
    }
}

/// What one media range asks for, and how much; `None` for what is not written here.
fn range(range: &str) -> Option<(Form, f64)> {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next()?.to_ascii_lowercase();
    let mut version = None;
    let mut weight = 1.0;
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        match name.trim().to_ascii_lowercase().as_str() {
            "q" => weight = value.trim().parse().unwrap_or(0.0),
            "version" => version = Some(value.trim().trim_matches('"')),
            _ => {}
        }
    }
    match media.as_str() {
        OPEN_METRICS if version.is_none_or(|version| VERSIONS.contains(&version)) => {
            Some((Form::OpenMetrics, weight))
        }
        "text/plain" => Some((Form::Text, weight)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_given_to_who_asks_for_it() {
        let check = |accept: &str, expected: Form| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().expect("a value"));
            assert_eq!(asked(&headers), expected, "{accept}");
        };
        assert_eq!(asked(&HeaderMap::new()), Form::Text);
        // As Prometheus 2.42 and 2.55 ask.
        check(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            Form::OpenMetrics,
        );
        check(
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            Form::OpenMetrics,
        );
        check("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", Form::Text);
        check("*/*", Form::Text);
        check("", Form::Text);
        check("application/json", Form::Text);
        check("Application/OpenMetrics-Text", Form::OpenMetrics);
        check(
            "application/openmetrics-text; version=\"1.0.0\"",
            Form::OpenMetrics,
        );
        check("application/openmetrics-text;version=2.0.0", Form::Text);
        check("application/openmetrics-text;q=0", Form::Text);
        check(
            "application/openmetrics-text;q=0.3, text/plain;q=0.4",
            Form::Text,
        );
        check("application/openmetrics-text;q=x, text/plain", Form::Text);
    }
}
