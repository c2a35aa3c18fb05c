//! A record's headers, and whether key and value are there at all, as one run of bytes that travels
//! beside them.
//!
//! No bytes at all say that there are no headers, and that key and value are there. Else the first
//! byte says what is missing, and each header follows with its lengths in front.

/// The bits of the first byte.
const NO_KEY: u8 = 1;
const NO_VALUE: u8 = 2;

/// The length that stands for a header without value.
const NULL: u32 = u32::MAX;

/// Writes the headers of one record.
///
/// # Examples
///
/// ```
/// use kilter_engine::headers::{Headers, HeadersWriter};
///
/// let mut bytes = Vec::new();
/// let mut writer = HeadersWriter::new(&mut bytes, true, false);
/// writer.header(b"eventId", Some(b"e-1"));
/// writer.header(b"empty", None);
/// let headers = Headers(&bytes);
/// assert!(headers.has_no_key() && !headers.has_no_value());
/// let read: Vec<_> = headers.iter().collect();
/// assert_eq!(read, [(&b"eventId"[..], Some(&b"e-1"[..])), (b"empty", None)]);
/// ```
#[derive(Debug)]
pub struct HeadersWriter<'a> {
    bytes: &'a mut Vec<u8>,
}

impl<'a> HeadersWriter<'a> {
    /// Empties `bytes` and begins.
    pub fn new(bytes: &'a mut Vec<u8>, no_key: bool, no_value: bool) -> Self {
        bytes.clear();
        let missing = if no_key { NO_KEY } else { 0 } | if no_value { NO_VALUE } else { 0 };
        if missing != 0 {
            bytes.push(missing);
        }
        Self { bytes }
    }

    /// Adds a header.
    ///
    /// # Panics
    ///
    /// If name or value is 4 GiB or longer.
    pub fn header(&mut self, name: &[u8], value: Option<&[u8]>) {
        if self.bytes.is_empty() {
            self.bytes.push(0);
        }
        self.len(name.len());
        self.bytes.extend_from_slice(name);
        match value {
            Some(value) => {
                self.len(value.len());
                self.bytes.extend_from_slice(value);
            }
            None => self.bytes.extend_from_slice(&NULL.to_le_bytes()),
        }
    }

    fn len(&mut self, len: usize) {
        assert!(len < NULL as usize, "a header of 4 GiB");
        self.bytes.extend_from_slice(&(len as u32).to_le_bytes());
    }
}

/// The headers of one record, read.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a>(pub &'a [u8]);

impl<'a> Headers<'a> {
    fn missing(self) -> u8 {
        self.0.first().copied().unwrap_or(0)
    }

    /// Whether the record has no key, which is not the same as an empty one.
    pub fn has_no_key(self) -> bool {
        self.missing() & NO_KEY != 0
    }

    /// Whether the record has no value: a tombstone.
    pub fn has_no_value(self) -> bool {
        self.missing() & NO_VALUE != 0
    }

    /// Names and values, in their order. A name may come more than once.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let mut rest = self.0.get(1..).unwrap_or(&[]);
        std::iter::from_fn(move || {
            let name_len = take_len(&mut rest)? as usize;
            let name = take(&mut rest, name_len)?;
            let value = match take_len(&mut rest)? {
                NULL => None,
                len => Some(take(&mut rest, len as usize)?),
            };
            Some((name, value))
        })
    }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}

fn take_len(rest: &mut &[u8]) -> Option<u32> {
    let bytes = take(rest, 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}
