//! Prints settings as a file.

use std::fmt::Write;

use super::{
    keys::sections,
    kinds::Shown,
    reader::{Printed, origins},
};

/// The longest comment line.
const LINE_CHARS: usize = 100;

/// What is on top of the defaults.
const DEFAULTS_HEAD: &str = "\
# All settings of a node, with their defaults: what kilter config print --defaults prints.
#
# What is said later wins: this file (--config FILE or KILTER_CONFIG), then the environment, then
# --set section.key=value. kilter config check says everything that is wrong at once.
";

/// What is on top of the settings in force.
const IN_FORCE_HEAD: &str = "\
# The settings in force, each with where it comes from. ******** stands for a secret.
";

/// Settings in force: each with what it is and where it came from.
pub fn in_force(printed: &[Printed]) -> String {
    document(
        IN_FORCE_HEAD,
        printed,
        |_| None,
        |printed| Some(origins(&printed.origins)),
    )
}

/// Settings with what each may be and its names in the environment.
pub fn annotated(printed: &[Printed]) -> String {
    let about = |printed: &Printed| {
        let key = &printed.key;
        let alias = key.alias.map(|alias| format!(" or {alias}"));
        let names = format!("{}{}", key.variable(), alias.unwrap_or_default());
        Some(format!("May be {}. Environment: {names}.", key.allowed))
    };
    document(DEFAULTS_HEAD, printed, about, |_| None)
}

fn document(
    head: &str,
    printed: &[Printed],
    about: impl Fn(&Printed) -> Option<String>,
    remark: impl Fn(&Printed) -> Option<String>,
) -> String {
    let mut text = head.to_owned();
    for section in sections() {
        text.push('\n');
        comment(&mut text, &section.doc);
        line(&mut text, &format!("[{}]", section.name));
        let own = printed
            .iter()
            .filter(|printed| printed.key.section == section.name);
        for printed in own {
            if matches!(printed.shown, Shown::Tables(_)) {
                text.push('\n');
            }
            comment(&mut text, &printed.key.doc);
            if let Some(about) = about(printed) {
                comment(&mut text, &about);
            }
            let remark = remark(printed).map(|remark| format!("  # {remark}"));
            let remark = remark.unwrap_or_default();
            match &printed.shown {
                Shown::Value(value) => {
                    line(
                        &mut text,
                        &format!("{} = {value}{remark}", printed.key.name),
                    );
                }
                Shown::Tables(tables) => {
                    if !remark.is_empty() {
                        line(&mut text, remark.trim_start());
                    }
                    text.push_str(tables);
                }
            }
        }
    }
    text
}

fn line(text: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}

/// `words` as comment lines.
fn comment(text: &mut String, words: &str) {
    let mut current = "#".to_owned();
    for word in words.split_whitespace() {
        if current.len() + 1 + word.len() > LINE_CHARS {
            line(text, &current);
            "#".clone_into(&mut current);
        }
        current.push(' ');
        current.push_str(word);
    }
    line(text, &current);
}
