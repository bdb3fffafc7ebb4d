//! Changes of the engine's mirror as wakes. What is nothing new, and what other people's containers do, wakes nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deployer_core::image::{ImageName, Track};
use deployer_core::replacement::is_transitional;
use deployer_engine::ImageSummary;
use deployer_engine::mirror::{Container, Snapshot};
use tokio::sync::mpsc;

use crate::concern::Concern;
use crate::keep;
use crate::look::Wake;
use crate::world::World;

/// The trigger.
pub struct EngineEvents {
    /// What the stages share.
    pub world: Arc<World>,
    /// Where wakes go.
    pub wakes: mpsc::Sender<Wake>,
}

impl EngineEvents {
    /// Works until the update stage is gone. While a wake waits for its place, changes gather in the mirror.
    pub async fn run(self) {
        let mut shown = self.world.engine_mirror.subscribe();
        let mut before = self.world.engine_mirror.snapshot();
        loop {
            tokio::select! {
                biased;
                () = self.wakes.closed() => return,
                // The mirror lives as long as the world.
                _ = shown.changed() => {}
            }
            let now = Arc::clone(&shown.borrow_and_update());
            for wake in self.woken(&before, &now) {
                let _ = self.wakes.send(wake).await;
            }
            before = now;
        }
    }

    /// Whom a change of the mirror concerns. Nobody while the engine is not heard: everything is looked at when it is.
    fn woken(&self, before: &Snapshot, now: &Snapshot) -> Vec<Wake> {
        if before.hearing != now.hearing {
            return vec![Wake::All];
        }
        if now.is_heard().is_err() {
            return Vec::new();
        }
        // What a replacement does to its own containers is nothing to look at before its end, which rings the bell.
        let is_ours = |container: &Arc<Container>| {
            self.world.settings.manage.includes(&container.labels) && !is_transitional(&container.name)
        };
        // The set of instances, or who of them is up, may have changed, so it is not the track alone that needs a look.
        if changes(&before.containers, &now.containers).any(|(was, is)| is.or(was).is_some_and(is_ours)) {
            return vec![Wake::All];
        }
        let named = changes(&before.images, &now.images).flat_map(|(was, is)| self.renamed(was, is));
        named.collect::<BTreeSet<Track>>().into_iter().map(Wake::Track).collect()
    }

    /// The tracks whose image may have changed with the names of one.
    fn renamed(&self, was: Option<&Arc<ImageSummary>>, is: Option<&Arc<ImageSummary>>) -> BTreeSet<Track> {
        let none = ImageSummary::default();
        let (was, is) = (was.map_or(&none, Arc::as_ref), is.map_or(&none, Arc::as_ref));
        let is_changed = |name: &ImageName| was.digests.get(name) != is.digests.get(name);
        let registered = self.world.registered.borrow();
        let memory = self.world.memory();
        let may_differ = |track: &&Track| {
            let is_moved = was.tags.contains(*track) != is.tags.contains(*track);
            (is_moved || is_changed(track.name())) && !keep::is_private(track.name())
        };
        // The end of a pull under way rings the bell for its track.
        let tracks = registered.iter().flat_map(Concern::tracks).filter(may_differ);
        tracks.filter(|track| !memory.fetches.is_under_way(track)).cloned().collect()
    }
}

/// What differs between two maps: what was there, and what is.
fn changes<'a, T>(
    before: &'a BTreeMap<String, Arc<T>>,
    now: &'a BTreeMap<String, Arc<T>>,
) -> impl Iterator<Item = (Option<&'a Arc<T>>, Option<&'a Arc<T>>)> {
    let gone = before.iter().filter(|(id, _)| !now.contains_key(*id)).map(|(_, was)| (Some(was), None));
    let new = now.iter().map(|(id, is)| (before.get(id), Some(is)));
    let new = new.filter(|(was, is)| was.zip(*is).is_none_or(|(was, is)| !Arc::ptr_eq(was, is)));
    gone.chain(new)
}

#[cfg(test)]
mod tests {
    use deployer_core::replacement::is_transitional;
    use deployer_engine::ImageHand as _;
    use deployer_engine::mirror::Thing;
    use deployer_simulated::engine::{Move, SimulatedEngine, Spec};
    use serde_json::json;
    use tokio::time::sleep;

    use super::*;
    use crate::fixture::{A_CHECK, Fixture, digest, fixture, id, image, track};

    /// Whom a change of the engine wakes that an event of one thing tells of.
    async fn woken(fixture: &Fixture, thing: &str, change: impl AsyncFnOnce(&SimulatedEngine)) -> Vec<Wake> {
        let world = &fixture.world;
        let trigger = EngineEvents { world: Arc::clone(world), wakes: mpsc::channel(1).0 };
        if world.engine_mirror.snapshot().is_heard().is_err() {
            world.engine_mirror.refresh().await.expect("answered");
        }
        let before = world.engine_mirror.snapshot();
        change(&fixture.engine).await;
        let is_image = thing.contains(':');
        let thing = if is_image { Thing::Image(thing.to_owned()) } else { Thing::Container(thing.to_owned()) };
        world.engine_mirror.look_again(&thing).await.expect("answered");
        trigger.woken(&before, &world.engine_mirror.snapshot())
    }

    #[tokio::test(start_paused = true)]
    async fn a_container_wakes_everything_unless_it_is_a_strangers_or_in_a_replacement() {
        let all = || vec![Wake::All];
        let a = id(1);
        for (name, enabled, expected) in
            [("web", "true", all()), ("web", "false", vec![]), ("web.old-00c0ffee", "true", vec![])]
        {
            let fixture = fixture().await;
            let spec = Spec { has_check: true, ..Spec::new(name, &track()) };
            let make = async |engine: &SimulatedEngine| {
                engine.run_with(&spec, |body| body["Labels"]["deployer.enable"] = json!(enabled));
                sleep(A_CHECK).await;
            };
            let case = format!("{name} {enabled} {}", is_transitional(name));
            assert_eq!(woken(&fixture, &a, make).await, expected, "made: {case}");
            assert_eq!(woken(&fixture, &a, async |_| ()).await, [], "told again: {case}");
            let ill = async |engine: &SimulatedEngine| assert!(engine.falls_ill(name, None), "{case}");
            assert_eq!(woken(&fixture, &a, ill).await, expected, "unhealthy: {case}");
            let ended = async |engine: &SimulatedEngine| engine.stop_by_hand(name);
            assert_eq!(woken(&fixture, &a, ended).await, expected, "ended: {case}");
            let gone = async |engine: &SimulatedEngine| engine.remove_by_hand(name);
            assert_eq!(woken(&fixture, &a, gone).await, expected, "gone: {case}");
        }
        let fixture = fixture().await;
        let [candidate, web, predecessor] = ["web.new-00c0ffee", "web", "web.old-00c0ffee"];
        woken(&fixture, &a, async |engine| engine.run(&track(), candidate)).await;
        let renamed = async |engine: &SimulatedEngine, from: &str, to: &str| {
            assert!(engine.does(from, &Move::Rename(to.to_owned())));
        };
        let named = woken(&fixture, &a, async |engine| renamed(engine, candidate, web).await).await;
        assert_eq!(named, all(), "it has its name now");
        let replaced = woken(&fixture, &a, async |engine| renamed(engine, web, predecessor).await).await;
        assert_eq!(replaced, [], "and is replaced");
    }

    #[tokio::test(start_paused = true)]
    async fn an_images_names_wake_the_tracks_that_run_here() {
        let fixture = fixture().await;
        let other = Track::parse("registry.test/web:2").expect("a track");
        let world = &fixture.world;
        let concern = [track(), other.clone()].map(|track| (track, "web".to_owned())).into_iter().collect();
        world.registered.send_replace(Some(concern));
        let image = image(1);
        let set_names = async |engine: &SimulatedEngine, names: &[&str]| {
            engine.pull_by_hand(&track(), Some(&digest(1)));
            names.iter().filter(|name| !name.contains('@')).for_each(|name| engine.tag_by_hand(&image, name));
            for gone in engine.names().iter().filter(|name| !names.contains(&name.as_str())) {
                engine.untag(gone).await.expect("nothing runs it");
            }
        };
        let (by_digest, kept) = (track().at(&digest(1)).to_string(), "deployer.invalid/kept/x:1");
        let both = [Wake::Track(track()), Wake::Track(other)];
        for (names, expected, case) in [
            (vec!["registry.test/web:1"], &both[..1], "a tag moves here"),
            (vec!["registry.test/web:1"], &[], "told again"),
            (vec!["registry.test/web:1", kept], &[], "a keep-tag"),
            (vec!["registry.test/web:1", "registry.test/web:3", kept], &[], "a tag that nothing runs"),
            (vec!["registry.test/web:1", &by_digest], &both, "a version is here"),
            (vec![&by_digest], &both[..1], "a tag is taken away"),
        ] {
            let woken = woken(&fixture, &image, async |engine| set_names(engine, &names).await).await;
            assert_eq!(woken, expected, "{case}");
        }
        world.memory().fetches.come_in(&track(), String::new());
        let names = ["registry.test/web:1", &by_digest];
        let pulled = woken(&fixture, &image, async |engine| set_names(engine, &names).await);
        assert_eq!(pulled.await, [], "the end of the pull rings the bell");
    }

    #[tokio::test(start_paused = true)]
    async fn everything_is_looked_at_when_the_engine_is_heard_again() {
        let fixture = fixture().await;
        let world = &fixture.world;
        let (wakes, mut woken) = mpsc::channel(9);
        let trigger = EngineEvents { world: Arc::clone(world), wakes }.run();
        let again = async {
            tokio::task::yield_now().await;
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
            world.engine_mirror.refresh().await.expect("answered");
            woken.recv().await
        };
        tokio::select! {
            biased;
            () = trigger => panic!("the trigger goes on"),
            wake = again => assert_eq!(wake, Some(Wake::All)),
        }
    }
}
