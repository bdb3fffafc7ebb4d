//! Mistakes that a test makes on purpose, to see that it would notice them.
//!
//! Each has a name, and lies at the place in the code where it could be made. Compiled in with the feature `mutations` only,
//! and then made in the thread that asked for it: a test that runs beside is not touched.

#[cfg(feature = "mutations")]
use std::cell::Cell;

#[cfg(feature = "mutations")]
thread_local! {
    static MADE: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Makes a mistake in this thread from now on, or with `None` no more.
#[cfg(feature = "mutations")]
pub fn make(name: Option<&'static str>) {
    MADE.set(name);
}

/// Whether the mistake of this name is to be made.
#[cfg(feature = "mutations")]
pub fn is(name: &str) -> bool {
    MADE.get() == Some(name)
}

/// No.
#[cfg(not(feature = "mutations"))]
pub const fn is(_: &str) -> bool {
    false
}
