//! What this node says to the others, as values. `publish` finds the words and says them; `speech` remembers them.

use std::collections::BTreeMap;

use deployer_core::keys::Keys;
use serde_json::Value;

/// A value, and whether it ends with the node's lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Until it is withdrawn.
    Lasting(Value),
    /// As long as the node lives.
    Leased(Value),
}

impl Said {
    /// What was said before this daemon knew of it.
    pub const UNKNOWN: Self = Self::Lasting(Value::Null);
}

/// What this node has to say, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words(pub(crate) BTreeMap<String, Said>);

impl Words {
    /// The keys that outlast the node's lease.
    pub fn lasting(&self) -> impl Iterator<Item = &String> {
        self.0.iter().filter(|(_, said)| matches!(said, Said::Lasting(_))).map(|(key, _)| key)
    }

    /// Marks the instances that are up by their reports, so that others count them instead of reading every report.
    pub fn mark_ups(&mut self, keys: &Keys) {
        self.0.retain(|key, _| !key.starts_with(&keys.all_ups()));
        let is_up = |said: &Said| matches!(said, Said::Leased(report) if report["up"] == true);
        let up = self.0.iter().filter(|(_, said)| is_up(said));
        let marks: Vec<String> = up.filter_map(|(key, _)| keys.up_of_report(key)).collect();
        self.0.extend(marks.into_iter().map(|key| (key, Said::Leased(Value::Bool(true)))));
    }
}
