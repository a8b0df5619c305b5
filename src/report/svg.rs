//! A chart as shapes of SVG, drawn by plotters.
//!
//! Drawn twice, for a wide page and for a narrow one, so that letters have one size on both. The library writes every
//! colour as an attribute; the page's style says by these attributes what each looks like in light, in the dark and in
//! print. Whole numbers of a grid four times as fine as the page's pixels are the same on every machine.

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use std::ops::Range;

use super::chart::{Chart, Look};
use super::series::LimitList;
use super::wording::figure_text;
use crate::records::Moment;
use crate::rollout::time::WallTime;

/// Units of the picture for a pixel of the page.
const SCALE: u32 = 4;
/// Letters, in pixels. The library divides by 1.24.
const LETTERS: f64 = 12.0 * 1.24;

// Each colour is a name for the style; a reader without the style sees these.
const INK: RGBColor = RGBColor(0x49, 0x50, 0x57);
const GRID: RGBColor = RGBColor(0xdd, 0xe2, 0xe6);
const AXIS: RGBColor = RGBColor(0xad, 0xb5, 0xbd);
const BASELINE: RGBColor = RGBColor(0x1c, 0x6f, 0xb4);
const BASELINE_FAINT: RGBColor = RGBColor(0x1c, 0x6f, 0xb5);
const CANARY: RGBColor = RGBColor(0xc2, 0x55, 0x0a);
const CANARY_FAINT: RGBColor = RGBColor(0xc2, 0x55, 0x0b);
const ADVANCE: RGBColor = RGBColor(0x2b, 0x8a, 0x3e);
const ROLLBACK: RGBColor = RGBColor(0xc9, 0x2a, 0x2a);
const DECISION: RGBColor = RGBColor(0x86, 0x8e, 0x96);

/// Where a picture is to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Wide,
    Narrow,
}

/// What is within an `svg` element, and the size of its view.
pub(super) struct Drawn {
    pub(super) view: [u32; 2],
    pub(super) shapes: String,
}

/// An axis with its marks where we say.
struct Axis {
    range: Range<f64>,
    marks: Vec<f64>,
}

// === impl Size ===

impl Size {
    pub(super) const ALL: [Self; 2] = [Self::Wide, Self::Narrow];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Wide => "wide",
            Self::Narrow => "narrow",
        }
    }

    /// In pixels of the page.
    const fn pixels(self) -> [u32; 2] {
        match self {
            Self::Wide => [720, 260],
            Self::Narrow => [340, 220],
        }
    }

    /// Labels on the axis of time, at most.
    const fn moments(self) -> u64 {
        match self {
            Self::Wide => 7,
            Self::Narrow => 3,
        }
    }
}

/// The picture; `None` where the library cannot draw, and the numbers are left to speak for themselves.
pub(super) fn draw(chart: &Chart, size: Size) -> Option<Drawn> {
    let view = size.pixels().map(|pixels| pixels * SCALE);
    let mut text = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut text, view.into()).into_drawing_area();
        paint(chart, size, &area).and_then(|()| area.present())
    };
    drawn.ok()?;
    // The element itself is the page's, with a title and a description.
    let shapes = text.split_once('>')?.1.rsplit_once("</svg>")?.0;
    Some(Drawn {
        view,
        shapes: shapes.trim_start().to_owned(),
    })
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Fault = DrawingAreaErrorKind<std::io::Error>;

fn paint(chart: &Chart, size: Size, area: &Area<'_>) -> Result<(), Fault> {
    let px = |pixels: u32| pixels * SCALE;
    let letters = ("sans-serif", LETTERS * f64::from(SCALE)).into_font();
    let time = time_axis(chart, size);
    let value = value_axis(chart.top());
    let top = value.range.end;
    let moments = label_of(chart, step_of(&time.marks));
    let mut canvas = ChartBuilder::on(area)
        .margin_top(px(20))
        .margin_right(px(12))
        .x_label_area_size(px(24))
        .y_label_area_size(px(58))
        .build_cartesian_2d(time, value)?;
    canvas
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(stroke(GRID, 1))
        .axis_style(stroke(AXIS, 1))
        .set_all_tick_mark_size(px(4))
        .label_style(letters.clone().color(&INK))
        .x_label_formatter(&|at| moments(*at))
        .y_label_formatter(&|value| figure_text(chart.unit, *value))
        .draw()?;
    for limit in &chart.limits {
        let ends = [limit.from_ms, limit.to_ms].map(|at| (at as f64, limit.value));
        let color = match limit.list {
            LimitList::Advance => ADVANCE,
            LimitList::Rollback => ROLLBACK,
        };
        canvas.draw_series([PathElement::new(ends, stroke(color, 2))])?;
    }
    // The canary's line lies on top.
    let mut lines: Vec<_> = chart.lines.iter().collect();
    lines.sort_by_key(|line| std::cmp::Reverse(depth(line.look)));
    for line in lines {
        let (color, width) = ink(line.look);
        for piece in &line.pieces {
            let points: Vec<(f64, f64)> = piece.iter().map(|&(at, v)| (at as f64, v)).collect();
            match points.as_slice() {
                // A step between two gaps is a point.
                [point] => {
                    let dot = Circle::new(*point, px(2), color.filled());
                    canvas.draw_series([dot])?;
                }
                _ => {
                    canvas.draw_series([PathElement::new(points, stroke(color, width))])?;
                }
            }
        }
    }
    decisions(chart, size, |at, label| {
        let line = [(at, 0.0), (at, top)];
        canvas.draw_series([PathElement::new(line, stroke(DECISION, 1))])?;
        let Some(label) = label else { return Ok(()) };
        let middle = plotters::style::text_anchor::Pos::new(
            plotters::style::text_anchor::HPos::Center,
            plotters::style::text_anchor::VPos::Bottom,
        );
        let style = letters.clone().color(&INK).pos(middle);
        canvas.draw_series([Text::new(label, (at, top), style)])?;
        Ok(())
    })
}

/// Each decision within the chart, with its number where there is room for it beside the one before.
fn decisions(
    chart: &Chart,
    size: Size,
    mut draw: impl FnMut(f64, Option<String>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    const ROOM: f64 = 18.0;
    let span = (chart.to_ms.saturating_sub(chart.from_ms)).max(1) as f64;
    let per_pixel = span / f64::from(size.pixels()[0] - 70);
    let mut last = f64::NEG_INFINITY;
    for decision in &chart.decisions {
        let at = decision.at_ms as f64;
        let has_room = at - last >= ROOM * per_pixel;
        if has_room {
            last = at;
        }
        draw(at, has_room.then(|| decision.event.to_string()))?;
    }
    Ok(())
}

const fn depth(look: Look) -> u8 {
    match look {
        Look::Canary => 0,
        Look::Baseline => 1,
        Look::CanaryFaint => 2,
        Look::BaselineFaint => 3,
    }
}

const fn ink(look: Look) -> (RGBColor, u32) {
    match look {
        Look::Baseline => (BASELINE, 2),
        Look::Canary => (CANARY, 2),
        Look::BaselineFaint => (BASELINE_FAINT, 1),
        Look::CanaryFaint => (CANARY_FAINT, 1),
    }
}

fn stroke(color: RGBColor, pixels: u32) -> ShapeStyle {
    color.stroke_width(pixels * SCALE)
}

// === axes ===

/// Marks at whole moments of wall time.
fn time_axis(chart: &Chart, size: Size) -> Axis {
    let (from, to) = (chart.from_ms, chart.to_ms.max(chart.from_ms + 1));
    let step = super::wanted::step(to - from, size.moments());
    let step_wall = i64::try_from(step).unwrap_or(i64::MAX);
    let past = chart.wall_ms.rem_euclid(step_wall);
    let mut at = from + u64::try_from(step_wall - past).unwrap_or(0) % step;
    let mut marks = Vec::new();
    while at <= to {
        marks.push(at as f64);
        at += step;
    }
    Axis {
        range: from as f64..to as f64,
        marks,
    }
}

fn step_of(marks: &[f64]) -> f64 {
    match marks {
        [first, second, ..] => second - first,
        _ => 0.0,
    }
}

/// As much of a moment as tells the marks apart; in UTC.
fn label_of(chart: &Chart, step_ms: f64) -> impl Fn(f64) -> String + use<> {
    const DAY: u64 = 86_400_000;
    let (from_ms, wall_ms) = (chart.from_ms, chart.wall_ms);
    let days = chart.to_ms.saturating_sub(chart.from_ms) > DAY;
    move |at| {
        let wall = wall_ms.saturating_add((at - from_ms as f64) as i64);
        let text = Moment(WallTime::from_unix_millis(wall)).to_string();
        let part = |range: Range<usize>| text.get(range).unwrap_or_default().to_owned();
        if days && step_ms >= DAY as f64 {
            part(5..10)
        } else if days {
            format!("{} {}", part(5..10), part(11..16))
        } else if step_ms < 60_000.0 {
            part(11..19)
        } else {
            part(11..16)
        }
    }
}

/// From 0 to a round number that is not below the highest value.
fn value_axis(top: f64) -> Axis {
    // What is round in decimals is not quite so in binary.
    const NEARLY: f64 = 1.0 - 1e-9;
    let rough = (top / 4.0).max(f64::MIN_POSITIVE);
    let power = 10_f64.powi(rough.log10().floor() as i32);
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power);
    let step = steps
        .into_iter()
        .find(|step| *step >= rough * NEARLY)
        .unwrap_or(10.0 * power);
    let count = (top / step * NEARLY).ceil().max(1.0);
    Axis {
        range: 0.0..step * count,
        marks: (0..=count as u32).map(|n| step * f64::from(n)).collect(),
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.range.clone()).map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        match hint.weight().allow_light_points() {
            true => Vec::new(),
            false => self.marks.clone(),
        }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_of_values_ends_at_a_round_number_and_shows_all_of_them() {
        for (top, end, marks) in [
            (0.001, 0.001, 5),
            (0.015, 0.015, 4),
            (0.6, 0.6, 4),
            (0.600_1, 0.8, 5),
            (1.0, 1.0, 5),
            (200.0, 200.0, 5),
            (46.0, 60.0, 4),
        ] {
            let axis = value_axis(top);
            assert!(
                (axis.range.end - end).abs() < end * 1e-9,
                "{top}: {:?}",
                axis.range
            );
            assert_eq!(axis.marks.len(), marks, "{top}: {:?}", axis.marks);
        }
    }
}
