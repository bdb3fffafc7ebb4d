//! Several machines in one simulated world: the real stages over one store, with every machine's engine watched.

mod checking;
mod scenarios;
mod storms;

#[path = "../simulated/mod.rs"]
mod simulated;
