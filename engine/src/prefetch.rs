//! Asking the processor for a cache line before it is needed.

/// Starts to bring the cache line that holds the first byte of `line` into every cache level, and
/// returns at once. A hint: it changes no state, and does nothing where the processor has no such
/// instruction that stable Rust reaches.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) fn prefetch<T>(line: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads and writes nothing the program can see, for any address at all;
        // SSE, which has the instruction, is part of every x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(line).cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = line;
}
