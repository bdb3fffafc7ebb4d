//! Storms, each in a world of its own: what is in the history of each must be as the checker wants it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::simulated::checker::Kind;
use crate::weather::{Aftermath, BUSY, MILD, ROUGH, Season, WILD, storm};

/// Storms of each season in the ordinary run; `STORMS` says another number, and `STORM` the first seed.
const SEEDS: u64 = 500;

/// What the code of today still does in the storms of a season, and must not. A kind that does not occur any more in the
/// ordinary run is to be taken out, which the test sees to.
const EXPECTED: &[(&str, &[Kind])] = &[("mild", &[]), ("busy", &[]), ("rough", &[]), ("wild", &[])];

/// How the storm of a seed went wrong.
pub struct Wreck {
    pub seed: u64,
    /// The kinds of violation, each with its first one in words; none if the storm ended in a panic.
    pub kinds: BTreeMap<Kind, String>,
    report: String,
}

/// Runs the storm of a seed in a world of its own.
pub fn run(season: &Season, seed: u64) -> Option<Wreck> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.expect("a runtime").block_on(storm(season, seed))));
    let Ok(Aftermath { violations, story, scene }) = outcome else {
        return Some(Wreck { seed, kinds: BTreeMap::new(), report: "it ended in a panic, see above".to_owned() });
    };
    if violations.is_empty() {
        return None;
    }
    let mut kinds = BTreeMap::new();
    for violation in &violations {
        kinds.entry(violation.kind).or_insert_with(|| violation.to_string());
    }
    let story: Vec<String> = story.iter().map(ToString::to_string).collect();
    let violations: Vec<String> = violations.iter().map(ToString::to_string).collect();
    let report = format!("{}\n\n{scene}\n{}", story.join("\n"), violations.join("\n"));
    Some(Wreck { seed, kinds, report })
}

/// Runs as many storms as are asked for, on all cores, and gives back those that went wrong, by seed.
fn run_all(season: &Season) -> Vec<Wreck> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let (first, last) = match (number("STORM"), number("STORMS")) {
        (Some(seed), many) => (seed, seed + many.unwrap_or(1) - 1),
        (None, many) => (1, many.unwrap_or(SEEDS)),
    };
    let (next, wrecks) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > last {
                        return;
                    }
                    let wreck = run(season, seed);
                    wrecks.lock().expect("no panic with the lock").extend(wreck);
                }
            });
        }
    });
    let mut wrecks = wrecks.into_inner().expect("no panic with the lock");
    wrecks.sort_by_key(|wreck| wreck.seed);
    wrecks
}

/// Prints what went wrong and how often, and the whole story of the first wreck that was not expected; fails if there is
/// one, or if something that was expected did not happen.
fn judge(season: &Season) {
    let name = season.name;
    let expected = EXPECTED.iter().find(|(of, _)| *of == name).map_or(&[][..], |(_, kinds)| *kinds);
    let wrecks = run_all(season);
    let mut seeds: BTreeMap<Kind, Vec<(u64, &String)>> = BTreeMap::new();
    for wreck in &wrecks {
        for (kind, text) in &wreck.kinds {
            seeds.entry(*kind).or_default().push((wreck.seed, text));
        }
    }
    for (kind, seeds) in &seeds {
        eprintln!("{name}: {kind:?} in {} storms, such as", seeds.len());
        seeds.iter().take(5).for_each(|(seed, text)| eprintln!("    {seed}: {text}"));
    }
    let is_expected =
        |wreck: &&Wreck| !wreck.kinds.is_empty() && wreck.kinds.keys().all(|kind| expected.contains(kind));
    let unexpected: Vec<&Wreck> = wrecks.iter().filter(|wreck| !is_expected(wreck)).collect();
    if let Some(first) = unexpected.first() {
        eprintln!("the {name} storm of seed {}; STORM={} runs it alone\n{}", first.seed, first.seed, first.report);
    }
    let unexpected: Vec<u64> = unexpected.iter().map(|wreck| wreck.seed).collect();
    assert!(unexpected.is_empty(), "{} {name} storms went wrong: {unexpected:?}", unexpected.len());
    let mended: Vec<&Kind> = expected.iter().filter(|kind| !seeds.contains_key(kind)).collect();
    let is_ordinary = ["STORM", "STORMS"].iter().all(|name| std::env::var_os(name).is_none());
    assert!(mended.is_empty() || !is_ordinary, "{mended:?} did not happen in {name} storms: take it off the list");
}

#[test]
fn mild_storms_pass_and_leave_nothing_behind() {
    judge(&MILD);
}

#[test]
fn busy_storms_pass_and_leave_nothing_behind() {
    judge(&BUSY);
}

#[test]
fn rough_storms_pass_and_leave_nothing_behind() {
    judge(&ROUGH);
}

#[test]
fn wild_storms_pass_and_leave_nothing_behind() {
    judge(&WILD);
}

/// Without this a seed that fails could not be looked at.
#[test]
fn a_seed_makes_the_same_storm_again() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    for seed in [3, 8, 12] {
        let [one, other] = [(); 2].map(|()| runtime().expect("a runtime").block_on(storm(&WILD, seed)).story);
        let differs = one.iter().zip(&other).position(|(one, other)| one != other);
        assert_eq!(differs.map(|at| (&one[at], &other[at])), None, "seed {seed}");
        assert_eq!(one.len(), other.len(), "seed {seed}");
    }
}
