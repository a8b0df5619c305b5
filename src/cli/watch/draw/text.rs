//! Text in the width there is: cut with a mark, or wrapped between words. Widths are those of a terminal's cells.

use ratatui::text::{Line, Span};

use super::look::{Look, Tone};

pub(super) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// As much of the text as fits, its last cell the mark of a cut where not all does.
pub(super) fn cut(look: Look, text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut shown = head(text, room.saturating_sub(1)).to_owned();
    if room > 0 {
        shown.push(look.cut());
    }
    shown
}

/// The longest beginning that has at most this width.
fn head(text: &str, room: usize) -> &str {
    let mut end = 0;
    for (at, c) in text.char_indices() {
        let next = at + c.len_utf8();
        if width(&text[..next]) > room {
            break;
        }
        end = next;
    }
    &text[..end]
}

/// Lines of at most `room`; those after the first begin with `indent` blanks.
pub(super) fn wrap(text: &str, room: usize, indent: usize) -> Vec<String> {
    let indent = if indent + 10 < room { indent } else { 0 };
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut word = word;
        let is_begun = !line.trim().is_empty();
        if is_begun && width(&line) + 1 + width(word) > room {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
        } else if is_begun {
            line.push(' ');
        }
        // A word that is longer than a line is broken.
        while width(&line) + width(word) > room {
            let part = head(word, room.saturating_sub(width(&line)));
            if part.is_empty() {
                break;
            }
            word = &word[part.len()..];
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)) + part);
        }
        line.push_str(word);
    }
    if !line.trim().is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// A line of one tone.
pub(super) fn line(look: Look, tone: Tone, text: impl Into<String>) -> Line<'static> {
    Line::styled(text.into(), look.style(tone))
}

pub(super) fn span(look: Look, tone: Tone, text: impl Into<String>) -> Span<'static> {
    Span::styled(text.into(), look.style(tone))
}

/// A wrapped text of one tone.
pub(super) fn paragraph(
    look: Look,
    tone: Tone,
    text: &str,
    room: usize,
    indent: usize,
) -> Vec<Line<'static>> {
    let lines = wrap(text, room, indent).into_iter();
    lines.map(|text| line(look, tone, text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Look = Look {
        has_colour: true,
        has_blocks: true,
    };

    #[test]
    fn text_is_cut_to_cells_and_says_so() {
        for (text, room, shown) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("abcd", 1, "…"),
            ("abcd", 0, ""),
            ("速い鳥", 6, "速い鳥"),
            ("速い鳥", 5, "速い…"),
            ("速い鳥", 4, "速…"),
        ] {
            assert_eq!(cut(LOOK, text, room), shown, "{text:?} in {room}");
        }
    }

    #[test]
    fn text_is_wrapped_between_words() {
        let check = |text, room, indent, lines: &[&str]| {
            assert_eq!(wrap(text, room, indent), lines, "{text:?} in {room}");
        };
        check("one two three", 20, 2, &["one two three"]);
        check("one two three four", 13, 2, &["one two three", "  four"]);
        check("one two three four", 7, 2, &["one two", "three", "four"]);
        check("abcdefghij", 4, 0, &["abcd", "efgh", "ij"]);
        check("a bcdefghij", 4, 0, &["a", "bcde", "fghi", "j"]);
        check("速い鳥 x", 4, 0, &["速い", "鳥 x"]);
        check("", 4, 0, &[""]);
        check("a b", 0, 0, &["a", "b"]);
    }
}
