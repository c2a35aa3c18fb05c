//! Which name somebody may have meant.

/// The name most like `word`, if one is like it at all: a third of it may be
/// different, or two letters.
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let all = names
        .into_iter()
        .map(|name| (distance(&word, &name.to_lowercase()), name));
    let (distance, name) = all.min_by_key(|(distance, _)| *distance)?;
    let enough = (name.len() / 3).max(2).min(name.len() - 1);
    (distance <= enough).then_some(name)
}

/// How many characters to insert, drop or change to get from `a` to `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = corner + usize::from(from != *to);
            corner = row[j + 1];
            row[j + 1] = changed.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, count) in [
            ("", "", 0),
            ("", "abc", 3),
            ("port", "prot", 2),
            ("kitten", "sitting", 3),
            ("same", "same", 0),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (count, count), "{a} {b}");
        }
    }

    #[test]
    fn only_what_is_like_it_is_proposed() {
        let names = ["host", "port", "password", "connect_timeout_ms"];
        assert_eq!(nearest("pasword", names), Some("password"));
        assert_eq!(nearest("Prot", names), Some("port"));
        assert_eq!(
            nearest("connect_timeout", names),
            Some("connect_timeout_ms")
        );
        assert_eq!(nearest("colour", names), None);
        assert_eq!(nearest("x", ["db"]), None);
        assert_eq!(nearest("x", []), None);
    }
}
