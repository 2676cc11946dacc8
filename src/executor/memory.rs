//! Memory that is given back to the kernel when it is freed.

use super::sys;

/// Gives back what was freed until now in small pieces, of which the C library keeps the pages:
/// once, after much of it. Where the C library has no such call this does nothing.
pub fn give_back_freed() {
    sys::trim_heap();
}

/// Has every freed piece of a MiB or more given back at once, in this process. The C library
/// otherwise learns from the first large piece that is freed to keep those like it: a prune, which
/// needs large pieces one after another, would take a tenth more memory than it uses. Where the C
/// library has no such habit this does nothing.
pub fn give_back_at_once() {
    sys::fix_mmap_threshold(1 << 20);
}
