//! Several machines in one simulated world: the real stages over one store, with every machine's engine watched.

mod asking;
mod checking;
mod scenarios;
mod storms;
mod twins;

#[path = "../simulated/mod.rs"]
mod simulated;
