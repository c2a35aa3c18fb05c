//! Inputs that are given again, whole or in part.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use kilter_io::embedded::{CommandLog, DataDir, Input, LineBatch};

/// Gives an input, at most so many batches of two lines; how many lines were known and appended.
fn give(path: &Path, text: &str, is_file: bool, batches: usize) -> (u64, u64) {
    let dir = DataDir::open_exclusive(path).unwrap();
    let mut log = CommandLog::open(&dir, 86_400_000).unwrap();
    let before = log.end().get();
    let (mut input, known) = if is_file {
        let file = path.join("input");
        std::fs::write(&file, text).unwrap();
        Input::file(&file, &log, false).unwrap()
    } else {
        Input::pipe("-".to_owned(), Cursor::new(text.to_owned()), &log, false).unwrap()
    };
    let mut batch = LineBatch::default();
    for _ in 0..batches {
        input.read(&mut batch, 2, 1000).unwrap();
        if batch.is_empty() {
            break;
        }
        log.append_input(&mut input, &batch.lines(), 1000).unwrap();
    }
    (known.lines, log.end().get() - before)
}

#[test]
fn every_cut_is_gone_on_from() {
    let text = "one\n\n\ntwo\none\nthree\r\n\nfour";
    for is_file in [true, false] {
        for first in 0..=5 {
            for second in 0..=5 {
                let temp = tempfile::tempdir().unwrap();
                let mut appended = 0;
                for batches in [first, second, 100] {
                    let (known, more) = give(temp.path(), text, is_file, batches);
                    assert_eq!(known, appended, "{is_file} {first} {second}");
                    appended += more;
                }
                assert_eq!(appended, 8);
                // The last newline makes no difference.
                let whole = format!("{text}\n");
                assert_eq!(give(temp.path(), &whole, is_file, 100), (8, 0));
            }
        }
    }
}

#[test]
fn the_longest_known_beginning_wins() {
    for is_file in [true, false] {
        let temp = tempfile::tempdir().unwrap();
        let known_appended = |text: &str| give(temp.path(), text, is_file, 100);
        assert_eq!(known_appended("a\nb\nc\n"), (0, 3));
        assert_eq!(known_appended("a\nb\nc\nd\ne\n"), (3, 2));
        assert_eq!(known_appended("a\nb\nc\nx\n"), (3, 1));
        assert_eq!(known_appended("a\nb\nc\nd\ne\nf\n"), (5, 1));
        assert_eq!(known_appended("a\nb\nc\n"), (3, 0));
        // Part of a known one is another input, and so is one that begins otherwise.
        assert_eq!(known_appended("a\nb\n"), (0, 2));
        assert_eq!(known_appended("ab\nc\n"), (0, 2));
        assert_eq!(known_appended(""), (0, 0));
        assert_eq!(known_appended("\n"), (0, 1));
        assert_eq!(known_appended("\n"), (1, 0));
    }
}

/// A pipe is read ahead only as far as it could be a known input: its writer may be waiting for
/// the outcome of its first line.
#[test]
fn a_live_pipe_is_not_waited_for_in_vain() {
    let temp = tempfile::tempdir().unwrap();
    assert_eq!(give(temp.path(), "a\nb\nc\nd\n", false, 100), (0, 4));
    for (begin, known) in [("x\n", 0), ("a\nb\nc\nd\n", 4)] {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(begin.as_bytes()).unwrap();
        let (tell, told) = mpsc::channel();
        let path = temp.path().to_owned();
        let thread = std::thread::spawn(move || {
            let dir = DataDir::open_exclusive(&path).unwrap();
            let log = CommandLog::open(&dir, 86_400_000).unwrap();
            let (input, known) = Input::pipe("-".to_owned(), reader, &log, false).unwrap();
            drop((input, log, dir));
            tell.send(known.lines).unwrap();
        });
        // The writer is still open here.
        let lines = told.recv_timeout(Duration::from_secs(20));
        assert_eq!(lines, Ok(known), "{begin:?}");
        drop(writer);
        thread.join().unwrap();
    }
}
