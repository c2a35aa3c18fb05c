//! Directories that are not what they were.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::fs;
use std::path::Path;

use kilter_engine::HashRange;
use kilter_io::embedded::{CommandLog, DataDir, EmbeddedStore, NewRecord};

/// A directory with a record, and a lease taken.
fn used() -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open_exclusive(temp.path()).unwrap();
    let mut log = CommandLog::open(&dir, 86_400_000).unwrap();
    log.append(&[NewRecord::new(b"{}")], 1000).unwrap();
    let store = EmbeddedStore::open(&dir).unwrap();
    store.start(&dir, &[HashRange::ALL]).unwrap();
    temp
}

fn refusals(path: &Path) -> [String; 2] {
    [
        DataDir::open_exclusive(path).unwrap_err().to_string(),
        DataDir::open_for_reading(path).unwrap_err().to_string(),
    ]
}

#[test]
fn a_lost_file_is_told_and_not_made_anew() {
    for (missing, present) in [("log.db", "store.db"), ("store.db", "log.db")] {
        let temp = used();
        let file = temp.path().join(missing);
        fs::remove_file(&file).unwrap();
        for text in refusals(temp.path()) {
            assert!(text.contains(missing), "{text}");
        }
        assert!(!file.exists(), "{missing}");
        // Cut to nothing is as lost.
        fs::write(&file, "").unwrap();
        let [text, _] = refusals(temp.path());
        assert!(text.contains(missing) && text.contains(present), "{text}");
        assert_eq!(fs::metadata(&file).unwrap().len(), 0, "{missing}");
    }
}

#[test]
fn a_crash_while_the_files_are_made_is_gone_on_from() {
    let temp = tempfile::tempdir().unwrap();
    drop(DataDir::open_exclusive(temp.path()).unwrap());
    // The log was made, the store was not: nothing was ever in either.
    fs::remove_file(temp.path().join("store.db")).unwrap();
    drop(DataDir::open_exclusive(temp.path()).unwrap());
    DataDir::open_for_reading(temp.path()).unwrap();
    // Neither was written to.
    for file in ["log.db", "store.db"] {
        fs::write(temp.path().join(file), "").unwrap();
    }
    drop(DataDir::open_exclusive(temp.path()).unwrap());
    DataDir::open_for_reading(temp.path()).unwrap();
}
