//! What this node says to the others, as values. `publish` finds the words and says them.

use std::collections::BTreeMap;

use serde_json::Value;

/// A value, and whether it ends with the node's lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Until it is withdrawn.
    Lasting(Value),
    /// As long as the node lives.
    Leased(Value),
}

/// What this node has to say, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words(pub(crate) BTreeMap<String, Said>);
