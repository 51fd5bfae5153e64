//! The command line of taylorscope; see [`taylorscope::cli`].

/// glibc's allocator gives large blocks back to the system at every call, which costs a training round half its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    taylorscope::cli::main()
}
