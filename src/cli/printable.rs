//! Text from outside on its way to a terminal: what would command the terminal is shown, and never obeyed.
//!
//! A reason, a learner's id or a hook's output may hold escape sequences that clear a screen, or turn what is read.
//! Such characters are written as JSON writes them, `\u001b`, which a terminal shows and JSON reads back.

use std::borrow::Cow;

use serde_json::Value;

/// Text of several lines.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_command(c) && !matches!(c, '\n' | '\t'))
}

/// One line, or a part of one.
pub(super) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_command)
}

/// Every text of a document, as a line: its values and the names of its fields.
pub(super) fn document(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(line(&text).into_owned()),
        Value::Array(list) => Value::Array(list.into_iter().map(document).collect()),
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| (line(&name).into_owned(), document(value)))
                .collect(),
        ),
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

// Controls of both sets, what ends a line, and what turns the direction of the text after it.
fn is_command(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

fn escaped(text: &str, is_command: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&is_command) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_command(c) {
            // All of them lie in the first plane, so four digits are enough.
            shown.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_commands_a_terminal_is_shown() {
        for (given, shown) in [
            ("error_rate < 1%", "error_rate < 1%"),
            ("größer, 速い, 🐤", "größer, 速い, 🐤"),
            ("\u{1b}[2J", "\\u001b[2J"),
            ("\u{9b}2J\u{7f}", "\\u009b2J\\u007f"),
            ("\u{1b}]0;owned\u{7}", "\\u001b]0;owned\\u0007"),
            ("a\r\nb\tc", "a\\u000d\\u000ab\\u0009c"),
            ("\u{202e}txet\u{2066}", "\\u202etxet\\u2066"),
        ] {
            assert_eq!(line(given), shown);
        }
        assert_eq!(text("a\tb\nc\r\u{1b}c"), "a\tb\nc\\u000d\\u001bc");
    }

    #[test]
    fn a_document_is_cleaned_to_its_leaves() {
        let given = json!({ "a\u{1b}": ["x\u{7}", 1, null, { "b": "\u{1b}c" }], "ok": true });
        let shown = json!({ "a\\u001b": ["x\\u0007", 1, null, { "b": "\\u001bc" }], "ok": true });
        assert_eq!(document(given), shown);
    }

    #[test]
    fn json_stays_json() {
        let given = json!({ "reason": "\u{1b}[2J \u{9b}2J \u{202e}" });
        let printed = text(&given.to_string()).into_owned();
        assert!(!printed.chars().any(is_command), "{printed}");
        let read: Value = serde_json::from_str(&printed).expect("JSON");
        assert_eq!(read, given);
    }
}
