//! Small web applications as images, good and bad, each made of busybox and one script.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::container::Container;
use crate::engine::{docker, try_docker};
use crate::process::run;
use crate::registry::Registry;
use crate::scene::{Scene, random_hex};

/// What a container of the image does. Those that serve answer port 8080 (or `$PORT`): `/version` with the version,
/// `/sample` with the version and the container's id. All but [`Behaviour::IgnoresSigterm`] end at once on SIGTERM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Serves until it is stopped.
    Serves,
    /// Ends with exit code 1 without ever serving.
    ExitsAtOnce,
    /// Runs, but opens no port.
    NeverListens,
    /// Runs, and exposes no port.
    Idles,
    /// Serves for so long, then ends with exit code 1.
    DiesAfter(Duration),
    /// Serves, with a HEALTHCHECK that fails every time.
    NeverHealthy,
    /// Serves, with a HEALTHCHECK that asks `/version` every half second.
    Healthy,
    /// Would serve, but the image's configuration says arm64 on any other machine, and amd64 on that.
    ForeignArchitecture,
    /// Its entrypoint is not in the image, so that the engine refuses to start it.
    StartRefused,
    /// Serves, and can only be killed.
    IgnoresSigterm,
}

/// What an image is to be. Nothing is made before [`AppImage::build`] or [`AppImage::push`].
#[derive(Clone, Debug)]
pub struct AppImage {
    version: String,
    behaviour: Behaviour,
    changes: Vec<String>,
}

impl AppImage {
    /// An image that serves `version`.
    pub fn new(version: &str) -> Self {
        Self { version: version.to_owned(), behaviour: Behaviour::Serves, changes: Vec::new() }
    }

    /// Lets its containers behave otherwise.
    pub fn behaviour(mut self, behaviour: Behaviour) -> Self {
        self.behaviour = behaviour;
        self
    }

    /// Adds an instruction as a Dockerfile would have it: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD,
    /// STOPSIGNAL, USER, VOLUME or WORKDIR. Later ones win over the behaviour's own.
    pub fn change(mut self, instruction: &str) -> Self {
        self.changes.push(instruction.to_owned());
        self
    }

    /// Sets a variable in the image.
    pub fn env(self, name: &str, value: &str) -> Self {
        self.change(&format!("ENV {name}={}", quoted(value)))
    }

    /// Sets a label on the image.
    pub fn label(self, name: &str, value: &str) -> Self {
        self.change(&format!("LABEL {}={}", quoted(name), quoted(value)))
    }

    /// Declares a volume, which is anonymous unless the container names one.
    pub fn volume(self, path: &str) -> Self {
        self.change(&format!("VOLUME {}", json!([path])))
    }

    /// Sets the default arguments, which the application ignores.
    pub fn cmd<const N: usize>(self, words: [&str; N]) -> Self {
        self.change(&format!("CMD {}", json!(words.as_slice())))
    }

    /// Sets another entrypoint; the application itself is `/bin/app`.
    pub fn entrypoint<const N: usize>(self, words: [&str; N]) -> Self {
        self.change(&format!("ENTRYPOINT {}", json!(words.as_slice())))
    }

    /// Makes a new image on the engine, under a name of its own. Two builds never have the same digest.
    ///
    /// # Panics
    ///
    /// When the engine refuses an instruction, or busybox or tar is missing.
    #[track_caller]
    pub fn build(&self, scene: &Scene) -> LocalImage {
        let name = format!("testkit/{}:{}", scene.id(), random_hex());
        let directory = tempfile::tempdir().expect("the temporary directory can be written");
        let layer = self.write_layer(directory.path());
        let mut import = Command::new("docker");
        import.arg("import");
        let exposed = (self.behaviour != Behaviour::Idles).then_some("EXPOSE 8080".to_owned());
        let own = ["ENTRYPOINT [\"/bin/app\"]".to_owned(), format!("ENV TESTKIT_BUILD={}", random_hex())];
        let labels = scene.labels().map(|label| format!("LABEL {label}"));
        // The one instruction that `docker import` does not take.
        let signal = self.changes.iter().rev().find_map(|change| change.strip_prefix("STOPSIGNAL "));
        let changes = self.changes.iter().filter(|change| !change.starts_with("STOPSIGNAL "));
        for instruction in own.iter().chain(&exposed).chain(&labels).chain(&self.behaviour.changes()).chain(changes) {
            import.arg("--change").arg(instruction);
        }
        run(import.arg(&layer).arg(&name)).unwrap_or_else(|error| panic!("{error}"));
        let is_foreign = self.behaviour == Behaviour::ForeignArchitecture;
        if is_foreign || signal.is_some() {
            write_anew(&name, directory.path(), |image| {
                if let Some(signal) = signal {
                    image["config"]["StopSignal"] = json!(signal);
                }
                if is_foreign {
                    image["architecture"] = json!(if image["architecture"] == "arm64" { "amd64" } else { "arm64" });
                }
            });
        }
        LocalImage { name }
    }

    /// Builds it and pushes it as a machine elsewhere would: through the registry's other name, so that no tag which
    /// the daemon knows moves on this engine. The local image stays until its scene goes: an engine that removes it
    /// while the daemon pulls the same one loses both. Returns the digest that the registry now has under the tag.
    ///
    /// # Panics
    ///
    /// When the build or the push fails.
    #[track_caller]
    pub fn push(&self, scene: &Scene, registry: &Registry, repository: &str, tag: &str) -> String {
        let image = self.build(scene);
        image.push(registry, &registry.push_address(), repository, tag)
    }

    /// Writes the file system of the image as a tar file that is the same whenever and by whomever it is made.
    fn write_layer(&self, directory: &Path) -> String {
        let root = directory.join("root");
        let write = |path: &str, content: &str, mode: u32| {
            let path = root.join(path);
            fs::write(&path, content).and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
        };
        let made = fs::create_dir_all(root.join("bin"))
            .and_then(|()| fs::create_dir_all(root.join("www")))
            // Anybody may write there, so that a container with another user can leave its id.
            .and_then(|()| fs::set_permissions(root.join("www"), fs::Permissions::from_mode(0o1777)))
            .and_then(|()| fs::copy("/bin/busybox", root.join("bin/busybox")))
            .and_then(|_| symlink("busybox", root.join("bin/sh")))
            .and_then(|()| write("www/version", &format!("{}\n", self.version), 0o644))
            .and_then(|()| write("bin/app", &self.behaviour.script(&self.version), 0o755));
        made.unwrap_or_else(|error| panic!("cannot write the image's files (is busybox-static installed?): {error}"));
        tar(&root, &directory.join("layer.tar"))
    }
}

impl Behaviour {
    fn script(&self, version: &str) -> String {
        // Only a shell that waits for a child in the background runs its trap at once. The container's id is read
        // from its mounts because the host name may be the user's.
        let serve = format!(
            "id=$($box sed -n 's|.*/containers/\\([0-9a-f]\\{{12\\}}\\).*|\\1|p' /proc/self/mountinfo | $box head -n 1)\n\
             echo \"{version} $id\" >/www/sample\n\
             $box httpd -p \"${{PORT:-8080}}\" -h /www\n"
        );
        let forever = "$box sleep 1000000 & wait\n";
        let body = match self {
            Self::ExitsAtOnce => "exit 1\n".to_owned(),
            Self::NeverListens | Self::Idles => forever.to_owned(),
            Self::DiesAfter(time) => format!("{serve}$box sleep {} & wait\nexit 1\n", time.as_secs_f32()),
            _ => format!("{serve}{forever}"),
        };
        let on_term = if *self == Self::IgnoresSigterm { "" } else { "exit 0" };
        format!("#!/bin/sh\nbox=/bin/busybox\ntrap '{on_term}' TERM\n{body}")
    }

    fn changes(&self) -> Vec<String> {
        let ask = r#"["/bin/busybox","wget","-q","-O","/dev/null","http://127.0.0.1:8080/version"]"#;
        match self {
            Self::NeverHealthy => {
                vec![r#"HEALTHCHECK --interval=300ms --timeout=2s --retries=2 CMD ["/bin/busybox","false"]"#.to_owned()]
            }
            Self::Healthy => vec![format!("HEALTHCHECK --interval=500ms --timeout=2s --retries=3 CMD {ask}")],
            Self::StartRefused => vec![r#"ENTRYPOINT ["/bin/missing"]"#.to_owned()],
            _ => Vec::new(),
        }
    }
}

/// An image on the engine, without a registry. It goes with its scene.
#[derive(Clone, Debug)]
pub struct LocalImage {
    name: String,
}

impl LocalImage {
    /// The name it has on the engine.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its image id, `sha256:…`.
    pub fn id(&self) -> String {
        docker(["image", "inspect", "--format", "{{.Id}}", &self.name])
    }

    /// Moves a tag of the engine to it, as `docker tag` does.
    pub fn tag(&self, reference: &str) {
        docker(["tag", &self.name, reference]);
    }

    /// Pushes it from here as `host/repository:tag`, which stays on the engine as after any `docker push`. The host is
    /// one of the registry's two names. Returns the digest that the registry now has under the tag.
    ///
    /// # Panics
    ///
    /// When the push fails, or the registry has nothing under the tag afterwards.
    #[track_caller]
    pub fn push(&self, registry: &Registry, host: &str, repository: &str, tag: &str) -> String {
        let reference = format!("{host}/{repository}:{tag}");
        self.tag(&reference);
        let mut push = Command::new("docker");
        push.args(["push", "--quiet", &reference]);
        if let Some(directory) = registry.docker_config() {
            push.env("DOCKER_CONFIG", directory);
        }
        run(&mut push).unwrap_or_else(|error| panic!("{error}"));
        registry
            .digest(repository, tag)
            .unwrap_or_else(|| panic!("pushed {reference}, but the registry has no such tag"))
    }

    /// A container of it, not yet run.
    pub fn container(&self, scene: &Scene, word: &str) -> Container {
        Container::new(scene, word).image(&self.name)
    }
}

/// Replaces an image by one with a changed configuration. `docker import` takes not all of it, `docker load` takes any:
/// so the archive is written by hand around the layer that was imported.
fn write_anew(name: &str, directory: &Path, change: impl FnOnce(&mut Value)) {
    let inspected: Value = serde_json::from_str(&docker(["image", "inspect", name])).expect("docker prints JSON");
    let image = &inspected[0];
    let mut config = json!({
        "architecture": image["Architecture"],
        "os": "linux",
        "created": image["Created"],
        "config": image["Config"],
        "rootfs": { "type": "layers", "diff_ids": image["RootFS"]["Layers"] },
        "history": [{ "created": image["Created"] }],
    });
    change(&mut config);
    let manifest = json!([{ "Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"] }]);
    let archive = directory.join("archive");
    let written = fs::create_dir(&archive)
        .and_then(|()| fs::rename(directory.join("layer.tar"), archive.join("layer.tar")))
        .and_then(|()| fs::write(archive.join("config.json"), config.to_string()))
        .and_then(|()| fs::write(archive.join("manifest.json"), manifest.to_string()));
    written.unwrap_or_else(|error| panic!("cannot write the archive of {name}: {error}"));
    let previous = docker(["image", "inspect", "--format", "{{.Id}}", name]);
    docker(["load", "--quiet", "--input", &tar(&archive, &directory.join("archive.tar"))]);
    // An image of containerd's store has gone with its last name.
    let _ = try_docker(["rmi", &previous]);
}

fn tar(root: &Path, file: &Path) -> String {
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "-cf"]).arg(file);
    run(tar.arg("-C").arg(root).arg(".")).unwrap_or_else(|error| panic!("{error}"));
    file.to_string_lossy().into_owned()
}

/// A value as a Dockerfile instruction takes it: literally, whatever it holds.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$"))
}
