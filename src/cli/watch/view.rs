//! What the person looks at and is about to do: the page, how far it is scrolled, the dialog, the last notice.
//!
//! Keys come in, and orders go out; nothing is drawn or sent here.

use std::time::Duration;

use super::action::{Action, Done, Failure};
use super::dialog::{Dialog, Outcome};
use super::keys::Press;
use super::model::{At, Model};
use crate::cli::figures;
use crate::records::status::StatusRecord;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Page {
    #[default]
    Overview,
    Conditions,
    Segments,
    Events,
    Help,
}

/// What was just done, or was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) at: At,
    pub(super) text: String,
    pub(super) is_bad: bool,
}

/// What a key asks of the loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    Quit,
    Send(super::action::Order),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    pub(super) page: Page,
    /// Lines of the page above the first that is shown.
    pub(super) scroll: usize,
    pub(super) dialog: Option<Dialog>,
    pub(super) notice: Option<Notice>,
}

/// What was done is soon seen in the picture itself; what was not is read twice.
const GOOD_NEWS: Duration = Duration::from_secs(15);
const BAD_NEWS: Duration = Duration::from_secs(60);

/// As many lines as a small screen shows of a page.
const PAGE: usize = 15;

impl View {
    pub(super) fn press(&mut self, now: At, press: Press, model: &Model) -> Wish {
        if press == Press::Interrupt {
            return Wish::Quit;
        }
        if let (Some(dialog), Some(answer)) = (self.dialog.take(), &model.answer) {
            return self.answer(now, dialog, press, &answer.status);
        }
        match press {
            Press::Char('q') => return Wish::Quit,
            Press::Char('?') => self.turn_to(Page::Help),
            Press::Char(key) => self.choose(key, model),
            Press::Tab => self.turn_to(self.page.next()),
            Press::BackTab => self.turn_to(self.page.previous()),
            Press::Escape => self.turn_to(Page::Overview),
            Press::Up => self.scroll = self.scroll.saturating_sub(1),
            Press::Down => self.scroll = self.scroll.saturating_add(1),
            Press::PageUp => self.scroll = self.scroll.saturating_sub(PAGE),
            Press::PageDown => self.scroll = self.scroll.saturating_add(PAGE),
            Press::Enter
            | Press::Erase
            | Press::EraseAll
            | Press::Interrupt
            | Press::Paste(_)
            | Press::Other => {}
        }
        Wish::Nothing
    }

    fn turn_to(&mut self, page: Page) {
        self.page = page;
        self.scroll = 0;
    }

    fn choose(&mut self, key: char, model: &Model) {
        let (Some(action), Some(answer)) = (Action::of_key(key), &model.answer) else {
            return;
        };
        self.notice = None;
        let status = &answer.status;
        self.dialog = Some(match action.is_allowed(status) {
            true => Dialog::open(action, status),
            false => Dialog::impossible(action, impossible(action, status), status),
        });
    }

    fn answer(&mut self, now: At, dialog: Dialog, press: Press, status: &StatusRecord) -> Wish {
        let name = dialog.order.action.name();
        match dialog.press(press, status) {
            Outcome::Open(dialog) => self.dialog = Some(dialog),
            Outcome::Closed => self.tell(now, format!("{name}: nothing was done"), false),
            Outcome::Send(order) => {
                self.tell(now, format!("{name}: asked for, no answer yet"), false);
                return Wish::Send(order);
            }
        }
        Wish::Nothing
    }

    /// What became of an order.
    pub(super) fn done(&mut self, now: At, done: Done, model: &Model) {
        let name = done.order.action.name();
        match done.result {
            Ok(answer) => {
                let headline = figures::headline(&answer.status);
                self.tell(now, format!("{name}: done; {headline}"), false);
            }
            Err(Failure::Refused(why)) => {
                let can_force = done.order.action.can_be_forced() && !done.order.force;
                // Somebody who is writing something else by now is not interrupted.
                if let (true, None, Some(answer)) = (can_force, &self.dialog, &model.answer) {
                    let refused = Dialog::refused(done.order, why.clone(), &answer.status);
                    self.dialog = Some(refused);
                }
                self.tell(now, format!("{name}: refused, nothing changed: {why}"), true);
            }
            Err(Failure::NotSent(why)) => {
                self.tell(now, format!("{name}: NOT sent, nothing changed: {why}"), true);
            }
            Err(Failure::Unanswered(why)) => self.tell(
                now,
                format!("{name}: sent and NOT answered, so it may have been done; the events will tell: {why}"),
                true,
            ),
        }
    }

    /// The notice, while it is one.
    pub(super) fn news(&self, now: At) -> Option<&Notice> {
        let lasts = |notice: &&Notice| if notice.is_bad { BAD_NEWS } else { GOOD_NEWS };
        let notice = self.notice.as_ref();
        notice.filter(|notice| now.since.saturating_sub(notice.at.since) < lasts(notice))
    }

    fn tell(&mut self, at: At, text: String, is_bad: bool) {
        self.notice = Some(Notice { at, text, is_bad });
    }
}

fn impossible(action: Action, status: &StatusRecord) -> String {
    let state = if action == Action::Freeze {
        "frozen"
    } else if action == Action::Unfreeze {
        "not frozen"
    } else {
        status.phase.as_words()
    };
    format!("{} is not possible while it is {state}", action.name())
}

impl Page {
    pub(super) const ALL: [Self; 5] = [
        Self::Overview,
        Self::Conditions,
        Self::Segments,
        Self::Events,
        Self::Help,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Conditions => "conditions",
            Self::Segments => "segments",
            Self::Events => "events",
            Self::Help => "help",
        }
    }

    fn next(self) -> Self {
        self.turned(1)
    }

    fn previous(self) -> Self {
        self.turned(Self::ALL.len() - 1)
    }

    fn turned(self, by: usize) -> Self {
        let all = Self::ALL;
        let here = all.iter().position(|page| *page == self).unwrap_or(0);
        all[(here + by) % all.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples::{answer, at, order};
    use super::*;
    use crate::cli::watch::dialog::Step;
    use crate::cli::watch::model::Heard;
    fn model() -> Model {
        let mut model = Model::new("analyzer".to_owned(), Duration::from_secs(2));
        model.hear(at(0), Heard::State(Box::new(answer())));
        model
    }

    fn presses(view: &mut View, keys: &str) -> Vec<Wish> {
        let model = model();
        let press = |key| {
            if key == '\n' {
                Press::Enter
            } else {
                Press::Char(key)
            }
        };
        let wishes = keys
            .chars()
            .map(|key| view.press(at(1), press(key), &model));
        wishes.filter(|wish| *wish != Wish::Nothing).collect()
    }

    #[test]
    fn an_action_is_chosen_reasoned_and_confirmed() {
        let mut view = View::default();
        let wishes = presses(&mut view, "rbad p99\ny");
        assert_eq!(wishes, [Wish::Send(order(Action::Rollback, "bad p99"))]);
        let said = view.notice.clone().map(|notice| notice.text);
        assert_eq!(said.as_deref(), Some("rollback: asked for, no answer yet"));
        // Without a dialog `y` is approve, which this phase does not have.
        assert_eq!(presses(&mut view, "y"), []);
        let step = view.dialog.map(|dialog| dialog.step);
        let why = "approve is not possible while it is running".to_owned();
        assert_eq!(step, Some(Step::Impossible(why)));
    }

    #[test]
    fn news_is_news_for_a_while() {
        for (is_bad, lasts) in [(false, 15), (true, 60)] {
            let mut view = View::default();
            view.tell(at(10), "told".to_owned(), is_bad);
            assert!(view.news(at(10 + lasts - 1)).is_some());
            assert!(view.news(at(10 + lasts)).is_none());
        }
    }

    #[test]
    fn nothing_is_chosen_before_the_first_answer() {
        let empty = Model::new("analyzer".to_owned(), Duration::from_secs(2));
        let mut view = View::default();
        for key in "rhpaxf".chars() {
            view.press(at(0), Press::Char(key), &empty);
        }
        assert_eq!(view, View::default());
    }

    #[test]
    fn q_ends_it_but_in_a_reason_it_is_a_letter() {
        let mut view = View::default();
        assert_eq!(presses(&mut view, "q"), [Wish::Quit]);
        assert_eq!(presses(&mut view, "hq"), []);
        let wish = view.press(at(1), Press::Interrupt, &model());
        assert_eq!(wish, Wish::Quit);
    }

    #[test]
    fn pages_turn_in_a_circle() {
        let mut view = View::default();
        for page in [
            Page::Conditions,
            Page::Segments,
            Page::Events,
            Page::Help,
            Page::Overview,
        ] {
            view.scroll = 3;
            view.press(at(0), Press::Tab, &model());
            assert_eq!((view.page, view.scroll), (page, 0));
        }
        view.press(at(0), Press::BackTab, &model());
        assert_eq!(view.page, Page::Help);
        view.press(at(0), Press::Escape, &model());
        assert_eq!(view.page, Page::Overview);
    }

    #[test]
    fn what_became_of_an_order_is_said_exactly() {
        let tell = |action, result| {
            let mut view = View::default();
            let order = order(action, "x");
            view.done(at(0), Done { order, result }, &model());
            let notice = view.notice.expect("a notice");
            (
                notice.text,
                notice.is_bad,
                view.dialog.map(|dialog| dialog.step),
            )
        };
        let why = || "it is so".to_owned();
        let (text, is_bad, _) = tell(Action::Hold, Ok(Box::new(answer())));
        assert!(
            text.starts_with("hold: done; analyzer: running, stage ramp"),
            "{text}"
        );
        assert!(!is_bad);
        assert_eq!(
            tell(Action::Hold, Err(Failure::Refused(why()))),
            (
                "hold: refused, nothing changed: it is so".to_owned(),
                true,
                None
            )
        );
        let (_, _, step) = tell(Action::Advance, Err(Failure::Refused(why())));
        assert_eq!(step, Some(Step::Refused(why())));
        let (text, _, _) = tell(Action::Rollback, Err(Failure::Unanswered(why())));
        assert!(text.contains("may have been done"), "{text}");
        let (text, _, _) = tell(Action::Rollback, Err(Failure::NotSent(why())));
        assert!(text.contains("NOT sent"), "{text}");
    }
}
