//! The dialog of an action, and the line of keys: what can be done now, and what it would do.

use ratatui::text::{Line, Span};

use super::look::{Look, Tone};
use super::text::{cut, line, paragraph, span, width as wide, wrap};
use crate::admin::wire::RolloutAnswer;
use crate::cli::watch::action::Action;
use crate::cli::watch::dialog::{Dialog, Step};
use crate::cli::watch::model::At;
use crate::cli::watch::view::{Page, View};
use crate::records::status::StatusRecord;

/// The lines of a dialog; `answer` is how things stand now, and not when it was opened.
pub(super) fn dialog(
    look: Look,
    dialog: &Dialog,
    answer: &RolloutAnswer,
    width: usize,
) -> Vec<Line<'static>> {
    let order = &dialog.order;
    let force = if order.force { " --force" } else { "" };
    let head = format!(
        "{}{force} of {}",
        order.action.name(),
        answer.status.rollout
    );
    let mut lines = vec![line(look, Tone::Strong, head.to_uppercase())];
    let mut say = |tone, text: &str| lines.extend(paragraph(look, tone, text, width, 2));
    if let Step::Role(roles) = &dialog.step {
        say(Tone::Plain, "For which role?");
        for (index, role) in roles.iter().enumerate() {
            say(Tone::Strong, &format!("  {}  {role}", index + 1));
        }
        say(Tone::Dim, "its number; Esc: do nothing");
        return lines;
    }
    if let Step::Refused(why) = &dialog.step {
        say(
            Tone::Bad,
            &format!("The gate refused it, and nothing changed: {why}"),
        );
        say(
            Tone::Dim,
            "f: do it all the same, with force; Esc: leave it",
        );
        return lines;
    }
    if let Step::Impossible(why) = &dialog.step {
        say(Tone::Bad, &format!("{why}: nothing was done."));
        say(Tone::Dim, "Esc: close this");
        return lines;
    }
    if !order.action.is_allowed(&answer.status) {
        let phase = answer.status.phase.as_words();
        say(
            Tone::Bad,
            &format!("It is {phase} by now: this will be refused."),
        );
    }
    for text in order.effect(answer) {
        say(Tone::Plain, &text);
    }
    match dialog.step {
        Step::Reason => {
            let may_be_empty = if order.action.needs_reason() {
                ""
            } else {
                ", may be left empty"
            };
            say(
                Tone::Dim,
                &format!(
                    "Why, for the journal{may_be_empty}; Enter: on to the question; Esc: do nothing"
                ),
            );
            if dialog.is_urged {
                say(Tone::Warn, "A reason is needed: it goes towards canary.");
            }
            // The end of what is written stays in sight.
            let shown = tail(&order.reason, width.saturating_sub(4));
            lines.push(Line::from(vec![
                Span::raw("> "),
                span(look, Tone::Strong, format!("{shown}_")),
            ]));
        }
        Step::Confirm => {
            if dialog.has_changed {
                say(
                    Tone::Bad,
                    "The rollout went on meanwhile: this is what it would do by now.",
                );
            }
            say(
                Tone::Plain,
                &format!(
                    "Reason: {}",
                    if order.reason.is_empty() {
                        "none"
                    } else {
                        &order.reason
                    }
                ),
            );
            say(
                Tone::Warn,
                "Do it? y: yes; n or Esc: do nothing; Backspace: change the reason",
            );
        }
        Step::Role(_) | Step::Refused(_) | Step::Impossible(_) => {}
    }
    lines
}

fn tail(text: &str, room: usize) -> String {
    let mut tail = text;
    while wide(tail) > room {
        let mut chars = tail.chars();
        chars.next();
        tail = chars.as_str();
    }
    tail.to_owned()
}

/// What can be done now; as many lines as it needs, two at most.
pub(super) fn keys(
    look: Look,
    status: Option<&StatusRecord>,
    page: Page,
    width: usize,
) -> Vec<Line<'static>> {
    let actions = Action::ALL
        .into_iter()
        .filter(|action| status.is_some_and(|status| action.is_allowed(status)));
    let mut keys: Vec<(String, String)> = actions
        .map(|action| (action.key().to_string(), action.name().to_owned()))
        .collect();
    let turn = if page == Page::Overview {
        "more"
    } else {
        "next page"
    };
    for (key, name) in [("Tab", turn), ("?", "help"), ("q", "quit")] {
        keys.push((key.to_owned(), name.to_owned()));
    }
    let mut lines: Vec<Line<'static>> = vec![Line::default()];
    for (key, name) in keys {
        let part = [
            span(look, Tone::Strong, key),
            span(look, Tone::Dim, format!(" {name}  ")),
        ];
        let needs = part.iter().map(Span::width).sum::<usize>();
        let is_full = lines
            .last()
            .is_some_and(|line| line.width() + needs > width + 2);
        if is_full {
            lines.push(Line::default());
        }
        if let Some(line) = lines.last_mut() {
            line.spans.extend(part);
        }
    }
    lines.truncate(2);
    lines
}

/// What was just done, or was not.
pub(super) fn notice(look: Look, now: At, view: &View, width: usize) -> Vec<Line<'static>> {
    let Some(notice) = view.news(now) else {
        return Vec::new();
    };
    let tone = if notice.is_bad { Tone::Bad } else { Tone::Good };
    let mut lines = paragraph(look, tone, &notice.text, width, 2);
    if lines.len() > 3 {
        lines.truncate(3);
        lines[2] = line(look, tone, cut(look, &format!("  {}", look.cut()), width));
    }
    lines
}

/// Every key, and what the actions do.
pub(super) fn help(look: Look, status: Option<&StatusRecord>, width: usize) -> Vec<Line<'static>> {
    let begin =
        "An action is chosen by its key, asks why, says what it will do, and is done after a yes.";
    let mut lines = paragraph(look, Tone::Dim, begin, width, 2);
    for action in Action::ALL {
        let now = status.is_some_and(|status| action.is_allowed(status));
        let tone = if now { Tone::Strong } else { Tone::Dim };
        let not_now = if now { "" } else { "(not now) " };
        let key = format!("  {}  {}", action.key(), action.name());
        let text = format!("{not_now}{}", action.does());
        lines.extend(entry(look, tone, &key, &text, width));
    }
    for (key, text) in [
        (
            "Tab",
            "the next page: conditions with all that is said of them, segments, events, this one",
        ),
        ("Esc", "back to the overview; in a question, do nothing"),
        ("Up, Down", "through a page, as PgUp and PgDn"),
        ("q, Ctrl-C", "ends the watch and nothing else"),
    ] {
        lines.extend(entry(look, Tone::Plain, &format!("  {key}"), text, width));
    }
    let end =
        "Weights, ceilings of segments, pins and incidents: `serin weights`, and the admin port.";
    lines.extend(paragraph(look, Tone::Dim, end, width, 2));
    lines
}

/// A key, and beside it what it does.
fn entry(look: Look, tone: Tone, key: &str, text: &str, width: usize) -> Vec<Line<'static>> {
    const KEY: usize = 15;
    let texts = wrap(text, width.saturating_sub(KEY), 0).into_iter();
    let keys = std::iter::once(key).chain(std::iter::repeat(""));
    keys.zip(texts)
        .map(|(key, text)| line(look, tone, format!("{key:<KEY$}{text}")))
        .collect()
}
