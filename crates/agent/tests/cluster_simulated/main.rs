//! Several machines in one simulated world: the real stages over one store, with every machine's engine watched.

mod asking;
mod checking;
mod findings;
mod mutations;
mod scenarios;
mod storms;
mod twins;
mod weather;

#[path = "../simulated/mod.rs"]
mod simulated;
