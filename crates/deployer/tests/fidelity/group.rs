//! All cases of a file, at once, by one daemon: each container is a service of its own.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, SystemTime};

use deployer_testkit::{AppImage, Behaviour, Container, Engine, free_port, wait_until};
use serde_json::{Value, json};

use crate::case::{Case, Group};
use crate::common::{REPOSITORY, Stage};
use crate::comparable::comparable;
use crate::report::{self, Outcome};

/// For all containers of a file to be replaced once.
const ROUND_LIMIT: Duration = Duration::from_secs(240);
/// The time of a file that is put into a container: in the year 2096, after any image of this test is made.
const AFTER_ALL_IMAGES: Duration = Duration::from_secs(4_000_000_000);
/// Each case is a service of its own, which waits for no other to be up.
const SETTINGS: &str = "scope = \"service\"";
/// A gate and a monitor that a container which serves nothing passes at once.
const QUICK: [(&str, &str); 3] =
    [("deployer.health.timeout", "20s"), ("deployer.health.stable", "100ms"), ("deployer.monitor", "0")];

/// One case's container.
struct Subject<'a> {
    case: &'a Case,
    name: String,
    /// As it was first, on the first version.
    before: Value,
}

/// Makes the containers of a file, has them replaced twice, and looks at each.
#[track_caller]
pub fn replace_twice(name: &str, file: &str) {
    let stage = Stage::with(|builder| builder.settings(SETTINGS));
    let engine = Engine::shared();
    let group = Group::parse(file, &words(&stage, &engine));
    push(&stage, &group, 0);
    let image = stage.image();
    engine.docker(["pull", "--quiet", &image]);
    let api = newest_api(&engine);
    let (known, unknown): (Vec<&Case>, Vec<&Case>) = group.cases.iter().partition(|case| case.since <= api);
    let subjects: Vec<Subject> = known.into_iter().map(|case| start(&stage, &engine, case)).collect();
    for subject in &subjects {
        wait_until(ROUND_LIMIT, &format!("{} to be seen", subject.name), || {
            stage.container_status(&subject.name).ok_or("it is not in the status")
        });
    }
    wait_until(ROUND_LIMIT, "the first version to be recorded", || {
        let record = stage.track()["record"]["seq"].clone();
        if record == 1 { Ok(()) } else { Err(record.to_string()) }
    });
    subjects.iter().for_each(|subject| let_owner_act(&engine, subject));
    let unserved: Vec<BTreeMap<String, String>> =
        [1, 2].map(|version| round(&stage, &group, &subjects, version)).into();
    engine.docker(["pull", "--quiet", &image]);
    let outcomes = subjects.iter().map(|subject| (subject.case, outcome(&stage, &engine, subject, &unserved)));
    let outcomes: Vec<(&Case, Outcome)> =
        outcomes.chain(unknown.into_iter().map(|case| (case, Outcome::Unknown))).collect();
    report::write(&engine, name, &outcomes);
    let wrong: Vec<String> = outcomes
        .iter()
        .filter(|(_, outcome)| matches!(outcome, Outcome::Wrong(_)))
        .map(|(case, outcome)| format!("{} ({}): {}", case.name, case.bug, outcome.told().1))
        .collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), outcomes.len(), wrong.join("\n"));
}

/// What a file may name: networks, a volume, a directory, and addresses in the first network.
fn words<'a>(stage: &Stage, engine: &Engine) -> Vec<(&'a str, String)> {
    let (lan, subnet) = make_network(stage, engine);
    let directory = stage.daemon.state_directory().parent().expect("a directory of the test").join("shared");
    std::fs::create_dir_all(directory.join("gone")).expect("a directory of the test can be written");
    for file in ["file", "changed"] {
        std::fs::write(directory.join(file), "from the host\n").expect("a directory of the test can be written");
    }
    let neighbour = Container::new(&stage.scene, "neighbour").option("--ipc=shareable").volume("/of-the-neighbour");
    let neighbour = neighbour.image(AppImage::new("beside").build(&stage.scene).name()).run();
    engine.docker(["network", "connect", &lan, neighbour.name()]);
    vec![
        ("lan", lan),
        ("subnet", subnet),
        ("back", stage.scene.network("back")),
        ("third", stage.scene.network("a-third")),
        ("lost", stage.scene.network("lost")),
        ("other", stage.scene.network("other")),
        ("image", stage.image()),
        ("volume", stage.scene.volume("data")),
        ("directory", directory.to_string_lossy().into_owned()),
        ("scene", stage.scene.id().to_owned()),
        ("neighbour", neighbour.name().to_owned()),
        ("neighbour-id", neighbour.id()[..12].to_owned()),
        ("port", free_port().to_string()),
    ]
}

/// Makes a network with addresses that nobody else uses: of the range for tests of devices (RFC 2544), beside those of the hosts
/// of other tests. Gives back its name, and the first three bytes of the addresses.
#[track_caller]
fn make_network(stage: &Stage, engine: &Engine) -> (String, String) {
    let lan = stage.scene.name("lan");
    let labels: serde_json::Map<String, Value> = labels(stage).collect();
    let made = (64..254).find_map(|number| {
        let subnet = format!("198.19.{number}");
        let ipam = json!({ "Config": [{ "Subnet": format!("{subnet}.0/24") }] });
        let request = json!({ "Name": lan, "IPAM": ipam, "Labels": labels });
        engine.ask("POST", "/networks/create", &request).ok().map(|_| subnet)
    });
    (lan, made.expect("some addresses are free"))
}

fn labels(stage: &Stage) -> impl Iterator<Item = (String, Value)> {
    let labels = stage.scene.labels();
    labels
        .map(|label| label.split_once('=').map(|(name, value)| (name.to_owned(), json!(value))).expect("name=value"))
        .into_iter()
}

fn push(stage: &Stage, group: &Group, version: usize) -> String {
    let image = AppImage::new(&format!("v{}", version + 1)).behaviour(Behaviour::Idles);
    let image = group.images[version].iter().fold(image, |image, instruction| image.change(instruction));
    image.push(&stage.scene, &stage.registry, REPOSITORY, "latest")
}

/// The create request of a case, as its owner would send it.
fn request(stage: &Stage, case: &Case) -> Value {
    let mut body = if case.ask.is_null() { json!({}) } else { case.ask.clone() };
    body["Image"] = json!(stage.image());
    if body["StopTimeout"].is_null() {
        body["StopTimeout"] = json!(1);
    }
    for (label, value) in labels(stage) {
        body["Labels"][label] = value;
    }
    for (label, value) in
        QUICK.into_iter().chain([("deployer.enable", stage.scene.id()), ("deployer.service", &case.name)])
    {
        body["Labels"][label] = json!(value);
    }
    body
}

fn create(stage: &Stage, engine: &Engine, case: &Case, name: &str) -> Result<(), String> {
    engine.ask("POST", &format!("/containers/create?name={name}"), &request(stage, case))?;
    for (network, endpoint) in &case.connect {
        let body = json!({ "Container": name, "EndpointConfig": endpoint });
        engine.ask("POST", &format!("/networks/{network}/connect"), &body)?;
    }
    Ok(())
}

#[track_caller]
fn start<'a>(stage: &Stage, engine: &Engine, case: &'a Case) -> Subject<'a> {
    let name = stage.scene.name(&case.name);
    let started = create(stage, engine, case, &name)
        .and_then(|()| engine.ask("POST", &format!("/containers/{name}/start"), &Value::Null));
    started.unwrap_or_else(|error| panic!("the engine makes what the owner of {} asks for: {error}", case.name));
    for command in &case.prepare {
        let prepared = engine.command().args(["exec", &name]).args(command).status();
        assert!(prepared.is_ok_and(|status| status.success()), "{command:?} in {name}");
    }
    if let Some(path) = &case.put {
        let file = stage.daemon.state_directory().join("put");
        let later = SystemTime::UNIX_EPOCH + AFTER_ALL_IMAGES;
        let written = std::fs::File::create(&file).and_then(|file| file.set_modified(later));
        written.unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
        engine.docker(["cp", &file.to_string_lossy(), &format!("{name}:{path}")]);
    }
    let before = inspect(engine, &name).unwrap_or_else(|error| panic!("{error}"));
    Subject { case, name, before }
}

/// Does what the owner does before anything is pushed.
#[track_caller]
fn let_owner_act(engine: &Engine, subject: &Subject) {
    for words in &subject.case.meanwhile {
        let (program, arguments) = words.split_first().expect("a program");
        let arguments = arguments.iter().map(|word| if word == "{}" { &subject.name } else { word });
        let mut command = if program == "docker" { engine.command() } else { Command::new(program) };
        let done = command.args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

/// The newest version of the API that the engine speaks.
fn newest_api(engine: &Engine) -> (u32, u32) {
    let version = engine.call("GET", "/version").unwrap_or_else(|error| panic!("{error}"));
    let (major, minor) = version["ApiVersion"].as_str().and_then(|api| api.split_once('.')).expect("MAJOR.MINOR");
    (major.parse().expect("a number"), minor.parse().expect("a number"))
}

fn inspect(engine: &Engine, name: &str) -> Result<Value, String> {
    engine.ask("GET", &format!("/containers/{name}/json"), &Value::Null)
}

/// Pushes a version, waits until each container runs it or is said not to get it, and returns the latter with the reasons.
#[track_caller]
fn round(stage: &Stage, group: &Group, subjects: &[Subject], version: usize) -> BTreeMap<String, String> {
    let digest = push(stage, group, version);
    wait_until(ROUND_LIMIT, &format!("version {} to be everywhere", version + 1), || {
        let mut unserved = BTreeMap::new();
        let status = stage.daemon.status();
        let tracks = status["tracks"].as_array().cloned().unwrap_or_default();
        let containers: Vec<Value> =
            tracks.iter().flat_map(|track| track["containers"].as_array().cloned().unwrap_or_default()).collect();
        for subject in subjects.iter().filter(|subject| subject.case.left.is_none()) {
            let found = containers.iter().find(|container| container["name"] == subject.name);
            let found = found.ok_or_else(|| format!("status without {}", subject.name))?;
            match found["state"].as_str().unwrap_or_default() {
                "current" if found["digest"] == digest => {}
                "failed_here" | "held_back" => {
                    unserved.insert(subject.name.clone(), found["reason"].as_str().unwrap_or_default().to_owned());
                }
                _ => return Err(found.to_string()),
            }
        }
        Ok(unserved)
    })
}

/// What became of a case after both rounds.
fn outcome(stage: &Stage, engine: &Engine, subject: &Subject, unserved: &[BTreeMap<String, String>]) -> Outcome {
    let after = match inspect(engine, &subject.name) {
        Ok(after) => after,
        Err(error) => return Outcome::Wrong(vec![format!("no container is left: {error}")]),
    };
    if let Some(state) = &subject.case.left {
        let is_left = after["Id"] == subject.before["Id"] && after["State"]["Status"] == *state;
        return if is_left { Outcome::Left } else { Outcome::Wrong(vec![format!("it is not left {state}: {after}")]) };
    }
    let reason = unserved.iter().find_map(|round| round.get(&subject.name));
    let mut wrong = match (&subject.case.refused, reason) {
        (Some(words), Some(reason)) if reason.contains(words) && after["Id"] == subject.before["Id"] => {
            return Outcome::Refused(reason.clone());
        }
        (Some(words), _) => vec![format!("it should be refused for '{words}' and stay as it was: {unserved:?}")],
        (None, Some(reason)) => vec![format!("it was not replaced: {reason}")],
        (None, None) => differences(stage, engine, subject, &after),
    };
    if after["State"]["Running"] != true {
        wrong.push(format!("it does not run: {}", after["State"]));
    }
    if wrong.is_empty() { Outcome::Served } else { Outcome::Wrong(wrong) }
}

/// What of the successor is not as in a container from the same request on its image, or not as the case says.
fn differences(stage: &Stage, engine: &Engine, subject: &Subject, after: &Value) -> Vec<String> {
    let mut differences = subject.case.differences(after);
    let name = format!("{}-fresh", subject.name);
    match create(stage, engine, subject.case, &name).and_then(|()| inspect(engine, &name)) {
        Err(error) => differences.push(format!("there is nothing to compare it with: {error}")),
        Ok(mut fresh) => {
            // An engine notes its default runtime at the first start.
            fresh["HostConfig"]["Runtime"] = after["HostConfig"]["Runtime"].clone();
            let (fresh, after) = (comparable(&fresh), comparable(after));
            for part in ["Config", "HostConfig", "Networks", "Binds"] {
                let unlike = unlike(part, &after[part], &fresh[part]).into_iter();
                let may_differ = |path: &String| subject.case.differs.contains(path);
                differences.extend(unlike.filter(|(path, _)| !may_differ(path)).map(|(_, difference)| difference));
            }
        }
    }
    let before = comparable(&subject.before)["Mounts"].as_array().cloned().unwrap_or_default();
    let mounts = comparable(after)["Mounts"].as_array().cloned().unwrap_or_default();
    let lost = before.iter().filter(|mount| !mounts.contains(mount));
    differences.extend(lost.map(|mount| format!("the mount {mount} is not among {mounts:?}")));
    for (command, printed) in &subject.case.inside {
        let mut docker = engine.command();
        let output = docker.args(["exec", &subject.name]).args(command).output().expect("docker is installed");
        let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if found != *printed {
            differences.push(format!("{command:?} prints {found:?}, not {printed:?}"));
        }
    }
    differences
}

/// The places in which two values differ, each by its path and in words.
fn unlike(path: &str, left: &Value, right: &Value) -> Vec<(String, String)> {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            names.into_iter().flat_map(|name| unlike(&format!("{path}/{name}"), &left[name], &right[name])).collect()
        }
        _ if left == right => Vec::new(),
        _ => vec![(path.to_owned(), format!("{path} is {left}, and {right} in a container made anew"))],
    }
}
