//! The command line of taylorscope; see [`taylorscope::cli`].

use taylorscope::allocator::{self, MiMalloc};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> std::process::ExitCode {
    allocator::keep_freed_memory();
    taylorscope::cli::main()
}
