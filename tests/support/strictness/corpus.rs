//! Reads the files of `tests/data/strictness`; their own headers say what the lines mean.

use super::find;

/// One case of a file.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) steps: Vec<Step>,
    /// What upstream may see; `None` where the case does not ask.
    pub(crate) upstream: Option<Upstream>,
    /// What the standard asks, where the case says what happens instead.
    pub(crate) deviates: Option<String>,
    /// A line that the last head has.
    pub(crate) sees: Vec<String>,
    /// What no head has.
    pub(crate) lacks: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Send(String),
    Expect(String),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Upstream {
    /// Not one byte.
    Nothing,
    /// Never a whole request.
    Begun,
    Requests(Vec<Wanted>),
}

/// A request that upstream is to see: method, target, body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) line: String,
    pub(crate) body: Vec<u8>,
}

/// The cases of a file of `tests/data/strictness`, in their order.
pub(crate) fn load(file: &str) -> Vec<Case> {
    let path = format!("tests/data/strictness/{file}");
    parse(&std::fs::read_to_string(path).expect("the corpus is there"))
}

fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            cases.push(Case {
                name: name.to_owned(),
                source: String::new(),
                steps: Vec::new(),
                upstream: None,
                deviates: None,
                sees: Vec::new(),
                lacks: Vec::new(),
            });
        } else if !line.is_empty() && !line.starts_with('#') {
            let case = cases.last_mut().expect("a case begins with its name");
            take(case, line);
        }
    }
    for case in &cases {
        assert!(!case.source.is_empty(), "{}: no source", case.name);
    }
    cases
}

fn take(case: &mut Case, line: &str) {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        ">" => case.steps.push(Step::Send(rest.to_owned())),
        "<" => case.steps.push(Step::Expect(rest.to_owned())),
        "src:" => rest.clone_into(&mut case.source),
        "sees:" => case.sees.push(rest.to_owned()),
        "deviates:" => case.deviates = Some(rest.to_owned()),
        "not:" => case.lacks.push(rest.to_owned()),
        "up:" => case.upstream = Some(upstream(rest)),
        _ => panic!("{}: what is {line:?}?", case.name),
    }
}

fn upstream(text: &str) -> Upstream {
    match text {
        "nothing" => Upstream::Nothing,
        "begun" => Upstream::Begun,
        requests => Upstream::Requests(requests.split(" ; ").map(wanted).collect()),
    }
}

fn wanted(text: &str) -> Wanted {
    let (line, body) = text.split_once(" \"").expect("METHOD target \"body\"");
    let body = body.strip_suffix('"').expect("a quote at the end");
    Wanted {
        line: line.to_owned(),
        body: bytes(body),
    }
}

/// The bytes that a text stands for: \r \n \t \0 \\ \xNN, and {abc*9} for abc nine times.
pub(crate) fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match byte {
            b'\\' => escaped(tail, &mut out),
            b'{' => repeated(tail, &mut out),
            _ => {
                out.push(byte);
                tail
            }
        };
    }
    out
}

fn escaped<'a>(text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let (&kind, tail) = text.split_first().expect("something behind \\");
    let byte = match kind {
        b'r' => b'\r',
        b'n' => b'\n',
        b't' => b'\t',
        b'0' => 0,
        b'\\' => b'\\',
        b'x' => {
            let digits = std::str::from_utf8(&tail[..2]).expect("two digits");
            out.push(u8::from_str_radix(digits, 16).expect("hexadecimal"));
            return &tail[2..];
        }
        _ => panic!("\\{} is nothing", kind as char),
    };
    out.push(byte);
    tail
}

fn repeated<'a>(text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let end = find(text, b"}").expect("a closing brace");
    let inside = std::str::from_utf8(&text[..end]).expect("text");
    let (what, times) = inside.rsplit_once('*').expect("{what*times}");
    out.extend(bytes(what).repeat(times.parse().expect("a number")));
    &text[end + 1..]
}
