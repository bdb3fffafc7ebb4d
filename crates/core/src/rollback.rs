//! Which version should run where several services run one track, and going back by a person's word.
//!
//! Services may think differently of a digest, so that each has a target of its own. A rollback is meant for what was
//! deployed last: the newest version that any of them should run.

use std::collections::BTreeMap;

use crate::record::{Record, Verdicts, Version};

/// What each service of a track should run.
pub fn targets<'a>(record: &'a Record, verdicts: &BTreeMap<String, Verdicts>) -> BTreeMap<String, &'a Version> {
    let target = |(service, verdicts): (&String, &Verdicts)| Some((service.clone(), record.target(verdicts)?));
    verdicts.iter().filter_map(target).collect()
}

/// The newest version that any service should run.
pub fn newest_target<'a>(record: &'a Record, verdicts: &BTreeMap<String, Verdicts>) -> Option<&'a Version> {
    if verdicts.is_empty() {
        return record.target(&Verdicts::default());
    }
    targets(record, verdicts).into_values().max_by_key(|version| version.seq)
}

/// What a rollback comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollback {
    /// The record with the version withdrawn.
    pub record: Record,
    /// Its place.
    pub withdrawn: u64,
    /// What the services that should have run it run instead; the newest, if they differ.
    pub next: Version,
}

/// Why there is nothing to go back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoWayBack {
    /// No service has a version that it should run.
    NoVersion,
    /// A service that should run the version of this place has none before it.
    NoneBefore(u64),
}

/// Withdraws the newest version that any service should run.
///
/// # Errors
/// [`NoWayBack`] if a service would be left without a version; nothing is withdrawn then.
pub fn roll_back(record: &Record, verdicts: &BTreeMap<String, Verdicts>) -> Result<Rollback, NoWayBack> {
    let nobody = BTreeMap::from([(String::new(), Verdicts::default())]);
    let verdicts = if verdicts.is_empty() { &nobody } else { verdicts };
    let withdrawn = newest_target(record, verdicts).ok_or(NoWayBack::NoVersion)?.seq;
    let none_before = || NoWayBack::NoneBefore(withdrawn);
    let changed = record.with_withdrawn(withdrawn, true).ok_or_else(none_before)?;
    let had_it = targets(record, verdicts).into_iter().filter(|(_, version)| version.seq == withdrawn);
    let after = targets(&changed, verdicts);
    let next: Option<Vec<&Version>> = had_it.map(|(service, _)| after.get(&service).copied()).collect();
    let next = next.and_then(|next| next.into_iter().max_by_key(|version| version.seq)).cloned();
    Ok(Rollback { next: next.ok_or_else(none_before)?, withdrawn, record: changed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;
    use crate::record::{Opinion, Source, Verdict};

    fn digest(seq: u64) -> Digest {
        Digest::parse(&format!("sha256:{seq:064x}")).expect("a digest")
    }

    fn record() -> Record {
        let first = Record::adopt(None, &digest(1), Source::Hook, 0);
        (2..=3).fold(first, |record, seq| record.advanced(digest(seq), Source::Hook, 0))
    }

    /// `web-3,2 api`: the services of a track of three versions, and which of these are bad for each.
    fn verdicts(services: &str) -> BTreeMap<String, Verdicts> {
        let bad = |seq: &str| {
            let verdict = Verdict { verdict: Opinion::Bad, node: "n".into(), reason: "exited".into(), at: 0 };
            (digest(seq.parse().expect("a seq")), verdict)
        };
        let service = |word: &str| {
            let (service, seqs) = word.split_once('-').unwrap_or((word, ""));
            let seqs = seqs.split(',').filter(|seq| !seq.is_empty());
            (service.to_owned(), Verdicts(seqs.map(bad).collect()))
        };
        services.split_whitespace().map(service).collect()
    }

    #[track_caller]
    fn check(services: &str, newest: Option<u64>, expected: Result<(u64, u64), NoWayBack>) {
        let (record, verdicts) = (record(), verdicts(services));
        assert_eq!(newest_target(&record, &verdicts).map(|version| version.seq), newest, "{services}");
        let outcome = roll_back(&record, &verdicts).map(|back| (back.withdrawn, back.next.seq));
        assert_eq!(outcome, expected, "{services}");
    }

    #[test]
    fn a_rollback_takes_back_what_was_deployed_last_to_whichever_service() {
        check("web", Some(3), Ok((3, 2)));
        check("web-3", Some(2), Ok((2, 1)));
        check("api web-3", Some(3), Ok((3, 2)));
        check("api-3 web", Some(3), Ok((3, 2)));
        check("api-2 web-3", Some(3), Ok((3, 1)));
        check("", Some(3), Ok((3, 2)));
    }

    #[test]
    fn no_service_is_left_without_a_version() {
        check("web-3,2,1", None, Err(NoWayBack::NoVersion));
        check("web-3,2", Some(1), Err(NoWayBack::NoneBefore(1)));
        check("api-2,1 web", Some(3), Err(NoWayBack::NoneBefore(3)));
    }

    #[test]
    fn each_service_has_a_target_of_its_own() {
        let (record, verdicts) = (record(), verdicts("api web-3 job-3,2,1"));
        let targets = targets(&record, &verdicts);
        let targets: Vec<(&str, u64)> = targets.iter().map(|(service, v)| (service.as_str(), v.seq)).collect();
        assert_eq!(targets, [("api", 3), ("web", 2)]);
    }
}
