//! The checker under test: histories in short lines, and what it must find in each.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use deployer_core::store::{Change, Entry as Stored};
use deployer_simulated::history::{Befalling, By, Deed, EndOfContainer, Entry, Purpose, Shown, What};
use deployer_simulated::registry::{Behaviour, digest};
use serde_json::json;

use crate::simulated::checker::{End, EndOfHost, Kind, check};
use crate::simulated::cluster::track;

mod ending;
mod judging;

/// Three hosts with one container each, all up since the beginning, and a version to come.
const BEGINNING: &str =
    "0 - push 1 Serves; 0 a person create 1 web 1; 0 a is 1 Running serves; 0 b person create 1 web 1;
    0 b is 1 Running serves; 0 c person create 1 web 1; 0 c is 1 Running serves; 9 - push 2 Serves";

/// A replacement as it should be: what happens, and how many seconds after its beginning.
const REPLACEMENT: [(u64, &str); 15] = [
    (0, "claims web acquired"),
    (1, "claims web stopping"),
    (2, "us create 2 web.new-00c0ffee 2"),
    (3, "us stop 1"),
    (3, "is 1 Running"),
    (4, "us end 1"),
    (4, "is 1 Exited"),
    (5, "us rename 1 web.old-00c0ffee"),
    (5, "us rename 2 web"),
    (6, "us start 2"),
    (6, "is 2 Running"),
    (7, "is 2 Running serves"),
    (40, "finds 2 good"),
    (41, "releases web"),
    (42, "us remove 1"),
];

/// The first steps of it, on host `a`, from a second on.
fn begun(from: u64, steps: usize) -> String {
    let lines = REPLACEMENT.iter().take(steps).map(|(after, what)| format!("{} a {what}", from + after));
    lines.collect::<Vec<_>>().join(";")
}

/// All of it.
fn replaced(from: u64) -> String {
    begun(from, REPLACEMENT.len())
}

fn entries(lines: &str) -> Vec<Entry> {
    let lines = lines.split(';').map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| entry(line).unwrap_or_else(|| panic!("not understood: {line}"))).collect()
}

fn entry(line: &str) -> Option<Entry> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (at, host) = (words[0].parse().ok()?, words[1].trim_matches('-').to_owned());
    let what = match words[2..] {
        ["push", version, behaviour] => What::Pushed(track(1).familiar(), digest(number(version)), behaves(behaviour)?),
        ["is", id, shown, ..] => What::Is(number(id), shows(shown)?, words.last() == Some(&"serves")),
        ["befell", "TwinOf", original] => What::Befell(Befalling::TwinOf(original.to_owned())),
        ["befell", what] => What::Befell(befalls(what)?),
        ["claims", name, phase] => What::Stored(Change::Put(stored(claim_key(&host, name), claim(&host, name, phase)))),
        ["counts", name] => {
            let value = json!({"node": host, "image": track(1), "container": name});
            What::Stored(Change::Put(stored(format!("/t/instances/x/{host}/{name}"), value)))
        }
        ["withdraws", name] => {
            What::Stored(Change::Delete(format!("/t/instances/x/{host}/{}", URL_SAFE_NO_PAD.encode(name)), 1))
        }
        ["releases", name] => What::Stored(Change::Delete(claim_key(&host, name), 1)),
        ["releases", name, "of", other] => What::Stored(Change::Delete(claim_key(other, name), 1)),
        ["finds", version, opinion] => {
            let key =
                format!("/t/verdicts/{}/{}", URL_SAFE_NO_PAD.encode(track(1).familiar()), digest(number(version)));
            What::Stored(Change::Put(stored(key, json!({"verdict": opinion, "node": host, "reason": "", "at": 0}))))
        }
        [by, deed, id, ..] => What::Done(does(by)?, number(id), deed_of(deed, &words[5..])?),
        _ => return None,
    };
    Some(Entry { at: Duration::from_secs(at), host, what })
}

fn number(word: &str) -> u32 {
    word.parse().expect("a number")
}

fn does(word: &str) -> Option<By> {
    [("us", By::Us), ("person", By::Person), ("engine", By::Engine), ("itself", By::Itself)]
        .into_iter()
        .find_map(|(name, by)| (name == word).then_some(by))
}

fn deed_of(word: &str, more: &[&str]) -> Option<Deed> {
    Some(match (word, more) {
        ("create", [name, version, flags @ ..]) => Deed::Create(Purpose {
            name: (*name).to_owned(),
            track: track(1).familiar(),
            service: track(1).familiar(),
            limit: flags.iter().find_map(|flag| flag.strip_prefix("limit=")).unwrap_or_default().to_owned(),
            is_managed: !flags.contains(&"unmanaged"),
            digest: Some(digest(number(version))),
        }),
        ("rename", [name]) => Deed::Rename((*name).to_owned()),
        ("start", []) => Deed::Start,
        ("stop", []) => Deed::Stop,
        ("end", []) => Deed::End(1),
        ("remove", []) => Deed::Remove,
        _ => return None,
    })
}

fn shows(word: &str) -> Option<Shown> {
    let all = [Shown::Created, Shown::Running, Shown::Unhealthy, Shown::Restarting, Shown::Paused, Shown::Exited];
    all.into_iter().find(|shown| format!("{shown:?}") == word)
}

fn behaves(word: &str) -> Option<Behaviour> {
    [Behaviour::Serves, Behaviour::ExitsAtOnce].into_iter().find(|behaviour| format!("{behaviour:?}") == word)
}

fn befalls(word: &str) -> Option<Befalling> {
    let all = [
        Befalling::EngineGone,
        Befalling::EngineBack,
        Befalling::DaemonLeft,
        Befalling::DaemonKilled,
        Befalling::DaemonStarted,
        Befalling::Reboots,
        Befalling::LineCut,
        Befalling::Restored,
        Befalling::TwinGone,
    ];
    all.into_iter().find(|what| format!("{what:?}") == word)
}

fn claim_key(host: &str, name: &str) -> String {
    format!("/t/locks/x/claim/{host}-{name}")
}

fn claim(host: &str, name: &str, phase: &str) -> serde_json::Value {
    json!({"node": host, "boot": "1", "txn": "00c0ffee", "image": track(1), "digest": digest(2), "container": name,
           "phase": phase, "at": 0})
}

fn stored(key: String, value: serde_json::Value) -> Stored {
    Stored { key, value: serde_json::to_vec(&value).expect("plain"), create_revision: 1, mod_revision: 1 }
}

#[track_caller]
fn finds(history: &[&str], end: &End, expected: &[Kind]) {
    let mut entries: Vec<Entry> = history.iter().flat_map(|lines| entries(lines)).collect();
    entries.sort_by_key(|entry| entry.at);
    let found = check(&entries, end);
    let kinds: Vec<Kind> = found.iter().map(|violation| violation.kind).collect();
    assert_eq!(kinds, expected, "{found:#?}");
}

#[track_caller]
fn finds_in(history: &[&str], expected: &[Kind]) {
    finds(&[&[BEGINNING], history].concat(), &End::default(), expected);
}

#[test]
fn a_replacement_as_it_should_be_is_nothing_to_speak_of() {
    finds_in(&[&replaced(10)], &[]);
}

#[test]
fn no_stop_while_another_is_down_that_everybody_could_know_of() {
    finds_in(&["4 b is 1 Unhealthy", &replaced(10)], &[Kind::TwoDown]);
    finds_in(&["4 b is 1 Restarting", &replaced(10)], &[Kind::TwoDown]);
    finds_in(&["7 b is 1 Unhealthy", &replaced(10)], &[]);
    finds_in(&["0 b befell LineCut; 80 b is 1 Unhealthy", &replaced(90)], &[Kind::TwoDown]);
    finds_in(&["4 b is 1 Unhealthy; 12 b is 1 Running serves", &replaced(10)], &[]);
}

#[test]
fn news_of_a_host_that_was_struck_takes_longer() {
    let late = &replaced(90);
    finds_in(&["4 b befell LineCut; 4 b is 1 Unhealthy", &replaced(10)], &[]);
    finds_in(&["4 b befell LineCut; 4 b is 1 Unhealthy", late], &[Kind::TwoDown]);
    finds_in(&["4 b befell EngineGone; 4 b engine end 1; 4 b is 1 Exited", late], &[Kind::TwoDown]);
}

/// Kept from its own name, its daemon can tell nobody how its containers are.
#[test]
fn what_is_down_on_a_machine_whose_name_another_has_is_known_when_that_has_gone() {
    let another = "1 d befell TwinOf b; 4 b is 1 Unhealthy; 80 d befell TwinGone";
    finds_in(&[another, &replaced(90)], &[]);
    finds_in(&[another, &replaced(150)], &[Kind::TwoDown]);
}

#[test]
fn what_is_stopped_or_left_to_itself_is_not_counted() {
    finds_in(&["4 b person stop 1; 4 b is 1 Exited", &replaced(10)], &[]);
    finds_in(&["4 b itself end 1; 4 b is 1 Exited", &replaced(10)], &[]);
    finds_in(&["3 b befell DaemonLeft; 4 b is 1 Unhealthy", &replaced(10)], &[]);
    // One that is back and has not heard its engine counts nothing yet.
    let back = "3 b befell DaemonLeft; 3 b is 1 Unhealthy; 4 b befell DaemonStarted";
    finds_in(&[back, &replaced(90)], &[]);
    finds_in(&[back, "5 b counts web", &replaced(90)], &[Kind::TwoDown]);
}

#[test]
fn what_a_person_has_just_begun_to_want_is_nobodys_loss() {
    let ended = "1 b itself end 1; 1 b is 1 Exited";
    let started = "11 b person start 1; 11 b is 1 Running";
    finds_in(&[ended, started, &replaced(10)], &[]);
    finds_in(&[ended, started, &replaced(60)], &[Kind::TwoDown]);
    // Nobody is told of it before the daemon is back.
    finds_in(&["1 b befell DaemonKilled", ended, started, &replaced(90)], &[]);
    finds_in(
        &["1 b befell DaemonKilled", ended, started, "20 b befell DaemonStarted", &replaced(90)],
        &[Kind::TwoDown],
    );
}

#[test]
fn what_has_served_is_down_until_it_serves_again() {
    let restarted = "4 b itself end 1; 4 b is 1 Restarting; 5 b engine start 1; 5 b is 1 Running";
    finds_in(&[restarted, &replaced(20)], &[Kind::TwoDown]);
    finds_in(&[restarted, "6 b is 1 Running serves", &replaced(20)], &[]);
}

#[test]
fn a_percentage_is_of_those_who_were_there_a_moment_ago() {
    let beginning = BEGINNING.replace("create 1 web 1", "create 1 web 1 limit=67%");
    let down = "1 b is 1 Unhealthy; 11 c person remove 1";
    finds(&[&beginning, down, &replaced(12)], &End::default(), &[]);
    finds(&[&beginning, down, &replaced(17)], &End::default(), &[Kind::TwoDown]);
}

#[test]
fn what_another_replacement_has_stopped_is_down_at_once() {
    let other = "11 b claims web acquired; 12 b claims web stopping; 13 b us stop 1; 13 b is 1 Running";
    finds_in(&[&replaced(10), other], &[Kind::TwoDown]);
}

#[test]
fn a_machine_that_reboots_is_down() {
    let reboot = "1 b befell Reboots; 1 b befell DaemonLeft; 1 b befell EngineGone; 1 b engine end 1; 1 b is 1 Exited";
    let late = "90 a claims web acquired; 91 a claims web stopping; 92 a us stop 1; 92 a is 1 Running";
    finds_in(&[reboot, late], &[Kind::DownAtReboot]);
}

/// A machine of the same name that comes while the other is away knows of its own containers alone.
#[test]
fn what_a_twin_has_withdrawn_is_counted_by_nobody_until_it_is_registered_anew() {
    let stopped = "1 b claims web acquired; 2 b claims web stopping; 3 b us stop 1; 3 b us end 1; 3 b is 1 Exited";
    let (twin, released, withdrawn) = ("4 b' befell TwinOf b", "5 b releases web", "6 b' withdraws web");
    finds_in(&[stopped, twin, released, &replaced(90)], &[Kind::TwoDown]);
    finds_in(&[stopped, twin, released, withdrawn, &replaced(90)], &[]);
    finds_in(&[stopped, twin, released, withdrawn, "7 b counts web", &replaced(90)], &[Kind::TwoDown]);
    // While it is claimed it is not the twin's to withdraw.
    finds_in(&[stopped, twin, "5 b' withdraws web; 6 b releases web", &replaced(90)], &[Kind::TwoDown]);
}

#[test]
fn no_stop_without_a_claim_past_its_fence() {
    finds_in(&["10 a us stop 1"], &[Kind::Unfenced]);
    finds_in(&["9 a claims web acquired; 10 a us stop 1"], &[Kind::Unfenced]);
    finds_in(&["9 - befell Restored; 10 a us stop 1"], &[]);
}

/// It was down when that was decided, and down goes always.
#[test]
fn what_has_just_come_up_may_be_taken_for_down() {
    let (another, up) = ("4 b is 1 Unhealthy", "12 a is 1 Running serves");
    finds_in(&[another, "8 a is 1 Unhealthy", up, &replaced(10)], &[]);
    finds_in(&[another, "1 a is 1 Unhealthy; 2 a is 1 Running serves", &replaced(10)], &[Kind::TwoDown]);
}

/// An engine that was slow carries out what nobody waits for any more.
#[test]
fn a_stop_may_come_late_after_something_befell_its_machine() {
    finds_in(&["9 a befell LineCut; 10 a us stop 1"], &[]);
    finds_in(&["9 a befell LineCut; 130 a us stop 1"], &[Kind::Unfenced]);
    finds_in(&["9 b befell LineCut; 10 a us stop 1"], &[Kind::Unfenced]);
    finds_in(&["8 a befell LineCut; 9 a claims web acquired; 10 a us stop 1"], &[Kind::Unfenced]);
}

/// A daemon that is away hears nothing of it, ever; one that lives has heard it before it acts again.
#[test]
fn what_a_person_does_to_a_replacement_whose_daemon_is_away_tells_nothing() {
    let person = "20 a person stop 2; 20 a is 2 Exited; 30 a us start 1";
    finds_in(&[&begun(10, 12), "19 a befell DaemonKilled; 21 a befell DaemonStarted", person], &[]);
    finds_in(&[&begun(10, 12), "18 a befell DaemonKilled; 19 a befell DaemonStarted", person], &[Kind::Resurrected]);
    finds_in(&[&begun(10, 12), "18 a befell EngineGone; 19 a befell EngineBack", person], &[]);
    let (away, loops) = ("50 a befell DaemonKilled; 70 a befell DaemonStarted", "52 a is 1 Restarting");
    let later = "60 a person stop 1; 60 a is 1 Exited; 71 a us start 1";
    let put_back = "2 a claims web stopping; 3 a us stop 1; 4 a us start 1; 4 a is 1 Running serves; 5 a releases web";
    finds_in(&[put_back, away, later], &[Kind::Resurrected]);
    finds_in(&[loops, away, later], &[Kind::Resurrected]);
    finds_in(&[put_back, away, loops, later], &[]);
    // What it needs came back after the daemon had gone: nobody has learned that it is paid.
    let comes_up = "49 a is 1 Restarting; 55 a is 1 Running serves";
    finds_in(&[put_back, comes_up, away, later], &[]);
    let much_later = "90 a person stop 2; 90 a is 2 Exited; 99 a us start 1";
    finds_in(&[&begun(10, 12), "18 a befell EngineGone; 19 a befell EngineBack", much_later], &[Kind::Resurrected]);
}

#[test]
fn what_runs_under_a_new_name_is_wanted_whatever_was_said_of_another_of_the_old_one() {
    let candidate = "20 a person stop 2; 20 a is 2 Exited; 21 a is 1 Running serves; 22 a person rename 1 web-x";
    finds_in(&[&begun(10, 12), candidate, "23 a releases web; 30 a us start 1"], &[]);
}

/// Which of the names it ends with, the replacement may decide, and nobody can say how the instance is.
#[test]
fn a_container_that_a_person_renames_in_a_replacement_is_not_counted() {
    let renamed = "13 b person rename 1 web-x; 14 b is 1 Unhealthy";
    finds_in(&["12 b claims web stopping", renamed, &replaced(30)], &[]);
}

#[test]
fn a_claim_past_its_fence_is_its_own_hosts() {
    finds_in(&["10 a claims web acquired; 11 b releases web of a"], &[]);
    finds_in(&["10 a claims web stopping; 11 b releases web of a"], &[Kind::ClaimStolen]);
}

#[test]
fn nobody_but_a_person_removes_the_last_of_a_name() {
    finds_in(&["10 a us remove 1"], &[Kind::Vanished]);
    finds_in(&["10 a person remove 1"], &[]);
}

#[test]
fn what_a_person_stopped_stays_stopped() {
    let stopped = "10 a person stop 1; 10 a is 1 Exited";
    finds_in(&[stopped, "11 a us start 1"], &[]);
    finds_in(&[stopped, "13 a us start 1"], &[Kind::Resurrected]);
    finds_in(&[stopped, "12 a person start 1; 13 a us stop 1; 14 a us start 1"], &[]);
    finds_in(&[stopped, "12 a engine start 1; 14 a us start 1"], &[]);
    let candidate = "20 a person stop 2; 20 a is 2 Exited; 30 a us start 1";
    finds_in(&[&begun(10, 12), candidate], &[Kind::Resurrected]);
    // One that is being stopped anyway: nobody can tell whose wish that is.
    finds_in(&[&begun(10, 12), "19 a us stop 2", candidate], &[]);
    // One that a person made beside what the replacement had made already.
    let beside = "14 a person remove 1; 14 a person create 3 web 1; 14 a person start 3; 20 a person remove 3";
    finds_in(&[&begun(10, 4), beside, "30 a us start 2"], &[]);
    // One that has failed is on its way back.
    finds_in(&[&begun(10, 12), "19 a is 2 Unhealthy", candidate], &[]);
    finds_in(&[&begun(10, 12), "19 b is 1 Unhealthy", candidate], &[Kind::Resurrected]);
}

#[test]
fn what_is_not_opted_in_is_not_touched() {
    finds_in(&["5 a person create 9 theirs 1 unmanaged; 6 a us rename 9 web-9"], &[Kind::Trespass]);
}
