//! Preloaded into the program by `tests/suite/crash.rs` (Linux): the n-th operation that creates, writes, syncs or renames a file fails.
//!
//! `FAULT=KIND:N` in the environment says which and how:
//!
//! - `error`: the operation fails with an input/output error
//! - `short`: the operation, if it is a write, takes half of the bytes, as writes may
//! - `full`: from then on every write fails for want of space, the first after half of its bytes
//! - `die`: the process is killed in its place; `half`: after half of its bytes
//! - `count`: nothing happens; every operation prints its number
//! - `nolocks`: no operation fails, but files cannot be locked, as on some network file systems
//!
//! Compiled by the test itself with `rustc --crate-type cdylib`; no part of the program.

use std::{
    ffi::{CStr, c_char, c_int, c_uint, c_void},
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    fn __errno_location() -> *mut c_int;
    fn getpid() -> c_int;
    fn kill(process: c_int, signal: c_int) -> c_int;
}

/// The next definition of a symbol: that of the C library.
const NEXT: *mut c_void = -1isize as *mut c_void;
const O_CREAT: c_int = 0o100;
const EIO: c_int = 5;
const ENOSPC: c_int = 28;
const ENOLCK: c_int = 37;
const SIGKILL: c_int = 9;

/// Whether a descriptor is of a file that the program created.
static CREATED: [AtomicBool; 1024] = [const { AtomicBool::new(false) }; 1024];
static OPERATIONS: AtomicU64 = AtomicU64::new(0);

fn plan() -> &'static (String, u64) {
    static PLAN: OnceLock<(String, u64)> = OnceLock::new();
    PLAN.get_or_init(|| {
        let text = std::env::var("FAULT").unwrap_or_default();
        let (kind, at) = text.split_once(':').unwrap_or(("none", "0"));
        (kind.to_owned(), at.parse().expect("FAULT=KIND:NUMBER"))
    })
}

/// What happens to an operation.
enum Fate {
    Pass,
    Fail(c_int),
    /// Half of the bytes go through; then the process may end.
    Half {
        die: bool,
    },
}

fn fate(writes: bool) -> Fate {
    let (kind, at) = plan();
    let number = OPERATIONS.fetch_add(1, Ordering::SeqCst) + 1;
    let (here, later) = (number == *at, number > *at);
    if kind == "count" {
        eprintln!("operation {number}");
    } else if here {
        eprintln!("fault {kind} in operation {number}");
    }
    match kind.as_str() {
        "error" if here => Fate::Fail(EIO),
        "short" if here && writes => Fate::Half { die: false },
        "full" if here && writes => Fate::Half { die: false },
        "full" if later && writes => Fate::Fail(ENOSPC),
        "half" if here && writes => Fate::Half { die: true },
        "die" | "half" if here => die(),
        _ => Fate::Pass,
    }
}

fn die() -> ! {
    // SAFETY: ends this process.
    unsafe { kill(getpid(), SIGKILL) };
    unreachable!("the process is killed")
}

fn fail(error: c_int) -> c_int {
    // SAFETY: the error number of this thread.
    unsafe { *__errno_location() = error };
    -1
}

/// The C library's own function.
fn next(name: &CStr) -> *mut c_void {
    // SAFETY: a symbol that every C library has.
    let found = unsafe { dlsym(NEXT, name.as_ptr()) };
    assert!(!found.is_null(), "{name:?}");
    found
}

macro_rules! interpose {
    ($name:ident, $symbol:literal, ($($argument:ident: $type:ty),*) -> $result:ty, $body:expr) => {
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> $result {
            type Function = unsafe extern "C" fn($($type),*) -> $result;
            static NEXT_ADDRESS: OnceLock<usize> = OnceLock::new();
            let address = *NEXT_ADDRESS.get_or_init(|| next($symbol) as usize);
            // SAFETY: the symbol has this signature.
            let real: Function = unsafe { std::mem::transmute(address) };
            $body(real, $($argument),*)
        }
    };
}

type Open = unsafe extern "C" fn(*const c_char, c_int, c_uint) -> c_int;

fn open_with(real: Open, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    let creates = flags & O_CREAT != 0;
    if creates && let Fate::Fail(error) = fate(false) {
        return fail(error);
    }
    // SAFETY: the caller's own arguments.
    let file = unsafe { real(path, flags, mode) };
    if let Some(created) = usize::try_from(file).ok().and_then(|file| CREATED.get(file)) {
        created.store(creates, Ordering::SeqCst);
    }
    file
}

interpose!(open, c"open", (path: *const c_char, flags: c_int, mode: c_uint) -> c_int, open_with);
interpose!(open64, c"open64", (path: *const c_char, flags: c_int, mode: c_uint) -> c_int, open_with);

type Write = unsafe extern "C" fn(c_int, *const c_void, usize) -> isize;

interpose!(write, c"write", (file: c_int, bytes: *const c_void, count: usize) -> isize, |real: Write, file, bytes, count| {
    let ours = usize::try_from(file).ok().and_then(|file| CREATED.get(file));
    let fate = if ours.is_some_and(|created| created.load(Ordering::SeqCst)) { fate(true) } else { Fate::Pass };
    match fate {
        Fate::Pass => unsafe { real(file, bytes, count) },
        Fate::Fail(error) => fail(error) as isize,
        Fate::Half { die: end } => {
            // SAFETY: the first half of the caller's bytes.
            let written = unsafe { real(file, bytes, count.div_ceil(2)) };
            if end { die() } else { written }
        }
    }
});

type Sync = unsafe extern "C" fn(c_int) -> c_int;

interpose!(fsync, c"fsync", (file: c_int) -> c_int, |real: Sync, file| match fate(false) {
    Fate::Fail(error) => fail(error),
    _ => unsafe { real(file) },
});

type Rename = unsafe extern "C" fn(*const c_char, *const c_char) -> c_int;

interpose!(rename, c"rename", (from: *const c_char, to: *const c_char) -> c_int, |real: Rename, from, to| match fate(false) {
    Fate::Fail(error) => fail(error),
    _ => unsafe { real(from, to) },
});

type Flock = unsafe extern "C" fn(c_int, c_int) -> c_int;

interpose!(flock, c"flock", (file: c_int, operation: c_int) -> c_int, |real: Flock, file, operation| {
    if plan().0 == "nolocks" { fail(ENOLCK) } else { unsafe { real(file, operation) } }
});
