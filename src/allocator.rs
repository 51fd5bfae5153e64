//! The allocator of the program, for other programs that train or analyse.
//!
//! glibc's gives large blocks back to the system at every call, which costs a training round half its time. In `main.rs`:
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: taylorscope::allocator::MiMalloc = taylorscope::allocator::MiMalloc;
//!
//! fn main() {
//!     taylorscope::allocator::keep_freed_memory();
//! }
//! ```

pub use mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc's `mi_option_t`; options beyond the basic ones have no names in Rust.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Lets [`MiMalloc`] keep all memory that is freed, unless `MIMALLOC_PURGE_DELAY` in the environment says otherwise.
///
/// Memory that is given back to the system is cleared when it is taken again, a tenth of the time of an analysis; and what one prefix has had,
/// the next one needs.
pub fn keep_freed_memory() {
    // SAFETY: the option exists, and may be set at any time.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, -1) };
}

/// Lets [`MiMalloc`] give memory that is freed back to the system after this many milliseconds, unless `MIMALLOC_PURGE_DELAY` in the environment says otherwise. What was
/// freed before stays, to be used again.
pub fn give_back_freed_memory(milliseconds: u8) {
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_some() {
        return;
    }
    // SAFETY: the option exists, and may be set at any time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, milliseconds.into()) };
}
