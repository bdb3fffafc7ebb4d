//! Who served at each moment: read off the history.

use deployer_simulated::history::{Deed, Entry, What, instance_of};

use std::collections::BTreeMap;
use std::time::Duration;

/// The fewest instances that served at any moment from `since` on, and who did not; `None` if nothing changed since.
pub fn fewest(entries: &[Entry], since: Duration) -> Option<(usize, String)> {
    let mut names: BTreeMap<(&str, u32), &str> = BTreeMap::new();
    let mut serving: BTreeMap<(&str, u32), bool> = BTreeMap::new();
    let mut fewest: Option<(usize, String)> = None;
    for entry in entries {
        let host = entry.host.as_str();
        match &entry.what {
            What::Done(_, id, Deed::Create(purpose)) => drop(names.insert((host, *id), instance_of(&purpose.name))),
            What::Is(id, _, serves) => drop(serving.insert((host, *id), *serves)),
            _ => continue,
        }
        let mut instances: BTreeMap<(&str, &str), bool> = BTreeMap::new();
        for (place, name) in &names {
            *instances.entry((place.0, name)).or_default() |= serving.get(place) == Some(&true);
        }
        let up = instances.values().filter(|serves| **serves).count();
        if entry.at >= since && fewest.as_ref().is_none_or(|(few, _)| up < *few) {
            let down =
                instances.iter().filter(|(_, serves)| !**serves).map(|((host, name), _)| format!("{name} on {host}"));
            fewest = Some((up, down.collect::<Vec<_>>().join(", ")));
        }
    }
    fewest
}
