//! Containers as a person would run them.

use std::time::Duration;

use serde_json::Value;

use crate::engine::Engine;
use crate::http::{Address, Request};
use crate::process::run;
use crate::scene::Scene;
use crate::wait::wait_until;

/// The port the test applications listen on unless their `$PORT` says otherwise.
pub(crate) const APP_PORT: u16 = 8080;

/// What to give to `docker run -d`. It belongs to its scene and goes with it.
#[derive(Clone, Debug)]
pub struct Container {
    engine: Engine,
    name: String,
    image: String,
    options: Vec<String>,
    arguments: Vec<String>,
}

impl Container {
    /// A container whose name is `word` made unique, without an image yet.
    pub fn new(scene: &Scene, word: &str) -> Self {
        let options = scene.labels().iter().flat_map(|label| ["--label".to_owned(), label.clone()]).collect();
        Self { engine: Engine::shared(), name: scene.name(word), image: String::new(), options, arguments: Vec::new() }
    }

    /// Runs on another engine than the shared one, such as [`crate::Host::engine`].
    pub fn on(mut self, engine: &Engine) -> Self {
        self.engine = engine.clone();
        self
    }

    /// The image, as it would be written on the command line: this is what `Config.Image` becomes.
    pub fn image(mut self, reference: &str) -> Self {
        self.image = reference.to_owned();
        self
    }

    /// Opts in to the daemon that manages `labeled=<the scene's id>`.
    pub fn managed(self, scene: &Scene) -> Self {
        self.label("deployer.enable", scene.id())
    }

    /// Sets a label.
    pub fn label(self, name: &str, value: &str) -> Self {
        self.option("--label").option(&format!("{name}={value}"))
    }

    /// Sets a variable.
    pub fn env(self, name: &str, value: &str) -> Self {
        self.option("--env").option(&format!("{name}={value}"))
    }

    /// Sets the restart policy: `no`, `always`, `unless-stopped`, `on-failure[:N]`.
    pub fn restart(self, policy: &str) -> Self {
        self.option("--restart").option(policy)
    }

    /// Publishes a port, for instance `127.0.0.1::8080`.
    pub fn publish(self, ports: &str) -> Self {
        self.option("--publish").option(ports)
    }

    /// Mounts a volume, for instance `name:/data`.
    pub fn volume(self, mount: &str) -> Self {
        self.option("--volume").option(mount)
    }

    /// Joins a network instead of the default bridge.
    pub fn network(self, name: &str) -> Self {
        self.option("--network").option(name)
    }

    /// Any further word before the image.
    pub fn option(mut self, word: &str) -> Self {
        self.options.push(word.to_owned());
        self
    }

    /// A word after the image.
    pub fn argument(mut self, word: &str) -> Self {
        self.arguments.push(word.to_owned());
        self
    }

    /// `docker run -d`.
    ///
    /// # Panics
    ///
    /// When the engine refuses it.
    #[track_caller]
    pub fn run(&self) -> RunningContainer {
        self.execute(&["run", "--detach"])
    }

    /// `docker create`, without a start.
    ///
    /// # Panics
    ///
    /// When the engine refuses it.
    #[track_caller]
    pub fn create(&self) -> RunningContainer {
        self.execute(&["create"])
    }

    #[track_caller]
    fn execute(&self, command: &[&str]) -> RunningContainer {
        let mut docker = self.engine.command();
        docker.args(command).args(["--name", &self.name]).args(&self.options).arg(&self.image).args(&self.arguments);
        let id = run(&mut docker).unwrap_or_else(|error| panic!("{error}"));
        RunningContainer { engine: self.engine.clone(), name: self.name.clone(), first_id: id }
    }
}

/// A container that was made, by its name: what the name stands for changes when the daemon replaces it.
#[derive(Clone, Debug)]
pub struct RunningContainer {
    engine: Engine,
    name: String,
    first_id: String,
}

impl RunningContainer {
    /// The container of this name on the shared engine, whoever made it.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[track_caller]
    pub(crate) fn named(name: &str) -> Self {
        let engine = Engine::shared();
        let found = engine.inspect(name).unwrap_or_else(|error| panic!("{error}"));
        let first_id = found["Id"].as_str().unwrap_or_default().to_owned();
        Self { engine, name: name.to_owned(), first_id }
    }

    /// The engine it runs on.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id it was made with.
    pub fn first_id(&self) -> &str {
        &self.first_id
    }

    /// The id of the container that has the name now.
    #[track_caller]
    pub fn id(&self) -> String {
        self.inspect()["Id"].as_str().unwrap_or_default().to_owned()
    }

    /// Inspects whatever has the name now.
    #[track_caller]
    pub fn inspect(&self) -> Value {
        self.engine.inspect(&self.name).unwrap_or_else(|error| panic!("{error}"))
    }

    /// What it answers to `/version` at its own address.
    ///
    /// # Errors
    ///
    /// What kept it from answering.
    pub fn version(&self) -> Result<String, String> {
        let (ip, _) = self.engine.container_address(&self.name)?;
        let mut request = Request::new("GET", "/version");
        request.limit = Duration::from_secs(1);
        let answer = request.send(&Address::Tcp(format!("{ip}:{APP_PORT}"))).map_err(|error| error.to_string())?;
        if answer.status == 200 { Ok(answer.text().trim().to_owned()) } else { Err(format!("HTTP {}", answer.status)) }
    }

    /// Waits until it serves that version.
    ///
    /// # Panics
    ///
    /// At the limit, with what it served or why it did not.
    #[track_caller]
    pub fn wait_for_version(&self, version: &str, limit: Duration) {
        wait_until(limit, &format!("{} to serve {version}", self.name), || match self.version() {
            Ok(found) if found == version => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    /// The registry's digest of the image that it runs, by the engine's own account.
    ///
    /// # Errors
    ///
    /// That there is no container of the name, or that its image came from no registry.
    pub fn digest(&self) -> Result<String, String> {
        let image = self.engine.inspect(&self.name)?["Image"].as_str().unwrap_or_default().to_owned();
        let image = self.engine.call("GET", &format!("/images/{image}/json"))?;
        let digest = image["RepoDigests"][0].as_str().and_then(|name| name.split_once('@'));
        digest.map(|(_, digest)| digest.to_owned()).ok_or_else(|| format!("{} came from no registry", image["Id"]))
    }

    /// Its log so far, both streams.
    pub fn logs(&self) -> String {
        self.engine.try_docker(["logs", &self.name]).unwrap_or_else(|error| error)
    }

    /// Stops it, as a person would.
    #[track_caller]
    pub fn stop(&self) {
        self.engine.docker(["stop", &self.name]);
    }
}
