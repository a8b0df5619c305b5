//! How things look: colours and marks, or neither where the terminal, or its person, cannot have them.

use ratatui::style::{Color, Modifier, Style};

use crate::rollout::gate::Phase;
use crate::rollout::verdict::Verdict;

/// What a text wants to say by its looks. Nothing is said by looks alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli::watch) enum Tone {
    Plain,
    /// Heads and what is seldom read.
    Dim,
    Strong,
    Good,
    Warn,
    Bad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli::watch) struct Look {
    pub(in crate::cli::watch) has_colour: bool,
    /// The terminal's text is UTF-8.
    pub(in crate::cli::watch) has_blocks: bool,
}

/// Low to high; nothing measured is a blank.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII: [char; 8] = ['_', '.', ':', '-', '=', '+', '*', '#'];

impl Look {
    /// `NO_COLOR` is any text but an empty one; the locale is the first of its three variables that is set.
    pub(in crate::cli::watch) fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let said = |name: &str| variable(name).filter(|text| !text.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(said);
        let locale = locale.unwrap_or_default().to_ascii_lowercase();
        Self {
            has_colour: said("NO_COLOR").is_none()
                && said("TERM").is_none_or(|term| term != "dumb"),
            has_blocks: locale.contains("utf-8") || locale.contains("utf8"),
        }
    }

    pub(super) const fn style(self, tone: Tone) -> Style {
        let plain = Style::new();
        match (tone, self.has_colour) {
            (Tone::Plain, _) | (Tone::Good, false) => plain,
            (Tone::Dim, _) => plain.add_modifier(Modifier::DIM),
            (Tone::Strong, _) | (Tone::Warn, false) => plain.add_modifier(Modifier::BOLD),
            (Tone::Good, true) => plain.fg(Color::Green),
            (Tone::Warn, true) => plain.fg(Color::Yellow).add_modifier(Modifier::BOLD),
            (Tone::Bad, true) => plain.fg(Color::Red).add_modifier(Modifier::BOLD),
            (Tone::Bad, false) => plain.add_modifier(Modifier::BOLD.union(Modifier::REVERSED)),
        }
    }

    pub(super) const fn levels(self) -> [char; 8] {
        match self.has_blocks {
            true => BLOCKS,
            false => ASCII,
        }
    }

    /// What stands for text that was cut off.
    pub(super) const fn cut(self) -> char {
        match self.has_blocks {
            true => '…',
            false => '~',
        }
    }
}

pub(super) const fn of_phase(phase: Phase) -> Tone {
    match phase {
        Phase::Running | Phase::Stabilizing | Phase::Complete => Tone::Good,
        Phase::AwaitingApproval | Phase::Held | Phase::Paused | Phase::Manual | Phase::Waiting => {
            Tone::Warn
        }
        Phase::RollingBack | Phase::RolledBack | Phase::Aborted => Tone::Bad,
        Phase::Idle | Phase::Scheduled => Tone::Strong,
    }
}

pub(super) const fn of_verdict(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Pass => Tone::Good,
        Verdict::Fail => Tone::Bad,
        Verdict::Unproven => Tone::Warn,
        Verdict::NoData => Tone::Dim,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_marks_are_the_terminals_choice() {
        for (set, has_colour, has_blocks) in [
            (&[][..], true, false),
            (&[("LANG", "C.UTF-8")], true, true),
            (&[("LANG", "en_GB.utf8"), ("NO_COLOR", "")], true, true),
            (
                &[("NO_COLOR", "1"), ("LC_CTYPE", "de_DE.UTF-8")],
                false,
                true,
            ),
            (&[("LC_ALL", "C"), ("LANG", "C.UTF-8")], true, false),
            (&[("TERM", "dumb")], false, false),
        ] {
            let variable = |name: &str| {
                let found = set.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let look = Look {
                has_colour,
                has_blocks,
            };
            assert_eq!(Look::of(variable), look, "{set:?}");
        }
    }

    #[test]
    fn without_colour_no_style_has_one() {
        let look = Look {
            has_colour: false,
            has_blocks: true,
        };
        for tone in [
            Tone::Plain,
            Tone::Dim,
            Tone::Strong,
            Tone::Good,
            Tone::Warn,
            Tone::Bad,
        ] {
            let style = look.style(tone);
            assert_eq!((style.fg, style.bg), (None, None), "{tone:?}");
        }
    }
}
