//! T42 on the real engine: a container replaced by its create request is the same container, whatever it was asked to be.
//!
//! Needs the engine that `DOCKER_HOST` names, as the `docker` command does, and a static `busybox` in `/bin`.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use deployer_engine::{EngineError, Hand};
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};

#[path = "../../../core/tests/successor/comparable.rs"]
mod comparable;
mod corner;
mod random;
mod requests;

use comparable::comparable;
use corner::{Corner, docker};
use requests::Request;

/// Containers that are replaced at the same time.
const AT_ONCE: usize = 6;
/// Requests at random that are tried, unless `REQUESTS` says how many.
const REQUESTS: u64 = 40;
/// Of ten of them an engine may refuse so many: the table has settings that an older one has never heard of.
const REFUSED_OF_TEN_MAX: usize = 2;
/// A time in the year 2096, after any image of this test is made.
const AFTER_ALL_IMAGES: Duration = Duration::from_secs(4_000_000_000);

/// Does the same with each, some at once: an engine takes its time for all of them.
async fn each<T>(all: impl Iterator<Item = T>, act: impl AsyncFn(T)) {
    stream::iter(all).for_each_concurrent(AT_ONCE, |one| act(one)).await;
}

/// In what two inspections differ that have to be alike in these parts.
fn difference(after: &Value, before: &Value, parts: &[&str]) -> Option<String> {
    let (after, before) = (comparable(after), comparable(before));
    let members = |value: &Value| -> BTreeSet<String> {
        value.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
    };
    let part = parts.iter().find(|part| after[**part] != before[**part])?;
    let (after, before) = (&after[*part], &before[*part]);
    let names = &members(after) | &members(before);
    Some(match names.into_iter().find(|name| after[name] != before[name]) {
        Some(name) => format!("{part}.{name} is {}, and was {}", after[&name], before[&name]),
        None => format!("{part} is {after}, and was {before}"),
    })
}

const ALL: [&str; 5] = ["Config", "HostConfig", "Networks", "Binds", "Mounts"];
/// The volumes of an earlier image stay with its container, and those of a fresh container are its own.
const ALL_BUT_VOLUMES: [&str; 4] = ["Config", "HostConfig", "Networks", "Binds"];

/// Replaces a container twice on its own image: in what it is another one then.
async fn twice_on_the_same(corner: &Corner, before: &Value) -> Result<Option<String>, EngineError> {
    let second = corner.replace(before, 0, 0).await?;
    let third = corner.replace(&second, 0, 0).await?;
    let differs = difference(&second, before, &ALL).or_else(|| difference(&third, before, &ALL));
    Ok(differs.or_else(|| (third["State"]["Running"] != true).then(|| "it does not run".to_owned())))
}

/// Replaces a container on another image, and back: in what it differs from one made anew there, or from itself.
async fn there_and_back(corner: &Corner, asked: &Request, before: &Value) -> Result<Option<String>, EngineError> {
    let there = corner.replace(before, 0, 1).await?;
    let back = corner.replace(&there, 1, 0).await?;
    // Never started: with a fixed address or port it could not run beside the other.
    let mut fresh = corner.inspect(&corner.create(asked, 1).await?).await;
    // An engine notes its default runtime at the first start.
    fresh["HostConfig"]["Runtime"] = there["HostConfig"]["Runtime"].clone();
    let differs = difference(&there, &fresh, &ALL_BUT_VOLUMES);
    Ok(differs.or_else(|| difference(&back, before, &ALL_BUT_VOLUMES)))
}

/// Creates and starts a container as its user would.
async fn begin(corner: &Corner, asked: &Request) -> Result<Value, EngineError> {
    let id = corner.create(asked, 0).await?;
    corner.engine.start(&id).await?;
    Ok(corner.inspect(&id).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn t42_on_the_same_image_a_container_is_replaced_by_its_like() {
    let corner = Corner::new("same").await;
    each(corner.requests(), async |asked| {
        let before = begin(&corner, &asked).await.expect("the engine takes what the user asks for");
        let differs = twice_on_the_same(&corner, &before).await.expect("the engine takes it again");
        assert_eq!(differs, None, "asked {asked:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t42_on_another_image_a_container_becomes_what_its_user_asked_for() {
    let corner = Corner::new("other").await;
    each(corner.requests(), async |asked| {
        let before = begin(&corner, &asked).await.expect("the engine takes what the user asks for");
        let differs = there_and_back(&corner, &asked, &before).await.expect("the engine takes it again");
        assert_eq!(differs, None, "asked {asked:?}");
    })
    .await;
}

/// `SEED` and `REQUESTS` try others, and more.
#[tokio::test(flavor = "multi_thread")]
async fn t42_what_is_asked_for_at_random_is_kept() {
    let from_environment = |name: &str| std::env::var(name).ok().map(|value| value.parse().expect("a number"));
    let (first, count) = (from_environment("SEED").unwrap_or(0), from_environment("REQUESTS").unwrap_or(REQUESTS));
    eprintln!("seeds {first} to {}", first + count - 1);
    let corner = Corner::new("random").await;
    let (refused, wrong) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    each(first..first + count, async |seed| {
        let asked = random::request(&corner, seed);
        let before = match begin(&corner, &asked).await {
            Ok(before) => before,
            Err(error) => return refused.lock().expect("no panic").push(format!("seed {seed}: {error}")),
        };
        let kept = match seed % 2 {
            0 => twice_on_the_same(&corner, &before).await,
            _ => there_and_back(&corner, &asked, &before).await,
        };
        if let Some(what) = kept.unwrap_or_else(|error| Some(error.to_string())) {
            wrong.lock().expect("no panic").push(format!("seed {seed}: {what}; asked {asked:?}"));
        }
        corner.remove_labelled(&random::label(seed));
    })
    .await;
    let (refused, wrong) = (refused.into_inner().expect("no panic"), wrong.into_inner().expect("no panic"));
    eprintln!("{count} requests, {} refused by the engine: {refused:#?}", refused.len());
    assert!(wrong.is_empty(), "{} of {count} went wrong: {wrong:#?}", wrong.len());
    assert!(refused.len() * 10 <= count as usize * REFUSED_OF_TEN_MAX, "the table asks for what no engine takes");
}

#[tokio::test(flavor = "multi_thread")]
async fn t35_data_in_anonymous_volumes_is_there_after_the_replacement() {
    let corner = Corner::new("data").await;
    let asked = json!({ "Volumes": { "/user": {} }, "Healthcheck": { "Test": ["NONE"] }, "User": "0:0",
        "HostConfig": { "Binds": ["/bind"], "Mounts": [{ "Type": "volume", "Target": "/mount" }] } });
    let id = corner.create(&(asked, Vec::new()), 0).await.expect("created");
    corner.engine.start(&id).await.expect("the container starts");
    let paths = ["/declared/note", "/user/note", "/bind/note", "/mount/note"];
    docker(&["exec", &id, "busybox", "touch", paths[0], paths[1], paths[2], paths[3]]);
    let before = corner.inspect(&id).await;
    let between = corner.replace(&before, 0, 1).await.expect("replaced");
    let after = corner.replace(&between, 1, 0).await.expect("replaced");
    docker(&["exec", after["Id"].as_str().expect("an ID"), "busybox", "ls", paths[0], paths[1], paths[2], paths[3]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn t37_files_put_into_a_container_are_told_from_those_it_writes() {
    let corner = Corner::new("files").await;
    let note = tempfile::NamedTempFile::new().expect("a file to put");
    note.as_file().set_modified(SystemTime::UNIX_EPOCH + AFTER_ALL_IMAGES).expect("a time");
    let note = note.path().to_str().expect("a path of plain letters");
    let writes = (
        json!({ "Entrypoint": [""], "User": "0:0", "Cmd": ["busybox", "sh", "-c",
        "busybox mkdir -p /tmp /var/log /run/app /etc; busybox chown 7:8 /declared/seed /bin/busybox; for f in /tmp/x /var/log/x /run/app/pid /etc/own /x.db; do echo > $f; done; exec busybox sleep 2005"] }),
        Vec::new(),
    );
    let ordinary = corner.create(&writes, 0).await.expect("created");
    corner.engine.start(&ordinary).await.expect("the container starts");
    assert_eq!(corner.injected(&ordinary, "/x.db").await, Vec::<String>::new());

    let injected = corner.create(&writes, 0).await.expect("created");
    docker(&["cp", note, &format!("{injected}:/app.conf")]);
    corner.engine.start(&injected).await.expect("the container starts");
    assert_eq!(corner.injected(&injected, "/x.db").await, ["/app.conf"]);
}
