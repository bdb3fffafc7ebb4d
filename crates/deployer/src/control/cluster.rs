//! What a person can do to the cluster as a whole: pause it, resume it, forget a node that is gone for good.

use std::collections::BTreeSet;

use deployer_agent::ledger::{Read, readable};
use deployer_agent::world::World;
use deployer_core::availability::Instance;
use deployer_core::store::Txn;
use deployer_store::TXN_OPERATIONS_MAX;
use serde_json::json;

use super::{ActionError, Ask};

/// Lets no further replacement start anywhere. Hooks, records and pulls go on; what is past its fence is finished.
pub async fn pause(world: &World, ask: Ask) -> Result<String, ActionError> {
    let pause = json!({"reason": ask.of, "node": world.settings.node, "at": world.ambient.now()});
    world.store.txn(Txn::new().put(world.keys.pause(), &pause)).await?;
    tracing::warn!(reason = ask.of, "a person paused the cluster");
    Ok("paused: no replacement starts anywhere until `deployer resume`".to_owned())
}

/// Lets replacements start again.
pub async fn resume(world: &World, _: Ask) -> Result<String, ActionError> {
    if world.store.get(&world.keys.pause()).await?.is_none() {
        return Ok("not paused".to_owned());
    }
    world.store.txn(Txn::new().delete(world.keys.pause())).await?;
    tracing::warn!("a person resumed the cluster");
    Ok("resumed".to_owned())
}

/// Removes the instances of a node that will not return, so that nobody waits for them to be up.
pub async fn forget_node(world: &World, ask: Ask) -> Result<String, ActionError> {
    let node = &ask.of;
    if world.store.get(&world.keys.node(node)).await?.is_some() {
        return Err(ActionError::Mistake(format!("node {node} lives; stop its deployer first, which is enough")));
    }
    // What the node itself noted that it keeps, and its instances in case an older daemon noted nothing.
    let index = world.keys.index(node);
    let noted = world.store.get(&index).await?.and_then(|entry| serde_json::from_slice(&entry.value).ok());
    let mut gone: BTreeSet<String> = noted.unwrap_or_default();
    let mut containers = 0;
    for entry in world.store.list(&world.keys.all_instances()).await?.0 {
        let key = entry.key.clone();
        let instance: Option<Read<Instance>> = readable(world, entry);
        let named = instance.as_ref().map(|read| read.value.node.clone());
        if named.or_else(|| Some(world.keys.instance_of(&key)?.0)).as_ref() == Some(node) {
            gone.extend(instance.map(|instance| world.keys.run(&instance.value.image, node)));
            gone.insert(key);
            containers += 1;
        }
    }
    if gone.is_empty() {
        return Err(ActionError::Mistake(format!("no instance of a node {node} is registered")));
    }
    let gone: Vec<String> = gone.into_iter().chain([index]).collect();
    for some in gone.chunks(TXN_OPERATIONS_MAX) {
        world.store.txn(some.iter().cloned().fold(Txn::new(), Txn::delete)).await?;
    }
    tracing::warn!(node, "a person had a node forgotten");
    Ok(format!("node {node} is forgotten, with {containers} of its containers"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use deployer_agent::fixture::{fixture, track};

    #[tokio::test]
    async fn a_node_that_lives_is_not_forgotten_and_one_that_is_gone_is() {
        let fixture = fixture().await;
        let world = &fixture.world;
        let ask = |node: &str| Ask { of: node.to_owned() };
        assert!(forget_node(world, ask("a")).await.expect_err("it lives").to_string().contains("lives"));
        let gone = Instance { node: "gone".into(), image: track(), container: "web".into(), off: false };
        let key = world.keys.instance("web", "gone", "web");
        let (run, index) = (world.keys.run(&track(), "gone"), world.keys.index("gone"));
        let txn = Txn::new().put(key.clone(), &gone).put(run.clone(), &json!({})).put(index.clone(), &[&key, &run]);
        world.store.txn(txn).await.expect("stored");
        forget_node(world, ask("gone")).await.expect("forgotten");
        for key in [key, run, index] {
            assert_eq!(world.store.get(&key).await.expect("read"), None, "{key}");
        }
        assert!(world.store.get(&world.keys.instance("web", "a", "web")).await.expect("read").is_some());
        forget_node(world, ask("gone")).await.expect_err("nothing left to forget");
    }

    #[tokio::test]
    async fn a_pause_lasts_until_it_is_resumed() {
        let fixture = fixture().await;
        let world = &fixture.world;
        let is_paused = async || world.store.get(&world.keys.pause()).await.expect("read").is_some();
        pause(world, Ask { of: "night".into() }).await.expect("paused");
        assert!(is_paused().await);
        resume(world, Ask { of: String::new() }).await.expect("resumed");
        assert!(!is_paused().await);
    }
}
