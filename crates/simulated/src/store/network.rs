//! The network of the simulated store: letters under way, the lines they take, and the clock that delivers them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use deployer_core::ambient::Ambient;
use deployer_core::store::{Change, Entry, Listed, Range};
use deployer_store::news::News;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::map::Map;
use super::{CALL_LIMIT, Fault, SILENCE_LIMIT};

pub struct Shared {
    state: Mutex<State>,
    /// Changes with everything that a watch may wait for.
    pub news: News,
    /// Rings when something became due at a moment that the clock does not know of.
    due: Notify,
}

pub struct State {
    pub map: Map,
    /// Letters under way, by arrival and order of sending.
    inbox: BTreeMap<(Instant, u64), Letter>,
    letters: u64,
    pub lines: BTreeMap<String, Line>,
    /// Since when there is no quorum.
    pub away_since: Option<Instant>,
    /// Proposals that the next leader will find in its log.
    pub logged: Vec<Letter>,
    /// How often new servers were put in the place of others.
    pub servers: u32,
    random: Ambient,
}

pub type Letter = Box<dyn FnOnce(&mut Map, Instant) + Send>;

/// The line between a node and the store.
#[derive(Default)]
pub struct Line {
    pub cut_since: Option<Instant>,
    /// The longest that a letter or an answer is on its way.
    pub way_longest: Duration,
    pub calls: u64,
    pub writes: u64,
    /// What was read, and what came by watches, by the first word of the keys below the cluster's prefix.
    pub traffic: BTreeMap<String, Traffic>,
    /// Faults to come, by number of the call.
    pub faults: BTreeMap<u64, Fault>,
}

/// What one kind of keys costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Lists and gets.
    pub reads: u64,
    /// Bytes of keys and values in their answers, and in the changes of watches.
    pub bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Read,
    /// Goes through the servers' log.
    Write,
}

impl Shared {
    pub fn new(seed: u64) -> Self {
        let state = State {
            map: Map::new(),
            inbox: BTreeMap::new(),
            letters: 0,
            lines: BTreeMap::new(),
            away_since: None,
            logged: Vec::new(),
            servers: 0,
            random: Ambient::chosen(|| 0, seed),
        };
        Self { state: Mutex::new(state), news: News::default(), due: Notify::new() }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with the lock")
    }

    /// Changes the world from behind, after everything that was due before.
    pub fn change(&self, change: impl FnOnce(&mut State, Instant)) {
        self.settle();
        change(&mut self.lock(), Instant::now());
        self.tell();
    }

    /// Puts a letter on its way. Gives back how long the answer takes; `None`: it never comes.
    pub fn send(&self, node: &str, kind: Kind, letter: Letter) -> Option<Duration> {
        let mut state = self.lock();
        let line = state.line(node);
        line.calls += 1;
        line.writes += u64::from(kind == Kind::Write);
        let number = line.calls;
        let fault = line.faults.remove(&number);
        if line.cut_since.is_some() || fault == Some(Fault::Unsent) {
            return None;
        }
        let (there, back) = (state.way(node), state.way(node));
        let there = if let Some(Fault::Late(late)) = fault { CALL_LIMIT + late } else { there };
        state.letters += 1;
        let key = (Instant::now() + there, state.letters);
        state.inbox.insert(key, letter);
        drop(state);
        if there.is_zero() {
            self.settle();
        } else {
            self.due.notify_one();
        }
        (fault.is_none()).then_some(back)
    }

    /// Does everything that is due, in order, and gives the moment of what is due next.
    pub fn settle(&self) -> Option<Instant> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let before = state.map.revision;
        let now = Instant::now();
        let next = loop {
            let lease = if state.away_since.is_some() { None } else { state.map.next_end() };
            let letter = state.inbox.first_key_value().map(|(key, _)| *key);
            match (lease, letter) {
                (Some((end, lease)), letter) if end <= now && letter.is_none_or(|(at, _)| end <= at) => {
                    state.map.end("", lease, end);
                }
                (_, Some(key)) if key.0 <= now => state.deliver(key),
                (lease, letter) => break lease.map(|(end, _)| end).into_iter().chain(letter.map(|(at, _)| at)).min(),
            }
        };
        let has_changed = state.map.revision != before;
        drop(guard);
        if has_changed {
            self.tell();
        }
        next
    }

    /// Wakes every watch and the clock.
    pub fn tell(&self) {
        self.news.tell();
        self.due.notify_one();
    }

    /// When a node that hears nothing gives its watches up; `None` while it hears.
    pub fn given_up_at(&self, node: &str) -> Option<Instant> {
        let mut state = self.lock();
        let silent = [state.line(node).cut_since, state.away_since];
        silent.into_iter().flatten().min().map(|since| since + SILENCE_LIMIT)
    }
}

/// The first word of a key below the cluster's prefix.
fn word_of(key: &str) -> String {
    key.split('/').nth(2).unwrap_or_default().to_owned()
}

impl Line {
    /// Counts a read of a prefix and what it answered.
    pub fn count_read<'a>(&mut self, prefix: &str, answer: impl IntoIterator<Item = &'a Entry>) {
        let traffic = self.traffic.entry(word_of(prefix)).or_default();
        traffic.reads += 1;
        traffic.bytes += answer.into_iter().map(|entry| entry.key.len() + entry.value.len()).sum::<usize>() as u64;
    }

    /// Counts one question of several ranges: it is one for each kind of keys that it asks for.
    pub fn count_question(&mut self, ranges: &[Range], answer: &[Listed]) {
        let words: BTreeSet<String> = ranges.iter().map(|range| word_of(range.prefix())).collect();
        words.into_iter().for_each(|word| self.traffic.entry(word).or_default().reads += 1);
        for (range, listed) in ranges.iter().zip(answer) {
            let bytes = listed.entries.iter().map(|entry| entry.key.len() + entry.value.len()).sum::<usize>();
            self.traffic.entry(word_of(range.prefix())).or_default().bytes += bytes as u64;
        }
    }

    /// Counts a change that a watch brings.
    pub fn count_change(&mut self, change: &Change) {
        let (key, size) = match change {
            Change::Put(entry) => (&entry.key, entry.value.len()),
            Change::Delete(key, _) => (key, 0),
        };
        self.traffic.entry(word_of(key)).or_default().bytes += (key.len() + size) as u64;
    }
}

impl State {
    pub fn line(&mut self, node: &str) -> &mut Line {
        self.lines.get_mut(node).expect("every handle has a line")
    }

    /// How long something is under way to or from a node.
    pub fn way(&mut self, node: &str) -> Duration {
        let longest = u64::try_from(self.line(node).way_longest.as_millis()).expect("a short time");
        Duration::from_millis(self.random.random() % (longest + 1))
    }

    /// The servers are others from now on: what was sent to those before arrives nowhere.
    pub fn lose_everything_underway(&mut self) {
        self.inbox.clear();
        self.logged.clear();
        self.servers += 1;
    }

    /// Without a quorum a proposal is lost, or lies in the log of the next leader.
    pub fn deliver(&mut self, key: (Instant, u64)) {
        let Some(letter) = self.inbox.remove(&key) else { return };
        if self.away_since.is_none() {
            letter(&mut self.map, key.0);
        } else if self.random.random().is_multiple_of(2) {
            self.logged.push(letter);
        }
    }
}

/// Does what is due when it is due, until dropped.
pub async fn keep_time(shared: Arc<Shared>) {
    loop {
        let next = shared.settle();
        tokio::select! {
            biased;
            () = shared.due.notified() => {}
            () = reached(next) => {}
        }
    }
}

pub async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
