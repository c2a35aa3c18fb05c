//! Names that are no settings, and which one was meant.

use super::{
    mistakes::Mistake,
    nearest::nearest,
    reader::{Reader, Section},
    value::{Raw, Table},
};

/// Notes everything in the sources of `reader` that is no setting.
pub fn note_unknown(reader: &mut Reader<'_>, sections: &[Section]) {
    let mut mistakes = Vec::new();
    if let Some(file) = &reader.file {
        in_file(&file.name, &file.root, sections, &mut mistakes);
    }
    let variables: Vec<String> = keys(sections).map(|key| key.variable()).collect();
    for name in reader.env.unknown(&variables) {
        let meant = meant(
            nearest(name, variables.iter().map(String::as_str)),
            "kilter config print --defaults shows all",
        );
        let what = format!("there is no such setting; {meant}");
        mistakes.push(Mistake::new(format!("environment: {name}"), what));
    }
    let full: Vec<String> = keys(sections).map(super::reader::Key::full).collect();
    for name in reader.set.keys() {
        let is_property = name
            .strip_prefix("kafka.properties.")
            .is_some_and(|property| !property.is_empty());
        if is_property || full.contains(name) {
            continue;
        }
        let meant = suggestion(name, sections);
        let what = format!("there is no such setting; {meant}");
        mistakes.push(Mistake::new(format!("--set {name}"), what));
    }
    reader.mistakes.extend(mistakes);
}

fn keys(sections: &[Section]) -> impl Iterator<Item = &super::reader::Key> {
    sections.iter().flat_map(|section| &section.keys)
}

fn in_file(name: &str, root: &Table, sections: &[Section], mistakes: &mut Vec<Mistake>) {
    for (section_name, node) in root {
        let place = format!("{name}:{}: {section_name}", node.line.unwrap_or(0));
        let section = sections.iter().find(|section| section.name == section_name);
        let (Raw::Table(table), Some(section)) = (&node.raw, section) else {
            let what = match section {
                Some(_) => "this is not a section, which is a table".to_owned(),
                None if matches!(node.raw, Raw::Table(_)) => {
                    let names = sections.iter().map(|section| section.name);
                    let all: Vec<&str> = names.clone().collect();
                    let meant = meant(
                        nearest(section_name, names),
                        &format!("there are {}", all.join(", ")),
                    );
                    format!("there is no such section; {meant}")
                }
                None => {
                    let meant = suggestion(section_name, sections);
                    format!("a key outside all sections; {meant}")
                }
            };
            mistakes.push(Mistake::new(place, what));
            continue;
        };
        for (key, node) in table {
            if section.keys.iter().any(|known| known.name == key) {
                continue;
            }
            let place = format!("{name}:{}: {section_name}.{key}", node.line.unwrap_or(0));
            let meant = suggestion(&format!("{section_name}.{key}"), sections);
            let what = format!("there is no such key; {meant}");
            mistakes.push(Mistake::new(place, what));
        }
    }
}

/// Which setting `name` may have meant: one like it in its section, one called so elsewhere, one
/// like it anywhere, or the choice that its section has.
fn suggestion(name: &str, sections: &[Section]) -> String {
    let (section, key) = name.split_once('.').unwrap_or(("", name));
    let own = sections.iter().find(|known| known.name == section);
    let in_own = own.and_then(|own| {
        let found = nearest(key, own.keys.iter().map(|known| known.name))?;
        Some(format!("{section}.{found}"))
    });
    let elsewhere = || {
        keys(sections)
            .find(|known| known.name == key)
            .map(super::reader::Key::full)
    };
    let full: Vec<String> = keys(sections).map(super::reader::Key::full).collect();
    let like_it = || nearest(name, full.iter().map(String::as_str)).map(str::to_owned);
    let found = in_own.or_else(elsewhere).or_else(like_it);
    let choice = own.map_or_else(
        || "kilter config print --defaults shows all".to_owned(),
        |own| {
            let names: Vec<&str> = own.keys.iter().map(|key| key.name).collect();
            format!("{section} has {}", names.join(", "))
        },
    );
    meant(found.as_deref(), &choice)
}

fn meant(name: Option<&str>, otherwise: &str) -> String {
    name.map_or_else(
        || otherwise.to_owned(),
        |name| format!("did you mean {name}?"),
    )
}
