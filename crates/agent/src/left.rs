//! Private repositories whose track no container of this machine names any more, and since when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use deployer_core::image::ImageName;
use tokio::time::Instant;

/// The memory.
#[derive(Debug, Default)]
pub struct Left(BTreeMap<ImageName, Instant>);

impl Left {
    /// Notes which are left now: one that is named again begins anew when it is left the next time. Gives those that have been
    /// left for so long.
    pub fn see(&mut self, left: BTreeSet<ImageName>, now: Instant, time: Duration) -> BTreeSet<ImageName> {
        self.0.retain(|name, _| left.contains(name));
        let since = left.into_iter().map(|name| (*self.0.entry(name.clone()).or_insert(now), name));
        since.filter(|(since, _)| now.duration_since(*since) >= time).map(|(_, name)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::track;

    #[test]
    fn what_is_named_again_begins_anew() {
        let (mut left, begun) = (Left::default(), Instant::now());
        let name = track().name().clone();
        for (second, is_left, expected) in [
            (0, true, false),
            (9, true, false),
            (10, true, true),
            (11, false, false),
            (12, true, false),
            (22, true, true),
        ] {
            let seen = is_left.then(|| name.clone()).into_iter().collect();
            let over = left.see(seen, begun + Duration::from_secs(second), Duration::from_secs(10));
            assert_eq!(over.contains(&name), expected, "{second}");
        }
    }
}
