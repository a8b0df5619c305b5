//! `${VAR}` and `${VAR:-default}` inside strings of the file.
//!
//! Owns the notation; the environment itself is an argument. Keys are never expanded, and what was
//! expanded is not expanded again.

/// The environment as a function: a variable's value, `None` where it is not set.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Whether a string asks for the environment.
pub(super) fn is_template(text: &str) -> bool {
    text.contains("${")
}

/// What became of a template.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expanded {
    pub(super) text: String,
    /// Each variable that was asked for, and whether its default stands in.
    pub(super) asked: Vec<(String, bool)>,
}

/// Expands every `${..}`. As in a shell, `:-` also covers a variable that is set but empty.
///
/// # Errors
/// A variable that is not set and has no default, a `${` without `}`, or a name that is none.
pub(super) fn expand(text: &str, env: Env<'_>) -> Result<Expanded, String> {
    let mut out = String::with_capacity(text.len());
    let mut asked = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find("${") {
        out.push_str(&rest[..begin]);
        let inside = &rest[begin + 2..];
        let end = inside
            .find('}')
            .ok_or_else(|| "`${` without its `}`".to_owned())?;
        let (name, default) = match inside[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inside[..end], None),
        };
        let (value, stands_in) = resolve(name, default, env)?;
        out.push_str(&value);
        asked.push((name.to_owned(), stands_in));
        rest = &inside[end + 1..];
    }
    out.push_str(rest);
    Ok(Expanded { text: out, asked })
}

/// The value, and whether it is the default.
fn resolve(name: &str, default: Option<&str>, env: Env<'_>) -> Result<(String, bool), String> {
    if !is_variable(name) {
        return Err(format!(
            "{name:?} is not the name of an environment variable"
        ));
    }
    match (env(name), default) {
        (Some(value), None) => Ok((value, false)),
        (Some(value), Some(_)) if !value.is_empty() => Ok((value, false)),
        (_, Some(default)) => Ok((default.to_owned(), true)),
        (None, None) => Err(format!(
            "the environment variable {name} is not set and has no default"
        )),
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.as_bytes()[0].is_ascii_digit()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "SET" => Some("value".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${SET}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_and_defaults_expand_as_a_shell_does() {
        let check = |text: &str, expanded: &str| {
            let found = expand(text, &env).map(|expanded| expanded.text);
            assert_eq!(found.as_deref(), Ok(expanded), "{text}")
        };
        check("plain $HOME {x}", "plain $HOME {x}");
        check("${SET}", "value");
        check("a-${SET}-${SET}-b", "a-value-value-b");
        check("${EMPTY}", "");
        check("${EMPTY:-x}", "x");
        check("${UNSET:-x:-y}", "x:-y");
        check("${UNSET:-}", "");
        check("${NESTED}", "${SET}");
    }

    #[test]
    fn what_was_asked_for_is_known_and_whether_its_default_stands_in() {
        let asked = expand("${SET}:${EMPTY:-x}:${UNSET:-}", &env).map(|expanded| expanded.asked);
        let expected = [("SET", false), ("EMPTY", true), ("UNSET", true)];
        assert_eq!(
            asked,
            Ok(expected.map(|(name, is)| (name.to_owned(), is)).into())
        );
    }

    #[test]
    fn what_cannot_be_expanded_says_why() {
        let check = |text: &str, part: &str| {
            let fault = expand(text, &env).expect_err(text);
            assert!(fault.contains(part), "{text}: {fault}");
        };
        check("${UNSET}", "UNSET is not set");
        check("${SET", "without its `}`");
        check("${}", "not the name");
        check("${1A}", "not the name");
        check("${A B:-x}", "not the name");
    }
}
