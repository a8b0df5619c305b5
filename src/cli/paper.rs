//! `completions` and `man`: what shells and manual readers know of this command line, from its one definition.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// Manual pages of programs that users run.
const SECTION: &str = "1";

#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell that is to complete
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// The command whose page is printed; without it the page of serin itself
    command: Option<String>,
    /// Write every page into this folder, as man looks for them: serin.1, serin-status.1, ...
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    out: Option<PathBuf>,
}

pub(super) fn completions(args: &CompletionsArgs, mut line: Command) -> anyhow::Result<ExitCode> {
    let name = line.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut line, name, &mut script);
    super::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man(args: &ManArgs, line: Command) -> anyhow::Result<ExitCode> {
    let pages = pages(line);
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        for page in pages {
            let path = folder.join(page.get_filename());
            std::fs::write(&path, text(&page)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = match &args.command {
        None => format!("serin.{SECTION}"),
        Some(command) => format!("serin-{command}.{SECTION}"),
    };
    let page = pages.iter().find(|page| page.get_filename() == wanted);
    let page = page.with_context(|| {
        let command = args.command.as_deref().unwrap_or_default();
        format!("there is no command {command:?}: `serin --help` lists them")
    })?;
    super::print(&String::from_utf8_lossy(&text(page)?))?;
    Ok(ExitCode::SUCCESS)
}

/// The page of the whole, then one for each command.
fn pages(line: Command) -> Vec<Man> {
    // A command learns its full name when the whole is built.
    let mut line = line.disable_help_subcommand(true);
    line.build();
    let commands: Vec<Command> = line.get_subcommands().cloned().collect();
    std::iter::once(line).chain(commands).map(page).collect()
}

fn page(command: Command) -> Man {
    Man::new(command)
        .section(SECTION)
        .source(concat!("serin ", env!("CARGO_PKG_VERSION")))
        .manual("serin")
}

fn text(page: &Man) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    page.render(&mut text).context("a page cannot be written")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use clap::{Arg, CommandFactory, ValueEnum};

    use super::super::Args;
    use super::*;

    #[test]
    fn every_command_and_every_argument_has_a_help_text() {
        let mut line = Args::command();
        line.build();
        let commands = std::iter::once(&line).chain(line.get_subcommands());
        let mut missing = Vec::new();
        for command in commands {
            if command.get_about().is_none() {
                missing.push(format!("serin {}", command.get_name()));
            }
            let silent = command
                .get_arguments()
                .filter(|one| one.get_help().is_none());
            missing.extend(silent.map(|one| format!("{} {}", command.get_name(), one.get_id())));
        }
        assert!(missing.is_empty(), "without a help text: {missing:?}");
    }

    #[test]
    fn every_command_has_a_page_with_every_flag() {
        let pages = pages(Args::command());
        let mut line = Args::command().disable_help_subcommand(true);
        line.build();
        for command in line.get_subcommands() {
            let name = format!("serin-{}.1", command.get_name());
            let page = pages.iter().find(|page| page.get_filename() == name);
            let page = text(page.unwrap_or_else(|| panic!("there is no {name}"))).expect("a page");
            let page = String::from_utf8(page).expect("text").replace("\\-", "-");
            for flag in command.get_arguments().filter_map(Arg::get_long) {
                assert!(page.contains(&format!("--{flag}")), "{name} lacks --{flag}");
            }
            assert!(
                page.contains(&format!("serin {}", command.get_name())),
                "{name}: no synopsis"
            );
        }
        assert_eq!(pages.len(), line.get_subcommands().count() + 1);
    }

    #[test]
    fn every_shell_has_completions_of_every_command() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Args::command(), "serin", &mut script);
            let script = String::from_utf8(script).expect("text");
            for word in ["watch", "rollback", "--takeover", "preflight"] {
                let word = word.trim_start_matches("--");
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
