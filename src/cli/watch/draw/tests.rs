//! Screens of states, as somebody would see them, on terminals of several sizes.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use serde_json::{Value, json};

use super::*;
use crate::cli::watch::action::Action;
use crate::cli::watch::dialog::{Dialog, Step};
use crate::cli::watch::examples::{at, event, order, sample, state};
use crate::cli::watch::model::Heard;
use crate::cli::watch::view::Notice;

const LOOK: Look = Look {
    has_colour: true,
    has_blocks: true,
};

fn model(state: Value) -> Model {
    let mut model = Model::new("analyzer".to_owned(), Duration::from_secs(2));
    let answer = serde_json::from_value(state).expect("a state");
    model.hear(at(0), Heard::State(Box::new(answer)));
    let samples = (1..=60).map(|step| sample(step * 10_000, if step > 50 { 0.02 } else { 0.001 }));
    model.hear(
        at(0),
        Heard::Samples {
            step: Duration::from_secs(10),
            samples: samples.collect(),
        },
    );
    for id in 10..=12 {
        model.hear(at(0), Heard::Event(Box::new(event(id))));
    }
    model
}

fn terminal(
    look: Look,
    now: u64,
    model: &Model,
    view: &View,
    (width, height): (u16, u16),
) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal
        .draw(|frame| draw(frame, look, at(now), model, view))
        .expect("a frame");
    terminal
}

fn shown(now: u64, model: &Model, view: &View, size: (u16, u16)) -> String {
    let terminal = terminal(LOOK, now, model, view, size);
    let buffer = terminal.backend().buffer();
    let rows = buffer.content().chunks(usize::from(size.0));
    rows.map(|row| {
        row.iter()
            .map(ratatui::buffer::Cell::symbol)
            .collect::<String>()
            .trim_end()
            .to_owned()
            + "\n"
    })
    .collect()
}

fn check(screen: &str, parts: &[&str]) {
    for part in parts {
        assert!(screen.contains(part), "{part:?} is not in\n{screen}");
    }
}

#[test]
fn the_overview_says_what_is_what_is_wrong_and_what_can_be_done() {
    let screen = shown(1, &model(state()), &View::default(), (120, 40));
    check(
        &screen,
        &[
            "analyzer RUNNING  stage ramp, 2 of 3  ultra_fast 10%",
            "14:00:00Z\n",
            "43m of 4h, 3h17m left",
            "canary 1% > [ramp 10%] > rollout 100%; 0 of 3 checkpoints, the next at 1h",
            "next: advances in 3h17m; now p99 < 200ms is not met",
            "original       last 60s     90%     160620     0.01%   100.00%",
            "ultra_fast     last 60s     10%      18300     0.02%",
            "errors  original",
            "rollback > 1.50%",
            "FAIL     rollback p99 > 220ms for 5m           231ms     116ms  breached for 40s of 5m",
            "FAIL     advance  p99 < 200ms",
            "pass     advance  error_rate < 0.5%",
            "ln(E) 1.20 of 4.61 (alpha 1%), no alarm",
            "14:00:09Z paused at 10% [ops]",
            "r rollback  h hold  p pause  a advance  f freeze  x abort  Tab more  ? help  q quit",
        ],
    );
    let lines: Vec<&str> = screen.lines().collect();
    let at = |part: &str| {
        lines
            .iter()
            .position(|line| line.contains(part))
            .expect(part)
    };
    assert!(
        at("FAIL     rollback") < at("FAIL     advance")
            && at("FAIL     advance") < at("pass     advance")
    );
}

#[test]
fn every_size_shows_how_it_stands_and_panics_nowhere() {
    let mut held = state();
    held["phase"] = json!("held");
    held["causes"] = json!([{
        "cause": "condition", "since": "2025-11-01T13:59:00Z", "why": "p99 > 180ms was true", "ends_by_itself": false,
    }]);
    for state in [state(), held] {
        let model = model(state);
        for page in Page::ALL {
            for action in [None, Some(Action::Advance)] {
                let dialog = action
                    .zip(model.answer.as_ref())
                    .map(|(action, answer)| Dialog::open(action, &answer.status));
                let view = View {
                    page,
                    scroll: 3,
                    dialog,
                    notice: None,
                };
                for width in [1, 7, 20, 39, 80, 132, 250] {
                    for height in [1, 2, 3, 5, 10, 24, 60] {
                        shown(99, &model, &view, (width, height));
                    }
                }
            }
        }
        check(
            &shown(1, &model, &View::default(), (40, 5)),
            &["analyzer ", "r rollback"],
        );
    }
}

#[test]
fn an_ordinary_terminal_has_all_that_is_needed_at_night() {
    let mut held = state();
    held["phase"] = json!("held");
    held["causes"] = json!([{
        "cause": "condition", "since": "2025-11-01T13:59:00Z", "why": "`p99 > 180ms for 5m` was true for 5m", "ends_by_itself": false,
    }]);
    let screen = shown(1, &model(held), &View::default(), (80, 24));
    check(
        &screen,
        &[
            "analyzer HELD  stage ramp, 2 of 3  ultra_fast 10%",
            "HELD since 13:59:00Z (condition): `p99 > 180ms for 5m` was true for 5m; a person",
            "original       last 60s",
            "ultra_fast     last 60s",
            "FAIL     rollback p99 > 220ms for 5m",
            "breached for 40s of 5m",
            "ln(E) 1.20 of 4.61",
            "14:00:09Z paused",
            "r rollback  h hold  u resume  t retry  a advance  f freeze  x abort",
        ],
    );
}

#[test]
fn a_lost_connection_stands_above_all() {
    let mut model = model(state());
    model.hear(at(5), Heard::Lost("connection refused".to_owned()));
    model.hear(at(5), Heard::EventsStopped("the stream ended".to_owned()));
    let screen = shown(42, &model, &View::default(), (100, 30));
    check(
        &screen,
        &[
            "42s OLD\n",
            "NO CONNECTION since 14:00:00Z; what is shown is of then. Trying again: connection refused",
            "NONE HEARD since 14:00:05Z: the stream ended",
        ],
    );
    model.hear(at(50), Heard::State(model.answer.clone().expect("a state")));
    let screen = shown(51, &model, &View::default(), (100, 30));
    check(
        &screen,
        &["connected again since 14:00:50Z, after 50 s without"],
    );
    assert!(!screen.contains("OLD"), "{screen}");
}

#[test]
fn before_the_first_answer_nothing_is_made_up() {
    let model = Model::new("analyzer".to_owned(), Duration::from_secs(2));
    let screen = shown(1, &model, &View::default(), (80, 24));
    assert_eq!(
        screen.trim(),
        format!(
            "analyzer: no answer yet{}Tab more  ? help  q quit",
            "\n".repeat(23)
        )
    );
}

#[test]
fn a_dialog_says_the_effect_before_it_is_done() {
    let model = model(state());
    let answer = model.answer.clone().expect("a state");
    let mut dialog = Dialog::open(Action::Rollback, &answer.status);
    dialog.order.reason = "p99 is bad".to_owned();
    let mut view = View {
        dialog: Some(dialog.clone()),
        ..View::default()
    };
    for size in [(80, 24), (60, 12)] {
        check(
            &shown(1, &model, &view, size),
            &[
                "ROLLBACK OF ANALYZER",
                "Everybody goes to original at once: ultra_fast 10% -> 0%.",
                "may be left empty",
                "> p99 is bad_",
            ],
        );
    }
    dialog.step = Step::Confirm;
    view.dialog = Some(dialog);
    check(
        &shown(1, &model, &view, (80, 24)),
        &["Reason: p99 is bad", "Do it? y: yes; n or Esc: do nothing"],
    );
    view.dialog = Some(Dialog::refused(
        order(Action::Advance, "x"),
        "the criteria are not met".to_owned(),
        &answer.status,
    ));
    check(
        &shown(1, &model, &view, (80, 24)),
        &[
            "The gate refused it, and nothing changed: the criteria are not met",
            "f: do it all the same",
        ],
    );
}

#[test]
fn a_dialog_says_when_the_rollout_went_on_without_it() {
    let mut ended = state();
    let dialog = Dialog::open(
        Action::Pause,
        &model(state()).answer.expect("a state").status,
    );
    ended["phase"] = json!("rolled_back");
    let view = View {
        dialog: Some(dialog),
        ..View::default()
    };
    check(
        &shown(1, &model(ended), &view, (80, 24)),
        &["It is rolled back by now: this will be refused."],
    );
}

#[test]
fn a_notice_stays_above_the_page() {
    let notice = Notice {
        at: at(0),
        text: "hold: refused, nothing changed: why".to_owned(),
        is_bad: true,
    };
    for page in Page::ALL {
        let view = View {
            page,
            notice: Some(notice.clone()),
            ..View::default()
        };
        check(
            &shown(1, &model(state()), &view, (80, 24)),
            &["hold: refused, nothing changed: why"],
        );
    }
}

#[test]
fn pages_show_the_whole_and_scroll_to_the_end() {
    let model = model(state());
    let page = |page, scroll| View {
        page,
        scroll,
        ..View::default()
    };
    let screen = shown(1, &model, &page(Page::Conditions, 0), (100, 40));
    check(
        &screen,
        &[
            "CONDITIONS",
            "Evidence of a regression over 2580 s",
            "latency: ln(w E) 1.20 over 2580 s, 41 failing learners",
        ],
    );
    check(
        &shown(1, &model, &page(Page::Segments, 0), (100, 40)),
        &["no segments"],
    );
    check(
        &shown(1, &model, &page(Page::Help, 0), (100, 40)),
        &[
            "r  rollback",
            "(not now)",
            "ends the watch and nothing else",
        ],
    );
    let view = page(Page::Help, usize::MAX);
    let deepest = deepest(LOOK, at(1), &model, &view, (80, 12));
    assert!(deepest > 0);
    let last = shown(1, &model, &page(Page::Help, deepest), (80, 12));
    assert_eq!(last, shown(1, &model, &view, (80, 12)));
    check(
        &last,
        &["Weights, ceilings of segments, pins and incidents"],
    );
}

#[test]
fn no_colour_means_none_and_no_blocks_means_ascii() {
    let plain = Look {
        has_colour: false,
        has_blocks: false,
    };
    let terminal = terminal(plain, 99, &model(state()), &View::default(), (100, 40));
    for cell in terminal.backend().buffer().content() {
        assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset), "{cell:?}");
        assert!(cell.symbol().is_ascii(), "{cell:?}");
    }
}

#[test]
fn only_what_changed_is_drawn_again() {
    let model = model(state());
    let mut terminal = terminal(LOOK, 1, &model, &View::default(), (120, 40));
    let before = terminal.backend().buffer().clone();
    terminal
        .draw(|frame| draw(frame, LOOK, at(2), &model, &View::default()))
        .expect("a frame");
    assert_eq!(before.diff(terminal.backend().buffer()), []);
}
