//! librdkafka's own threads, kept off the pinned cores.

/// Runs `make` with this thread kept off `pinned`, so that the threads which it starts inherit
/// that; then gives this thread its CPUs back. With no other CPU left, nothing is changed.
pub fn off_cores<T>(pinned: &[usize], make: impl FnOnce() -> T) -> T {
    let before = if pinned.is_empty() { None } else { mask() };
    if let Some(before) = before {
        let mut without = before;
        for &cpu in pinned {
            if cpu < libc::CPU_SETSIZE as usize {
                // SAFETY: the set is a plain value, and the number is in its range.
                unsafe { libc::CPU_CLR(cpu, &mut without) };
            }
        }
        // SAFETY: as above.
        if unsafe { libc::CPU_COUNT(&without) } > 0 {
            set(&without);
        }
    }
    let made = make();
    if let Some(before) = before {
        set(&before);
    }
    made
}

fn mask() -> Option<libc::cpu_set_t> {
    // SAFETY: a set of bits is valid when it is all zeros.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: 0 is this thread, and the kernel writes no more than the size says.
    let done = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    (done == 0).then_some(set)
}

fn set(mask: &libc::cpu_set_t) {
    // SAFETY: 0 is this thread, and the kernel reads no more than the size says. A refusal leaves
    // everything as it was, which is slower and nothing else.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), mask) };
}
