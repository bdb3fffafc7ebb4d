//! Compose, as the person beside the daemon uses it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::container::RunningContainer;
use crate::directory::Directory;
use crate::engine::{Engine, docker};
use crate::process::run;
use crate::scene::Scene;

/// A project: a compose file in a folder of its own. What it makes is removed with its scene.
pub struct Compose {
    directory: Directory,
    project: String,
}

impl Compose {
    /// A project of the scene, named after `word`. In the file `${LABELS}` stands for what makes an object of the engine part of
    /// the scene, as a flow mapping's members: a network or a volume without it would stay behind.
    ///
    /// # Panics
    ///
    /// When the temporary directory cannot be written.
    #[track_caller]
    pub fn new(scene: &Scene, word: &str, file: &str) -> Self {
        let compose = Self { directory: Directory::make(), project: scene.name(word) };
        let labels = scene.labels().map(|label| {
            let (name, value) = label.split_once('=').expect("name=value");
            format!("{name}: \"{value}\"")
        });
        let text = file.replace("${LABELS}", &labels.join(", "));
        fs::write(compose.file(), text).unwrap_or_else(|error| panic!("{}: {error}", compose.file().display()));
        compose
    }

    /// The path of the file.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("compose.yaml")
    }

    /// The project's name, which begins the names of its containers.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// `docker compose` with these arguments.
    ///
    /// # Errors
    ///
    /// The command line, its exit status and what it wrote to its standard error.
    pub fn try_run<const N: usize>(&self, arguments: [&str; N]) -> Result<String, String> {
        let shared = Engine::shared();
        let mut compose = Command::new("docker");
        compose.env("DOCKER_HOST", shared.address()).arg("compose").args(["--project-name", &self.project]);
        run(compose.arg("--file").arg(self.file()).args(arguments))
    }

    /// The same.
    ///
    /// # Panics
    ///
    /// When it fails, with what it said.
    #[track_caller]
    pub fn run<const N: usize>(&self, arguments: [&str; N]) -> String {
        self.try_run(arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    /// `docker compose up --detach`.
    ///
    /// # Panics
    ///
    /// When it fails, with what it said.
    #[track_caller]
    pub fn up(&self) {
        self.run(["up", "--detach"]);
    }

    /// A container of a service, by its number.
    ///
    /// # Panics
    ///
    /// When there is none of that name.
    #[track_caller]
    pub fn container(&self, service: &str, number: u32) -> RunningContainer {
        RunningContainer::named(&format!("{}-{service}-{number}", self.project))
    }

    /// The names of the project's containers, stopped ones and those of a replacement included, in order.
    ///
    /// # Panics
    ///
    /// When the engine does not answer.
    #[track_caller]
    pub fn names(&self) -> Vec<String> {
        let filter = format!("label=com.docker.compose.project={}", self.project);
        let listed = docker(["ps", "--all", "--format", "{{.Names}}", "--filter", &filter]);
        let mut names: Vec<String> = listed.lines().map(str::to_owned).collect();
        names.sort();
        names
    }
    /// The project's one container, if it has no more and no less. One that Compose could not finish making anew goes by another
    /// name than its service's.
    ///
    /// # Errors
    ///
    /// Which there are instead.
    pub fn only(&self) -> Result<RunningContainer, String> {
        match self.names().as_slice() {
            [name] => Ok(RunningContainer::named(name)),
            names => Err(format!("{names:?}")),
        }
    }
}
