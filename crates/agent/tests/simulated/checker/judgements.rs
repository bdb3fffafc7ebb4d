//! The rules of what is thought of versions: a verdict has its ground and stands, and nothing goes back without one. And
//! that of claims: past the fence nobody else ends them.

use std::time::Duration;

use deployer_core::image::Digest;
use deployer_core::record::{Opinion, Verdict};
use deployer_core::store::Change;
use deployer_simulated::history::{By, Deed, Entry, Purpose, What, instance_of, short, transition_of};
use deployer_simulated::registry::Behaviour;

use super::Kind;
use super::replay::{Container, Replay, verdict_of};

/// After so long a container that never served has missed its gate: the label of all simulated containers.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long the first of a version is watched before it is called good, at the least.
const MONITOR: Duration = Duration::from_secs(10);
/// After so many tries in vain a version is judged. Two may be trouble of the machine each time, which judges nobody.
const TRIES_MAX: usize = 3;
/// How long after something befell a machine a write of it may still be carried out.
const LATE_WRITES: Duration = Duration::from_secs(60);

/// Looks at what is written or made before it has any effect.
pub fn check(replay: &Replay, entry: &Entry, report: &mut impl FnMut(Kind, String)) {
    match &entry.what {
        What::Stored(Change::Put(written)) => {
            let verdict = serde_json::from_slice::<Verdict>(&written.value);
            if let (Some((service, digest)), Ok(verdict)) = (verdict_of(&written.key), verdict) {
                judge(replay, entry, &service, &digest, &verdict, report);
            }
        }
        What::Stored(Change::Delete(key, _)) => {
            if let Some(claim) = replay.claims.get(key).filter(|claim| claim.is_past_fence && claim.host != entry.host)
            {
                report(Kind::ClaimStolen, format!("the claim of {} on {}", claim.container, claim.host));
            }
        }
        // What was thought of versions before a restore is acted on until everybody has heard of it.
        What::Done(By::Us, _, Deed::Create(_)) if replay.is_store_not_to_be_believed(entry.at) => {}
        What::Done(By::Us, _, Deed::Create(purpose)) => {
            look_back(replay, &entry.host, purpose, report);
            count_tries(replay, purpose, report);
        }
        _ => {}
    }
}

fn judge(
    replay: &Replay,
    entry: &Entry,
    service: &str,
    digest: &Digest,
    verdict: &Verdict,
    report: &mut impl FnMut(Kind, String),
) {
    let text = || format!("{} is {:?} for {service}: {}", short(digest), verdict.verdict, verdict.reason);
    let before = replay.verdicts.get(&(service.to_owned(), digest.clone()));
    if before.is_some_and(|before| *before != verdict.verdict) {
        report(Kind::VerdictChanged, text());
    }
    let holds_a_slot = replay.claims.values().any(|claim| claim.host == entry.host && claim.is_past_fence)
        || replay.robbed.contains(&entry.host);
    // What was written and not answered may be carried out long after, and a restored store knows of no claim.
    let befell = replay.troubled(&entry.host).max(replay.restored);
    let is_bad = verdict.verdict == Opinion::Bad;
    if is_bad && !holds_a_slot && befell.is_none_or(|befell| entry.at > befell + LATE_WRITES) {
        report(Kind::LateVerdict, text());
    }
    let own = replay.containers.iter().filter(|((host, _), _)| *host == entry.host).map(|(_, container)| container);
    let candidates = own.filter(|c| c.made_by == By::Us && c.purpose.digest.as_ref() == Some(digest));
    let has_failed = candidates.clone().any(|c| c.has_failed || c.has_missed || c.never_served(entry.at, PATIENCE));
    let watched = candidates.clone().map(|c| replay.watched(&entry.host, c, entry.at)).max().unwrap_or_default();
    let behaviour = replay.behaviours.get(digest);
    // What never listens may pass a gate that asks for no port, where the predecessor did not listen either.
    let cannot_serve = |b: &Behaviour| matches!(b, Behaviour::ExitsAtOnce | Behaviour::StartRefused);
    match verdict.verdict {
        Opinion::Bad if !has_failed => report(Kind::FalseBad, text()),
        Opinion::Good if behaviour.is_some_and(cannot_serve) || watched < MONITOR => report(Kind::FalseGood, text()),
        _ => {}
    }
}

/// How often a version was tried in vain, with no verdict and no word that would keep the next from trying it.
fn count_tries(replay: &Replay, purpose: &Purpose, report: &mut impl FnMut(Kind, String)) {
    let Some(digest) = &purpose.digest else { return };
    if replay.verdicts.contains_key(&(purpose.service.clone(), digest.clone())) {
        return;
    }
    // A push says that it is worth another try, and a store that was put back has forgotten what came of those before.
    let since = replay.pushed.get(digest).copied().max(replay.restored).unwrap_or_default();
    let is_try = |made: &&Container| {
        let purpose_of = (&made.purpose.service, made.purpose.digest.as_ref());
        made.made_by == By::Us && made.made >= since && purpose_of == (&purpose.service, Some(digest))
    };
    let has_failed = |made: &&Container| made.is_removed && !made.can_serve && (made.has_failed || made.has_missed);
    let in_vain = replay.containers.values().filter(is_try).filter(has_failed).count();
    if in_vain >= TRIES_MAX {
        report(Kind::TriedForEver, format!("{} of {}, after {in_vain} that failed", short(digest), purpose.service));
    }
}

/// Whether a candidate is older than what it is to take the place of.
fn look_back(replay: &Replay, host: &str, purpose: &Purpose, report: &mut impl FnMut(Kind, String)) {
    let name = instance_of(&purpose.name);
    // What a person runs may be newer than anything that was told of.
    let is_ours = |body: &&Container| transition_of(&body.name).is_none() && body.made_by == By::Us;
    let predecessor = replay.bodies(host, name).map(|(_, body)| body).find(is_ours);
    let runs = predecessor.and_then(|body| body.purpose.digest.as_ref());
    let (Some(runs), Some(candidate)) = (runs, &purpose.digest) else { return };
    let is_bad = replay.verdicts.get(&(purpose.service.clone(), runs.clone())) == Some(&Opinion::Bad);
    let tags = replay.tags.get(&purpose.track).map(Vec::as_slice).unwrap_or_default();
    let [first, last] = [tags.iter().position(|tag| tag == runs), tags.iter().rposition(|tag| tag == candidate)];
    // One that nobody had heard of before is new to all, whatever an answer from the past was.
    let [of_runs, of_candidate] = [runs, candidate].map(|digest| replay.recorded.iter().position(|d| d == digest));
    let is_news = of_candidate.is_some() && of_candidate > of_runs;
    if !is_bad && last < first && !is_news {
        report(Kind::Downgraded, format!("{name} from {} to {}", short(runs), short(candidate)));
    }
}
