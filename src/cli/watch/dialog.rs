//! One action on its way from a key to an order: for which role, why, and yes after the effect was read.
//!
//! No key alone does anything: an action is chosen, a reason is given or left, and `y` says yes to the effect that is
//! shown. Draws and sends nothing.

use super::action::{Action, Order};
use super::effect;
use super::keys::Press;
use crate::records::status::StatusRecord;
use crate::rollout::gate::Phase;

/// As long a reason as a journal's line bears.
const LONGEST: usize = 400;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// One of several roles is chosen by its number.
    Role(Vec<String>),
    Reason,
    Confirm,
    /// The gate said no, and can be overruled.
    Refused(String),
    /// The action is not possible now. Somebody who typed on without looking writes into nothing: what he wrote as a
    /// reason must not be taken for keys.
    Impossible(String),
}

/// What an order is an answer to. If it changes while somebody writes, the effect is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    run: u64,
    phase: Phase,
    stage_index: Option<usize>,
    weight_ppm: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dialog {
    pub(super) order: Order,
    pub(super) step: Step,
    /// A reason is missing, and somebody wanted to go on without.
    pub(super) is_urged: bool,
    /// How it stood when the effect was last said yes to, or shown first.
    standing: Standing,
    /// It went on since.
    pub(super) has_changed: bool,
}

/// What came of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Open(Dialog),
    /// Nothing was done.
    Closed,
    Send(Order),
}

impl Dialog {
    /// As things stand: an approval is of the figures that are on the screen now, whatever comes until it is said.
    pub(super) fn open(action: Action, status: &StatusRecord) -> Self {
        let mut order = Order {
            action,
            reason: String::new(),
            force: false,
            role: None,
            seen: None,
            plan_hash: None,
        };
        let mut step = Step::Reason;
        if action.is_said_for_a_role() {
            order.seen = status.people.approval.as_ref().map(|asked| asked.asked);
            order.plan_hash.clone_from(&status.plan_hash);
            let mut roles = effect::roles(status);
            if roles.len() > 1 {
                step = Step::Role(roles);
            } else {
                order.role = roles.pop();
            }
        }
        Self::at(step, order, status)
    }

    /// After a refusal that force overrules.
    pub(super) fn refused(order: Order, why: String, status: &StatusRecord) -> Self {
        Self::at(Step::Refused(why), order, status)
    }

    /// In the place of a dialog that somebody expects.
    pub(super) fn impossible(action: Action, why: String, status: &StatusRecord) -> Self {
        let opened = Self::open(action, status);
        Self::at(Step::Impossible(why), opened.order, status)
    }

    fn at(step: Step, order: Order, status: &StatusRecord) -> Self {
        Self {
            order,
            step,
            is_urged: false,
            standing: Standing::of(status),
            has_changed: false,
        }
    }

    /// `status` is how things stand now.
    pub(super) fn press(mut self, press: Press, status: &StatusRecord) -> Outcome {
        if press == Press::Escape {
            return Outcome::Closed;
        }
        match &self.step {
            Step::Role(roles) => {
                if let Some(role) = chosen(roles, &press) {
                    self.order.role = Some(role);
                    self.step = Step::Reason;
                }
            }
            Step::Reason => self.write(press),
            Step::Confirm => match press.letter() {
                Some('y') => return self.confirmed(status),
                Some('n') => return Outcome::Closed,
                // The reason can still be changed.
                Some(_) | None if press == Press::Erase => self.step = Step::Reason,
                Some(_) | None => {}
            },
            Step::Refused(_) => match press.letter() {
                Some('f') => {
                    self.order.force = true;
                    self.step = match self.order.reason.is_empty() {
                        true => Step::Reason,
                        false => Step::Confirm,
                    };
                }
                Some('n') => return Outcome::Closed,
                Some(_) | None => {}
            },
            Step::Impossible(_) => {}
        }
        Outcome::Open(self)
    }

    // A step towards canary is asked for once more if it would be another one by now; a step back is right in any case.
    fn confirmed(mut self, status: &StatusRecord) -> Outcome {
        let now = Standing::of(status);
        if self.order.action.needs_reason() && self.standing != now {
            self.standing = now;
            self.has_changed = true;
            return Outcome::Open(self);
        }
        Outcome::Send(self.order)
    }

    fn write(&mut self, press: Press) {
        self.is_urged = false;
        match press {
            Press::Char(c) => self.append(&c.to_string()),
            Press::Paste(text) => self.append(&text),
            Press::Erase => {
                self.order.reason.pop();
            }
            Press::EraseAll => self.order.reason.clear(),
            Press::Enter => {
                let reason = self.order.reason.trim();
                if reason.is_empty() && self.order.action.needs_reason() {
                    self.is_urged = true;
                } else {
                    self.order.reason = reason.to_owned();
                    self.step = Step::Confirm;
                }
            }
            Press::Escape
            | Press::Interrupt
            | Press::Tab
            | Press::BackTab
            | Press::Up
            | Press::Down
            | Press::PageUp
            | Press::PageDown
            | Press::Other => {}
        }
    }

    // What is pasted may be of several lines; a reason is one.
    fn append(&mut self, text: &str) {
        let line: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let left = LONGEST.saturating_sub(self.order.reason.chars().count());
        self.order.reason.extend(line.chars().take(left));
    }
}

impl Standing {
    const fn of(status: &StatusRecord) -> Self {
        Self {
            run: status.run,
            phase: status.phase,
            stage_index: status.stage_index,
            weight_ppm: status.weight_ppm,
        }
    }
}

fn chosen(roles: &[String], press: &Press) -> Option<String> {
    let Press::Char(c) = press else {
        return None;
    };
    let number = usize::try_from(c.to_digit(10)?).ok()?;
    roles.get(number.checked_sub(1)?).cloned()
}

#[cfg(test)]
mod tests {
    use super::super::examples::{answer, approval};
    use super::*;

    /// Presses one key after the other: `<` erases, `\n` is Enter, `\u{1b}` Escape.
    fn typed(dialog: Dialog, keys: &str) -> Outcome {
        typed_while(&answer().status, dialog, keys)
    }

    fn typed_while(status: &StatusRecord, mut dialog: Dialog, keys: &str) -> Outcome {
        for key in keys.chars() {
            let press = match key {
                '<' => Press::Erase,
                '\n' => Press::Enter,
                '\u{1b}' => Press::Escape,
                other => Press::Char(other),
            };
            match dialog.press(press, status) {
                Outcome::Open(next) => dialog = next,
                end => return end,
            }
        }
        Outcome::Open(dialog)
    }

    fn opened(action: Action) -> Dialog {
        Dialog::open(action, &answer().status)
    }

    #[test]
    fn no_action_goes_out_by_one_key_or_two() {
        for action in Action::ALL {
            for keys in ["", "y", "\n", "Y", "f", "y\n", "yy"] {
                let outcome = typed(opened(action), keys);
                assert!(matches!(outcome, Outcome::Open(_)), "{action:?} {keys:?}");
            }
        }
    }

    #[test]
    fn an_order_goes_out_with_its_reason_after_a_yes() {
        let sent = |action, keys| match typed(opened(action), keys) {
            Outcome::Send(order) => Some((order.reason, order.force)),
            Outcome::Open(_) | Outcome::Closed => None,
        };
        let with = |reason: &str| Some((reason.to_owned(), false));
        assert_eq!(
            sent(Action::Rollback, " p99 is bad \ny"),
            with("p99 is bad")
        );
        assert_eq!(sent(Action::Rollback, "\ny"), with(""));
        assert_eq!(sent(Action::Advance, "\n\ny"), None);
        assert_eq!(sent(Action::Advance, "abx<c\nY"), with("abc"));
        assert_eq!(sent(Action::Advance, "ab\n<c\ny"), with("abc"));
        for keys in ["\u{1b}", "why\u{1b}", "why\nn", "why\n\u{1b}y", "why\nqqq"] {
            assert_eq!(sent(Action::Rollback, keys), None, "{keys:?}");
        }
    }

    #[test]
    fn a_reason_is_asked_for_where_it_goes_towards_canary() {
        for action in Action::ALL {
            let mut dialog = opened(action);
            dialog.step = Step::Reason;
            let Outcome::Open(dialog) = typed(dialog, " \n") else {
                panic!("{action:?} went out");
            };
            assert_eq!(dialog.is_urged, action.needs_reason(), "{action:?}");
        }
    }

    #[test]
    fn a_pasted_text_is_a_reason_and_no_keys() {
        let Outcome::Open(dialog) = opened(Action::Rollback).press(
            Press::Paste("see\n\ny\u{1b}[31mred".to_owned()),
            &answer().status,
        ) else {
            panic!("a paste is no order");
        };
        assert_eq!(dialog.order.reason, "see  y [31mred");
        let Outcome::Open(dialog) =
            dialog.press(Press::Paste("x".repeat(10_000)), &answer().status)
        else {
            panic!("a paste is no order");
        };
        assert_eq!(dialog.order.reason.chars().count(), LONGEST);
    }

    #[test]
    fn an_approval_is_of_what_was_on_the_screen() {
        let mut status = answer().status;
        status.phase = Phase::AwaitingApproval;
        status.people.approval = Some(approval());
        let dialog = Dialog::open(Action::Approve, &status);
        let Outcome::Send(order) = typed_while(&status, dialog, "923read\ny") else {
            panic!("it goes out");
        };
        assert_eq!(order.role.as_deref(), Some("finance"));
        assert_eq!((order.seen, order.reason.as_str()), (Some(12), "3read"));
        assert_eq!(order.plan_hash, status.plan_hash);

        if let Some(asked) = &mut status.people.approval {
            asked.missing = vec!["engineering".to_owned()];
        }
        let dialog = Dialog::open(Action::Approve, &status);
        assert_eq!(dialog.step, Step::Reason);
        assert_eq!(dialog.order.role.as_deref(), Some("engineering"));
    }

    #[test]
    fn a_refusal_is_overruled_by_a_second_yes() {
        let order = super::super::examples::order(Action::Advance, "known");
        let refused = || Dialog::refused(order.clone(), "unmet".to_owned(), &answer().status);
        assert_eq!(typed(refused(), "n"), Outcome::Closed);
        assert!(matches!(typed(refused(), "y\n"), Outcome::Open(_)));
        let forced = Order {
            force: true,
            ..order.clone()
        };
        assert_eq!(typed(refused(), "fy"), Outcome::Send(forced));
    }

    #[test]
    fn what_was_meant_as_a_reason_is_no_key() {
        let status = answer().status;
        let dialog = Dialog::impossible(Action::Rollback, "it is over".to_owned(), &status);
        for keys in ["sorry, bad p99\ny", "y", "\n\n", "nnn"] {
            assert_eq!(
                typed(dialog.clone(), keys),
                Outcome::Open(dialog.clone()),
                "{keys:?}"
            );
        }
        assert_eq!(typed(dialog, "y\u{1b}"), Outcome::Closed);
    }

    #[test]
    fn a_step_that_would_be_another_one_by_now_is_asked_for_again() {
        let before = answer().status;
        let mut after = before.clone();
        (after.stage_index, after.weight_ppm) = (Some(2), 1_000_000);
        let confirmed = |action| {
            let Outcome::Open(dialog) = typed(Dialog::open(action, &before), "x\n") else {
                panic!("{action:?} went out");
            };
            dialog.press(Press::Char('y'), &after)
        };
        let Outcome::Open(again) = confirmed(Action::Advance) else {
            panic!("it goes to another stage than was read");
        };
        assert!(again.has_changed);
        assert!(matches!(
            again.press(Press::Char('y'), &after),
            Outcome::Send(_)
        ));
        assert!(matches!(confirmed(Action::Rollback), Outcome::Send(_)));
    }
}
