//! A registry that notifies a daemon, and containers that deploy within a second or two.

#![allow(dead_code, reason = "each test file uses a part")]

use std::time::Duration;

use deployer_testkit::{
    AppImage, Behaviour, Container, Daemon, DaemonBuilder, Hook, Registry, RegistryOptions, RunningContainer, Scene,
    wait_until,
};
use serde_json::Value;

/// For what takes a second or two on an idle machine.
pub const SOON: Duration = Duration::from_secs(60);
/// The repository that most tests push to.
pub const REPOSITORY: &str = "acme/web";

/// The built binary.
pub const BINARY: &str = env!("CARGO_BIN_EXE_deployer");

/// Everything of one test. Fields are dropped in order: the daemon must not see its containers go.
pub struct Stage {
    pub daemon: Daemon,
    pub registry: Registry,
    pub hook: Hook,
    pub scene: Scene,
}

impl Stage {
    /// A daemon that hears of every push.
    pub fn new() -> Self {
        Self::with(|builder| builder)
    }

    /// The same, with further settings.
    pub fn with(settings: impl FnOnce(DaemonBuilder) -> DaemonBuilder) -> Self {
        Self::with_registry(|builder, _| settings(builder))
    }

    /// The same, with settings that need to know the registry.
    pub fn with_registry(settings: impl FnOnce(DaemonBuilder, &Registry) -> DaemonBuilder) -> Self {
        let scene = Scene::new();
        let mut registry = Registry::start(RegistryOptions::default());
        let hook = Hook::distribution("/hooks/registry", &registry.address());
        let builder = settings(Daemon::builder(BINARY, &scene).hook(&hook), &registry);
        registry.notify(vec![hook.notification(builder.address())]);
        Self { daemon: builder.start(), registry, hook, scene }
    }

    /// Pushes a version that serves.
    pub fn push(&self, version: &str) -> String {
        self.push_that(version, Behaviour::Serves)
    }

    /// Pushes a version that behaves.
    pub fn push_that(&self, version: &str, behaviour: Behaviour) -> String {
        AppImage::new(version).behaviour(behaviour).push(&self.scene, &self.registry, REPOSITORY, "latest")
    }

    /// The track's name.
    pub fn image(&self) -> String {
        self.registry.image(REPOSITORY, "latest")
    }

    /// A managed container with a quick gate, not yet run.
    pub fn container(&self, word: &str) -> Container {
        quick(Container::new(&self.scene, word).image(&self.image()).managed(&self.scene))
    }

    /// Runs the container, and waits until it serves, so that its successor is asked for the same, and until the
    /// daemon has taken its version as the first.
    pub fn run(&self, container: &Container) -> RunningContainer {
        let running = container.run();
        wait_until(SOON, &format!("{} to serve", running.name()), || running.version());
        self.wait_for_state(running.name(), "current");
        running
    }

    /// Waits until a container is in a state.
    #[track_caller]
    pub fn wait_for_state(&self, name: &str, state: &str) -> Value {
        wait_until(SOON, &format!("{name} to be {state}"), || {
            let found = self.container_status(name).ok_or_else(|| format!("status without {name}"))?;
            if found["state"] == state { Ok(found) } else { Err(found.to_string()) }
        })
    }

    /// A container's line of the status, if that has one.
    pub fn container_status(&self, name: &str) -> Option<Value> {
        let status = self.daemon.try_status().ok()?;
        let tracks = status["tracks"].as_array().cloned().unwrap_or_default();
        let containers = tracks.iter().flat_map(|track| track["containers"].as_array().cloned().unwrap_or_default());
        containers.into_iter().find(|container| container["name"] == name)
    }

    /// The first track of the status.
    pub fn track(&self) -> Value {
        self.daemon.status()["tracks"][0].clone()
    }

    /// Waits until the deployment of a digest to a container has come to an end, good or bad.
    #[track_caller]
    pub fn wait_for_digest(&self, name: &str, digest: &str) {
        wait_until(SOON, &format!("{name} to run {digest}"), || {
            let found = self.container_status(name).ok_or_else(|| format!("status without {name}"))?;
            if found["state"] == "current" && found["digest"] == digest { Ok(()) } else { Err(found.to_string()) }
        });
    }

    /// Waits until a digest has a bad verdict and nothing is under way.
    #[track_caller]
    pub fn wait_for_bad(&self, digest: &str) -> Value {
        wait_until(SOON, &format!("{digest} to be found bad"), || {
            let status = self.daemon.status();
            let track = &status["tracks"][0];
            let verdict = bad_verdict(track, digest);
            match verdict {
                Some(verdict) if is_quiet(&status) => Ok(verdict),
                _ => Err(status.to_string()),
            }
        })
    }

    /// Waits until nothing is being replaced.
    #[track_caller]
    pub fn wait_for_quiet(&self) {
        wait_until(SOON, "nothing to be under way", || {
            let status = self.daemon.try_status()?;
            if is_quiet(&status) { Ok(()) } else { Err(status.to_string()) }
        });
    }

    /// Asserts what must hold after everything: one container of the name, it serves the version, no other is left
    /// of a replacement, no journal is open, no slot is taken.
    #[track_caller]
    pub fn assert_settled(&self, container: &RunningContainer, version: &str) {
        self.wait_for_quiet();
        container.wait_for_version(version, SOON);
        // What is put away at the very end of a replacement nobody waits for.
        let filter = format!("name={}", container.name());
        wait_until(SOON, "one container to be left", || {
            let names = deployer_testkit::docker(["ps", "--all", "--format", "{{.Names}}", "--filter", &filter]);
            if names == container.name() { Ok(()) } else { Err(names) }
        });
        let journals = self.daemon.state_directory().join("replacements");
        wait_until(SOON, "journals to be closed", || {
            let left = std::fs::read_dir(&journals).map_err(|error| error.to_string())?.count();
            if left == 0 { Ok(()) } else { Err(left.to_string()) }
        });
    }
}

/// A container that is stopped, and whose gate and monitor have passed, within two seconds.
pub fn quick(container: Container) -> Container {
    container
        .restart("unless-stopped")
        .option("--stop-timeout=1")
        .label("deployer.health.timeout", "5s")
        .label("deployer.health.stable", "300ms")
        .label("deployer.monitor", "700ms")
}

/// The bad verdict of a digest, if a track has one.
pub fn bad_verdict(track: &Value, digest: &str) -> Option<Value> {
    let verdicts = track["verdicts"].as_array()?;
    verdicts.iter().find(|verdict| verdict["digest"] == digest && verdict["verdict"] == "bad").cloned()
}

/// Whether nothing is being replaced, pulled or asked.
pub fn is_quiet(status: &Value) -> bool {
    let tracks = status["tracks"].as_array().cloned().unwrap_or_default();
    let mut containers = tracks.iter().flat_map(|track| track["containers"].as_array().cloned().unwrap_or_default());
    let is_busy = |state: &Value| ["stale", "pulling", "waiting", "replacing"].iter().any(|busy| state == busy);
    status["claims"] == serde_json::json!([])
        && tracks.iter().all(|track| track["pending"] == false)
        && !containers.any(|container| is_busy(&container["state"]))
}
