//! Who on this machine runs containers by itself: services with an attached `docker` client, and unit files that
//! name a container.
//!
//! A unit that runs `docker run` supervises the client and not the container, which shows no sign of it: no label, and
//! the engine's own control group. So the other end is looked at, in `/proc` and in systemd's directories. What is
//! found is handed on as facts; whose the container is, is decided in `deployer_core::ownership`.
//!
//! From inside a container without the host's processes there is nothing to find, and the label `deployer.supervisor`
//! must say it.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use deployer_core::ownership::{Supervision, owner, service_of_process};
use deployer_engine::mirror::Judge;
use serde_json::Value;

mod command;

use command::{Command, Naming};

/// Most processes that are looked at. Those beyond, of a machine near the kernel's limit, are not seen.
const PROCESSES_MAX: usize = 65_536;
/// Most unit files that are read.
const UNIT_FILES_MAX: usize = 4_096;
/// How much of one file is read, in bytes. A longer command line or unit is seen up to there.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Where units lie, fleet's included.
const UNIT_DIRECTORIES: [&str; 6] = [
    "etc/systemd/system",
    "run/systemd/system",
    "run/fleet/units",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

/// Who says whose containers are on the machine whose file system begins at `root`. Each looks at the machine once, when
/// it is first asked.
pub fn judge(root: &Path) -> impl Fn() -> Judge + Send + Sync + 'static {
    let root = root.to_owned();
    move || {
        let (root, supervisors) = (root.clone(), OnceLock::new());
        Box::new(move |container| {
            let supervisors = supervisors.get_or_init(|| Supervisors::look(&root));
            owner(container, &supervisors.of(container))
        })
    }
}

/// What one look at the machine found.
#[derive(Default)]
pub struct Supervisors {
    root: PathBuf,
    clients: Vec<Found>,
    units: Vec<Found>,
}

/// A command that names containers, and the service that it belongs to.
struct Found {
    command: Command,
    unit: String,
}

impl Supervisors {
    /// Looks at the machine whose file system begins at `root`, which takes a few milliseconds. What cannot be read is
    /// passed over: a process ends, or belongs to somebody whose processes are hidden.
    pub fn look(root: &Path) -> Self {
        Self { root: root.to_owned(), clients: clients(root), units: units(root) }
    }

    /// What was found about a container, by its raw inspection.
    pub fn of(&self, container: &Value) -> Supervision {
        let cgroup = self.cgroup_of(container);
        let find = |found: &'_ [Found]| found.iter().position(|found| found.command.means(container));
        if let Some(client) = find(&self.clients).map(|index| &self.clients[index]) {
            let attached_client = Some(client.command.program.to_owned());
            return Supervision { attached_client, unit: Some(client.unit.clone()), cgroup };
        }
        let unit = find(&self.units).map(|index| self.units[index].unit.clone());
        Supervision { attached_client: None, unit, cgroup }
    }

    /// The control group of the container's main process. The number may meanwhile be another process's, so it counts
    /// only if the process has the container's own files mounted.
    fn cgroup_of(&self, container: &Value) -> Option<String> {
        let pid = container.pointer("/State/Pid").and_then(Value::as_u64).filter(|pid| *pid > 0)?;
        let id = container.get("Id").and_then(Value::as_str).filter(|id| !id.is_empty())?;
        let process = self.root.join("proc").join(pid.to_string());
        read(&process.join("mountinfo")).filter(|mounts| mounts.contains(id))?;
        cgroup(&process)
    }
}

/// The live clients that belong to services.
fn clients(root: &Path) -> Vec<Found> {
    let entries = fs::read_dir(root.join("proc")).into_iter().flatten().flatten().take(PROCESSES_MAX);
    entries
        .filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
        .filter_map(|entry| client(&entry.path()))
        .collect()
}

fn client(process: &Path) -> Option<Found> {
    let name = read(&process.join("comm"))?;
    if !matches!(name.trim_end(), "docker" | "docker-compose") {
        return None;
    }
    let line = read(&process.join("cmdline"))?;
    let words: Vec<String> = line.split('\0').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let directory = fs::read_link(process.join("cwd")).ok();
    let command = Command::parse(&words, Naming::Plain, directory.as_deref())?;
    let unit = service_of_process(&cgroup(process)?)?.to_owned();
    Some(Found { command, unit })
}

/// The path of a process's control group: systemd's own hierarchy where there are several, else the only one.
fn cgroup(process: &Path) -> Option<String> {
    let groups = read(&process.join("cgroup"))?;
    let path_of = |mark: &str| groups.lines().find_map(|line| line.split_once(mark).map(|(_, path)| path.to_owned()));
    path_of(":name=systemd:").or_else(|| path_of("0::"))
}

/// The commands in unit files that start containers.
fn units(root: &Path) -> Vec<Found> {
    let mut seen = Vec::new();
    let mut units = Vec::new();
    for directory in UNIT_DIRECTORIES {
        // On most machines /lib is /usr/lib, and a unit of the same name in an earlier directory stands above.
        for file in fs::read_dir(root.join(directory)).into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            if !name.ends_with(".service") || seen.contains(&name) || seen.len() >= UNIT_FILES_MAX {
                continue;
            }
            if let Some(text) = read(&file.path()) {
                units.extend(commands_of_unit(&name, &text));
            }
            seen.push(name);
        }
    }
    units
}

fn commands_of_unit(name: &str, text: &str) -> Vec<Found> {
    if !text.contains("docker") {
        return Vec::new();
    }
    let text = text.replace("\\\n", " ");
    let value_of = |key: &str| {
        text.lines().find_map(|line| line.trim().strip_prefix(key)).map(|value| PathBuf::from(value.trim()))
    };
    let directory = value_of("WorkingDirectory=");
    let starts = text.lines().filter_map(|line| line.trim().strip_prefix("ExecStart="));
    let words = |line: &str| -> Vec<String> {
        line.split_whitespace().map(|word| word.trim_matches(['"', '\'', ';', '&']).to_owned()).collect()
    };
    starts
        .filter_map(|line| Command::parse(&words(line), Naming::OfUnit(name), directory.as_deref()))
        .map(|command| Found { command, unit: name.to_owned() })
        .collect()
}

/// The beginning of a file, if it can be read.
fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests;
