//! Reads the text format of Prometheus (0.0.4) strictly, to check what we render.

use std::collections::{BTreeMap, BTreeSet};

/// The labels of a series, in order of their names.
pub type Labels = BTreeMap<String, String>;

/// A metric with all its lines.
#[derive(Debug, Default)]
pub struct Family {
    pub help: Option<String>,
    pub kind: Option<String>,
    /// Name (with its suffix), labels and value of each sample.
    pub samples: Vec<(String, Labels, f64)>,
}

/// Every metric of `text` by name.
///
/// # Errors
///
/// The first line that breaks a rule, and the rule.
pub fn parse(text: &str) -> Result<BTreeMap<String, Family>, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line does not end".to_owned());
    }
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        let wrong = |rule: &str| format!("{rule}: {line}");
        if line.trim().is_empty() {
            continue;
        }
        let (name, part) = if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or_else(|| wrong("no words"))?;
            (name.to_owned(), Part::Help(unescape(help, false)?))
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(|| wrong("no type"))?;
            (name.to_owned(), Part::Kind(kind.to_owned()))
        } else if line.starts_with('#') {
            continue;
        } else {
            let (name, labels, value) = sample(line)?;
            (
                family_of(&name, &families),
                Part::Sample(name, labels, value),
            )
        };
        if !is_name(&name, true) {
            return Err(wrong("no name of a metric"));
        }
        if name != current && families.contains_key(&name) {
            return Err(wrong("lines of one metric are apart"));
        }
        current.clone_from(&name);
        let family = families.entry(name).or_default();
        match part {
            Part::Help(help) if family.help.is_none() => family.help = Some(help),
            Part::Help(_) => return Err(wrong("a second HELP")),
            Part::Kind(_) if !family.samples.is_empty() => return Err(wrong("TYPE after samples")),
            Part::Kind(_) if family.kind.is_some() => return Err(wrong("a second TYPE")),
            Part::Kind(kind) => {
                let kinds = ["counter", "gauge", "histogram", "summary", "untyped"];
                if !kinds.contains(&kind.as_str()) {
                    return Err(wrong("no such type"));
                }
                family.kind = Some(kind);
            }
            Part::Sample(name, labels, value) => {
                let is_twice = family
                    .samples
                    .iter()
                    .any(|(other, others, _)| *other == name && *others == labels);
                if is_twice {
                    return Err(wrong("a series twice"));
                }
                family.samples.push((name, labels, value));
            }
        }
    }
    for (name, family) in &families {
        if family.kind.as_deref() == Some("histogram") {
            check_histogram(name, family)?;
        }
    }
    Ok(families)
}

enum Part {
    Help(String),
    Kind(String),
    Sample(String, Labels, f64),
}

/// The metric that a sample belongs to: without the suffix, if a histogram or summary is so named.
fn family_of(name: &str, families: &BTreeMap<String, Family>) -> String {
    for suffix in ["_bucket", "_sum", "_count"] {
        if let Some(stem) = name.strip_suffix(suffix)
            && let Some(kind) = families.get(stem).and_then(|family| family.kind.as_deref())
            && (kind == "histogram" || kind == "summary" && suffix != "_bucket")
        {
            return stem.to_owned();
        }
    }
    name.to_owned()
}

fn sample(line: &str) -> Result<(String, Labels, f64), String> {
    let wrong = |rule: &str| format!("{rule}: {line}");
    let end = line.find(['{', ' ']).ok_or_else(|| wrong("no value"))?;
    let name = line[..end].to_owned();
    let mut labels = Labels::new();
    let mut rest = &line[end..];
    if let Some(mut inside) = rest.strip_prefix('{') {
        loop {
            if let Some(after) = inside.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, after) = inside.split_once("=\"").ok_or_else(|| wrong("no =\""))?;
            if !is_name(label, false) {
                return Err(wrong("no name of a label"));
            }
            let end = closing_quote(after).ok_or_else(|| wrong("no closing quote"))?;
            let value = unescape(&after[..end], true)?;
            if labels.insert(label.to_owned(), value).is_some() {
                return Err(wrong("a label twice"));
            }
            inside = &after[end + 1..];
            if let Some(after) = inside.strip_prefix(',') {
                inside = after;
            } else if !inside.starts_with('}') {
                return Err(wrong("no comma between labels"));
            }
        }
    }
    let mut words = rest.split_whitespace();
    let value = words.next().ok_or_else(|| wrong("no value"))?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        digits if digits.contains("inf") => return Err(wrong("no number")),
        digits => digits.parse().map_err(|_| wrong("no number"))?,
    };
    match words.next().map(str::parse::<i64>) {
        None | Some(Ok(_)) if words.next().is_none() => Ok((name, labels, value)),
        _ => Err(wrong("something after the value")),
    }
}

fn is_name(text: &str, colons: bool) -> bool {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_' || colons && c == ':';
    text.starts_with(is_letter) && text.chars().all(|c| is_letter(c) || c.is_ascii_digit())
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

fn unescape(text: &str, quotes: bool) -> Result<String, String> {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('\\') => plain.push('\\'),
                Some('n') => plain.push('\n'),
                Some('"') if quotes => plain.push('"'),
                other => return Err(format!("\\{other:?} in {text}")),
            },
            '"' if quotes => return Err(format!("a quote in {text}")),
            c => plain.push(c),
        }
    }
    Ok(plain)
}

/// Buckets are cumulative and end with `+Inf`, which is the count; every series has a sum.
fn check_histogram(name: &str, family: &Family) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for (_, labels, _) in &family.samples {
        let mut series = labels.clone();
        series.remove("le");
        seen.insert(series);
    }
    for series in seen {
        let wrong = |rule: &str| format!("{rule}: {name} {series:?}");
        let of = |suffix: &str| {
            let full = format!("{name}{suffix}");
            let found: Vec<(Option<&String>, f64)> = family
                .samples
                .iter()
                .filter(|(name, labels, _)| {
                    let mut plain = labels.clone();
                    plain.remove("le");
                    *name == full && plain == series
                })
                .map(|(_, labels, value)| (labels.get("le"), *value))
                .collect();
            found
        };
        let mut before = (f64::NEG_INFINITY, 0.0);
        for (le, count) in of("_bucket") {
            let le = match le.map(String::as_str) {
                Some("+Inf") => f64::INFINITY,
                Some(bound) => bound.parse().map_err(|_| wrong("no bound"))?,
                None => return Err(wrong("a bucket without le")),
            };
            if le <= before.0 || count < before.1 {
                return Err(wrong("buckets do not rise"));
            }
            before = (le, count);
        }
        let count = of("_count");
        if before.0 != f64::INFINITY || count.len() != 1 || count[0].1 != before.1 {
            return Err(wrong("+Inf is not the count"));
        }
        if of("_sum").len() != 1 {
            return Err(wrong("no sum"));
        }
    }
    Ok(())
}

#[test]
fn what_breaks_a_rule_is_refused() {
    let sound = "# HELP a what\n# TYPE a counter\na{b=\"c\\\"\\\\\\n\"} 1\na 2 1700000000000\n";
    let families = parse(sound).unwrap();
    assert_eq!(families["a"].samples[0].1["b"], "c\"\\\n");
    for broken in [
        "a 1",
        "a\n",
        "a{b=\"c\"}\n",
        "a one\n",
        "a inf\n",
        "1a 1\n",
        "a{1b=\"c\"} 1\n",
        "a{b=\"c} 1\n",
        "a{b=\"c\"d=\"e\"} 1\n",
        "a{b=\"\\x\"} 1\n",
        "a{b=\"c\",b=\"d\"} 1\n",
        "a 1\na 2\n",
        "a 1\nb 1\na{c=\"d\"} 1\n",
        "a 1\n# TYPE a counter\n",
        "# TYPE a counter\n# TYPE a counter\n",
        "# TYPE a number\n",
        "# HELP a x\n# HELP a x\n",
        "# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n",
        "# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 1\na_count 1\n",
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 2\na_sum 1\na_count 1\n",
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_count 1\n",
    ] {
        assert!(parse(broken).is_err(), "{broken:?}");
    }
}
