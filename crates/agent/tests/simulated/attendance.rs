//! Who serves, over all engines of a cluster: counted after every change of any of them, so that no moment at which too
//! many were down goes unseen.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

/// The roll of all watched instances.
#[derive(Clone, Default)]
pub struct Attendance {
    roll: Arc<Mutex<Roll>>,
}

#[derive(Default)]
struct Roll {
    /// Node and container, and from when until when it serves, as far as that is known now.
    instances: BTreeMap<(String, String), Option<Range<Instant>>>,
    fewest: Option<(usize, String)>,
}

impl Attendance {
    /// Takes in what is known of an instance now.
    pub fn note(&self, node: &str, container: &str, serves: Option<Range<Instant>>) {
        let now = Instant::now();
        let mut roll = self.roll.lock().expect("no test panics with the lock");
        roll.instances.insert((node.to_owned(), container.to_owned()), serves);
        let is_up = |serves: &Option<Range<Instant>>| serves.as_ref().is_some_and(|serves| serves.contains(&now));
        let up = roll.instances.values().filter(|serves| is_up(serves)).count();
        if roll.fewest.as_ref().is_none_or(|(fewest, _)| up < *fewest) {
            let down = roll.instances.iter().filter(|(_, serves)| !is_up(serves));
            let down = down.map(|((node, container), _)| format!("{container} on {node}")).collect::<Vec<_>>();
            roll.fewest = Some((up, down.join(", ")));
        }
    }

    /// Begins to count now.
    pub fn begin(&self) {
        self.roll.lock().expect("no test panics with the lock").fewest = None;
    }

    /// The fewest that served at any moment since, and who did not; `None` before anything changed.
    pub fn fewest(&self) -> Option<(usize, String)> {
        self.roll.lock().expect("no test panics with the lock").fewest.clone()
    }
}
