//! Places at which a test can hold the process, to kill it there from outside.
//!
//! Compiled in with the feature `failpoints` only; a release has none.

use std::path::Path;

use deployer_core::replacement::Phase;

/// Stays here for ever, after writing a file `held`, if the environment names this phase, or `any`.
#[cfg(feature = "failpoints")]
pub async fn reached(state_dir: &Path, phase: Phase) {
    let is_named = std::env::var("DEPLOYER_HOLD_AT").is_ok_and(|word| word == phase.word() || word == "any");
    if is_named && std::fs::write(state_dir.join("held"), phase.word()).is_ok() {
        std::future::pending::<()>().await;
    }
}

/// Does nothing.
#[cfg(not(feature = "failpoints"))]
pub async fn reached(_: &Path, _: Phase) {}

/// Whether a test has switched slots off, to show that it would notice.
pub fn are_slots_off() -> bool {
    cfg!(feature = "failpoints") && std::env::var_os("DEPLOYER_WITHOUT_SLOTS").is_some()
}
