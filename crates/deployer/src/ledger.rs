//! What the store says of a track, read and written in the project's words.

use std::collections::BTreeSet;

use deployer_core::image::{Digest, Track};
use deployer_core::record::{Opinion, Pending, Record, Verdict, Verdicts};
use deployer_core::slot::Grounds;
use deployer_core::store::{Compare, Entry, Revision, Txn};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::store::StoreError;
use crate::world::World;

/// A value with the revision at which it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read<T> {
    /// The value.
    pub value: T,
    /// Its last change.
    pub revision: Revision,
}

/// What the store holds of a track.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// What the registry said.
    pub record: Option<Read<Record>>,
    /// A notification that waits.
    pub pending: Option<Read<Pending>>,
    /// Whether the registry was asked within the check period.
    pub is_checked: bool,
    /// Whether a person paused the cluster.
    pub is_paused: bool,
}

impl Ledger {
    /// Reads a track's facts.
    ///
    /// # Errors
    /// [`StoreError`] if the store does not answer, or holds a value of a form that is not known.
    pub async fn read(world: &World, track: &Track) -> Result<Self, StoreError> {
        let (record, pending) = (world.keys.record(track), world.keys.pending(track));
        let (checked, pause) = (world.keys.checked(track), world.keys.pause());
        let store = &world.store;
        let (record, pending, checked, pause) =
            tokio::try_join!(store.get(&record), store.get(&pending), store.get(&checked), store.get(&pause))?;
        Ok(Self {
            record: record.map(decode).transpose()?,
            pending: pending.map(decode).transpose()?,
            is_checked: checked.is_some(),
            is_paused: pause.is_some(),
        })
    }

    /// The record's revision; 0 without a record.
    pub fn record_revision(&self) -> Revision {
        self.record.as_ref().map_or(0, |record| record.revision)
    }

    /// Writes a record over the one that was read, and drops the very notification that was read with it.
    ///
    /// # Errors
    /// [`StoreError`]; `Ok(false)` if record or notification moved: read and resolve again.
    pub async fn write_record(&self, world: &World, track: &Track, record: &Record) -> Result<bool, StoreError> {
        let txn = Txn::new()
            .when(Compare::ModRevision(world.keys.record(track), self.record_revision()))
            .put(world.keys.record(track), record);
        Ok(world.store.txn(self.serving_pending(world, track, txn)).await?.succeeded)
    }

    /// Drops the very notification that was read, and no later one.
    ///
    /// # Errors
    /// [`StoreError`] if the store does not answer.
    pub async fn drop_pending(&self, world: &World, track: &Track) -> Result<(), StoreError> {
        if self.pending.is_some() {
            world.store.txn(self.serving_pending(world, track, Txn::new())).await?;
        }
        Ok(())
    }

    fn serving_pending(&self, world: &World, track: &Track, txn: Txn) -> Txn {
        match &self.pending {
            Some(pending) => txn
                .when(Compare::ModRevision(world.keys.pending(track), pending.revision))
                .delete(world.keys.pending(track)),
            None => txn,
        }
    }
}

/// A service's verdicts, with the revision of each.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn verdicts(world: &World, service: &str) -> Result<(Verdicts, Vec<(Digest, Revision)>), StoreError> {
    let prefix = world.keys.verdicts(service);
    let (entries, _) = world.store.list(&prefix).await?;
    let mut verdicts = Verdicts::default();
    let mut revisions = Vec::new();
    for entry in entries {
        if let Some(digest) = entry.key.strip_prefix(&prefix).and_then(|digest| Digest::parse(digest).ok()) {
            let read: Read<Verdict> = decode(entry)?;
            revisions.push((digest.clone(), read.revision));
            verdicts.0.insert(digest, read.value);
        }
    }
    Ok((verdicts, revisions))
}

/// What a decision to deploy a digest rests on.
pub fn grounds(record: Revision, service: &str, digest: &Digest, revisions: &[(Digest, Revision)]) -> Grounds {
    let verdict = revisions.iter().find(|(known, _)| known == digest).map_or(0, |(_, revision)| *revision);
    Grounds { record, service: service.to_owned(), verdict }
}

/// Writes an opinion, in a transaction of its own. A good digest never turns bad by itself.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn write_verdict(
    world: &World,
    service: &str,
    digest: &Digest,
    opinion: Opinion,
    reason: &str,
) -> Result<(), StoreError> {
    let verdict = Verdict {
        verdict: opinion,
        node: world.settings.node.clone(),
        reason: reason.to_owned(),
        at: world.ambient.now(),
    };
    world.store.txn(Txn::new().put(world.keys.verdict(service, digest), &verdict)).await?;
    Ok(())
}

/// A container that is meant to run, as other nodes see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The node it runs on.
    pub node: String,
    /// The track it runs.
    pub image: Track,
    /// Its name.
    pub container: String,
}

/// Makes the store's list of this node's instances what it should be.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn register(world: &World, wanted: &[(String, Instance)]) -> Result<BTreeSet<Track>, StoreError> {
    let (entries, _) = world.store.list(&world.keys.all_instances()).await?;
    let mut txn = Txn::new();
    let mut tracks: BTreeSet<Track> = wanted.iter().map(|(_, instance)| instance.image.clone()).collect();
    let key =
        |(service, instance): &(String, Instance)| world.keys.instance(service, &instance.node, &instance.container);
    let wanted_keys: BTreeSet<String> = wanted.iter().map(key).collect();
    let mut known = std::collections::BTreeMap::new();
    for entry in entries {
        let name = entry.key.clone();
        let read: Read<Instance> = decode(entry)?;
        if read.value.node != world.settings.node {
            tracks.insert(read.value.image.clone());
        } else if !wanted_keys.contains(&name) {
            txn = txn.delete(name);
        } else {
            known.insert(name, read.value);
        }
    }
    for instance in wanted {
        if known.get(&key(instance)) != Some(&instance.1) {
            txn = txn.put(key(instance), &instance.1);
        }
    }
    if !txn.then.is_empty() {
        world.store.txn(txn).await?;
    }
    Ok(tracks)
}

/// Reads a value. One of a newer form has fields that this version does not know, which are ignored.
///
/// # Errors
/// [`StoreError::Broken`] names the key.
pub fn decode<T: DeserializeOwned>(entry: Entry) -> Result<Read<T>, StoreError> {
    serde_json::from_slice(&entry.value)
        .map(|value| Read { value, revision: entry.mod_revision })
        .map_err(|error| StoreError::Broken(format!("the value of {} makes no sense: {error}", entry.key)))
}
