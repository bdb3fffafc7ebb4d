//! The mirror's part of the contract: whatever is written, it shows what a list shows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use deployer_core::ambient::Ambient;
use deployer_core::store::{Compare, Entry, Revision, Txn};
use deployer_store::Store;
use deployer_store::mirror::{Changed, Listener, Mirror, Through};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::contract::{LIMIT, Opened, absent, done, number};
use crate::outage::again;

/// A mirror that is kept for as long as this lives.
pub struct Mirrored {
    pub mirror: Arc<Mirror>,
    /// The store for those who write and read the mirror.
    pub through: Arc<dyn Store>,
    pub _keeping: JoinSet<()>,
}

/// A mirror of these prefixes.
pub fn mirrored(store: &Arc<dyn Store>, prefixes: &[&str]) -> Mirrored {
    let mirror = Arc::new(Mirror::new(Arc::clone(store), Arc::new(Ambient::chosen(|| 0, 7))));
    let mut keeping = JoinSet::new();
    let kept = Arc::clone(&mirror);
    keeping.spawn(async move { kept.keep().await });
    follow(&mirror, prefixes);
    Mirrored { through: Arc::new(Through(Arc::clone(&mirror))), mirror, _keeping: keeping }
}

fn follow(mirror: &Mirror, prefixes: &[&str]) {
    mirror.follow(prefixes.iter().map(|&prefix| prefix.to_owned()).collect());
}

/// Waits until the mirror holds all it is to hold.
pub async fn listed(mirror: &Mirror, prefixes: &[&str]) {
    let is_listed = async {
        while prefixes.iter().any(|prefix| mirror.truth(prefix).is_none()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, is_listed).await.expect("in time");
}

/// What the mirror shows of a prefix after a wait for a revision is what the store shows.
pub async fn check_equal(mirror: &Mirror, store: &Arc<dyn Store>, prefix: &str, revision: Revision, written: &str) {
    mirror.expect(written, revision);
    let shown = again(|| mirror.list(prefix)).await.0;
    assert_eq!(shown, again(|| store.list(prefix)).await.0, "{prefix} at {revision}");
}

/// A transaction of some writes and removals below `/t/`.
fn some_writes(random: &Ambient) -> Txn {
    let keys: BTreeSet<String> = (0..1 + random.random() % 4)
        .map(|_| format!("/t/{}/{}", ["a", "ab", "b", "c"][random.random() as usize % 4], random.random() % 5))
        .collect();
    keys.into_iter().fold(Txn::new(), |txn, key| match random.random() % 3 {
        0 => txn.delete(key),
        _ => txn.put(key, &(random.random() % 100)),
    })
}

pub async fn a_mirror_equals_a_list_at_every_revision(opened: &impl Opened) {
    let store = opened.store();
    let random = Ambient::chosen(|| 0, 11);
    let prefixes = ["/t/a", "/t/a/", "/t/b/", "/t/pause"];
    let Mirrored { mirror, _keeping, .. } = mirrored(store, &prefixes);
    listed(&mirror, &prefixes).await;
    for _ in 0..60 {
        let txn = some_writes(&random).put("/t/a/mark".into(), &random.random()).put("/t/b/mark".into(), &1);
        let revision = done(store, txn).await;
        for (prefix, written) in [("/t/a", "/t/a/mark"), ("/t/a/", "/t/a/mark"), ("/t/b/", "/t/b/mark")] {
            check_equal(&mirror, store, prefix, revision, written).await;
            let truth = mirror.truth(prefix).expect("it was listed");
            assert!(truth.revision >= revision && truth.away_since.is_none());
        }
        let one = mirror.get("/t/a/mark").await.expect("read");
        assert_eq!(one.map(|entry| entry.mod_revision), Some(revision));
    }
    assert_eq!(mirror.get("/t/pause").await, Ok(None));
}

pub async fn a_mirror_goes_on_after_a_gap_and_a_restart(opened: &impl Opened) {
    let store = opened.store();
    let Mirrored { mirror, _keeping, .. } = mirrored(store, &["/t/"]);
    done(store, Txn::new().put("/t/a".into(), &1).put("/t/b".into(), &1)).await;
    listed(&mirror, &["/t/"]).await;
    opened.forget().await;
    let revision = done(store, Txn::new().put("/t/a".into(), &2)).await;
    check_equal(&mirror, store, "/t/", revision, "/t/a").await;
    opened.restart().await;
    again(|| store.txn(Txn::new().delete("/t/b".into()))).await;
    let revision = again(|| store.txn(Txn::new().put("/t/c".into(), &3))).await.revision;
    check_equal(&mirror, store, "/t/", revision, "/t/c").await;
}

pub async fn a_prefix_that_is_not_followed_is_read_from_the_store(opened: &impl Opened) {
    let store = opened.store();
    let Mirrored { mirror, _keeping, .. } = mirrored(store, &["/t/a/", "/t/b/"]);
    listed(&mirror, &["/t/a/", "/t/b/"]).await;
    follow(&mirror, &["/t/b/", "/t/c/"]);
    let txn = ["a", "b", "c", "d"].iter().fold(Txn::new(), |txn, name| txn.put(format!("/t/{name}/1"), &1));
    let revision = done(store, txn).await;
    for name in ["a", "b", "c", "d"] {
        let (prefix, key) = (format!("/t/{name}/"), format!("/t/{name}/1"));
        check_equal(&mirror, store, &prefix, revision, &key).await;
        assert_eq!(mirror.truth(&prefix).is_some(), matches!(name, "b" | "c"), "{name}");
    }
    assert_eq!(again(|| mirror.list("/t/")).await.0.len(), 4, "it holds a part of that alone");
}

pub async fn whoever_wrote_is_not_shown_what_was_before(opened: &impl Opened) {
    let store = opened.store();
    let Mirrored { mirror, through, _keeping } = mirrored(store, &["/t/a/", "/t/b/"]);
    let counted = async || mirror.get("/t/a/n").await.expect("read");
    done(store, Txn::new().put("/t/a/n".into(), &0)).await;
    listed(&mirror, &["/t/a/", "/t/b/"]).await;
    for count in 1..=50 {
        let seen = counted().await.map_or(0, |entry: Entry| entry.mod_revision);
        let unmoved = Compare::ModRevision("/t/a/n".into(), seen);
        let written =
            through.txn(Txn::new().when(unmoved.clone()).put("/t/a/n".into(), &count)).await.expect("written");
        if !written.succeeded {
            // The first may have seen it before it was there. Nobody who lost sees the same again.
            assert_eq!(count, 1);
        }
        let now = counted().await.expect("it is there");
        assert!(!written.succeeded || (number(&now), now.mod_revision) == (count, written.revision), "{now:?}");
        // Others write, and whoever lost against them sees that.
        let other = done(store, Txn::new().put("/t/a/n".into(), &count)).await;
        let lost = through.txn(Txn::new().when(Compare::ModRevision("/t/a/n".into(), now.mod_revision)));
        assert!(!lost.await.expect("an answer").succeeded);
        assert_eq!(counted().await.map(|entry| entry.mod_revision), Some(other));
    }
    done(&through, Txn::new().delete("/t/a/n".into()).delete("/t/b/none".into())).await;
    assert_eq!(counted().await, None);
    assert_eq!(mirror.get("/t/b/none").await, Ok(None));
    let lost = through.txn(Txn::new().when(absent("/t/b/none")).when(Compare::NoneNewer("/t/".into(), 0)));
    assert!(lost.await.expect("an answer").succeeded, "nothing is left");
}

async fn hear(listener: &mut Listener) -> Changed {
    timeout(LIMIT, listener.next()).await.expect("in time")
}

pub async fn a_listener_hears_of_each_change_once(opened: &impl Opened) {
    let store = opened.store();
    let revision = done(store, Txn::new().put("/t/a/old".into(), &1)).await;
    let Mirrored { mirror, _keeping, .. } = mirrored(store, &["/t/a/"]);
    let mut listener = mirror.listen();
    listed(&mirror, &["/t/a/"]).await;
    for round in 0..3 {
        done(store, Txn::new().put("/t/a/1".into(), &round).put("/t/b/1".into(), &round)).await;
        assert_eq!(hear(&mut listener).await, Changed::Put("/t/a/1".into()));
        done(store, Txn::new().delete("/t/a/1".into())).await;
        assert_eq!(hear(&mut listener).await, Changed::Deleted("/t/a/1".into()));
        assert_eq!(mirror.get("/t/a/1").await, Ok(None), "what it is told of can be read");
        opened.forget().await;
    }
    // What the mirror holds is heard through it, the rest by a watch from a revision on.
    let prefixes = |names: &[&str]| names.iter().map(|name| format!("/t/{name}/")).collect::<Vec<_>>();
    let now = store.list("/t/").await.expect("a list").1;
    let written = done(store, Txn::new().put("/t/c/1".into(), &1)).await;
    timeout(LIMIT, listener.hear(&prefixes(&["a", "c"]), now)).await.expect("written since");
    let both = prefixes(&["a", "c"]);
    for name in ["a", "c"] {
        let (heard, _) = tokio::join!(
            timeout(LIMIT, listener.hear(&both, written)),
            done(store, Txn::new().put(format!("/t/{name}/2"), &1))
        );
        heard.expect("written while it is waited for");
    }
    timeout(LIMIT, listener.hear(&prefixes(&["c"]), revision)).await.expect("forgotten changes may be any");
}
