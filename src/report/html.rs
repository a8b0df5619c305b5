//! A page as one HTML file: its style and its pictures within, no script, and nothing that is fetched from anywhere.
//!
//! Everything that came from outside passes `escaped` on its way; a policy in the head forbids what should slip
//! through to do anything. Adds no number of its own.

use std::fmt::Write as _;

use super::chart::{Chart, Line, Look};
use super::page::{Block, Cell, Column, Holds, Page, Section, Table, Tone};
use super::series::LimitList;
use super::svg::{self, Size};

const STYLE: &str = include_str!("style.css");
/// Its own style, and nothing else.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
/// The section that stands at the top, in larger letters.
const FIRST: &str = "decision";

/// A text that grows; writing into it cannot fail.
#[derive(Default)]
struct Document(String);

pub(super) fn write(page: &Page) -> String {
    let mut document = Document::default();
    document.head(page);
    document.top(page);
    document.contents(page);
    document.push("<main>\n");
    for section in page.sections.iter().filter(|one| one.id != FIRST) {
        document.section(section);
    }
    document.push("</main>\n</body>\n</html>\n");
    document.0
}

impl Document {
    fn push(&mut self, text: &str) {
        self.0.push_str(text);
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{text}").expect("a text grows");
    }

    fn head(&mut self, page: &Page) {
        let (title, badge) = (escaped(&page.title), escaped(&page.badge));
        self.line(format_args!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
             <title>{title}: {badge}</title>\n<style>\n{STYLE}</style>\n</head>"
        ));
    }

    /// What is seen before anything is scrolled: how it stands, what was decided, and why.
    fn top(&mut self, page: &Page) {
        let tone = class(page.tone);
        self.line(format_args!("<body>\n<header class=\"{tone}\">"));
        self.line(format_args!(
            "<h1>{} <span class=\"badge\">{}</span></h1>",
            escaped(&page.title),
            escaped(&page.badge)
        ));
        for section in page.sections.iter().filter(|one| one.id == FIRST) {
            self.line(format_args!(
                "<section id=\"{}\" aria-label=\"{}\">",
                section.id, section.title
            ));
            self.blocks(&section.blocks);
            self.push("</section>\n");
        }
        self.push("</header>\n");
    }

    fn contents(&mut self, page: &Page) {
        self.push("<nav aria-label=\"Contents\">\n<ul>\n");
        for section in page.sections.iter().filter(|one| one.id != FIRST) {
            self.line(format_args!(
                "<li><a href=\"#{}\">{}</a></li>",
                section.id,
                escaped(section.title)
            ));
        }
        self.push("</ul>\n</nav>\n");
    }

    fn section(&mut self, section: &Section) {
        let (id, title) = (section.id, escaped(section.title));
        self.line(format_args!("<section id=\"{id}\">\n<h2>{title}</h2>"));
        self.blocks(&section.blocks);
        self.push("</section>\n");
    }

    fn blocks(&mut self, blocks: &[Block]) {
        for block in blocks {
            match block {
                Block::Text(text) => self.line(format_args!("<p>{}</p>", inline(text))),
                Block::Facts(facts) => self.facts(facts),
                Block::List(lines) => self.list(lines),
                Block::Table(table) => self.table(table),
                Block::Chart(chart) => self.chart(chart),
            }
        }
    }

    fn facts(&mut self, facts: &[(String, String)]) {
        self.push("<dl>\n");
        for (name, text) in facts {
            self.line(format_args!(
                "<div><dt>{}</dt><dd>{}</dd></div>",
                inline(name),
                inline(text)
            ));
        }
        self.push("</dl>\n");
    }

    fn list(&mut self, lines: &[String]) {
        self.push("<ul>\n");
        for line in lines {
            self.line(format_args!("<li>{}</li>", inline(line)));
        }
        self.push("</ul>\n");
    }

    fn table(&mut self, table: &Table) {
        match &table.folded {
            Some(has) => {
                self.line(format_args!(
                    "<details>\n<summary>{}</summary>",
                    inline(has)
                ));
                self.grid(table, has);
                self.push("</details>\n");
            }
            None => self.grid(table, "Table"),
        }
    }

    /// It scrolls by itself where it is wider than the page, and by the keyboard too.
    fn grid(&mut self, table: &Table, label: &str) {
        self.line(format_args!(
            "<div class=\"grid\" role=\"region\" tabindex=\"0\" aria-label=\"{}\">\n<table>\n<thead>\n<tr>",
            escaped(label)
        ));
        for column in &table.head {
            self.line(format_args!(
                "<th scope=\"col\"{}>{}</th>",
                holds(column),
                inline(&column.name)
            ));
        }
        self.push("</tr>\n</thead>\n<tbody>\n");
        for row in &table.rows {
            self.push("<tr>");
            for (column, cell) in table.head.iter().zip(row) {
                self.cell(column, cell);
            }
            self.push("</tr>\n");
        }
        self.push("</tbody>\n</table>\n</div>\n");
    }

    fn cell(&mut self, column: &Column, cell: &Cell) {
        let text = inline(&cell.text);
        let holds = holds(column);
        match cell.tone {
            Tone::Plain => self.push(&format!("<td{holds}>{text}</td>")),
            tone => self.push(&format!(
                "<td{holds}><span class=\"{}\">{text}</span></td>",
                class(tone)
            )),
        }
    }

    fn chart(&mut self, chart: &Chart) {
        self.line(format_args!(
            "<figure>\n<figcaption>{}</figcaption>",
            escaped(&chart.title)
        ));
        self.legend(chart);
        for size in Size::ALL {
            self.picture(chart, size);
        }
        self.push("<details>\n<summary>The same as numbers</summary>\n");
        self.grid(&chart.table, &chart.title);
        self.push("</details>\n</figure>\n");
    }

    fn legend(&mut self, chart: &Chart) {
        self.push("<ul class=\"legend\">\n");
        let drawn = |line: &&Line| !line.pieces.is_empty();
        for line in chart.lines.iter().filter(drawn) {
            self.key(look(line.look), &line.name);
        }
        for (list, says) in [
            (LimitList::Advance, "limit of a criterion to advance"),
            (LimitList::Rollback, "limit of a trigger to roll back"),
        ] {
            if chart.limits.iter().any(|limit| limit.list == list) {
                self.key(limit(list), says);
            }
        }
        if !chart.decisions.is_empty() {
            self.key("decision", "decision, by its number in the timeline");
        }
        self.push("</ul>\n");
    }

    fn key(&mut self, class: &str, says: &str) {
        self.line(format_args!(
            "<li><i class=\"{class}\"></i>{}</li>",
            escaped(says)
        ));
    }

    fn picture(&mut self, chart: &Chart, size: Size) {
        let Some(drawn) = svg::draw(chart, size) else {
            return;
        };
        let (id, name) = (chart.id, size.as_str());
        let [width, height] = drawn.view;
        self.line(format_args!(
            "<svg class=\"{name}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
             aria-labelledby=\"{id}-{name}-title {id}-{name}-desc\">\n\
             <title id=\"{id}-{name}-title\">{}</title>\n<desc id=\"{id}-{name}-desc\">{}</desc>\n{}</svg>",
            escaped(&chart.title),
            escaped(&chart.description),
            drawn.shapes
        ));
    }
}

const fn holds(column: &Column) -> &'static str {
    match column.holds {
        Holds::Words => "",
        Holds::Labels => " class=\"label\"",
        Holds::Numbers => " class=\"number\"",
    }
}

const fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "plain",
        Tone::Good => "good",
        Tone::Bad => "bad",
        Tone::Doubtful => "doubtful",
    }
}

const fn look(look: Look) -> &'static str {
    match look {
        Look::Baseline => "baseline",
        Look::Canary => "canary",
        Look::BaselineFaint => "baseline faint",
        Look::CanaryFaint => "canary faint",
    }
}

const fn limit(list: LimitList) -> &'static str {
    match list {
        LimitList::Advance => "advance",
        LimitList::Rollback => "rollback",
    }
}

/// A text with what stands between backticks as code.
fn inline(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('`') {
        let Some(length) = rest[start + 1..].find('`') else {
            break;
        };
        let code = &rest[start + 1..start + 1 + length];
        out.push_str(&escaped(&rest[..start]));
        out.push_str(&format!("<code>{}</code>", escaped(code)));
        rest = &rest[start + length + 2..];
    }
    out.push_str(&escaped(rest));
    out
}

/// A text that is nothing but text, between tags and in an attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // What HTML has no place for, and what would turn the direction of what follows.
            letter if is_hidden(letter) => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}

const fn is_hidden(letter: char) -> bool {
    matches!(
        letter,
        '\0'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_wrote_is_text_and_nothing_else() {
        for (text, wanted) in [
            ("plain", "plain"),
            (
                "<script>alert('x')</script>",
                "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;",
            ),
            ("a & \"b\"", "a &amp; &quot;b&quot;"),
            (
                "`p99 < 200ms` was true",
                "<code>p99 &lt; 200ms</code> was true",
            ),
            ("one ` alone", "one ` alone"),
            (
                "`<i>` `` <b>",
                "<code>&lt;i&gt;</code> <code></code> &lt;b&gt;",
            ),
            ("a\u{0}b\u{202e}c", "a\u{fffd}b\u{fffd}c"),
        ] {
            assert_eq!(inline(text), wanted);
        }
    }
}
