//! Reports beside the deployment logs: `canary-<start>-report.md` of a run as it stands, and
//! `canary-<start>-report-<stage>.md` of it as it stood when a stage ended; the same with `.json` and `.html`.
//!
//! Files for people and scripts, made by somebody else from the journal: whoever writes one waits for the disk here.

use std::io;
use std::path::{Path, PathBuf};

/// A report as it is to be kept.
#[derive(Clone, Debug)]
pub struct Document {
    /// `md`, `json` or `html`.
    pub extension: &'static str,
    pub text: String,
}

/// `canary-<start>-report` for the log `canary-<start>.json`: what the names of all its reports begin with.
fn stem(log: &str) -> String {
    format!("{}-report", log.trim_end_matches(".json"))
}

/// The file of a run's report, or of one at the end of a stage.
pub(super) fn path(directory: &Path, log: &str, stage: Option<&str>, extension: &str) -> PathBuf {
    let stem = stem(log);
    directory.join(match stage {
        Some(stage) => format!("{stem}-{stage}.{extension}"),
        None => format!("{stem}.{extension}"),
    })
}

/// Replaces the reports of a run, or of one of its stages; each file is whole at any moment.
pub(super) fn keep(
    directory: &Path,
    log: &str,
    stage: Option<&str>,
    documents: &[Document],
) -> Result<(), (PathBuf, io::Error)> {
    for document in documents {
        let path = path(directory, log, stage, document.extension);
        replace(&path, &document.text).map_err(|error| (path, error))?;
    }
    Ok(())
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".tmp");
    std::fs::write(&unfinished, text)?;
    std::fs::rename(&unfinished, path)
}

/// The reports of a run, whatever its stages were called.
pub(super) fn of_log(directory: &Path, log: &str) -> io::Result<Vec<String>> {
    let stem = stem(log);
    let is_one = |name: &str| {
        let rest = name.strip_prefix(&stem);
        rest.is_some_and(|rest| rest.starts_with(['.', '-']))
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        names.extend(name.to_str().filter(|name| is_one(name)).map(str::to_owned));
    }
    Ok(names)
}
