//! Reads header fields as they come over HTTP/2.
#![allow(unsafe_code, reason = "nghttp2 is a C library")]

use libnghttp2_sys as ng;

/// One connection's decoder.
pub struct Inflater(*mut ng::nghttp2_hd_inflater);

// SAFETY: the value owns the decoder alone, and nghttp2 has no thread-local state.
unsafe impl Send for Inflater {}

impl Inflater {
    pub fn new() -> Self {
        let mut inflater = std::ptr::null_mut();
        // SAFETY: it is given a place for a pointer; what it makes is deleted by `drop`.
        let made = unsafe { ng::nghttp2_hd_inflate_new(&mut inflater) };
        assert_eq!(made, 0);
        Self(inflater)
    }

    /// The fields of one whole block.
    pub fn read(&mut self, mut block: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        loop {
            let mut flags = 0;
            // SAFETY: the inflater is alive, the block is only read, and a field lasts until the next
            // call.
            let (used, found) = unsafe {
                let mut found: ng::nghttp2_nv = std::mem::zeroed();
                let used = ng::nghttp2_hd_inflate_hd2(
                    self.0,
                    &mut found,
                    &mut flags,
                    block.as_ptr(),
                    block.len(),
                    1,
                );
                let text = |bytes: *const u8, length| {
                    let bytes = std::slice::from_raw_parts(bytes, length);
                    String::from_utf8_lossy(bytes).into_owned()
                };
                let emitted = flags as u32 & ng::NGHTTP2_HD_INFLATE_EMIT != 0;
                let field = emitted.then(|| {
                    (
                        text(found.name, found.namelen),
                        text(found.value, found.valuelen),
                    )
                });
                (used, field)
            };
            assert!(used >= 0, "no header block");
            block = &block[used as usize..];
            fields.extend(found);
            if flags as u32 & ng::NGHTTP2_HD_INFLATE_FINAL != 0 {
                // SAFETY: as above.
                unsafe { ng::nghttp2_hd_inflate_end_headers(self.0) };
                return fields;
            }
        }
    }
}

impl Drop for Inflater {
    fn drop(&mut self) {
        // SAFETY: it was made by `new`, and this is its end.
        unsafe { ng::nghttp2_hd_inflate_del(self.0) };
    }
}
