//! The image that each track's tag named on this machine when this node last saw or set it: by this it tells its own hand from
//! somebody else's.

use std::collections::{BTreeMap, BTreeSet};

use deployer_core::image::Track;

/// The memory; of a tag that named nothing it knows that, too.
#[derive(Clone, Debug, Default)]
pub struct Tags(BTreeMap<Track, Option<String>>);

impl Tags {
    /// Takes a tag as seen when its track is first looked at.
    pub fn meet(&mut self, track: &Track, image: Option<String>) {
        self.0.entry(track.clone()).or_insert(image);
    }

    /// Notes that this node has set a tag, or taken it away.
    pub fn set(&mut self, track: &Track, image: Option<String>) {
        self.0.insert(track.clone(), image);
    }

    /// Takes a tag as seen in a look that began when these were known, unless this node has set it since.
    pub fn accept(&mut self, track: &Track, image: Option<String>, known: &Self) {
        if self.0.get(track) == known.0.get(track) {
            self.set(track, image);
        }
    }

    /// Whether a tag is known to have named something else than this.
    pub fn is_other(&self, track: &Track, image: Option<&String>) -> bool {
        self.0.get(track).is_some_and(|known| known.as_ref() != image)
    }

    /// Forgets all tracks but these.
    pub fn retain(&mut self, tracks: &BTreeSet<Track>) {
        self.0.retain(|track, _| tracks.contains(track));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::track;

    #[test]
    fn what_a_look_saw_is_not_taken_over_what_was_set_since() {
        let image = |id: &str| Some(id.to_owned());
        for (set, expected) in [(None, image("seen")), (Some(image("set")), image("set")), (Some(None), None)] {
            let mut tags = Tags::default();
            assert!(!tags.is_other(&track(), None), "nothing is known");
            tags.meet(&track(), image("first"));
            tags.meet(&track(), image("second"));
            assert!(!tags.is_other(&track(), image("first").as_ref()), "met once");
            let known = tags.clone();
            if let Some(image) = set.clone() {
                tags.set(&track(), image);
            }
            tags.accept(&track(), image("seen"), &known);
            assert!(!tags.is_other(&track(), expected.as_ref()), "{set:?}: {tags:?}");
        }
    }
}
