//! The dashboard: one web page of plain files, written by hand and kept in the program. Offers each by its name, with its type.
//!
//! The files hold no data and ask for no token; what they show they read from the API with the token that a person types. No build
//! step, nothing from another address. `app.js` is where a reader begins; `dom.js` is the only file that writes into the document.

/// One file as it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    pub name: &'static str,
    pub content_type: &'static str,
    pub text: &'static str,
}

/// What `GET /` answers.
pub const PAGE: File = File {
    name: "index.html",
    content_type: HTML,
    text: include_str!("index.html"),
};

/// What the page is made of, below `/console/`.
pub const FILES: &[File] = &[
    File {
        name: "style.css",
        content_type: "text/css; charset=utf-8",
        text: include_str!("style.css"),
    },
    File {
        name: "icon.svg",
        content_type: "image/svg+xml",
        text: include_str!("icon.svg"),
    },
    script("actions.js", include_str!("actions.js")),
    script("api.js", include_str!("api.js")),
    script("app.js", include_str!("app.js")),
    script("approval.js", include_str!("approval.js")),
    script("chart.js", include_str!("chart.js")),
    script("charts.js", include_str!("charts.js")),
    script("dom.js", include_str!("dom.js")),
    script("effects.js", include_str!("effects.js")),
    script("events.js", include_str!("events.js")),
    script("evidence.js", include_str!("evidence.js")),
    script("feed.js", include_str!("feed.js")),
    script("judged.js", include_str!("judged.js")),
    script("now.js", include_str!("now.js")),
    script("outside.js", include_str!("outside.js")),
    script("plan.js", include_str!("plan.js")),
    script("pools.js", include_str!("pools.js")),
    script("segments.js", include_str!("segments.js")),
    script("words.js", include_str!("words.js")),
];

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const fn script(name: &'static str, text: &'static str) -> File {
    File {
        name,
        content_type: SCRIPT,
        text,
    }
}

/// The file of that name below `/console/`.
pub fn find(name: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_offered() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console");
        let there: BTreeSet<String> = std::fs::read_dir(folder)
            .expect("the room")
            .map(|entry| entry.expect("a file").file_name().to_string_lossy().into())
            .filter(|name: &String| name != "mod.rs" && name != PAGE.name)
            .collect();
        let offered: BTreeSet<String> = FILES.iter().map(|file| file.name.to_owned()).collect();
        assert_eq!(there, offered);
    }

    /// Whatever a script imports is offered, and nothing is asked of another address.
    #[test]
    fn the_page_needs_nothing_that_is_not_here() {
        for file in FILES.iter().chain([&PAGE]) {
            for (_, rest) in file
                .text
                .match_indices(" from \"./")
                .map(|(at, word)| (at, &file.text[at + word.len()..]))
            {
                let name = rest.split('"').next().unwrap_or_default();
                assert!(find(name).is_some(), "{} imports {name}", file.name);
            }
            let outside = file.text.replace("http://www.w3.org/2000/svg", "");
            for word in ["http://", "https://", "url(", "//cdn", "@import"] {
                assert!(!outside.contains(word), "{}: {word}", file.name);
            }
        }
    }

    /// What came from a request or a person is text: names of learners and segments are chosen by whoever asks.
    #[test]
    fn nothing_is_parsed_as_html_or_as_code() {
        for file in FILES {
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "DOMParser",
                "eval(",
                "new Function",
                "localStorage",
                "sessionStorage",
                "document.cookie",
            ] {
                assert!(!file.text.contains(word), "{}: {word}", file.name);
            }
        }
    }
}
