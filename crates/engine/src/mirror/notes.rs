//! What the mirror remembers beside what it shows: in which order things were looked at, and what was done to them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::Thing;
use super::deeds::Deeds;
use super::facts::Health;

/// How long a container that is gone is remembered: longer than any call under way may take to speak of it.
const GONE_KEPT: Duration = Duration::from_secs(120);
/// Containers that are gone and remembered; of more, those that went first are forgotten sooner.
const GONE_MAX: usize = 1024;

/// The notes.
#[derive(Default)]
pub(super) struct Notes {
    /// What somebody did to containers.
    pub deeds: Deeds,
    /// Labels and variables of images, by ID, as their inspection shows them: of those whose containers had to be told apart
    /// from them.
    pub defaults: BTreeMap<String, Arc<Value>>,
    /// The number of the last look.
    last: u64,
    containers: BTreeMap<String, Note>,
    gone: VecDeque<(Instant, String)>,
    /// Things that were acted on, with the last look that began before.
    acted_on: BTreeMap<Thing, u64>,
}

#[derive(Default)]
struct Note {
    /// The last look at the container that counted.
    seen: u64,
    /// What an event said of its health, with the last look that began before.
    health: Option<(u64, Health)>,
}

impl Notes {
    /// The number of a look that begins now. What it finds stands above whatever an earlier one finds.
    pub fn ticket(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Whether a look at a container found something newer than what is known. It is known from now on.
    pub fn is_news(&mut self, id: &str, ticket: u64) -> bool {
        let note = self.containers.entry(id.to_owned()).or_default();
        let is_news = note.seen < ticket;
        if is_news {
            note.seen = ticket;
            self.saw(&Thing::Container(id.to_owned()), ticket);
        }
        is_news
    }

    /// Notes what an event says of a container's health.
    pub fn note_health(&mut self, id: &str, health: Health) {
        let last = self.last;
        self.containers.entry(id.to_owned()).or_default().health = Some((last, health));
    }

    /// What an event said of a container's health after a look began.
    pub fn health_after(&self, id: &str, ticket: u64) -> Option<Health> {
        let (last, health) = self.containers.get(id)?.health?;
        (ticket <= last).then_some(health)
    }

    /// Notes that a container is gone, and forgets those that are gone for long.
    pub fn note_gone(&mut self, id: &str) {
        let now = Instant::now();
        self.gone.retain(|(_, gone)| gone != id);
        self.gone.push_back((now, id.to_owned()));
        while let Some((since, id)) = self.gone.front()
            && (self.gone.len() > GONE_MAX || now - *since > GONE_KEPT)
        {
            self.deeds.forget(id);
            self.containers.remove(id);
            self.gone.pop_front();
        }
    }

    /// Notes that something was done to a thing.
    pub fn act(&mut self, thing: Thing) {
        self.acted_on.insert(thing, self.last);
    }

    /// The things that were acted on and not looked at since.
    pub fn acted_on(&self) -> Vec<Thing> {
        self.acted_on.keys().cloned().collect()
    }

    /// Notes that a thing was looked at.
    pub fn saw(&mut self, thing: &Thing, ticket: u64) {
        if self.acted_on.get(thing).is_some_and(|last| *last < ticket) {
            self.acted_on.remove(thing);
        }
    }

    /// Notes that all images were looked at.
    pub fn saw_images(&mut self, ticket: u64) {
        self.acted_on.retain(|thing, last| matches!(thing, Thing::Container(_)) || *last >= ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_later_look_stands_above_an_earlier_one_whichever_ends_first() {
        let mut notes = Notes::default();
        let (first, second) = (notes.ticket(), notes.ticket());
        assert!(notes.is_news("a", second));
        assert!(!notes.is_news("a", first));
        notes.note_gone("a");
        assert!(!notes.is_news("a", first), "a container that is gone does not come back");
    }

    #[tokio::test]
    async fn an_act_is_settled_by_a_look_that_began_after_it() {
        let mut notes = Notes::default();
        let web = Thing::Container("a".to_owned());
        let before = notes.ticket();
        notes.act(web.clone());
        assert!(notes.is_news("a", before));
        assert_eq!(notes.acted_on(), [web]);
        let after = notes.ticket();
        assert!(notes.is_news("a", after));
        assert_eq!(notes.acted_on(), []);
    }

    #[tokio::test]
    async fn an_act_on_an_image_during_a_list_is_looked_at_again() {
        let mut notes = Notes::default();
        let web = Thing::Image("web:1".to_owned());
        let list = notes.ticket();
        notes.act(web.clone());
        notes.saw_images(list);
        assert_eq!(notes.acted_on(), [web]);
        let list = notes.ticket();
        notes.saw_images(list);
        assert_eq!(notes.acted_on(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn containers_that_are_gone_are_remembered_for_a_while_and_in_a_bounded_number() {
        let mut notes = Notes::default();
        for id in 0..2 * GONE_MAX {
            let ticket = notes.ticket();
            assert!(notes.is_news(&id.to_string(), ticket));
            notes.note_gone(&id.to_string());
        }
        assert_eq!(notes.containers.len(), GONE_MAX);
        tokio::time::advance(GONE_KEPT + Duration::from_secs(1)).await;
        notes.note_gone("last");
        assert_eq!((notes.containers.len(), notes.gone.len()), (0, 1));
    }
}
