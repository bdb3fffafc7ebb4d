//! Several machines in one simulated world: the real stages over one store, with every machine's engine watched.

mod asking;
mod checking;
mod cost;
mod findings;
mod growth;
mod mended;
mod owed;
mod persons;
mod scenarios;
mod storms;
mod trouble;
mod twins;
mod versions;
mod weather;

#[path = "../simulated/mod.rs"]
mod simulated;
