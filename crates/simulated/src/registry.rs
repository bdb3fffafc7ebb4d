//! A simulated registry: what its tags point to, and what the images in it do when they run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use deployer_core::image::{Digest, Track};

use crate::history::{Befalling, History, What};
pub use crate::history::{Behaviour, Obstruction};

/// The registry, shared by all engines.
#[derive(Clone, Default)]
pub struct SimulatedRegistry {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What each tag points to, and pointed to before, the last at the end.
    tags: BTreeMap<String, Vec<Digest>>,
    images: BTreeMap<Digest, Image>,
    /// Ports that images expose, where it is not port 80 alone, and what they are built for, where it is another machine.
    exposed: BTreeMap<String, Vec<u16>>,
    architectures: BTreeMap<String, &'static str>,
    resolves: u64,
    resolve_time: Duration,
    /// Hosts that are not answered.
    obstructed: BTreeMap<String, Obstruction>,
    /// What a replica that is behind says to those who ask next for a tag.
    behind: BTreeMap<String, VecDeque<Digest>>,
    history: Option<History>,
}

struct Image {
    id: String,
    track: String,
    behaviour: Behaviour,
    /// Nodes on which a container of it was started.
    touched: BTreeSet<String>,
}

impl SimulatedRegistry {
    /// An empty registry that notes pushes.
    pub fn new(history: &History) -> Self {
        let registry = Self::default();
        registry.lock().history = Some(history.clone());
        registry
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with the lock")
    }

    /// Pushes a version and gives back its digest.
    pub fn push(&self, track: &Track, number: u32, behaviour: Behaviour) -> Digest {
        let digest = digest(number);
        let image = Image { id: image(number), track: track.to_string(), behaviour, touched: BTreeSet::new() };
        self.lock().images.insert(digest.clone(), image);
        self.point(track, &digest);
        digest
    }

    /// Pushes an index that has another digest and the very image of an earlier version.
    pub fn push_again(&self, track: &Track, number: u32, earlier: &Digest) -> Digest {
        let digest = digest(number);
        let mut state = self.lock();
        let Image { id, behaviour, .. } = &state.images[earlier];
        let (id, behaviour, track_name) = (id.clone(), *behaviour, track.to_string());
        state.images.insert(digest.clone(), Image { id, track: track_name, behaviour, touched: BTreeSet::new() });
        drop(state);
        self.point(track, &digest);
        digest
    }

    /// Points a tag to what was pushed before.
    pub fn point(&self, track: &Track, digest: &Digest) {
        let mut state = self.lock();
        state.tags.entry(track.to_string()).or_default().push(digest.clone());
        if let (Some(history), Some(image)) = (&state.history, state.images.get(digest)) {
            history.note("", What::Pushed(track.familiar(), digest.clone(), image.behaviour));
        }
    }

    /// What a tag points to.
    pub fn tag(&self, track: &Track) -> Option<Digest> {
        self.lock().tags.get(&track.to_string())?.last().cloned()
    }

    /// What a tag points to and pointed to before.
    pub fn tags(&self, track: &Track) -> Vec<Digest> {
        self.lock().tags.get(&track.to_string()).cloned().unwrap_or_default()
    }

    /// The same, asked by the engine of a host.
    pub fn resolve(&self, track: &Track, host: &str) -> Result<Option<Digest>, Obstruction> {
        let mut state = self.lock();
        state.resolves += 1;
        if let Some(obstruction) = state.obstructed.get(host) {
            return Err(*obstruction);
        }
        let track = track.to_string();
        let behind = state.behind.get_mut(&track).and_then(VecDeque::pop_front);
        Ok(behind.or_else(|| state.tags.get(&track)?.last().cloned()))
    }

    /// Does not answer a host any more, or `None`: does again.
    pub fn obstruct(&self, host: &str, obstruction: Option<Obstruction>) {
        let mut state = self.lock();
        let before = match obstruction {
            Some(obstruction) => state.obstructed.insert(host.to_owned(), obstruction),
            None => state.obstructed.remove(host),
        };
        if let Some(history) = state.history.as_ref().filter(|_| before != obstruction) {
            history.befell(host, Befalling::Registry(obstruction));
        }
    }

    /// Whether a host can reach it, though it may be refused there.
    pub fn is_reached_by(&self, host: &str) -> bool {
        self.lock().obstructed.get(host) != Some(&Obstruction::Unreachable)
    }

    /// Lets so many who ask next be answered by a replica that still shows this digest.
    pub fn fall_behind(&self, digest: &Digest, answers: usize) {
        let mut state = self.lock();
        let track = state.images[digest].track.clone();
        state.behind.entry(track).or_default().extend(std::iter::repeat_n(digest.clone(), answers));
    }

    /// The replica has caught up.
    pub fn catch_up(&self) {
        self.lock().behind.clear();
    }

    /// Takes a tag away.
    pub fn remove_tag(&self, track: &Track) {
        self.lock().tags.remove(&track.to_string());
    }

    /// Takes what is behind a digest away; who asks for it gets nothing.
    pub fn collect_garbage(&self, digest: &Digest) {
        self.lock().images.remove(digest);
    }

    /// Lets containers of a digest do something else from now on.
    pub fn mend(&self, digest: &Digest, behaviour: Behaviour) {
        self.lock().images.get_mut(digest).expect("it was pushed").behaviour = behaviour;
    }

    /// Lets the image of a digest expose other ports than 80.
    pub fn expose(&self, digest: &Digest, ports: &[u16]) {
        let id = self.image_id(digest).expect("it was pushed");
        self.lock().exposed.insert(id, ports.to_vec());
    }

    /// The ports that an image exposes.
    pub fn exposed(&self, image_id: &str) -> Vec<u16> {
        self.lock().exposed.get(image_id).cloned().unwrap_or_else(|| vec![80])
    }

    /// Lets the image of a digest be one for other machines.
    pub fn build_for(&self, digest: &Digest, architecture: &'static str) {
        let id = self.image_id(digest).expect("it was pushed");
        self.lock().architectures.insert(id, architecture);
    }

    /// What an image is built for.
    pub fn architecture(&self, image_id: &str) -> &'static str {
        self.lock().architectures.get(image_id).copied().unwrap_or("amd64")
    }

    /// How often an engine asked.
    pub fn resolves(&self) -> u64 {
        self.lock().resolves
    }

    /// Lets an answer take this long to arrive: what it says is older than its arrival.
    pub fn slow_resolves(&self, time: Duration) {
        self.lock().resolve_time = time;
    }

    /// How long an answer takes.
    pub fn resolve_time(&self) -> Duration {
        self.lock().resolve_time
    }

    /// The image ID of a digest.
    pub fn image_id(&self, digest: &Digest) -> Option<String> {
        self.lock().images.get(digest).map(|image| image.id.clone())
    }

    /// The digest of an image ID.
    pub fn digest_of(&self, image_id: &str) -> Option<Digest> {
        self.lock().images.iter().find(|(_, image)| image.id == image_id).map(|(digest, _)| digest.clone())
    }

    /// What a container of an image does, now that a node starts one.
    pub fn behaviour(&self, image_id: &str, node: &str) -> Behaviour {
        let mut state = self.lock();
        let image = state.images.values_mut().find(|image| image.id == image_id).expect("it was pushed");
        image.touched.insert(node.to_owned());
        image.behaviour
    }

    /// The nodes on which a container of a digest was started.
    pub fn touched(&self, digest: &Digest) -> BTreeSet<String> {
        self.lock().images.get(digest).map(|image| image.touched.clone()).unwrap_or_default()
    }
}

/// The digest of the version of a number.
pub fn digest(number: u32) -> Digest {
    Digest::parse(&format!("sha256:{number:064x}")).expect("a digest")
}

/// The ID of the image of the version of a number.
pub fn image(number: u32) -> String {
    format!("sha256:{:064x}", number + 0x1000)
}
