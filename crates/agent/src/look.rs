//! What makes a stage look, and why a look fails.

use deployer_core::image::Track;
use deployer_engine::EngineError;
use deployer_store::StoreError;

use crate::fault::Fault;

/// Says that something may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Anything.
    All,
    /// One track.
    Track(Track),
}

/// Why a look could not be finished; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The engine does not answer.
    #[error("the engine was not heard")]
    Engine(#[from] EngineError),
    /// The store does not answer.
    #[error("the store was not heard")]
    Store(#[from] StoreError),
    /// The look panicked.
    #[error(transparent)]
    Fault(#[from] Fault),
}
