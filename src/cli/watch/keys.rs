//! Keys of the terminal as what they mean here, whatever the terminal calls them.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Press {
    Char(char),
    Enter,
    Escape,
    Erase,
    EraseAll,
    /// Ctrl-C.
    Interrupt,
    Tab,
    BackTab,
    Up,
    Down,
    PageUp,
    PageDown,
    /// Text that was not typed key by key.
    Paste(String),
    Other,
}

impl Press {
    /// The letter of a key, large or small.
    pub(super) const fn letter(&self) -> Option<char> {
        match self {
            Self::Char(c) => Some(c.to_ascii_lowercase()),
            Self::Enter
            | Self::Escape
            | Self::Erase
            | Self::EraseAll
            | Self::Interrupt
            | Self::Tab
            | Self::BackTab
            | Self::Up
            | Self::Down
            | Self::PageUp
            | Self::PageDown
            | Self::Paste(_)
            | Self::Other => None,
        }
    }
}

/// `None` for what is no key: another size, a key let go.
pub(super) fn press(event: Event) -> Option<Press> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => Some(of_key(key)),
        Event::Paste(text) => Some(Press::Paste(text)),
        Event::Key(_)
        | Event::Resize(..)
        | Event::FocusGained
        | Event::FocusLost
        | Event::Mouse(_) => None,
    }
}

fn of_key(key: KeyEvent) -> Press {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let alt = key.modifiers.contains(KeyModifiers::ALT);
    match key.code {
        KeyCode::Char('c') if control => Press::Interrupt,
        KeyCode::Char('u') if control => Press::EraseAll,
        KeyCode::Char('h') if control => Press::Erase,
        KeyCode::Char(_) if control || alt => Press::Other,
        KeyCode::Char(c) => Press::Char(c),
        KeyCode::Enter => Press::Enter,
        KeyCode::Esc => Press::Escape,
        KeyCode::Backspace => Press::Erase,
        KeyCode::Tab => Press::Tab,
        KeyCode::BackTab => Press::BackTab,
        KeyCode::Up => Press::Up,
        KeyCode::Down => Press::Down,
        KeyCode::PageUp => Press::PageUp,
        KeyCode::PageDown => Press::PageDown,
        _ => Press::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_people_expect() {
        let (none, control) = (KeyModifiers::NONE, KeyModifiers::CONTROL);
        for (code, modifiers, meant) in [
            (KeyCode::Char('r'), none, Press::Char('r')),
            (KeyCode::Char('R'), KeyModifiers::SHIFT, Press::Char('R')),
            (KeyCode::Char('c'), control, Press::Interrupt),
            (KeyCode::Char('u'), control, Press::EraseAll),
            (KeyCode::Char('r'), control, Press::Other),
            (KeyCode::Char('y'), KeyModifiers::ALT, Press::Other),
            (KeyCode::F(1), none, Press::Other),
            (KeyCode::Esc, none, Press::Escape),
        ] {
            let key = KeyEvent::new(code, modifiers);
            assert_eq!(
                press(Event::Key(key)),
                Some(meant),
                "{code:?} {modifiers:?}"
            );
        }
        let mut released = KeyEvent::new(KeyCode::Char('y'), none);
        released.kind = KeyEventKind::Release;
        assert_eq!(press(Event::Key(released)), None);
        assert_eq!(press(Event::Resize(80, 24)), None);
        let paste = Event::Paste("y".to_owned());
        assert_eq!(press(paste), Some(Press::Paste("y".to_owned())));
    }
}
