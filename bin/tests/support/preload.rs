//! Libraries that are preloaded into the program, to give it another machine than there is.

use std::{path::Path, process::Command};

use super::text;

/// Compiles `data/<name>.c` into a directory; `None` after saying so where there is no compiler.
pub fn library(test: &str, dir: &Path, name: &str) -> Option<String> {
    let source = format!("{}/tests/data/{name}.c", env!("CARGO_MANIFEST_DIR"));
    let library = dir.join(format!("{name}.so"));
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .arg(&library)
        .arg(source)
        .args(["-ldl", "-lpthread"])
        .output();
    let Ok(output) = output else {
        println!("SKIPPED {test}: there is no C compiler");
        return None;
    };
    assert!(output.status.success(), "{}", text(&output));
    Some(library.to_str().unwrap().to_owned())
}
