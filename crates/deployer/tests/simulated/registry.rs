//! A simulated registry: what its tags point to, and what the images in it do when they run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use deployer_core::image::{Digest, Track};

use super::history::{Befalling, History, What};

/// What containers of an image do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Serves,
    ExitsAtOnce,
    /// Serves at first, and exits after so long.
    DiesAfter(Duration),
    NeverListens,
    StartRefused,
    /// Never passes its HEALTHCHECK, where it has one.
    Sickens,
}

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
    resolves: u64,
    resolve_time: Duration,
    /// Hosts that cannot reach it.
    cut: BTreeSet<String>,
    /// Hosts that are answered by a replica, which knows no last change of any tag.
    behind: BTreeSet<String>,
    history: Option<History>,
}

struct Image {
    id: String,
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
        let id = format!("sha256:{:064x}", number + 0x1000);
        self.lock().images.insert(digest.clone(), Image { id, behaviour, touched: BTreeSet::new() });
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

    /// What a host's engine hears that a tag points to; an error if it hears nothing.
    pub fn resolve(&self, track: &Track, host: &str) -> Result<Option<Digest>, Cut> {
        let mut state = self.lock();
        state.resolves += 1;
        if state.cut.contains(host) {
            return Err(Cut);
        }
        let late = usize::from(state.behind.contains(host));
        let tags = state.tags.get(&track.to_string()).map(Vec::as_slice).unwrap_or_default();
        Ok(tags.iter().rev().nth(late).or(tags.first()).cloned())
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

    /// Keeps a host from reaching it, or no longer.
    pub fn cut(&self, host: &str, is_cut: bool) {
        let mut state = self.lock();
        let has_changed = if is_cut { state.cut.insert(host.to_owned()) } else { state.cut.remove(host) };
        if let (true, Some(history)) = (has_changed, &state.history) {
            history.befell(host, if is_cut { Befalling::RegistryCut } else { Befalling::RegistryHealed });
        }
    }

    /// Whether a host is kept from reaching it.
    pub fn is_cut(&self, host: &str) -> bool {
        self.lock().cut.contains(host)
    }

    /// Lets a replica that is behind answer a host, or no longer.
    pub fn put_behind(&self, host: &str, is_behind: bool) {
        let mut state = self.lock();
        if is_behind {
            state.behind.insert(host.to_owned())
        } else {
            state.behind.remove(host)
        };
    }

    /// Whether a replica that is behind answers a host.
    pub fn is_behind(&self, host: &str) -> bool {
        self.lock().behind.contains(host)
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

/// No answer from the registry.
pub struct Cut;

/// The digest of the version of a number.
pub fn digest(number: u32) -> Digest {
    Digest::parse(&format!("sha256:{number:064x}")).expect("a digest")
}
