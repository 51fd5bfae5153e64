//! A switch for tests: the plain way everywhere.

use std::sync::OnceLock;

/// Whether fast paths may be taken. The environment variable `TAYLORSCOPE_PLAIN` turns all of them off: vector instructions, products without copies,
/// transforms of convolutions, sparse products, low-rank bases and closed forms of layers. A run then takes the way that is
/// easiest to believe, and its results must agree with those of the fast one within rounding and certified gaps.
pub fn fast_paths() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED.get_or_init(|| std::env::var_os("TAYLORSCOPE_PLAIN").is_none())
}
