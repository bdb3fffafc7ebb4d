//! The embedded store: the contract, and what a file on this machine must stand besides.

use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use deployer_core::store::{Change, Revision, Txn};
use deployer_store::embedded::Embedded;
use deployer_store::{Store, StoreError};
use futures_util::stream::StreamExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, timeout};

use crate::contract::{Opened, absent, done, get, grant, holds_the_contract, next, number, revision_of};

/// Tells a re-executed test binary which file it works on.
const CHILD_FILE: &str = "STORE_CONTRACT_CHILD_FILE";

struct OnThisMachine {
    store: Arc<dyn Store>,
    _leases: JoinSet<()>,
    _folder: tempfile::TempDir,
}

impl Opened for OnThisMachine {
    fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    async fn forget(&self) {
        for round in 0..40 {
            let txn = (0..128).fold(Txn::new(), |txn, number| txn.put(format!("/filler/{number}"), &round));
            done(&self.store, txn).await;
        }
    }
}

async fn open() -> OnThisMachine {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(Embedded::open(&file_in(&folder)).expect("a store"));
    let running = Arc::clone(&store);
    let mut leases = JoinSet::new();
    leases.spawn(async move { running.run().await });
    OnThisMachine { store, _leases: leases, _folder: folder }
}

holds_the_contract! { open,
    plain: #[tokio::test(flavor = "multi_thread", worker_threads = 4)],
    leases: #[tokio::test(start_paused = true)]
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_reopening() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = reopened(&folder);
    let made = done(&store, Txn::new().put("/t/a".into(), &1).put("/t/b".into(), &1)).await;
    let changed = done(&store, Txn::new().put("/t/a".into(), &2)).await;
    let last = done(&store, Txn::new().delete("/t/b".into())).await;
    drop(store);

    let store = reopened(&folder);
    let (entries, revision) = store.list("").await.expect("a list");
    assert_eq!((entries.len(), revision), (1, last));
    assert_eq!(number(&entries[0]), 2);
    assert_eq!((entries[0].create_revision, entries[0].mod_revision), (made, changed));
    assert_eq!(done(&store, Txn::new().when(absent("/t/b")).put("/t/b".into(), &3)).await, last + 1);
}

#[tokio::test]
async fn leased_keys_end_with_the_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = reopened(&folder);
    let lease = grant(&store).await;
    done(&store, Txn::new().put_leased("/t/hold".into(), &1, lease)).await;
    let last = done(&store, Txn::new().put("/t/claim".into(), &1)).await;
    drop(store);

    let store = reopened(&folder);
    assert_eq!(get(&store, "/t/hold").await, None);
    assert!(get(&store, "/t/claim").await.is_some());
    let mut watch = store.watch("/t/", last).await.expect("the end of the leases is a change like any other");
    assert_eq!(next(&mut watch).await, Change::Delete("/t/hold".to_owned(), last + 1));
    let before_the_end = store.watch("/t/", last - 1).await.map(drop);
    assert_eq!(before_the_end, Err(StoreError::Compacted(last)));
}

#[tokio::test(start_paused = true)]
async fn without_its_task_leases_end_at_the_next_call() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = reopened(&folder);
    let lease = store.grant(Duration::from_secs(5)).await.expect("a lease");
    done(&store, Txn::new().put_leased("/t/a".into(), &1, lease)).await;
    advance(Duration::from_secs(4)).await;
    assert!(get(&store, "/t/a").await.is_some());
    advance(Duration::from_secs(1)).await;
    assert_eq!(store.keep_alive(lease).await, Err(StoreError::LeaseGone));
    assert_eq!(get(&store, "/t/a").await, None);
}

#[tokio::test]
async fn a_watch_that_falls_behind_is_told_and_costs_nothing() {
    let opened = open().await;
    let first = done(&opened.store, Txn::new().put("/t/a".into(), &0)).await;
    let mut slow = opened.store.watch("/", first).await.expect("a watch");
    done(&opened.store, Txn::new().put("/t/a".into(), &1)).await;
    assert_eq!(revision_of(&next(&mut slow).await), first + 1);
    opened.forget().await;
    let mut seen = 0;
    let error = loop {
        match slow.next().await.expect("an item") {
            Ok(_) => seen += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Compacted(_)), "{error:?}");
    assert_eq!(seen, 0);
    assert!(slow.next().await.is_none());
}

#[tokio::test]
async fn a_watch_outlives_the_store_only_to_say_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = reopened(&folder);
    let mut watch = store.watch("/", 0).await.expect("a watch");
    drop(store);
    let error = watch.next().await.expect("an item").expect_err("closed");
    assert_eq!(error.kind(), "away");
    assert!(watch.next().await.is_none());
    reopened(&folder);
}

#[tokio::test]
async fn a_write_whose_caller_left_before_it_began_is_never_made() {
    let opened = open().await;
    let store = &opened.store;
    {
        let mut given_up = store.txn(Txn::new().put("/t/a".into(), &1));
        assert!(futures_util::poll!(&mut given_up).is_pending(), "it waits for others to join it");
    }
    done(store, Txn::new().put("/t/b".into(), &1)).await;
    assert_eq!(get(store, "/t/a").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_that_wait_together_share_a_commit() {
    const TASKS: u32 = 64;
    const EACH: u32 = 30;
    let opened = open().await;
    let begun = Instant::now();
    let write = |task: u32, store: Arc<dyn Store>| async move {
        for number in 0..EACH {
            done(&store, Txn::new().put(format!("/t/{task}"), &number)).await;
        }
    };
    let tasks: JoinSet<()> = (0..TASKS).map(|task| write(task, Arc::clone(&opened.store))).collect();
    tasks.join_all().await;
    let writes = TASKS * EACH;
    let rate = f64::from(writes) / begun.elapsed().as_secs_f64();
    let single = Instant::now();
    for number in 0..EACH {
        done(&opened.store, Txn::new().put("/t/0".into(), &number)).await;
    }
    let alone = f64::from(EACH) / single.elapsed().as_secs_f64();
    writeln!(std::io::stderr(), "{TASKS} tasks: {rate:.0} durable writes/s; one: {alone:.0}/s").expect("stderr");
    assert_eq!(opened.store.list("").await.expect("a list").1, Revision::from(writes + EACH));
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file_in(&folder);
    let _open = Embedded::open(&path).expect("a store");
    check_refused(&path, "stop the other deployer");

    check_content(&folder, "text", |path| std::fs::write(path, "not a database\n").expect("written"), "not a store");
    check_content(&folder, "nothing", |path| std::fs::write(path, "").expect("written"), "not a store");
    check_content(&folder, "foreign", |path| drop(foreign(path)), "some other program");
    check_content(&folder, "newer", newer, "newer deployer (form 2, this one reads 1)");
    check_content(&folder, "cut", cut, "move the file away");
    check_content(&folder, "damaged", damage, "damaged");
    check_refused(&folder.path().join("absent/store.redb"), "No such file");
    check_refused(folder.path(), "directory");
}

#[test]
fn a_crash_while_it_is_made_leaves_no_half_store() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("store.unfinished"), "half").expect("written");
    Embedded::open(&file_in(&folder)).expect("made anew");
    assert!(!folder.path().join("store.unfinished").exists());
}

/// Each round ends a writing process at another moment. What it said to be written must be there.
#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file_in(&folder);
    let mut newest: [u64; TASKS] = [0; TASKS];
    let mut last_revision = 0;
    for round in 0..8 {
        let mut child = child_at("embedded::writes_until_killed", &path);
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let acknowledged = output.lines().map_while(Result::ok).filter_map(|line| {
            let mut words = line.strip_prefix("wrote ")?.split(' ').map(|word| word.parse::<u64>().ok());
            Some((words.next()?? as usize, words.next()??, words.next()??))
        });
        let mut count = 0;
        for (task, number, revision) in acknowledged {
            newest[task] = newest[task].max(number);
            last_revision = last_revision.max(revision);
            count += 1;
            if count == 50 + 37 * round {
                child.kill().expect("killed");
            }
        }
        assert!(count >= 50, "the writer wrote: {count}");
        child.wait().expect("ended");
        check_written(&path, &newest, last_revision);
    }
}

const TASKS: usize = 6;

fn check_written(path: &Path, newest: &[u64; TASKS], last_revision: Revision) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store: Arc<dyn Store> = Arc::new(Embedded::open(path).expect("opens after a kill"));
        assert!(store.list("").await.expect("a list").1 >= last_revision);
        for (task, written) in newest.iter().enumerate() {
            let found = get(&store, &format!("/t/{task}")).await.map_or(0, |entry| number(&entry));
            let copy = get(&store, &format!("/t/{task}/copy")).await.map_or(0, |entry| number(&entry));
            assert!(found >= *written, "task {task}: {written} was acknowledged, {found} is there");
            assert_eq!(found, copy, "a transaction is there as a whole");
            assert_eq!(get(&store, &format!("/t/{task}/hold")).await, None);
        }
    });
}

/// Not a test of its own: what [`kill_9_loses_nothing_that_was_acknowledged`] runs and ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_until_killed() {
    let Some(path) = std::env::var_os(CHILD_FILE) else { return };
    let store: Arc<dyn Store> = Arc::new(Embedded::open(Path::new(&path)).expect("a store"));
    let lease = grant(&store).await;
    let write = |task: usize, store: Arc<dyn Store>| async move {
        let start = get(&store, &format!("/t/{task}")).await.map_or(0, |entry| number(&entry));
        for number in start + 1.. {
            let txn = Txn::new().put(format!("/t/{task}"), &number).put(format!("/t/{task}/copy"), &number);
            let revision = done(&store, txn.put_leased(format!("/t/{task}/hold"), &number, lease)).await;
            writeln!(std::io::stdout(), "wrote {task} {number} {revision}").expect("the parent reads");
        }
    };
    let tasks: JoinSet<()> = (0..TASKS).map(|task| write(task, Arc::clone(&store))).collect();
    tasks.join_all().await;
}

/// A file size limit stands for the full disk: it needs no mount, and a write beyond it fails alike.
#[test]
fn a_full_disk_is_said_and_healed_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let child = child_at("embedded::fills_the_disk", &file_in(&folder));
    let output = child.wait_with_output().expect("ended");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("healed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// Not a test of its own: [`a_full_disk_is_said_and_healed_from`] in a process whose limits do not matter.
#[tokio::test]
async fn fills_the_disk() {
    let Some(path) = std::env::var_os(CHILD_FILE) else { return };
    let store: Arc<dyn Store> = Arc::new(Embedded::open(Path::new(&path)).expect("a store"));
    let lease = grant(&store).await;
    done(&store, Txn::new().put_leased("/t/hold".into(), &1, lease)).await;
    let limits = getrlimit(Resource::Fsize);
    let size = std::fs::metadata(&path).expect("the file").len();
    setrlimit(Resource::Fsize, Rlimit { current: Some(size), ..limits }).expect("a limit");

    let value = "x".repeat(100_000);
    let mut written = 0;
    let error = loop {
        match store.txn(Txn::new().put(format!("/t/{written}"), &value)).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("no room"), "{error}");
    assert_eq!(store.txn(Txn::new().put("/t/more".into(), &value)).await.map_err(|error| error.kind()), Err("broken"));
    assert!(get(&store, "/t/hold").await.is_some(), "reads go on");

    setrlimit(Resource::Fsize, limits).expect("no limit");
    let revision = done(&store, Txn::new().put("/t/more".into(), &1)).await;
    let (entries, now) = store.list("/t/").await.expect("a list");
    assert_eq!(now, revision);
    assert!((written + 2..=written + 3).contains(&entries.len()), "{} of {written}", entries.len());
    store.keep_alive(lease).await.expect("leases are not lost with it");
    timeout(Duration::from_secs(5), store.revoke(lease)).await.expect("in time").expect("revoked");
    assert_eq!(get(&store, "/t/hold").await, None);
    writeln!(std::io::stdout(), "healed").expect("the parent reads");
}

/// This test binary again, running one of its functions. The signal of the file size limit is ignored, so that
/// the write fails instead.
fn child_at(test: &str, path: &Path) -> Child {
    let binary = std::env::current_exe().expect("this binary");
    Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(binary)
        .args(["--exact", test, "--nocapture"])
        .env(CHILD_FILE, path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child")
}

fn file_in(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("store.redb")
}

fn reopened(folder: &tempfile::TempDir) -> Arc<dyn Store> {
    Arc::new(Embedded::open(&file_in(folder)).expect("a store"))
}

#[track_caller]
fn check_content(folder: &tempfile::TempDir, name: &str, make: impl FnOnce(&Path), expected: &str) {
    let path = folder.path().join(name);
    make(&path);
    check_refused(&path, expected);
}

#[track_caller]
fn check_refused(path: &Path, expected: &str) {
    let error = Embedded::open(path).err().expect("refused");
    let text = error.to_string();
    assert_eq!(error.kind(), "broken");
    assert!(text.contains(&path.display().to_string()) && text.contains(expected), "{text}");
}

fn foreign(path: &Path) -> redb::Database {
    let database = redb::Database::create(path).expect("a database");
    let transaction = database.begin_write().expect("a transaction");
    let table: redb::TableDefinition<'_, u64, u64> = redb::TableDefinition::new("deployer");
    transaction.open_table(table).expect("a table").insert(1, 1).expect("inserted");
    transaction.commit().expect("committed");
    database
}

fn newer(path: &Path) {
    drop(Embedded::open(path).expect("a store"));
    let database = redb::Database::open(path).expect("a database");
    let transaction = database.begin_write().expect("a transaction");
    let table: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("deployer");
    transaction.open_table(table).expect("a table").insert(b"form".as_slice(), [2].as_slice()).expect("inserted");
    transaction.commit().expect("committed");
}

/// A store with a few hundred entries, so that there is something to damage.
fn filled(path: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store: Arc<dyn Store> = Arc::new(Embedded::open(path).expect("a store"));
        for round in 0..5 {
            let txn = (0..100).fold(Txn::new(), |txn, number| txn.put(format!("/t/{number}"), &"x".repeat(round * 50)));
            done(&store, txn).await;
        }
    });
}

fn cut(path: &Path) {
    filled(path);
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("the file");
    file.set_len(file.metadata().expect("its size").len() / 2).expect("cut");
}

fn damage(path: &Path) {
    filled(path);
    let bytes = std::fs::read(path).expect("the file");
    let damaged: Vec<u8> =
        bytes.iter().enumerate().map(|(at, byte)| if at > 8192 && *byte == b'x' { b'y' } else { *byte }).collect();
    assert_ne!(bytes, damaged);
    std::fs::write(path, damaged).expect("written");
}
