//! The recent past of both pools as lines of small bars, on one scale so that they can be compared, with the limit in sight.

use ratatui::text::{Line, Span};

use super::look::{Look, Tone};
use super::text::{cut, line, span};
use crate::cli::figures;
use crate::cli::watch::model::Model;
use crate::cli::watch::series::{Figure, POINTS};
use crate::records::evaluation::EvaluationRecord;
use crate::records::status::StatusRecord;
use crate::rollout::condition::{Metric, Op, Selector};
use crate::rollout::name::Arm;
use crate::rollout::time::format_duration;
use crate::rollout::verdict::Purpose;

const NAME: usize = 7;
const POOL: usize = 14;
/// The figure behind the bars and the limit.
const TAIL: usize = 34;

/// A limit that a figure is held against, and the list it stands in.
struct Limit<'a> {
    value: f64,
    of: &'a EvaluationRecord,
}

/// A line a pool; nothing before anything was counted.
pub(super) fn errors(
    look: Look,
    model: &Model,
    status: &StatusRecord,
    width: usize,
) -> Vec<Line<'static>> {
    if let Some(why) = &model.no_samples {
        let text = format!("the recent past cannot be had: {why}");
        return vec![line(look, Tone::Dim, cut(look, &text, width))];
    }
    pair(look, model, status, Figure::ErrorRate, width)
}

/// The same of P99.
pub(super) fn latencies(
    look: Look,
    model: &Model,
    status: &StatusRecord,
    width: usize,
) -> Vec<Line<'static>> {
    if model.no_samples.is_some() {
        return Vec::new();
    }
    pair(look, model, status, Figure::P99, width)
}

fn pair(
    look: Look,
    model: &Model,
    status: &StatusRecord,
    figure: Figure,
    width: usize,
) -> Vec<Line<'static>> {
    let count = width.saturating_sub(NAME + POOL + TAIL + 2).min(POINTS);
    if count < 10 {
        return Vec::new();
    }
    let points = Arm::ALL.map(|arm| model.series.points(arm, figure, count));
    let limit = limit(status, figure);
    let highest = points
        .iter()
        .flatten()
        .flatten()
        .copied()
        .fold(0.0, f64::max);
    if points.iter().flatten().flatten().next().is_none() {
        return Vec::new();
    }
    // A limit far above what was seen would make every bar the lowest.
    let top = limit
        .as_ref()
        .map(|limit| limit.value)
        .filter(|limit| *limit < highest * 8.0)
        .map_or(highest, |limit| limit.max(highest));
    let shown = format_duration(model.series.length() / POINTS as u32 * count as u32);
    let names = [figure.name().to_owned(), shown];
    Arm::ALL
        .into_iter()
        .zip(points)
        .zip(names)
        .map(|((arm, points), name)| {
            let pool = cut(look, status.pools.of(arm), POOL);
            let mut spans = vec![
                span(look, Tone::Dim, format!("{name:<NAME$} ")),
                Span::raw(format!("{pool:<POOL$} ")),
            ];
            spans.extend(bars(
                look,
                &points,
                top,
                limit.as_ref().map(|limit| limit.value),
            ));
            let now = figure.of(&status.figures.of(arm).recent);
            spans.push(Span::raw(format!(" {:>7}", figure.text(now))));
            spans.extend(
                limit
                    .as_ref()
                    .filter(|_| arm == Arm::Canary)
                    .map(|limit| limit.span(look, figure)),
            );
            Line::from(spans)
        })
        .collect()
}

/// A bar a step: the lowest at 0, the highest at `top`; those above the limit stand out.
fn bars(look: Look, points: &[Option<f64>], top: f64, limit: Option<f64>) -> Vec<Span<'static>> {
    let levels = look.levels();
    let bar = |point: &Option<f64>| match point {
        None => (' ', Tone::Plain),
        Some(value) => {
            let share = if top > 0.0 { value / top } else { 0.0 };
            let level = (share * (levels.len() - 1) as f64).ceil() as usize;
            let over = limit.is_some_and(|limit| *value > limit);
            let tone = if over { Tone::Bad } else { Tone::Plain };
            (levels[level.min(levels.len() - 1)], tone)
        }
    };
    let mut spans: Vec<(String, Tone)> = Vec::new();
    for (mark, tone) in points.iter().map(bar) {
        match spans.last_mut().filter(|(_, last)| *last == tone) {
            Some((text, _)) => text.push(mark),
            None => spans.push((mark.to_string(), tone)),
        }
    }
    let spans = spans.into_iter();
    spans.map(|(text, tone)| span(look, tone, text)).collect()
}

/// The lowest upper limit of canary's figure: a trigger's before a criterion's.
fn limit(status: &StatusRecord, figure: Figure) -> Option<Limit<'_>> {
    let limits = |is_trigger: bool| {
        let of = status.evaluations.iter().filter(move |one| {
            one.metric == figure.metric()
                && one.selector == Selector::Canary
                && one.segment.is_none()
                && (one.purpose == Purpose::Rollback) == is_trigger
                && one.purpose != Purpose::Tripwire
                && !matches!(one.op, Op::Equal)
        });
        let limits = of.map(|of| Limit {
            value: of.limit,
            of,
        });
        limits.min_by(|a, b| a.value.total_cmp(&b.value))
    };
    limits(true).or_else(|| limits(false))
}

impl Limit<'_> {
    fn span(&self, look: Look, figure: Figure) -> Span<'static> {
        let list = figures::purpose(self.of.purpose);
        let way = match self.of.op {
            Op::Greater | Op::GreaterOrEqual => ">",
            Op::Less | Op::LessOrEqual | Op::Equal => "<",
        };
        span(
            look,
            Tone::Dim,
            format!("  {list} {way} {}", figure.text(Some(self.value))),
        )
    }
}

impl Figure {
    const fn name(self) -> &'static str {
        match self {
            Self::ErrorRate => "errors",
            Self::P99 => "p99",
        }
    }

    const fn metric(self) -> Metric {
        match self {
            Self::ErrorRate => Metric::ErrorRate,
            Self::P99 => Metric::P99,
        }
    }

    fn text(self, value: Option<f64>) -> String {
        match self {
            Self::ErrorRate => figures::rate(value),
            Self::P99 => figures::latency(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stand_between_nothing_and_the_top() {
        let look = Look {
            has_colour: true,
            has_blocks: true,
        };
        let text = |points: &[Option<f64>], top, limit| {
            let spans = bars(look, points, top, limit);
            let count = spans.len();
            (
                spans
                    .iter()
                    .map(|span| span.content.as_ref())
                    .collect::<String>(),
                count,
            )
        };
        let points = [None, Some(0.0), Some(0.1), Some(4.0), Some(7.0), Some(9.0)];
        assert_eq!(text(&points, 7.0, None), (" ▁▂▅██".to_owned(), 1));
        assert_eq!(text(&points, 7.0, Some(4.0)), (" ▁▂▅██".to_owned(), 2));
        assert_eq!(text(&[Some(0.0)], 0.0, None), ("▁".to_owned(), 1));
        let plain = Look {
            has_blocks: false,
            ..look
        };
        let spans = bars(plain, &points, 7.0, None);
        assert_eq!(spans[0].content, " _.=##");
    }
}
