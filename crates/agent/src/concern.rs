//! What of the store concerns this node: the tracks that run here, and the services that their containers are instances of.
//! It does not grow with the number of nodes.

use std::collections::{BTreeMap, BTreeSet};

use deployer_core::image::Track;
use deployer_core::keys::Keys;
use deployer_store::mirror::Changed;

use crate::look::Wake;

/// The tracks, each with its services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Concern(BTreeMap<Track, BTreeSet<String>>);

impl FromIterator<(Track, String)> for Concern {
    fn from_iter<T: IntoIterator<Item = (Track, String)>>(pairs: T) -> Self {
        let mut tracks: BTreeMap<Track, BTreeSet<String>> = BTreeMap::new();
        for (track, service) in pairs {
            tracks.entry(track).or_default().insert(service);
        }
        Self(tracks)
    }
}

impl Concern {
    /// Whether a track runs here.
    pub fn contains(&self, track: &Track) -> bool {
        self.0.contains_key(track)
    }

    /// The tracks.
    pub fn tracks(&self) -> impl Iterator<Item = &Track> {
        self.0.keys()
    }

    /// Below what the keys lie that this node reads again and again.
    pub fn prefixes(&self, keys: &Keys) -> BTreeSet<String> {
        let tracks = self.0.keys().flat_map(|track| [keys.image(track), keys.checked(track)]);
        let services = self.0.values().flatten().map(|service| keys.verdicts(service));
        tracks.chain(services).chain([keys.pause()]).collect()
    }

    /// What to look at after a change.
    pub fn wakes(&self, keys: &Keys, changed: &Changed) -> Vec<Wake> {
        let (key, is_put) = match changed {
            Changed::Anything => return vec![Wake::All],
            Changed::Put(key) => (key, true),
            Changed::Deleted(key) => (key, false),
        };
        if **key == keys.pause() {
            return vec![Wake::All];
        }
        let tracks: Vec<Track> = if let Some((track, fact)) = keys.track_of(key) {
            is_news(fact, is_put).then_some(track).into_iter().collect()
        } else if let Some(service) = keys.verdict_service(key) {
            self.0.iter().filter(|(_, services)| services.contains(&service)).map(|(track, _)| track.clone()).collect()
        } else {
            // A mark that ends is a check that is due; the timer alone would find it up to an hour later.
            keys.checked_track(key).filter(|_| !is_put).into_iter().collect()
        };
        tracks.into_iter().filter(|track| self.contains(track)).map(Wake::Track).collect()
    }
}

fn is_news(fact: &str, is_put: bool) -> bool {
    match fact {
        // A notification that was served is followed by a look anyway; one who asks will tell.
        "pending" => is_put,
        // For the sweep alone.
        "left" => false,
        "resolver" => !is_put,
        // Who leaves a setback leaves the turn as well, which is what the others wait for.
        _ => !(is_put && fact.starts_with("setback/")),
    }
}

#[cfg(test)]
mod tests {
    use deployer_core::image::Digest;

    use super::*;

    fn track(name: &str) -> Track {
        Track::parse(&format!("registry.test/{name}")).expect("a track")
    }

    fn keys() -> Keys {
        Keys::new("/deployer")
    }

    /// A node that runs two tracks of one service and one of its own hears of a key; the tracks it looks at.
    #[track_caller]
    fn check(key: String, when_put: &[&str], when_deleted: &[&str]) {
        let concern: Concern = [("web:1", "shop"), ("api:1", "shop"), ("db:1", "db")]
            .map(|(name, of)| (track(name), of.to_owned()))
            .into_iter()
            .collect();
        let looks = |names: &[&str]| match names {
            ["*"] => vec![Wake::All],
            names => names.iter().map(|name| Wake::Track(track(name))).collect(),
        };
        assert_eq!(concern.wakes(&keys(), &Changed::Put(key.as_str().into())), looks(when_put), "{key}");
        assert_eq!(concern.wakes(&keys(), &Changed::Deleted(key.as_str().into())), looks(when_deleted), "{key}");
    }

    #[test]
    fn a_change_makes_those_tracks_look_that_it_concerns() {
        let (keys, digest) = (keys(), Digest::parse(&format!("sha256:{}", "1".repeat(64))).expect("a digest"));
        check(keys.record(&track("web:1")), &["web:1"], &["web:1"]);
        check(keys.halt(&track("web:1")), &["web:1"], &["web:1"]);
        check(keys.pending(&track("web:1")), &["web:1"], &[]);
        check(keys.resolver(&track("web:1")), &[], &["web:1"]);
        check(keys.setback(&track("web:1"), "a"), &[], &["web:1"]);
        check(keys.checked(&track("web:1")), &[], &["web:1"]);
        check(keys.verdict("shop", &digest), &["api:1", "web:1"], &["api:1", "web:1"]);
        check(keys.verdict("else", &digest), &[], &[]);
        check(keys.record(&track("else:1")), &[], &[]);
        // Its place in the store begins like another one's.
        check(keys.checked(&track("web:10")), &[], &[]);
        check(keys.pause(), &["*"], &["*"]);
    }

    #[test]
    fn what_a_node_follows_is_of_its_own_tracks_alone() {
        let keys = keys();
        let concern: Concern = [(track("web:1"), "shop".to_owned())].into_iter().collect();
        let expected =
            [keys.image(&track("web:1")), keys.checked(&track("web:1")), keys.verdicts("shop"), keys.pause()];
        assert_eq!(concern.prefixes(&keys), BTreeSet::from(expected));
        assert_eq!(Concern::default().prefixes(&keys), BTreeSet::from([keys.pause()]));
    }
}
