//! The stages, what nodes tell each other, and who else runs containers on this machine.
//!
//! Engine and store are known as traits only, and decisions are made in `deployer_core`. Nothing here knows hooks, the
//! command line or the settings' file, and nothing spawns: the binary opens the edges, wires the channels and owns every
//! task.

pub mod asking;
mod claims;
pub mod concern;
mod doubt;
mod failpoint;
pub mod fault;
mod fetches;
#[cfg(any(test, feature = "fixture"))]
#[doc(hidden)]
pub mod fixture;
pub mod happening;
pub mod intake;
pub mod journal;
mod keep;
pub mod ledger;
mod left;
pub mod look;
mod looks;
mod machine;
mod nonsense;
mod owed;
pub mod presence;
mod probe;
pub mod publish;
pub mod pull;
mod replacing;
pub mod restart;
mod retries;
pub mod runs;
mod settled;
mod sign;
mod site;
pub mod situation;
mod speech;
pub mod supervision;
pub mod survey;
mod sweep;
mod tags;
mod tickets;
pub mod triggers;
mod troubles;
pub mod turn;
pub mod update;
mod verified;
pub mod words;
pub mod world;
