//! Requests at random: each setting of `random.json` there or not, in one of its values.

use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::corner::Corner;
use crate::requests::Request;

/// How likely a setting is there: a request has about a dozen of them.
const LIKELY: f64 = 0.25;
/// The lowest last part of an address that no engine gives away by itself in a test's subnet of 256.
const ADDRESS_FIRST: u64 = 100;
const ADDRESSES: u64 = 150;

/// What can be asked for.
#[derive(Deserialize)]
struct Table {
    programs: Vec<Value>,
    networks: Vec<Value>,
    /// Networks that are connected afterwards, where the first is one of the test's own.
    connected: Vec<Vec<(String, Value)>>,
    settings: Vec<Vec<Value>>,
    excludes: Vec<Exclusion>,
}

/// What no engine takes together.
#[derive(Deserialize)]
struct Exclusion {
    at: String,
    is: Value,
    drops: Vec<String>,
}

/// The request of a seed: the same for ever, but for names and addresses.
pub fn request(corner: &Corner, seed: u64) -> Request {
    let table: Table = serde_json::from_str(&words(corner, seed)).expect("random.json is a table");
    let settings: Vec<_> = table.settings.into_iter().map(|values| weighted(LIKELY, select(values))).collect();
    let all = (select(table.programs), select(table.networks), settings, weighted(0.5, select(table.connected)));
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &key));
    let (program, network, settings, connected) = all.new_tree(&mut runner).expect("a value").current();
    let label = label(seed);
    let mut asked = json!({ "HostConfig": {}, "Labels": { label: "" } });
    for setting in [program, network].into_iter().chain(settings.into_iter().flatten()) {
        merge(&mut asked, setting);
    }
    for Exclusion { at, is, drops } in table.excludes {
        if asked.pointer(&at) == Some(&is) {
            drops.iter().for_each(|pointer| drop_at(&mut asked, pointer));
        }
    }
    let mode = asked["HostConfig"]["NetworkMode"].clone();
    let is_own = |mode: &str| [corner.network("lan"), corner.network("back")].iter().any(|own| own == mode);
    let mut connect = connected.filter(|_| mode.as_str().is_some_and(is_own)).unwrap_or_default();
    connect.retain(|(network, _)| *network != mode);
    (asked, connect)
}

/// A label of all containers of a request.
pub fn label(seed: u64) -> String {
    format!("deployer-test-seed-{seed}")
}

/// The table with what is the test's and the request's own.
fn words(corner: &Corner, seed: u64) -> String {
    let number = ADDRESS_FIRST + seed % ADDRESSES;
    include_str!("random.json")
        .replace("{lan}", &corner.network("lan"))
        .replace("{back}", &corner.network("back"))
        .replace("{volume}", &corner.volume())
        .replace("{subnet}", &corner.subnet_start())
        .replace("{octet}", &format!("{number:02x}"))
        .replace("{number}", &number.to_string())
}

/// Puts the members of one object into another, of which those that are objects in both are put together as well.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            from.into_iter().for_each(|(name, value)| merge(into.entry(name).or_insert(Value::Null), value));
        }
        (into, from) => *into = from,
    }
}

fn drop_at(value: &mut Value, pointer: &str) {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    if let Some(members) = value.pointer_mut(parent).and_then(Value::as_object_mut) {
        members.remove(name);
    }
}
