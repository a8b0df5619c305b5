//! A file that cannot be used is named, left as it is, and never a reason to panic.

use std::path::Path;

use rusqlite::Connection;
use serin::store::StoreError;

use crate::make::{PATIENCE, one, open, open_settings, settings};

fn refused(directory: &Path) -> StoreError {
    match open_settings(&settings(directory)) {
        Ok(_) => panic!("the file was accepted"),
        Err(error) => error,
    }
}

fn place(directory: &Path, bytes: &[u8]) -> std::path::PathBuf {
    let path = settings(directory).path;
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    std::fs::write(&path, bytes).expect("a file");
    path
}

#[test]
fn a_file_of_a_newer_serin_is_not_touched() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path());
    opened.store.write(one(1));
    opened.store.close(PATIENCE);
    drop(opened);
    let path = settings(directory.path()).path;
    let newer = Connection::open(&path).expect("a database");
    newer
        .pragma_update(None, "user_version", 99)
        .expect("a version");
    drop(newer);
    let before = std::fs::read(&path).expect("the file");

    let error = refused(directory.path());
    assert!(
        matches!(
            error,
            StoreError::Newer {
                found: 99,
                known: 3,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error.to_string().contains("made by a newer serin"),
        "{error}"
    );
    assert!(
        std::fs::read(&path).expect("the file") == before,
        "the file was changed"
    );
}

#[test]
fn what_is_no_journal_is_damaged_and_not_touched() {
    let foreign = tempfile::tempdir().expect("a directory");
    let other = Connection::open(foreign.path().join("other.db")).expect("a database");
    other
        .execute_batch("CREATE TABLE cats (name TEXT)")
        .expect("a table");
    drop(other);
    let foreign = std::fs::read(foreign.path().join("other.db")).expect("the file");
    for bytes in [
        b"these are no pages".to_vec(),
        vec![0; 8_192],
        vec![0xff; 100_000],
        foreign,
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = place(directory.path(), &bytes);
        let error = refused(directory.path());
        assert!(
            matches!(error, StoreError::Damaged { .. }),
            "{} bytes: {error}",
            bytes.len()
        );
        assert!(error.to_string().contains("serin.db is damaged"), "{error}");
        assert!(
            std::fs::read(&path).expect("the file") == bytes,
            "the file was changed"
        );
    }
}

#[test]
fn a_journal_that_lost_pages_is_damaged() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path());
    for id in 1..=500 {
        opened.store.write(one(id));
    }
    opened.store.close(PATIENCE);
    drop(opened);
    let path = settings(directory.path()).path;
    let whole = std::fs::read(&path).expect("the file");
    assert!(whole.len() > 40_000, "{} bytes", whole.len());
    // Cut, and with a page overwritten in the middle.
    for spoilt in [
        whole[..whole.len() / 2].to_vec(),
        [&whole[..16_384], &[0xaa; 8_192], &whole[24_576..]].concat(),
    ] {
        std::fs::write(&path, &spoilt).expect("the file is spoilt");
        let error = refused(directory.path());
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    }
}

#[test]
fn a_state_that_cannot_be_read_is_damage() {
    for spoil in [
        "UPDATE state SET json = '{}'",
        "UPDATE state SET counts = x'01'",
        "UPDATE state SET rollout = 'a b'",
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let opened = open(directory.path());
        opened.store.write(one(1));
        opened.store.close(PATIENCE);
        drop(opened);
        let database = Connection::open(settings(directory.path()).path).expect("a database");
        assert_eq!(database.execute(spoil, []).expect(spoil), 1);
        drop(database);
        let error = refused(directory.path());
        assert!(
            matches!(error, StoreError::Damaged { .. }),
            "{spoil}: {error}"
        );
    }
}

#[test]
fn a_path_that_is_a_directory_or_lies_in_a_file_cannot_be_opened() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir_all(settings(directory.path()).path).expect("a directory");
    assert!(matches!(refused(directory.path()), StoreError::Open { .. }));

    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("state"), "a file").expect("a file");
    assert!(matches!(refused(directory.path()), StoreError::Open { .. }));
}
