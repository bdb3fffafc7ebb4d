//! Whether services answered all the while, by asking them all the while.
//!
//! Only an HTTP answer with the right body counts: a published port accepts connections with nothing behind it, and a
//! stopped container's address may already be another's, which is why the body names the container that wrote it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::container::APP_PORT;
use crate::engine::Engine;
use crate::http::{Address, Request};

/// Between the starts of two requests to one container.
const INTERVAL: Duration = Duration::from_millis(20);
/// A request without an answer for so long has failed. A busy machine answers far sooner.
const PATIENCE: Duration = Duration::from_secs(1);

/// One question and what came of it.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The container's name, or what [`Sampler::start_as`] calls it.
    pub name: String,
    /// When the request began.
    pub started: Instant,
    /// When the answer or the failure was there.
    pub ended: Instant,
    /// The version that answered, or why none did.
    pub answer: Result<String, String>,
}

/// Threads that ask containers, one each, until they are stopped or dropped.
pub struct Sampler {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Sample>>>,
}

impl Sampler {
    /// Starts asking the containers of these names, whatever container of the shared engine has the name at the time.
    pub fn start(names: &[&str]) -> Self {
        let shared = Engine::shared();
        Self::start_on(&names.iter().map(|name| (&shared, *name)).collect::<Vec<_>>())
    }

    /// The same for containers of several engines. No two may have the same name, for samples are told by it.
    pub fn start_on(containers: &[(&Engine, &str)]) -> Self {
        Self::start_as(&containers.iter().map(|(engine, name)| (*name, *engine, *name)).collect::<Vec<_>>())
    }

    /// The same for containers of which several have the same name, each with a word of its own to be told by first. Each was
    /// asked once when this returns: on a busy machine what is watched would else be over before.
    pub fn start_as(containers: &[(&str, &Engine, &str)]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |(word, engine, name): &(&str, &Engine, &str)| {
            let (engine, stop) = ((*engine).clone(), Arc::clone(&stop));
            let (word, name) = ((*word).to_owned(), (*name).to_owned());
            let (first, asked) = mpsc::channel();
            (thread::spawn(move || ask_until(&stop, &word, &engine, &name, &first)), asked)
        };
        let (threads, asked): (Vec<_>, Vec<_>) = containers.iter().map(start).unzip();
        // A thread that has ended is heard of when it is joined.
        for asked in asked {
            let _ = asked.recv();
        }
        Self { threads, stop }
    }

    /// Stops asking and hands out what was seen.
    ///
    /// # Panics
    ///
    /// When a thread of the sampler panicked.
    #[track_caller]
    pub fn stop(mut self) -> Samples {
        self.stop.store(true, Ordering::Relaxed);
        let mut by_name = BTreeMap::new();
        for thread in self.threads.drain(..) {
            let samples = thread.join().expect("a sampler's thread does not panic");
            if let Some(first) = samples.first() {
                by_name.insert(first.name.clone(), samples);
            }
        }
        Samples { by_name }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What a sampler saw, per container, in the order it was seen.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    by_name: BTreeMap<String, Vec<Sample>>,
}

impl Samples {
    /// All samples of one container.
    pub fn of(&self, name: &str) -> &[Sample] {
        self.by_name.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// How many requests got no answer, over all containers.
    pub fn failed_requests(&self) -> usize {
        self.by_name.values().flatten().filter(|sample| sample.answer.is_err()).count()
    }

    /// The versions that answered, each as often as it took over from another.
    pub fn versions(&self, name: &str) -> Vec<String> {
        let mut versions: Vec<String> = self.of(name).iter().filter_map(|sample| sample.answer.clone().ok()).collect();
        versions.dedup();
        versions
    }

    /// The longest time from an answer to the next one with at least one failure between, zero if none failed. A
    /// failure at the very beginning or end counts from, or to, there.
    pub fn longest_gap(&self, name: &str) -> Duration {
        let samples = self.of(name);
        let mut longest = Duration::ZERO;
        let mut good_until = samples.first().map(|sample| sample.started);
        let mut failed = false;
        for sample in samples {
            failed |= sample.answer.is_err();
            if let Some(since) = good_until.filter(|_| failed) {
                longest = longest.max(sample.ended - since);
            }
            if sample.answer.is_ok() {
                good_until = Some(sample.ended);
                failed = false;
            }
        }
        longest
    }

    /// Checks that at no time two of these containers were seen down.
    ///
    /// A container is down from the moment its first failure was noticed to the beginning of its last failed request
    /// before it answered again: as little as was certainly seen, so that the check never blames a container for the
    /// moment between an answer and the next question, nor for one request that a busy machine left waiting.
    ///
    /// # Errors
    ///
    /// Which two were down together, when and for how long; or that one never answered at all, for then nothing was
    /// checked.
    pub fn never_both_down(&self, names: &[&str]) -> Result<(), String> {
        for name in names {
            if self.versions(name).is_empty() {
                return Err(format!("{name} never answered; last: {:?}", self.of(name).last()));
            }
        }
        let began = self.by_name.values().filter_map(|samples| samples.first()).map(|sample| sample.started).min();
        for (index, one) in names.iter().enumerate() {
            for other in &names[index + 1..] {
                for (down, up) in self.downtimes(one) {
                    for (other_down, other_up) in self.downtimes(other) {
                        let (from, to) = (down.max(other_down), up.min(other_up));
                        if from < to {
                            let since = began.map(|began| from - began).unwrap_or_default();
                            return Err(format!("{one} and {other} were both down {since:?} in, for {:?}", to - from));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn downtimes(&self, name: &str) -> Vec<(Instant, Instant)> {
        let mut downtimes = Vec::new();
        let mut current: Option<(Instant, Instant)> = None;
        for sample in self.of(name) {
            match (&sample.answer, &mut current) {
                (Ok(_), _) => downtimes.extend(current.take()),
                (Err(_), Some((from, to))) => *to = sample.started.max(*from),
                (Err(_), None) => current = Some((sample.ended, sample.ended)),
            }
        }
        downtimes.extend(current);
        downtimes
    }
}

fn ask_until(stop: &AtomicBool, word: &str, engine: &Engine, name: &str, first: &Sender<()>) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut address = None;
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        let answer = ask(engine, name, &mut address);
        if answer.is_err() {
            address = None;
        }
        samples.push(Sample { name: word.to_owned(), started, ended: Instant::now(), answer });
        if samples.len() == 1 {
            // Whoever started it may have ended.
            let _ = first.send(());
        }
        thread::sleep(INTERVAL.saturating_sub(started.elapsed()));
    }
    samples
}

fn ask(engine: &Engine, name: &str, known: &mut Option<(String, String)>) -> Result<String, String> {
    let (ip, id) = match known {
        Some(known) => known,
        None => known.insert(engine.container_address(name)?),
    };
    let request = Request { limit: PATIENCE, ..Request::new("GET", "/sample") };
    let answer = request.send(&Address::Tcp(format!("{ip}:{APP_PORT}"))).map_err(|error| error.to_string())?;
    let text = answer.text();
    match text.trim().rsplit_once(' ') {
        Some((version, container)) if answer.status == 200 && !container.is_empty() && id.starts_with(container) => {
            Ok(version.to_owned())
        }
        _ => Err(format!(
            "HTTP {} from another container, or not from a test application: {}",
            answer.status,
            text.trim()
        )),
    }
}
