//! Chunked bodies.

/// The longest line that says how long a chunk is: 16 digits and a little for an extension.
const LINE_MAX: usize = 128;

/// The most bytes of fields behind the last chunk.
const TRAILERS_MAX: usize = 4096;

/// How far a body has come.
pub(super) enum Step {
    /// So many bytes were used; there is more to come.
    More(usize),
    /// So many bytes were used, and the body is whole.
    Done(usize),
    /// It is larger than it may be.
    TooLarge,
    /// It is not well formed.
    Bad(&'static str),
}

enum State {
    Size,
    Data(usize),
    DataEnd,
    Trailers(usize),
}

/// Reads chunks as they come.
pub(super) struct Chunks {
    state: State,
    max: usize,
}

impl Chunks {
    /// A body of at most `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Self {
            state: State::Size,
            max,
        }
    }

    pub(super) fn read(&mut self, input: &[u8], body: &mut Vec<u8>) -> Step {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self.state {
                State::Size => {
                    let (line, length) = match line(rest, LINE_MAX) {
                        Ok(Some(found)) => found,
                        Ok(None) => return Step::More(used),
                        Err(why) => return Step::Bad(why),
                    };
                    let size = match size(line) {
                        Ok(size) => size,
                        Err(why) => return Step::Bad(why),
                    };
                    used += length;
                    if size > (self.max - body.len()) as u64 {
                        return Step::TooLarge;
                    }
                    self.state = match size {
                        0 => State::Trailers(0),
                        size => State::Data(size as usize),
                    };
                }
                State::Data(left) => {
                    let taken = left.min(rest.len());
                    body.extend_from_slice(&rest[..taken]);
                    used += taken;
                    if taken < left {
                        self.state = State::Data(left - taken);
                        return Step::More(used);
                    }
                    self.state = State::DataEnd;
                }
                State::DataEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        used += 2;
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Step::More(used),
                    _ => return Step::Bad("a chunk is longer than it says"),
                },
                State::Trailers(before) => {
                    let (line, length) = match line(rest, TRAILERS_MAX) {
                        Ok(Some(found)) => found,
                        Ok(None) => return Step::More(used),
                        Err(why) => return Step::Bad(why),
                    };
                    used += length;
                    if line.is_empty() {
                        return Step::Done(used);
                    }
                    let all = before + length;
                    if all > TRAILERS_MAX {
                        return Step::Bad("too many fields behind the body");
                    }
                    self.state = State::Trailers(all);
                }
            }
        }
    }
}

/// A line without its end, and how long it is with it.
fn line(input: &[u8], max: usize) -> Result<Option<(&[u8], usize)>, &'static str> {
    let Some(end) = memchr::memchr(b'\n', &input[..input.len().min(max + 2)]) else {
        return if input.len() >= max + 2 {
            Err("a line of a chunked body is too long")
        } else {
            Ok(None)
        };
    };
    match input[..end].split_last() {
        Some((b'\r', line)) if !line.contains(&b'\r') => Ok(Some((line, end + 1))),
        _ => Err("a line of a chunked body does not end as it should"),
    }
}

fn size(line: &[u8]) -> Result<u64, &'static str> {
    const BAD: &str = "a chunk's length is not a hexadecimal number";
    // An extension says nothing that anybody here knows; blanks before it were used to smuggle.
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(BAD);
    }
    let text = std::str::from_utf8(digits).map_err(|_| BAD)?;
    u64::from_str_radix(text, 16).map_err(|_| BAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads it in pieces of some size: the body, and what is left behind it.
    fn read(input: &[u8], piece: usize) -> Result<(Vec<u8>, usize), String> {
        let mut chunks = Chunks::new(20);
        let (mut body, mut held, mut fed) = (Vec::new(), Vec::new(), 0);
        loop {
            let more = piece.min(input.len() - fed);
            held.extend_from_slice(&input[fed..fed + more]);
            fed += more;
            match chunks.read(&held, &mut body) {
                Step::Done(used) => return Ok((body, held.len() - used + input.len() - fed)),
                Step::More(used) => drop(held.drain(..used)),
                Step::TooLarge => return Err("too large".into()),
                Step::Bad(why) => return Err(why.into()),
            }
            if more == 0 {
                return Err("not whole".into());
            }
        }
    }

    #[test]
    fn chunks_in_whatever_pieces() {
        let good: &[(&[u8], &[u8], usize)] = &[
            (b"0\r\n\r\n", b"", 0),
            (b"3\r\nabc\r\n0\r\n\r\n", b"abc", 0),
            (
                b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\na: b\r\n\r\nGET",
                b"abcde",
                3,
            ),
            (b"A\r\n0123456789\r\n000\r\n\r\n", b"0123456789", 0),
        ];
        for (input, body, left) in good {
            for piece in 1..=input.len() {
                assert_eq!(
                    read(input, piece),
                    Ok((body.to_vec(), *left)),
                    "{input:?} in pieces of {piece}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_well_formed() {
        let bad: &[(&[u8], &str)] = &[
            (b"3\nabc\r\n0\r\n\r\n", "does not end"),
            (b"3\r\r\nabc", "does not end"),
            (b"3 \r\nabc\r\n0\r\n\r\n", "hexadecimal"),
            (b"+3\r\nabc\r\n0\r\n\r\n", "hexadecimal"),
            (b"0x3\r\nabc\r\n0\r\n\r\n", "hexadecimal"),
            (b"\r\n", "hexadecimal"),
            (b"ffffffffffffffff\r\n", "hexadecimal"),
            (b"3\r\nabcd\r\n", "longer"),
            (b"15\r\n", "too large"),
            (b"a\r\n0123456789\r\nb\r\n", "too large"),
            (&[b'0'; 200], "too long"),
        ];
        for (input, why) in bad {
            let found = read(input, input.len()).unwrap_err();
            assert!(found.contains(why), "{input:?}: {found}");
        }
        let many = [&b"0\r\n"[..], &b"a: b\r\n".repeat(1000)].concat();
        assert!(read(&many, 64).unwrap_err().contains("too many"));
    }
}
