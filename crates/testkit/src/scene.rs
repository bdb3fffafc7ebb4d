//! What one test puts on the shared engine, and its removal.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Once;

use serde_json::{Value, json};

use crate::engine::{self, Engine, docker};
use crate::owner::{is_dead, owner};

/// On every image, container, network and volume of a scene. Containers inherit it from their image, so that those
/// which the daemon makes are found as well.
const SCENE_LABEL: &str = "testkit.scene";
/// The process the scene belongs to, so that what a killed test left is swept up by a later one.
const OWNER_LABEL: &str = "testkit.owner";

/// One test's part of the engine. Dropping it removes every container, image, network and volume that carries its
/// label, so declare it before the daemon: a daemon that still runs would see its containers go.
pub struct Scene {
    id: String,
}

impl Scene {
    /// A scene with an id of its own. The first of a process also removes what dead test processes left behind.
    pub fn new() -> Self {
        static SWEEP: Once = Once::new();
        SWEEP.call_once(|| remove_where(OWNER_LABEL, |labels| labels[OWNER_LABEL].as_str().is_some_and(is_dead)));
        Self { id: random_hex() }
    }

    /// Eight random hex digits: what to give to `--manage labeled=…` and to the label `deployer.enable`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A name nobody else on the engine uses.
    pub fn name(&self, word: &str) -> String {
        format!("{word}-{}", self.id)
    }

    /// The labels, as `name=value`, that make an object of the engine part of this scene.
    pub fn labels(&self) -> [String; 2] {
        [format!("{SCENE_LABEL}={}", self.id), format!("{OWNER_LABEL}={}", owner())]
    }

    /// Makes a bridge network and returns its name.
    pub fn network(&self, word: &str) -> String {
        let name = self.name(word);
        let [scene, owner] = self.labels();
        docker(["network", "create", "--label", &scene, "--label", &owner, &name]);
        name
    }

    /// Makes a named volume and returns its name.
    pub fn volume(&self, word: &str) -> String {
        let name = self.name(word);
        let [scene, owner] = self.labels();
        docker(["volume", "create", "--label", &scene, "--label", &owner, &name]);
        name
    }
}

impl Default for Scene {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        remove_where(&format!("{SCENE_LABEL}={}", self.id), |_| true);
    }
}

/// Eight hex digits from the standard library's random seed, which the system gives each process.
pub(crate) fn random_hex() -> String {
    format!("{:08x}", RandomState::new().build_hasher().finish() as u32)
}

/// Containers first, because they hold the rest. A failure is told and not fatal: this runs in destructors, and an
/// object that another process removes meanwhile is as good as removed.
fn remove_where(label: &str, chosen: impl Fn(&Value) -> bool) {
    let shared = Engine::shared();
    let filters = engine::filters(&json!({ "label": [label] }));
    let kinds = [
        (format!("/containers/json?all=1&filters={filters}"), "/containers/", "?force=1&v=1", "Id"),
        (format!("/images/json?filters={filters}"), "/images/", "?force=1", "Id"),
        (format!("/networks?filters={filters}"), "/networks/", "", "Id"),
        (format!("/volumes?filters={filters}"), "/volumes/", "?force=1", "Name"),
    ];
    for (list, object, query, key) in kinds {
        let answer = shared.call("GET", &list).unwrap_or_else(|error| {
            eprintln!("testkit: {error}");
            Value::Null
        });
        let objects = answer.as_array().or(answer["Volumes"].as_array());
        for found in objects.into_iter().flatten().filter(|found| chosen(&found["Labels"])) {
            let path = format!("{object}{}{query}", found[key].as_str().unwrap_or_default());
            if let Err(error) = shared.call("DELETE", &path)
                && !error.contains(": 404 ")
                && !error.contains(": 409 ")
            {
                eprintln!("testkit: {error}");
            }
        }
    }
}
