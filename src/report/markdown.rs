//! A page as Markdown: headings, tables, lists. Adds no word of its own; of a chart it has nothing, its numbers are in the
//! tables beside it.

use std::fmt::Write as _;

use super::page::{Block, Cell, Page, Table};

/// A text that grows; writing into it cannot fail.
#[derive(Default)]
struct Text(String);

pub(super) fn write(page: &Page) -> String {
    let mut text = Text::default();
    text.line(&format!("# {}", inline(&page.title)));
    for section in &page.sections {
        text.line(&format!("\n## {}\n", section.title));
        let shown = section
            .blocks
            .iter()
            .filter(|block| !matches!(block, Block::Chart(_)));
        for (place, block) in shown.enumerate() {
            if place > 0 {
                text.line("");
            }
            text.block(block);
        }
    }
    text.0
}

impl Text {
    fn line(&mut self, line: &str) {
        writeln!(self.0, "{line}").expect("a text grows");
    }

    fn block(&mut self, block: &Block) {
        match block {
            Block::Text(text) => self.line(&inline(text)),
            Block::List(lines) => {
                for line in lines {
                    self.line(&format!("- {}", inline(line)));
                }
            }
            Block::Facts(facts) => {
                self.line("|  |  |");
                self.line("| --- | --- |");
                for (name, text) in facts {
                    self.line(&format!("| {} | {} |", cell(name), cell(text)));
                }
            }
            Block::Table(table) => self.table(table),
            Block::Chart(_) => {}
        }
    }

    fn table(&mut self, table: &Table) {
        if let Some(has) = &table.folded {
            self.line(&format!("{}:\n", inline(has)));
        }
        let names: Vec<String> = table.head.iter().map(|column| cell(&column.name)).collect();
        self.line(&format!("| {} |", names.join(" | ")));
        self.line(&format!("|{}", " --- |".repeat(table.head.len())));
        for row in &table.rows {
            let cells: Vec<String> = row.iter().map(|Cell { text, .. }| cell(text)).collect();
            self.line(&format!("| {} |", cells.join(" | ")));
        }
    }
}

/// A text on one line, in which nothing that came from outside becomes HTML; what is code stays as it is.
fn inline(text: &str) -> String {
    let text = text.replace(['\n', '\r'], " ");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(start) = rest.find('`') {
        let Some(length) = rest[start + 1..].find('`') else {
            break;
        };
        let (before, from) = rest.split_at(start);
        let (code, after) = from.split_at(length + 2);
        out.push_str(&before.replace('<', "\\<"));
        out.push_str(code);
        rest = after;
    }
    out.push_str(&rest.replace('<', "\\<"));
    out
}

/// The same where a bar would end the cell, in code too.
fn cell(text: &str) -> String {
    inline(text).replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_wrote_breaks_no_table_and_becomes_no_html() {
        for (text, wanted) in [
            ("plain", "plain"),
            ("a | b\nc", "a \\| b c"),
            ("<b> and `p99 < 200ms`", "\\<b> and `p99 < 200ms`"),
            ("`|x| < 3%`", "`\\|x\\| < 3%`"),
            ("one ` and <i>", "one ` and \\<i>"),
        ] {
            assert_eq!(cell(text), wanted);
        }
    }
}
