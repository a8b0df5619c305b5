//! `serin assign`: where the hash puts learners, offline.
//!
//! Ids are raw bytes, one a line; nothing of them is decoded. Knows no pins, ceilings or health:
//! `GET /api/assign` does.

use std::ffi::OsString;
use std::io::{self, BufRead, BufWriter, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::config::parse_share;
use crate::rollout::assign::{Ask, Salt, Split};
use crate::rollout::weight::Weight;

/// Large enough that a system call carries thousands of lines.
const BUFFER_BYTES: usize = 1 << 18;

/// Shows bucket and arm of learner ids: `id<TAB>bucket<TAB>arm`
#[derive(Args, Clone, Debug)]
pub struct AssignArgs {
    /// The rollout's salt (its name, where the file gives none)
    #[arg(long)]
    pub salt: String,

    /// Canary's share, "1%" or 0.01
    #[arg(long, value_parser = parse_share)]
    pub weight: Weight,

    /// One JSON object a line
    #[arg(long)]
    pub json: bool,

    /// Learner ids; without any they are read from standard input, one a line
    pub ids: Vec<OsString>,
}

/// Writes a line for each id of the arguments, or else of `input`. A reader that went away ends it quietly.
pub fn run(
    args: &AssignArgs,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> ExitCode {
    match write_all(args, input, out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) if why.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(why) => {
            // Where even this cannot be said, the exit code says it.
            writeln!(err, "serin: {why}").ok();
            ExitCode::FAILURE
        }
    }
}

fn write_all(args: &AssignArgs, input: &mut dyn BufRead, out: &mut dyn Write) -> io::Result<()> {
    let salt = Salt::new(&args.salt);
    let split = Split {
        weight: args.weight,
        closed: false,
        ..Split::baseline_only()
    };
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, out);
    let mut write = |id: &[u8]| {
        if args.json {
            write_json(&mut out, &salt, &split, id)
        } else {
            write_line(&mut out, &salt, &split, id)
        }
    };
    if args.ids.is_empty() {
        each_line(input, &mut write)?;
    } else {
        args.ids.iter().try_for_each(|id| write(id.as_bytes()))?;
    }
    out.flush()
}

/// Hands over each line without its ending, in one buffer.
fn each_line(
    input: &mut dyn BufRead,
    write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        let id = line
            .strip_suffix(b"\n")
            .map_or(line.as_slice(), |id| id.strip_suffix(b"\r").unwrap_or(id));
        write(id)?;
        line.clear();
    }
    Ok(())
}

fn write_line(out: &mut impl Write, salt: &Salt, split: &Split, id: &[u8]) -> io::Result<()> {
    let (bucket, arm) = assign(salt, split, id);
    out.write_all(id)?;
    writeln!(out, "\t{bucket}\t{arm}")
}

/// An id that is no UTF-8 is given in hexadecimal, under another name.
fn write_json(out: &mut impl Write, salt: &Salt, split: &Split, id: &[u8]) -> io::Result<()> {
    let (bucket, arm) = assign(salt, split, id);
    let line = match std::str::from_utf8(id) {
        Ok(id) => json!({ "id": id, "bucket": bucket, "arm": arm }),
        Err(_) => {
            let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({ "id_hex": hex, "bucket": bucket, "arm": arm })
        }
    };
    writeln!(out, "{line}")
}

fn assign(salt: &Salt, split: &Split, id: &[u8]) -> (u32, &'static str) {
    let hash = salt.hash(id);
    let ask = Ask {
        learner: Some(id),
        hash: Some(hash),
        ..Ask::default()
    };
    (hash.bucket(), split.assign(ask).arm.as_str())
}
