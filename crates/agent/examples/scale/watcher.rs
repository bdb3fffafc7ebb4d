//! What an onlooker sees of a rollout: each slot taken, fenced and given back, and when each node hears of it and acts on it.

use std::sync::{Arc, Mutex, PoisonError};

use deployer_core::image::Track;
use deployer_core::keys::Keys;
use deployer_core::slot::{Claim, ClaimPhase};
use deployer_core::store::Change;
use deployer_store::Store as _;
use deployer_store::etcd::Etcd;
use deployer_store::mirror::Changed;
use futures_util::StreamExt as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::simulated::node::Node;

/// Looks on until it is dropped.
pub struct Watcher {
    moments: Arc<Mutex<Moments>>,
    nodes: usize,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Moments {
    /// Slots past the fence and slots given back.
    fences: Vec<Instant>,
    releases: Vec<Instant>,
    /// When each node had the new record at hand.
    known: Vec<Instant>,
    /// When each node began its pull.
    acting: Vec<Instant>,
}

/// What was seen, in seconds.
pub struct Seen {
    /// Slots that were given back.
    pub releases: usize,
    /// From a slot given back to the next one's fence; the median.
    pub hand_over: f64,
    /// From a fence to its release; the median.
    pub replacement: f64,
    /// From the notification to the last node's having the new record at hand, if all had.
    pub known: Option<f64>,
    /// From the notification to the last node's beginning its pull, if all did.
    pub acting: Option<f64>,
}

impl Watcher {
    /// Begins to look.
    pub async fn begin(nodes: &[Node], etcd: Etcd, keys: &Keys, track: &Track) -> Self {
        let moments: Arc<Mutex<Moments>> = Arc::default();
        let mut tasks = JoinSet::new();
        for node in nodes {
            let (mut changes, noted) = (node.world.mirror.listen(), Arc::clone(&moments));
            let record = keys.record(track);
            tasks.spawn(async move {
                loop {
                    if matches!(changes.next().await, Changed::Put(key) if *key == *record) {
                        note(&noted, |moments| moments.known.push(Instant::now()));
                        return;
                    }
                }
            });
            let (mut happenings, moments) = (node.world.account.follow(), Arc::clone(&moments));
            tasks.spawn(async move {
                while let Ok(happening) = happenings.recv().await {
                    if happening.text.starts_with("pulling ") {
                        note(&moments, |moments| moments.acting.push(Instant::now()));
                        return;
                    }
                }
            });
        }
        let claims = keys.claims("cluster");
        let (_, revision) = etcd.list(&claims).await.expect("etcd is there");
        let mut changes = etcd.watch(&claims, revision).await.expect("etcd is there");
        let noted = Arc::clone(&moments);
        tasks.spawn(async move {
            while let Some(Ok(change)) = changes.next().await {
                let now = Instant::now();
                match change {
                    Change::Put(entry) => {
                        let claim: Claim = serde_json::from_slice(&entry.value).expect("a claim");
                        if claim.phase == ClaimPhase::Stopping {
                            note(&noted, |moments| moments.fences.push(now));
                        }
                    }
                    Change::Delete(..) => note(&noted, |moments| moments.releases.push(now)),
                }
            }
        });
        Self { moments, nodes: nodes.len(), _tasks: tasks }
    }

    /// Nodes that have begun their pull so far.
    pub fn acting(&self) -> usize {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner).acting.len()
    }

    /// Slots given back so far.
    pub fn releases(&self) -> usize {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner).releases.len()
    }

    /// What was seen since the notification.
    pub fn end(&self, begun: Instant) -> Seen {
        let moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        let between = |from: &[Instant], to: &[Instant]| {
            median(from.iter().zip(to).map(|(from, to)| to.duration_since(*from).as_secs_f64()).collect())
        };
        let last = |times: &[Instant]| {
            let last = times.iter().max().filter(|_| times.len() == self.nodes);
            last.map(|last| last.duration_since(begun).as_secs_f64())
        };
        Seen {
            releases: moments.releases.len(),
            hand_over: between(&moments.releases, moments.fences.get(1..).unwrap_or_default()),
            replacement: between(&moments.fences, &moments.releases),
            known: last(&moments.known),
            acting: last(&moments.acting),
        }
    }
}

fn note(moments: &Mutex<Moments>, note: impl FnOnce(&mut Moments)) {
    note(&mut moments.lock().unwrap_or_else(PoisonError::into_inner));
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
