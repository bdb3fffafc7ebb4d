//! T42: whatever the user asked for and whatever the image says, a container replaced on the same image is the same
//! container, and one replaced on other images is what the user's own request would make there.

use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use crate::comparable::comparable;
use crate::engine_model::{API_NEW, API_OLD, created, image, replaced};

/// Where a value comes from. Values of different authors are never equal where `is_distinct`, so that each has one
/// right owner; else they are drawn from one small pool, so that equal ones are frequent.
#[derive(Clone, Copy)]
struct Author {
    name: &'static str,
    is_distinct: bool,
}

impl Author {
    fn word(self) -> BoxedStrategy<String> {
        let name = if self.is_distinct { self.name } else { "any" };
        select(vec!["1", "2", "x=y", "line\nline"]).prop_map(move |value| format!("{name}-{value}")).boxed()
    }

    fn words(self) -> BoxedStrategy<Value> {
        vec(self.word(), 1..3).prop_map(|words| json!(words)).boxed()
    }

    fn nanoseconds(self) -> BoxedStrategy<Value> {
        let offset = if self.is_distinct { self.name.len() as i64 } else { 0 };
        (1_i64..4).prop_map(move |seconds| json!(seconds * 1_000_000_000 + offset)).boxed()
    }
}

/// An object that has each of `fields` or not.
fn object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Map<String, Value>> {
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(name, value)| of(value).prop_map(move |value| value.map(|value| (name.to_owned(), value))))
        .collect();
    fields.prop_map(|fields| fields.into_iter().flatten().collect()).boxed()
}

fn text(word: BoxedStrategy<String>) -> BoxedStrategy<Value> {
    word.prop_map(Value::from).boxed()
}

/// Environment entries, no two of the same key.
fn environment(author: Author) -> BoxedStrategy<Value> {
    let entries = btree_map(select(vec!["A", "B", "C", "PATH"]), author.word(), 0..4).prop_shuffle_entries();
    entries.prop_map(|entries| json!(entries)).boxed()
}

/// Puts the entries of a map into a random order.
trait ShuffleEntries {
    fn prop_shuffle_entries(self) -> BoxedStrategy<Vec<String>>;
}

impl<S: Strategy<Value = std::collections::BTreeMap<&'static str, String>> + 'static> ShuffleEntries for S {
    fn prop_shuffle_entries(self) -> BoxedStrategy<Vec<String>> {
        let lines =
            self.prop_map(|map| map.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>());
        lines.prop_shuffle().boxed()
    }
}

fn keys(choices: Vec<&'static str>) -> BoxedStrategy<Value> {
    btree_map(select(choices), Just(json!({})), 0..3).prop_map(|map| json!(map)).boxed()
}

/// The part of a configuration that both an image and a user can set.
fn shared_config(author: Author) -> Vec<(&'static str, BoxedStrategy<Value>)> {
    let health = object(vec![
        ("Test", author.words()),
        ("Interval", author.nanoseconds()),
        ("StartInterval", author.nanoseconds()),
        ("Retries", author.nanoseconds()),
    ]);
    vec![
        ("User", text(author.word())),
        ("WorkingDir", text(author.word())),
        ("StopSignal", text(author.word())),
        ("Env", environment(author)),
        ("Cmd", author.words()),
        ("Entrypoint", author.words()),
        (
            "Healthcheck",
            health
                .prop_filter("an engine drops an empty one", |health| !health.is_empty())
                .prop_map(Value::Object)
                .boxed(),
        ),
        ("Labels", btree_map(select(vec!["l", "m", "n"]), author.word(), 0..3).prop_map(|map| json!(map)).boxed()),
        ("ExposedPorts", keys(vec!["80/tcp", "443/tcp"])),
        ("Volumes", keys(vec!["/a", "/b"])),
    ]
}

fn image_config(author: Author) -> BoxedStrategy<Value> {
    object(shared_config(author)).prop_map(Value::Object).boxed()
}

/// A create request. With a distinct author, the paths and ports are the user's own too.
fn request(author: Author) -> BoxedStrategy<Value> {
    let mut fields = shared_config(author);
    if author.is_distinct {
        fields.retain(|(name, _)| !matches!(*name, "ExposedPorts" | "Volumes"));
        fields.push(("ExposedPorts", keys(vec!["7/tcp", "8/udp"])));
        fields.push(("Volumes", keys(vec!["/user", "/user/deep/"])));
    }
    fields.extend([
        ("Hostname", Just(json!("own-name")).boxed()),
        ("Tty", any::<bool>().prop_map(Value::from).boxed()),
        ("StopTimeout", Just(json!(9)).boxed()),
        ("Unheard", Just(json!({ "of": [1] })).boxed()),
        ("HostConfig", host_config()),
    ]);
    let taken_away = prop_oneof![4 => Just(None), 1 => Just(Some(json!([""]))), 1 => Just(Some(json!([])))];
    (object(fields), taken_away, author.words(), networks())
        .prop_map(|(mut body, taken_away, command, (mode, endpoints))| {
            if let Some(entrypoint) = taken_away {
                // An engine refuses to create a container that has neither of the two.
                if entrypoint == json!([""]) {
                    body.entry("Cmd").or_insert(command);
                }
                body.insert("Entrypoint".to_owned(), entrypoint);
            }
            let host = body.entry("HostConfig").or_insert_with(|| json!({}));
            host["NetworkMode"] = json!(mode);
            body.insert("NetworkingConfig".to_owned(), json!({ "EndpointsConfig": endpoints }));
            Value::Object(body)
        })
        .boxed()
}

fn host_config() -> BoxedStrategy<Value> {
    let binds = vec(select(vec!["/anonymous-bind", "named:/named:ro", "/srv:/srv:ro,rslave"]), 0..3);
    let mounts = vec(
        select(vec![
            json!({ "Type": "volume", "Target": "/mount", "VolumeOptions": { "NoCopy": true } }),
            json!({ "Type": "volume", "Source": "other", "Target": "/other", "ReadOnly": true }),
            json!({ "Type": "tmpfs", "Target": "/scratch", "TmpfsOptions": { "SizeBytes": 7 } }),
        ]),
        0..3,
    );
    object(vec![
        ("Binds", binds.prop_map(|binds| json!(distinct(binds))).boxed()),
        ("Mounts", mounts.prop_map(|mounts| json!(distinct(mounts))).boxed()),
        ("PortBindings", Just(json!({ "7/tcp": [{ "HostIp": "", "HostPort": "7007" }] })).boxed()),
        ("Memory", Just(json!(1 << 26)).boxed()),
        ("MaskedPaths", Just(json!(["/proc/own"])).boxed()),
        ("RestartPolicy", Just(json!({ "Name": "always", "MaximumRetryCount": 0 })).boxed()),
        ("Unheard", Just(json!("of")).boxed()),
    ])
    .prop_map(Value::Object)
    .boxed()
}

fn distinct<T: PartialEq>(items: Vec<T>) -> Vec<T> {
    items.into_iter().fold(Vec::new(), |mut kept, item| {
        if !kept.contains(&item) {
            kept.push(item);
        }
        kept
    })
}

/// A network mode with the endpoints of that network alone, or of several where the mode is a network's name.
fn networks() -> BoxedStrategy<(String, Value)> {
    let endpoint = object(vec![
        ("Aliases", Just(json!(["web", "www"])).boxed()),
        ("IPAMConfig", Just(json!({ "IPv4Address": "10.0.0.9" })).boxed()),
        ("DriverOpts", Just(json!({ "o": "1" })).boxed()),
        ("GwPriority", Just(json!(3)).boxed()),
    ]);
    let user_defined = (
        select(vec!["back", "front", "middle"]),
        btree_map(select(vec!["back", "front", "middle"]), endpoint.clone(), 0..3),
        endpoint,
    )
        .prop_map(|(mode, mut endpoints, own)| {
            endpoints.insert(mode, own);
            (mode.to_owned(), json!(endpoints))
        });
    prop_oneof![
        4 => user_defined,
        1 => select(vec!["default", "host", "none"]).prop_map(|mode| (mode.to_owned(), json!({}))),
    ]
    .boxed()
}

/// Creates the container as an engine of either kind: an old one connects all networks but the first later.
fn create(id: &str, asked: &Value, image: &Value, api: (u32, u32)) -> Value {
    let mut first = asked.clone();
    let mut connect = Vec::new();
    if api < API_NEW {
        let mode = asked["HostConfig"]["NetworkMode"].clone();
        if let Some(endpoints) = first["NetworkingConfig"]["EndpointsConfig"].as_object_mut() {
            connect = endpoints
                .iter()
                .filter(|(name, _)| mode != **name)
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            endpoints.retain(|name, _| mode == *name);
        }
    }
    created(id, &first, &connect, image)
}

/// The comparable form without mounts: a replaced container keeps the volumes that an earlier image declared.
fn without_mounts(inspection: &Value) -> Value {
    let mut comparable = comparable(inspection);
    comparable["Mounts"] = Value::Null;
    comparable
}

const ANY: Author = Author { name: "any", is_distinct: false };
const USER: Author = Author { name: "user", is_distinct: true };
const IMAGES: [Author; 3] = [
    Author { name: "first-image", is_distinct: true },
    Author { name: "second-image!", is_distinct: true },
    Author { name: "third-image!!!", is_distinct: true },
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn t42_on_the_same_image_a_container_is_replaced_by_its_like(
        config in image_config(ANY), asked in request(ANY), api in select(vec![API_OLD, API_NEW, (1, 52)]),
    ) {
        let image = image("a", config);
        let first = create("1", &asked, &image, api);
        let second = replaced(&first, &image, &image, "2", api);
        prop_assert_eq!(comparable(&second), comparable(&first), "asked {}", asked);
        let third = replaced(&second, &image, &image, "3", api);
        prop_assert_eq!(comparable(&third), comparable(&first), "the second time; asked {}", asked);
    }

    #[test]
    fn t42_on_other_images_a_container_becomes_what_its_user_asked_for(
        configs in IMAGES.map(image_config), asked in request(USER), api in select(vec![API_OLD, API_NEW, (1, 52)]),
    ) {
        if asked.get("Entrypoint") == Some(&json!([""])) && configs[0].get("Entrypoint").is_none() {
            // An entry point taken away where there was none leaves no trace, the first time.
            return Ok(());
        }
        let images = configs.map(|config| image("a", config));
        let mut container = create("1", &asked, &images[0], api);
        for (round, pair) in images.windows(2).enumerate() {
            container = replaced(&container, &pair[0], &pair[1], "2", api);
            let fresh = create("3", &asked, &pair[1], api);
            prop_assert_eq!(without_mounts(&container), without_mounts(&fresh), "round {}; asked {}", round, asked);
        }
    }
}
