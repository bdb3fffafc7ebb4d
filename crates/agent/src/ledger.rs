//! What the store says of a track, read and written in the project's words.

use std::collections::{BTreeMap, BTreeSet};

use deployer_core::asking::Setback;
use deployer_core::image::{Digest, Track};
use deployer_core::plain;
use deployer_core::record::{Halt, Opinion, Pending, Record, Verdict, Verdicts};
use deployer_core::slot::Grounds;
use deployer_core::store::{Compare, Entry, Revision, Txn};
use deployer_store::StoreError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::asking::Wait;
use crate::runs;
use crate::world::World;

/// Verdicts that go with one record; more stay until they are swept out. A transaction has a limit.
const FORGOTTEN_MAX: usize = 64;

/// Who asks the registry for the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// The node.
    pub node: String,
    /// The daemon's own word; see [`crate::world::Settings::boot`].
    pub boot: String,
}

impl Resolver {
    /// This daemon.
    pub fn here(world: &World) -> Self {
        Self { node: world.settings.node.clone(), boot: world.settings.boot.clone() }
    }
}

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
    /// Why a rollout stands still, and for which version.
    pub halt: Option<Read<Halt>>,
    /// Revision of a person's last word to go on, which ends all trouble that arose before; 0: none.
    pub retry: Revision,
    /// Who asks the registry at this moment.
    pub resolver: Option<Read<Resolver>>,
    /// Who asked it in vain a while ago.
    pub setbacks: Vec<Setback>,
    /// The mark that nobody runs the track, which whoever has a container of it takes away.
    pub left: Option<Revision>,
    /// Whether the registry was asked within the check period.
    pub is_checked: bool,
    /// Whether a person paused the cluster.
    pub is_paused: bool,
    /// The revision at which these facts were true.
    pub seen: Revision,
    /// The revisions of facts that make no sense to this version, by their names: what is written over them, or rests on
    /// them, must compare what is there.
    pub unreadable: BTreeMap<String, Revision>,
}

impl Ledger {
    /// Reads a track's facts: at hand for a track that runs here, from the store for any other.
    ///
    /// # Errors
    /// [`StoreError`] if the store does not answer.
    pub async fn read(world: &World, track: &Track) -> Result<Self, StoreError> {
        let (facts_of, checked, pause) = (world.keys.image(track), world.keys.checked(track), world.keys.pause());
        let store = &world.mirror;
        let (facts, checked, pause) = tokio::try_join!(store.list(&facts_of), store.get(&checked), store.get(&pause))?;
        let (is_checked, is_paused) = (checked.is_some(), pause.is_some());
        let mut ledger = Self { is_checked, is_paused, seen: facts.1, ..Self::default() };
        for entry in facts.0 {
            let (fact, revision) = (entry.key[facts_of.len()..].to_owned(), entry.mod_revision);
            let is_read = match fact.as_str() {
                "record" => taken(readable(world, entry), &mut ledger.record),
                "pending" => taken(readable(world, entry), &mut ledger.pending),
                "halt" => taken(readable(world, entry), &mut ledger.halt),
                "resolver" => taken(readable(world, entry), &mut ledger.resolver),
                "left" => {
                    ledger.left = Some(revision);
                    true
                }
                "retry" => {
                    ledger.retry = revision;
                    true
                }
                // Of several that others can do without, nothing is written over one and nothing rests on it.
                fact if fact.starts_with("setback/") => {
                    ledger.setbacks.extend(readable(world, entry).map(|read| read.value));
                    true
                }
                _ => true,
            };
            if !is_read {
                ledger.unreadable.insert(fact, revision);
            }
        }
        Ok(ledger)
    }

    /// Whether there is a record and it makes no sense: nothing is known of the track, and nothing is written over it.
    pub fn has_unreadable_record(&self) -> bool {
        self.unreadable.contains_key("record")
    }

    /// The halt of a version, if it stands. One of this node's own that it does not remember was left by the daemon
    /// before this one: it is lifted, since starting the daemon again is one way for a person to say "go on".
    pub fn standing_halt(&self, world: &World, track: &Track, seq: u64) -> Option<&Halt> {
        let halt = self.halt.as_ref().map(|halt| &halt.value).filter(|halt| halt.seq == seq)?;
        let is_remembered = world.memory().troubles.has_halted(track, seq);
        (halt.node != world.settings.node || is_remembered).then_some(halt)
    }

    /// Whether the registry is known to have had a digest: the record has it, or the notification that waits names it.
    pub fn knows(&self, digest: &Digest) -> bool {
        let mut recorded = self.record.iter().flat_map(|record| record.value.history());
        let notified = self.pending.as_ref().and_then(|pending| pending.value.digest.as_ref());
        notified == Some(digest) || recorded.any(|version| version.digest == *digest)
    }

    /// The revision of the notification that waits; 0 without one.
    pub fn pending_revision(&self) -> Revision {
        self.pending.as_ref().map_or(0, |pending| pending.revision)
    }

    /// How the registry is left in peace by this node, if it is.
    pub fn wait(&self, world: &World, track: &Track) -> Option<Wait> {
        world.memory().asking.waiting(track, self.pending_revision(), self.retry).cloned()
    }

    /// The record's revision; 0 without a record.
    pub fn record_revision(&self) -> Revision {
        self.record.as_ref().map_or_else(|| self.revision_of_unreadable("record"), |record| record.revision)
    }

    /// The halt's revision; 0 without a halt.
    pub fn halt_revision(&self) -> Revision {
        self.halt.as_ref().map_or_else(|| self.revision_of_unreadable("halt"), |halt| halt.revision)
    }

    /// The revision of the turn to ask the registry; 0 if there is none.
    pub fn resolver_revision(&self) -> Revision {
        self.resolver.as_ref().map_or_else(|| self.revision_of_unreadable("resolver"), |resolver| resolver.revision)
    }

    fn revision_of_unreadable(&self, fact: &str) -> Revision {
        self.unreadable.get(fact).copied().unwrap_or_default()
    }

    /// Writes a record over the one that was read, and drops the very notification that was read with it. With the
    /// versions that leave the history go the verdicts on their digests.
    ///
    /// # Errors
    /// [`StoreError`]; `Ok(false)` if record or notification moved: read and resolve again.
    pub async fn write_record(&self, world: &World, track: &Track, record: &Record) -> Result<bool, StoreError> {
        let forgotten = match &self.record {
            Some(before) => forgotten_verdicts(world, track, before.value.forgotten_by(record)).await?,
            None => Vec::new(),
        };
        let txn = forgotten.into_iter().fold(Txn::new(), Txn::delete);
        let txn = txn
            .when(Compare::ModRevision(world.keys.record(track), self.record_revision()))
            .put(world.keys.record(track), record);
        Ok(world.store.txn(self.serving_pending(world, track, txn)).await?.succeeded)
    }

    /// Drops the very notification that was read, and no later one. It says "go on" to whoever is in trouble.
    ///
    /// # Errors
    /// [`StoreError`] if the store does not answer; `Ok(false)` if a later notification came in.
    pub async fn settle(&self, world: &World, track: &Track) -> Result<bool, StoreError> {
        let mut txn = self.serving_pending(world, track, Txn::new());
        if self.pending.is_some() {
            txn = self.going_on(world, track, txn);
        }
        Ok(txn.then.is_empty() || world.store.txn(txn).await?.succeeded)
    }

    /// Adds the word to go on, which every node sees at once, and that the halt is lifted.
    pub fn going_on(&self, world: &World, track: &Track, txn: Txn) -> Txn {
        let word = serde_json::json!({"node": world.settings.node, "at": world.ambient.now()});
        let txn = txn.put(world.keys.retry(track), &word);
        if self.halt.is_some() { txn.delete(world.keys.halt(track)) } else { txn }
    }

    /// Whether it is this daemon that asks the registry.
    pub fn is_asking(&self, world: &World) -> bool {
        self.resolver.as_ref().is_some_and(|resolver| resolver.value == Resolver::here(world))
    }

    /// Adds that the very notification that was read is served, and that nobody asks any more or has asked in vain.
    fn serving_pending(&self, world: &World, track: &Track, txn: Txn) -> Txn {
        let txn = match self.is_asking(world) {
            true => self.forgetting_setbacks(world, track, txn.delete(world.keys.resolver(track))),
            false => txn,
        };
        self.dropping_pending(world, track, txn)
    }

    /// Adds that nobody has asked the registry in vain.
    pub fn forgetting_setbacks(&self, world: &World, track: &Track, txn: Txn) -> Txn {
        self.setbacks.iter().fold(txn, |txn, setback| txn.delete(world.keys.setback(track, &setback.node)))
    }

    /// Adds that the very notification that was read is dropped.
    pub fn dropping_pending(&self, world: &World, track: &Track, txn: Txn) -> Txn {
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
    let (entries, _) = world.mirror.list(&prefix).await?;
    let mut verdicts = Verdicts::default();
    let mut revisions = Vec::new();
    for entry in entries {
        if let Some(digest) = entry.key.strip_prefix(&prefix).and_then(|digest| Digest::parse(digest).ok()) {
            revisions.push((digest.clone(), entry.mod_revision));
            verdicts.0.extend(readable::<Verdict>(world, entry).map(|read| (digest, read.value)));
        }
    }
    Ok((verdicts, revisions))
}

/// The keys of verdicts on digests that a track's history knows no more, nor that of another track of its services.
async fn forgotten_verdicts(
    world: &World,
    track: &Track,
    mut digests: BTreeSet<Digest>,
) -> Result<Vec<String>, StoreError> {
    if digests.is_empty() {
        return Ok(Vec::new());
    }
    let services = runs::services(world, track).await?;
    let mut others = runs::tracks_of(world, &services).await?;
    others.remove(track);
    for other in others {
        if let Some(record) = Ledger::read(world, &other).await?.record {
            digests.retain(|digest| !record.value.history().iter().any(|version| version.digest == *digest));
        }
    }
    let keys = services.iter().flat_map(|service| digests.iter().map(|digest| world.keys.verdict(service, digest)));
    // What does not fit into the record's own transaction is swept out within a day.
    Ok(keys.take(FORGOTTEN_MAX).collect())
}

/// The verdicts of every service of a track, on whichever node it runs.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn verdicts_everywhere(world: &World, track: &Track) -> Result<BTreeMap<String, Verdicts>, StoreError> {
    let mut all = BTreeMap::new();
    for service in runs::services(world, track).await? {
        let (verdicts, _) = verdicts(world, &service).await?;
        all.insert(service, verdicts);
    }
    Ok(all)
}

/// What a decision to deploy a digest rests on.
pub fn grounds(ledger: &Ledger, service: &str, digest: &Digest, revisions: &[(Digest, Revision)]) -> Grounds {
    let verdict = revisions.iter().find(|(known, _)| known == digest).map_or(0, |(_, revision)| *revision);
    let (record, halt, retry) = (ledger.record_revision(), ledger.halt_revision(), ledger.retry);
    Grounds { record, service: service.to_owned(), verdict, halt, retry }
}

/// Writes an opinion, in a transaction of its own, where there is none, and gives back the one that stands. Neither does
/// a good digest ever turn bad by itself nor a bad one good: several instances may be at their gates at once.
///
/// # Errors
/// [`StoreError`] if the store does not answer, or a person lifted the one that stood at this very moment.
pub async fn write_verdict(
    world: &World,
    service: &str,
    digest: &Digest,
    opinion: Opinion,
    reason: &str,
) -> Result<Opinion, StoreError> {
    let key = world.keys.verdict(service, digest);
    let (node, reason) = (world.settings.node.clone(), reason.to_owned());
    let verdict = Verdict { verdict: opinion, node, reason, at: world.ambient.now() };
    let over = |seen| Txn::new().when(Compare::ModRevision(key.clone(), seen)).put(key.clone(), &verdict);
    if world.store.txn(over(0)).await?.succeeded {
        return Ok(opinion);
    }
    let changes = || StoreError::Away(format!("the verdict of {} changes at this moment", digest.short()));
    let standing = world.store.get(&key).await?.ok_or_else(changes)?;
    let revision = standing.mod_revision;
    match readable::<Verdict>(world, standing) {
        Some(standing) => Ok(standing.value.verdict),
        // One that makes no sense is none: waited for, it would keep the slot taken for ever.
        None if world.store.txn(over(revision)).await?.succeeded => Ok(opinion),
        None => Err(changes()),
    }
}

/// Halts the rollout of a version everywhere, if nobody has: trouble that is no verdict.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn halt(world: &World, track: &Track, seq: u64, reason: &str) -> Result<(), StoreError> {
    let key = world.keys.halt(track);
    let standing = world.store.get(&key).await?;
    let seen = standing.as_ref().map_or(0, |entry| entry.mod_revision);
    let standing: Option<Read<Halt>> = standing.and_then(|entry| readable(world, entry));
    if let Some(standing) = standing.as_ref().filter(|standing| standing.value.seq >= seq) {
        if standing.value.node == world.settings.node && standing.value.seq == seq {
            // Of a try whose answer was lost, or of the daemon before this one, which met the same.
            world.memory().troubles.halt(track, seq);
        }
        return Ok(());
    }
    let halt = Halt { seq, node: world.settings.node.clone(), reason: reason.to_owned(), at: world.ambient.now() };
    let txn = Txn::new().when(Compare::ModRevision(key.clone(), seen)).put(key, &halt);
    if world.store.txn(txn).await?.succeeded {
        world.memory().troubles.halt(track, seq);
        world.account.tell("halt", track, format!("version {seq} goes no further anywhere: {reason}"));
    }
    Ok(())
}

/// Reads one of several values, or one that others can do without. One that makes no sense is passed over, and named in the
/// log once and in `status` for as long as it is there.
pub fn readable<T: DeserializeOwned>(world: &World, entry: Entry) -> Option<Read<T>> {
    let (key, revision) = (entry.key.clone(), entry.mod_revision);
    decode(entry).inspect_err(|error| world.name_nonsense(key, revision, &error.to_string())).ok()
}

/// Puts what was read in its place; whether anything was.
fn taken<T>(read: Option<T>, place: &mut Option<T>) -> bool {
    *place = read;
    place.is_some()
}

/// The values that were found to make no sense and are still there, for people.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn nonsense(world: &World) -> Result<Vec<String>, StoreError> {
    let named = world.memory().nonsense.all();
    let mut texts = Vec::new();
    for (key, revision, text) in named {
        if world.store.get(&key).await?.is_some_and(|entry| entry.mod_revision == revision) {
            texts.push(text);
        } else {
            world.memory().nonsense.forget(&key);
        }
    }
    Ok(texts)
}

/// Reads a value, its words made plain. One of a newer form has fields that this version does not know, which are ignored.
///
/// # Errors
/// [`StoreError::Broken`] names the key.
pub fn decode<T: DeserializeOwned>(entry: Entry) -> Result<Read<T>, StoreError> {
    parse(&entry.value).map(|value| Read { value, revision: entry.mod_revision }).map_err(|error| {
        StoreError::Broken(plain::words(&format!("the value of {} makes no sense: {error}", entry.key)))
    })
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, serde_json::Error> {
    // JSON writes control characters behind a backslash or beyond ASCII: where neither is, there is nothing to do.
    if text.iter().all(|byte| (b' '..=b'~').contains(byte) && *byte != b'\\') {
        return serde_json::from_slice(text);
    }
    let mut value = serde_json::from_slice(text)?;
    plain::value(&mut value);
    serde_json::from_value(value)
}

#[cfg(test)]
mod tests;
