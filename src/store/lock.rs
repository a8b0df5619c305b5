//! Who owns a state path: an exclusive lock beside it, held for the life of the process.
//!
//! The kernel lets go of the lock when the process ends, however it ends; the file stays. Its text, the
//! owner's pid, is only for people.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The lock; dropping it releases the state path.
#[derive(Debug)]
pub struct OwnerLock {
    _file: File,
}

/// Why the state path is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("{path} is held by another serin (pid {owner})")]
    Held { path: PathBuf, owner: String },
    /// The file system does not let us: read-only, full, forbidden. The state cannot be written either then.
    #[error("cannot lock {path}: {why}")]
    Unusable { path: PathBuf, why: std::io::Error },
}

impl OwnerLock {
    /// Takes `<state path>.lock`, making its folder if need be.
    pub fn take(state: &Path) -> Result<Self, LockError> {
        let path = lock_path(state);
        let unusable = |why| LockError::Unusable {
            path: path.clone(),
            why,
        };
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            std::fs::create_dir_all(folder).map_err(unusable)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(unusable)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(LockError::Held {
                    owner: owner_of(&mut file),
                    path,
                });
            }
            Err(why) => return Err(unusable(why.into())),
        }
        write_owner(&mut file).map_err(unusable)?;
        Ok(Self { _file: file })
    }
}

fn lock_path(state: &Path) -> PathBuf {
    let mut path = state.as_os_str().to_owned();
    path.push(".lock");
    PathBuf::from(path)
}

fn owner_of(file: &mut File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        Ok(_) | Err(_) => "unknown".to_owned(),
    }
}

fn write_owner(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_told_who_the_first_is() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state = folder.path().join("new/serin.db");
        let first = OwnerLock::take(&state).expect("nobody holds it");
        let Err(LockError::Held { owner, .. }) = OwnerLock::take(&state) else {
            panic!("taken twice");
        };
        assert_eq!(owner, std::process::id().to_string());
        drop(first);
        OwnerLock::take(&state).expect("the first has let go");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_no_owner() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "x").expect("a file");
        assert!(matches!(
            OwnerLock::take(&file.join("serin.db")),
            Err(LockError::Unusable { .. })
        ));
    }
}
