//! Places at which a test can hold the process, to kill it there from outside.
//!
//! Compiled in with the feature `failpoints` only; a release has none.

use std::path::Path;

use deployer_core::replacement::Phase;

/// Between two looks of a daemon that is held.
#[cfg(feature = "failpoints")]
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(20);

/// Stays here, after writing a file `held`, if the environment names this phase, or `any`; then for ever. A file `hold-at`
/// in the state directory does the same for a daemon that runs already, for as long as it names the phase.
#[cfg(feature = "failpoints")]
pub async fn reached(state_dir: &Path, phase: Phase) {
    let is_named = |word: &str| word == phase.word() || word == "any";
    let by_environment = std::env::var("DEPLOYER_HOLD_AT").is_ok_and(|word| is_named(&word));
    let by_file = || std::fs::read_to_string(state_dir.join("hold-at")).is_ok_and(|word| is_named(&word));
    if (by_environment || by_file()) && std::fs::write(state_dir.join("held"), phase.word()).is_ok() {
        while by_environment || by_file() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Does nothing.
#[cfg(not(feature = "failpoints"))]
pub async fn reached(_: &Path, _: Phase) {}

/// Fails as a full disk does, if a test has left a file `full` beside the folder that is to be written in.
///
/// # Errors
/// What a system says that has no room.
#[cfg(feature = "failpoints")]
pub fn room_beside(folder: &Path) -> std::io::Result<()> {
    let is_full = folder.with_file_name("full").exists();
    if is_full { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

/// Does nothing.
///
/// # Errors
/// None.
#[cfg(not(feature = "failpoints"))]
pub fn room_beside(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Whether a test has switched slots off, to show that it would notice.
pub fn are_slots_off() -> bool {
    cfg!(feature = "failpoints") && std::env::var_os("DEPLOYER_WITHOUT_SLOTS").is_some()
}
