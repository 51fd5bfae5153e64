//! The command line of taylorscope; see [`taylorscope::cli`].

/// glibc's allocator gives large blocks back to the system at every call, which costs a training round half its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc's `mi_option_t`; options beyond the basic ones have no names in Rust.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

fn main() -> std::process::ExitCode {
    // Memory that is given back is cleared when it is taken again: a tenth of the time of an analysis. What one prefix has had, the next
    // one needs.
    // SAFETY: the option exists, and may be set at any time; a value in the environment goes first.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, -1) };
    taylorscope::cli::main()
}
