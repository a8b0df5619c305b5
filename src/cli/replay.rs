//! `serin replay`: a deployment log's inputs through the gate again, compared with its events.
//!
//! Reads the log and the inputs beside it. Exit 0 where every decision is the same, 1 where one differs or cannot be made
//! again, 2 where a file cannot be read.

use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};

use crate::records::inputs::beside;
use crate::rollout::name::RolloutName;
use crate::simulate::{Replayed, replay};

/// Gives a recorded rollout to the gate again
#[derive(Args, Clone, Debug)]
pub struct ReplayArgs {
    /// A deployment log: deployment-logs/canary-<time>.json
    pub log: PathBuf,

    /// What the gate was given; left out: canary-<time>.inputs.gz beside the log
    #[arg(long)]
    pub inputs: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Says on `out` what came of it, on `err` what could not be read.
pub fn run(args: &ReplayArgs, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let (replayed, text) = match read(args) {
        Ok((rollout, lines, events)) => match replay(&rollout, &lines, &events) {
            Ok(replayed) => (replayed.difference.is_none(), told(args, &replayed)),
            Err(why) => return say(err, &format!("serin: {why}\n"), ExitCode::FAILURE),
        },
        Err(why) => {
            return say(
                err,
                &format!("serin: {why}\n"),
                ExitCode::from(super::EXIT_USAGE),
            );
        }
    };
    let code = if replayed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    say(out, &text, code)
}

fn told(args: &ReplayArgs, replayed: &Replayed) -> String {
    if args.json {
        let value = json!({
            "log": args.log.display().to_string(),
            "inputs": replayed.inputs,
            "same_events": replayed.same,
            "later_events": replayed.later,
            "difference": replayed.difference,
        });
        return format!("{value}\n");
    }
    let Replayed {
        inputs,
        same,
        later,
        ..
    } = replayed;
    let later = match later {
        0 => String::new(),
        later => format!("; {later} came after the run's end and have no inputs"),
    };
    match &replayed.difference {
        None => format!("the same: {inputs} inputs made the {same} recorded events again{later}\n"),
        Some(difference) => format!("{same} events are the same, then\n{difference}\n"),
    }
}

type Recorded = (RolloutName, String, Vec<Value>);

fn read(args: &ReplayArgs) -> Result<Recorded, String> {
    let text = std::fs::read_to_string(&args.log).map_err(|why| unreadable(&args.log, &why))?;
    let no_log =
        |why: &dyn std::fmt::Display| format!("{} is no deployment log: {why}", args.log.display());
    let mut log: Value = serde_json::from_str(&text).map_err(|why| no_log(&why))?;
    let name = log["rollout"].as_str().unwrap_or_default();
    let rollout = RolloutName::parse(name).map_err(|why| no_log(&why))?;
    let Value::Array(events) = log["events"].take() else {
        return Err(no_log(&"it has no events"));
    };
    let inputs = match &args.inputs {
        Some(path) => path.clone(),
        None => {
            let name = args.log.file_name().map(|name| name.to_string_lossy());
            args.log.with_file_name(beside(&name.unwrap_or_default()))
        }
    };
    let lines = unpacked(&inputs).map_err(|why| unreadable(&inputs, &why))?;
    Ok((rollout, lines, events))
}

// What a crash cut short is good up to its last whole line.
fn unpacked(path: &Path) -> std::io::Result<String> {
    let packed = std::fs::read(path)?;
    let mut bytes = Vec::new();
    match MultiGzDecoder::new(packed.as_slice()).read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(why) if why.kind() == ErrorKind::UnexpectedEof => {
            let whole = bytes.iter().rposition(|&byte| byte == b'\n');
            bytes.truncate(whole.map_or(0, |last| last + 1));
        }
        Err(why) => return Err(why),
    }
    String::from_utf8(bytes).map_err(|why| std::io::Error::new(ErrorKind::InvalidData, why))
}

fn unreadable(path: &Path, why: &std::io::Error) -> String {
    format!("{} cannot be read: {why}", path.display())
}

/// A reader that went away is no failure of ours.
fn say(to: &mut dyn Write, text: &str, code: ExitCode) -> ExitCode {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(why) if why.kind() != ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Ok(()) | Err(_) => code,
    }
}
