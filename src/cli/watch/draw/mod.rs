//! The picture: what is known and what the person looks at, as a frame of the terminal. Pure: the same in, the same out.

mod asked;
mod fit;
mod history;
mod judged;
mod look;
mod overview;
mod past;
#[cfg(test)]
mod tests;
mod text;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Block as Frame_, Clear, Paragraph};

use self::fit::fit;
pub(super) use self::look::Look;
use self::look::Tone;
use super::model::{At, Model};
use super::view::{Page, View};
use crate::cli::figures;

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, look: Look, now: At, model: &Model, view: &View) {
    let area = frame.area();
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let lines = screen(look, now, model, view, (width, height));
    frame.render_widget(Paragraph::new(lines), area);
    let (Some(dialog), Some(answer)) = (&view.dialog, &model.answer) else {
        return;
    };
    let lines = asked::dialog(look, dialog, answer, width.saturating_sub(2));
    let place = at_the_bottom(area, lines.len());
    // Of a screen that is too small the question is what has to be seen.
    let inside = place.height.saturating_sub(2).max(1);
    let skipped = lines.len().saturating_sub(usize::from(inside));
    let framed = Paragraph::new(lines[skipped..].to_vec()).block(Frame_::bordered());
    frame.render_widget(Clear, place);
    frame.render_widget(framed, place);
}

fn at_the_bottom(area: Rect, lines: usize) -> Rect {
    let height = u16::try_from(lines + 2)
        .unwrap_or(u16::MAX)
        .min(area.height);
    Rect {
        y: area.bottom() - height,
        height,
        ..area
    }
}

/// How far the page can be scrolled on a screen of this size.
pub(super) fn deepest(
    look: Look,
    now: At,
    model: &Model,
    view: &View,
    (width, height): (u16, u16),
) -> usize {
    let (width, height) = (usize::from(width), usize::from(height));
    let (_, room, _) = edges(look, now, model, view, (width, height));
    let lines = pages(look, model, view.page, width).len();
    lines.saturating_sub(room.saturating_sub(1))
}

/// The lines above and below the page, and its height.
fn edges(
    look: Look,
    now: At,
    model: &Model,
    view: &View,
    (width, height): (usize, usize),
) -> (Vec<Line<'static>>, usize, Vec<Line<'static>>) {
    let status = model.answer.as_ref().map(|answer| &answer.status);
    let mut top = vec![overview::title(look, now, model, width)];
    top.extend(overview::connection(look, now, model, width));
    top.extend(asked::notice(look, now, view, width));
    let mut bottom = asked::keys(look, status, view.page, width);
    top.truncate(height);
    bottom.truncate(height - top.len());
    let room = height - top.len() - bottom.len();
    (top, room, bottom)
}

/// The lines of the screen below a dialog.
fn screen(
    look: Look,
    now: At,
    model: &Model,
    view: &View,
    size: (usize, usize),
) -> Vec<Line<'static>> {
    let (top, room, bottom) = edges(look, now, model, view, size);
    let (width, _) = size;
    let mut middle = match (&model.answer, view.page) {
        (None, Page::Overview | Page::Conditions | Page::Segments) => Vec::new(),
        (Some(answer), Page::Overview) => fit(
            look,
            overview::blocks(look, model, answer, (width, room)),
            room,
        ),
        (_, page) => scrolled(
            look,
            page,
            pages(look, model, page, width),
            view.scroll,
            room,
        ),
    };
    middle.resize(room, Line::default());
    top.into_iter().chain(middle).chain(bottom).collect()
}

/// A page that has a beginning and as much more as there is.
fn pages(look: Look, model: &Model, page: Page, width: usize) -> Vec<Line<'static>> {
    let status = model.answer.as_ref().map(|answer| &answer.status);
    match (page, status) {
        (Page::Help, status) => asked::help(look, status, width),
        (Page::Events, _) => history::whole(look, model, width),
        (Page::Conditions, Some(status)) => judged::whole(look, status, width),
        (Page::Segments, Some(status)) => segments(look, &figures::segments(status), width),
        (Page::Conditions | Page::Segments | Page::Overview, _) => Vec::new(),
    }
}

fn segments(look: Look, table: &str, width: usize) -> Vec<Line<'static>> {
    if table.is_empty() {
        let text = "no segments: the rollout tells its learners apart by none";
        return vec![text::line(look, Tone::Dim, text)];
    }
    let rows = table.lines().enumerate();
    rows.map(|(index, row)| {
        let tone = if index == 0 { Tone::Dim } else { Tone::Plain };
        text::line(look, tone, text::cut(look, row, width))
    })
    .collect()
}

/// The name of the page, and its lines from the one scrolled to; never beyond the last.
fn scrolled(
    look: Look,
    page: Page,
    lines: Vec<Line<'static>>,
    scroll: usize,
    room: usize,
) -> Vec<Line<'static>> {
    let inside = room.saturating_sub(1);
    let from = scroll.min(lines.len().saturating_sub(inside));
    let until = (from + inside).min(lines.len());
    let place = match lines.len() > inside {
        true => format!("  lines {} to {until} of {}", from + 1, lines.len()),
        false => String::new(),
    };
    let head = text::line(
        look,
        Tone::Strong,
        format!("{}{place}", page.name().to_uppercase()),
    );
    let shown = lines.into_iter().skip(from).take(inside);
    std::iter::once(head).chain(shown).take(room).collect()
}
