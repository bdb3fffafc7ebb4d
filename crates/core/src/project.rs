//! A Compose project: which of its services come before which.
//!
//! Compose notes on each container its project, its service, and the services that must be up before it
//! (`depends_on`: `web:service_healthy:false,db:service_started:true`; conditions are what a gate asks anyway). What is
//! replaced keeps to that order: a worker of a new version often ends at once on a database that the new web has yet to
//! migrate.

use std::collections::{BTreeMap, BTreeSet};

const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// Compose notes it on whatever it makes; a container that somebody runs of an image with labels like these has none.
const CONFIG_HASH: &str = "com.docker.compose.config-hash";
/// Services that one may depend on, at the most: labels may be of any length.
const DEPENDS_ON_MAX: usize = 100;

/// A container of a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// The project.
    pub project: &'a str,
    /// Its service there.
    pub service: &'a str,
    depends_on: &'a str,
}

impl<'a> Member<'a> {
    /// What a container's labels say; `None` if it belongs to no project.
    pub fn of(labels: &'a BTreeMap<String, String>) -> Option<Self> {
        let label = |name| labels.get(name).map(String::as_str).filter(|value| !value.is_empty());
        label(CONFIG_HASH)?;
        let depends_on = label(DEPENDS_ON).unwrap_or_default();
        Some(Self { project: label(PROJECT)?, service: label(SERVICE)?, depends_on })
    }

    /// The services that must be up before it.
    fn after(self) -> impl Iterator<Item = &'a str> {
        let entries = self.depends_on.split(',').take(DEPENDS_ON_MAX).filter_map(|entry| entry.split(':').next());
        entries.map(str::trim).filter(|service| !service.is_empty())
    }
}

/// The services of a member's project that come before its own, through others as well. One of which each comes before the
/// other comes before none: what goes round in a circle would wait for ever.
pub fn before<'a>(member: Member<'a>, all: &[Member<'a>]) -> BTreeSet<&'a str> {
    let mut before = reach(member.service, member.project, all);
    before.retain(|other| !reach(other, member.project, all).contains(member.service));
    before
}

/// Everything that comes before a service.
fn reach<'a>(service: &str, project: &str, all: &[Member<'a>]) -> BTreeSet<&'a str> {
    let of = |service: &str| {
        let service = service.to_owned();
        all.iter().filter(move |member| member.project == project && member.service == service).flat_map(|m| m.after())
    };
    let mut found = BTreeSet::new();
    let mut open: Vec<&'a str> = of(service).collect();
    while let Some(next) = open.pop() {
        if found.insert(next) {
            open.extend(of(next));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes before the first of these services, each given with what it depends on.
    #[track_caller]
    fn check(services: &[(&str, &str)], expected: &[&str]) {
        let labels: Vec<BTreeMap<String, String>> = services
            .iter()
            .map(|(service, after)| {
                let labels = [(PROJECT, "shop"), (SERVICE, service), (DEPENDS_ON, after), (CONFIG_HASH, "00c0ffee")];
                labels.map(|(name, value)| (name.to_owned(), value.to_string())).into()
            })
            .collect();
        let mut members: Vec<Member> = labels.iter().filter_map(Member::of).collect();
        let stranger = Member { project: "other", service: "web", depends_on: "worker" };
        members.push(stranger);
        assert_eq!(before(members[0], &members), expected.iter().copied().collect(), "{services:?}");
    }

    #[test]
    fn case_pb02_a_service_comes_after_what_it_depends_on() {
        check(&[("jobs", "web:service_healthy:false")], &["web"]);
        check(&[("jobs", " web:service_healthy:false,db:service_started:true,")], &["web", "db"]);
        check(&[("jobs", ""), ("web", "jobs:service_started:false")], &[]);
        check(&[("jobs", "queue:service_started:false"), ("queue", "web"), ("web", "")], &["queue", "web"]);
        check(&[("jobs", "web"), ("jobs", "db")], &["web", "db"]);
    }

    #[test]
    fn what_goes_round_in_a_circle_waits_for_nobody() {
        check(&[("a", "a")], &[]);
        check(&[("a", "b"), ("b", "a")], &[]);
        check(&[("a", "b,d"), ("b", "c"), ("c", "a"), ("d", "")], &["d"]);
    }

    #[test]
    fn what_belongs_to_no_project_has_no_place() {
        let made = (CONFIG_HASH, "00c0ffee");
        for labels in [
            &[][..],
            &[made, (PROJECT, "shop")],
            &[made, (SERVICE, "web")],
            &[made, (PROJECT, ""), (SERVICE, "web")],
            &[(PROJECT, "shop"), (SERVICE, "web")],
        ] {
            let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            assert_eq!(Member::of(&labels), None, "{labels:?}");
        }
    }
}
