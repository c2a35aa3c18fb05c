//! Where the program's memory comes from.

use std::alloc::{GlobalAlloc, Layout, System};

use mimalloc::MiMalloc;

/// From where on memory is the system's, in bytes: what large tables grow by is moved by page tables
/// there, not copied, and goes back when it is freed.
const LARGE: usize = 32 << 10;

/// Small pieces from mimalloc, which hands them between threads at a lower price (a request is read by
/// one thread, answered by another and sent by the first), large ones from the system.
pub struct Split;

const fn is_large(size: usize) -> bool {
    size >= LARGE
}

// SAFETY: both are allocators, and a piece's size, which never changes without `realloc`, tells which
// one it is of.
#[allow(unsafe_code, reason = "an allocator")]
unsafe impl GlobalAlloc for Split {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe {
            match is_large(layout.size()) {
                true => System.alloc(layout),
                false => MiMalloc.alloc(layout),
            }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe {
            match is_large(layout.size()) {
                true => System.alloc_zeroed(layout),
                false => MiMalloc.alloc_zeroed(layout),
            }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises; it was made by the same one.
        unsafe {
            match is_large(layout.size()) {
                true => System.dealloc(ptr, layout),
                false => MiMalloc.dealloc(ptr, layout),
            }
        }
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as the caller promises; the new layout is valid by that, too, and both pieces are
        // at least as long as what is copied, and not the same.
        unsafe {
            match (is_large(layout.size()), is_large(new_size)) {
                (true, true) => System.realloc(ptr, layout, new_size),
                (false, false) => MiMalloc.realloc(ptr, layout, new_size),
                _ => {
                    let new = Layout::from_size_align_unchecked(new_size, layout.align());
                    let moved = self.alloc(new);
                    if !moved.is_null() {
                        let count = layout.size().min(new_size);
                        std::ptr::copy_nonoverlapping(ptr, moved, count);
                        self.dealloc(ptr, layout);
                    }
                    moved
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(unsafe_code, reason = "it stands in for the one of the program")]
mod tests {
    use super::*;

    #[test]
    fn pieces_keep_what_is_in_them_whoever_has_them() {
        let sizes = [1, 100, LARGE - 1, LARGE, LARGE + 1, 10 * LARGE, 7];
        for align in [1, 16, 4096] {
            let mut layout = Layout::from_size_align(sizes[0], align).unwrap();
            // SAFETY: each piece is of the layout that goes with it, and freed once.
            unsafe {
                let mut piece = Split.alloc_zeroed(layout);
                assert_eq!(*piece, 0);
                for (turn, size) in (1_u8..).zip(sizes) {
                    let was = layout.size();
                    piece.write_bytes(turn, was);
                    piece = Split.realloc(piece, layout, size);
                    layout = Layout::from_size_align(size, align).unwrap();
                    assert_eq!(piece as usize % align, 0);
                    let kept = std::slice::from_raw_parts(piece, was.min(size));
                    assert!(kept.iter().all(|byte| *byte == turn));
                }
                Split.dealloc(piece, layout);
                let large = Layout::from_size_align(LARGE, align).unwrap();
                let zeros = Split.alloc_zeroed(large);
                assert!(
                    std::slice::from_raw_parts(zeros, LARGE)
                        .iter()
                        .all(|byte| *byte == 0)
                );
                Split.dealloc(zeros, large);
            }
        }
    }
}
