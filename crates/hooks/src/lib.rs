//! The public side: the listener that takes hooks, and the callback to a sender that waits for one.
//!
//! Strangers speak to this edge, so it must know neither the store, nor the engine, nor any stage: what a genuine hook
//! says is handed on through a channel, and what comes back is whether it is durable.

pub mod callback;
pub mod http;
