//! Where each fact lies in the store. `docs/protocol.md` explains the same layout to people.
//!
//! Names that come from outside are written in URL-safe base64, so that no character of an image or service
//! name can leave its place in a key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::image::{Digest, Track};

/// The keys of one cluster, below one prefix.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// The keys below `prefix`, such as `/deployer`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.trim_end_matches('/').to_owned() }
    }

    /// What every key begins with.
    pub fn all(&self) -> String {
        format!("{}/", self.prefix)
    }

    /// All tracks' facts.
    pub fn images(&self) -> String {
        format!("{}/images/", self.prefix)
    }

    /// What the registry said a track points to.
    pub fn record(&self, track: &Track) -> String {
        format!("{}record", self.image(track))
    }

    /// A notification that is accepted and not yet resolved.
    pub fn pending(&self, track: &Track) -> String {
        format!("{}pending", self.image(track))
    }

    /// All facts of one track but its verdicts.
    pub fn image(&self, track: &Track) -> String {
        format!("{}{}/", self.images(), text(&track.to_string()))
    }

    /// The leased sign of the node that asks the registry for the whole cluster.
    pub fn resolver(&self, track: &Track) -> String {
        format!("{}resolver", self.image(track))
    }

    /// Why a rollout stands still although nobody found its digest bad.
    pub fn halt(&self, track: &Track) -> String {
        format!("{}halt", self.image(track))
    }

    /// The mark of a track that nobody runs any more.
    pub fn left(&self, track: &Track) -> String {
        format!("{}left", self.image(track))
    }

    /// The leased mark that leftovers were swept out within a day.
    pub fn swept(&self) -> String {
        format!("{}/swept", self.prefix)
    }

    /// A person's last word to go on with a track: its revision ends all trouble that arose before.
    pub fn retry(&self, track: &Track) -> String {
        format!("{}retry", self.image(track))
    }

    /// The leased marks of nodes that asked the registry and got no answer of use.
    pub fn setbacks(&self, track: &Track) -> String {
        format!("{}setback/", self.image(track))
    }

    /// The leased mark of one such node.
    pub fn setback(&self, track: &Track, node: &str) -> String {
        format!("{}{}", self.setbacks(track), text(node))
    }

    /// The marks of all tracks that the registry was asked within the check period.
    pub fn all_checked(&self) -> String {
        format!("{}/checked/", self.prefix)
    }

    /// A leased mark that the registry was asked within the check period.
    pub fn checked(&self, track: &Track) -> String {
        format!("{}{}", self.all_checked(), text(&track.to_string()))
    }

    /// The track that a mark below [`Keys::all_checked`] speaks of.
    pub fn checked_track(&self, key: &str) -> Option<Track> {
        let name = URL_SAFE_NO_PAD.decode(key.strip_prefix(&self.all_checked())?).ok()?;
        Track::parse(&String::from_utf8(name).ok()?).ok()
    }

    /// The track that a key below [`Keys::images`] speaks of, and the fact's name.
    pub fn track_of<'a>(&self, key: &'a str) -> Option<(Track, &'a str)> {
        let (encoded, fact) = key.strip_prefix(&self.images())?.split_once('/')?;
        Some((Track::parse(&name(encoded)?).ok()?, fact))
    }

    /// The verdicts of every service.
    pub fn all_verdicts(&self) -> String {
        format!("{}/verdicts/", self.prefix)
    }

    /// All verdicts of a service.
    pub fn verdicts(&self, service: &str) -> String {
        format!("{}{}/", self.all_verdicts(), text(service))
    }

    /// What is thought of a digest for a service.
    pub fn verdict(&self, service: &str, digest: &Digest) -> String {
        format!("{}{}", self.verdicts(service), digest)
    }

    /// The digest that a key of a verdict speaks of; `None` for any other key.
    pub fn verdict_of(&self, key: &str) -> Option<Digest> {
        let (_, digest) = key.strip_prefix(&self.all_verdicts())?.split_once('/')?;
        Digest::parse(digest).ok()
    }

    /// All scopes' claims, holds, tickets and deferrals.
    pub fn locks(&self) -> String {
        format!("{}/locks/", self.prefix)
    }

    /// Claims, holds, tickets and deferrals of a scope.
    pub fn scope(&self, scope: &str) -> String {
        format!("{}{}/", self.locks(), text(scope))
    }

    /// The claims of a scope.
    pub fn claims(&self, scope: &str) -> String {
        format!("{}claim/", self.scope(scope))
    }

    /// The lease-free claim on a slot.
    pub fn claim(&self, scope: &str, slot: u32) -> String {
        format!("{}{slot}", self.claims(scope))
    }

    /// Scope and slot of a claim's key; `None` for any other key.
    pub fn slot_of(&self, key: &str) -> Option<(String, u32)> {
        let (scope, slot) = key.strip_prefix(&self.locks())?.split_once("/claim/")?;
        Some((name(scope)?, slot.parse().ok()?))
    }

    /// The leased sign that a claim's holder lives.
    pub fn hold(&self, scope: &str, slot: u32) -> String {
        format!("{}{slot}", self.holds(scope))
    }

    /// The holds of a scope.
    pub fn holds(&self, scope: &str) -> String {
        format!("{}hold/", self.scope(scope))
    }

    /// The tickets of a scope, in the order of their turns.
    pub fn line(&self, scope: &str) -> String {
        format!("{}line/", self.scope(scope))
    }

    /// A key behind all tickets of a scope.
    pub fn end_of_line(&self, scope: &str) -> String {
        format!("{}~", self.line(scope))
    }

    /// The leased place in line of one container; see [`crate::queue::Ticket::turn`].
    pub fn ticket(&self, scope: &str, turn: &str, node: &str, container: &str) -> String {
        format!("{}{turn}/{}/{}", self.line(scope), text(node), text(container))
    }

    /// Whether a key below [`Keys::locks`] is a ticket.
    pub fn is_ticket(&self, key: &str) -> bool {
        key.strip_prefix(&self.locks()).is_some_and(|rest| rest.split('/').nth(1) == Some("line"))
    }

    /// Whether a key below [`Keys::locks`] is a ticket of a node.
    pub fn is_ticket_of(&self, key: &str, node: &str) -> bool {
        self.is_ticket(key) && key.rsplit('/').nth(1) == Some(text(node).as_str())
    }

    /// Whether a key below [`Keys::locks`] is a deferral.
    pub fn is_deferral(&self, key: &str) -> bool {
        key.strip_prefix(&self.locks()).is_some_and(|rest| rest.split('/').nth(1) == Some("deferred"))
    }

    /// The rollouts of a scope that gave way to others.
    pub fn deferrals(&self, scope: &str) -> String {
        format!("{}deferred/", self.scope(scope))
    }

    /// The mark of a rollout that gave way: its place in the queue is that of this key's last change.
    pub fn deferral(&self, scope: &str, track: &Track) -> String {
        format!("{}{}", self.deferrals(scope), text(&track.to_string()))
    }

    /// The instances of a service that are meant to run.
    pub fn instances(&self, service: &str) -> String {
        format!("{}{}/", self.all_instances(), text(service))
    }

    /// The instances of every service.
    pub fn all_instances(&self) -> String {
        format!("{}/instances/", self.prefix)
    }

    /// One instance: a container's name on a node.
    pub fn instance(&self, service: &str, node: &str, container: &str) -> String {
        format!("{}{}/{}", self.instances(service), text(node), text(container))
    }

    /// The service that a key of an instance speaks of; `None` for any other key.
    pub fn service_of(&self, key: &str) -> Option<String> {
        let (service, _) = key.strip_prefix(&self.all_instances())?.split_once('/')?;
        name(service)
    }

    /// Node and container of an instance's key; `None` for any other key.
    pub fn instance_of(&self, key: &str) -> Option<(String, String)> {
        let (_, place) = key.strip_prefix(&self.all_instances())?.split_once('/')?;
        let (node, container) = place.split_once('/')?;
        Some((name(node)?, name(container)?))
    }

    /// The container that a key of an instance speaks of; `None` for any other key.
    pub fn container_of(&self, key: &str) -> Option<String> {
        self.instance_of(key).map(|(_, container)| container)
    }

    /// Which nodes run which tracks.
    pub fn all_runs(&self) -> String {
        format!("{}/runs/", self.prefix)
    }

    /// Which nodes run a track.
    pub fn runs(&self, track: &Track) -> String {
        format!("{}{}/", self.all_runs(), text(&track.to_string()))
    }

    /// That a node runs a track, whether it lives or not.
    pub fn run(&self, track: &Track, node: &str) -> String {
        format!("{}{}", self.runs(track), text(node))
    }

    /// The track that a key below [`Keys::all_runs`] speaks of.
    pub fn run_track(&self, key: &str) -> Option<Track> {
        let (encoded, _) = key.strip_prefix(&self.all_runs())?.split_once('/')?;
        Track::parse(&String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?).ok()
    }

    /// The keys that a node keeps for longer than it lives.
    pub fn index(&self, node: &str) -> String {
        format!("{}/index/{}", self.prefix, text(node))
    }

    /// The service that a key below [`Keys::all_verdicts`] speaks of.
    pub fn verdict_service(&self, key: &str) -> Option<String> {
        let (service, _) = key.strip_prefix(&self.all_verdicts())?.split_once('/')?;
        String::from_utf8(URL_SAFE_NO_PAD.decode(service).ok()?).ok()
    }

    /// What the nodes say of every service's instances.
    pub fn all_reports(&self) -> String {
        format!("{}/reports/", self.prefix)
    }

    /// What the nodes say of a service's instances.
    pub fn reports(&self, service: &str) -> String {
        format!("{}{}/", self.all_reports(), text(service))
    }

    /// What a node says of an instance, for as long as the node lives.
    pub fn report(&self, service: &str, node: &str, container: &str) -> String {
        format!("{}{}/{}", self.reports(service), text(node), text(container))
    }

    /// Which instances of every service are up.
    pub fn all_ups(&self) -> String {
        format!("{}/up/", self.prefix)
    }

    /// Which instances of a service are up, by the word of living nodes: to be counted.
    pub fn ups(&self, service: &str) -> String {
        format!("{}{}/", self.all_ups(), text(service))
    }

    /// The mark that goes with a report that says so. `None` for any other key than that of a report.
    pub fn up_of_report(&self, report: &str) -> Option<String> {
        Some(format!("{}{}", self.all_ups(), report.strip_prefix(&self.all_reports())?))
    }

    /// A node's share of what lies below [`Keys::instances`] or [`Keys::ups`] of a service.
    pub fn of_node(&self, below: &str, node: &str) -> String {
        format!("{below}{}/", text(node))
    }

    /// Which digests of all tracks the nodes have.
    pub fn all_fetched(&self) -> String {
        format!("{}/fetched/", self.prefix)
    }

    /// Which digests of a track the nodes have.
    pub fn fetched(&self, track: &Track) -> String {
        format!("{}{}/", self.all_fetched(), text(&track.to_string()))
    }

    /// Which digests of a track a node has, for as long as the node lives.
    pub fn fetched_by(&self, track: &Track, node: &str) -> String {
        format!("{}{}", self.fetched(track), text(node))
    }

    /// The nodes that live.
    pub fn nodes(&self) -> String {
        format!("{}/nodes/", self.prefix)
    }

    /// The leased sign that a node lives.
    pub fn node(&self, node: &str) -> String {
        format!("{}{}", self.nodes(), text(node))
    }

    /// The nodes that live and take slots of one kind of scope, by its word: to be counted.
    pub fn scopes(&self, word: &str) -> String {
        format!("{}/scopes/{word}/", self.prefix)
    }

    /// The leased sign that a node does.
    pub fn scope_of(&self, word: &str, node: &str) -> String {
        format!("{}{}", self.scopes(word), text(node))
    }

    /// While this key exists no replacement starts anywhere.
    pub fn pause(&self) -> String {
        format!("{}/pause", self.prefix)
    }
}

fn text(name: &str) -> String {
    URL_SAFE_NO_PAD.encode(name)
}

fn name(text: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_track_is_read_back_from_its_key() {
        let keys = Keys::new("/deployer/");
        let track = Track::parse("registry.example.com:5000/acme/web:1.4.2").expect("a track");
        let record = keys.record(&track);
        assert_eq!(keys.track_of(&record), Some((track.clone(), "record")));
        assert_eq!(keys.run_track(&keys.run(&track, "node-a")), Some(track.clone()));
        assert_eq!(keys.checked_track(&keys.checked(&track)), Some(track));
        assert_eq!(keys.track_of("/deployer/images/%%%/record"), None);
    }

    #[test]
    fn a_ticket_is_told_from_the_other_keys_of_its_scope() {
        let keys = Keys::new("/deployer");
        let ticket = keys.ticket("all", "00ff-1", "node-a", "web");
        assert!(keys.is_ticket(&ticket) && ticket < keys.end_of_line("all"));
        assert!(!keys.is_ticket(&keys.claim("line", 0)) && !keys.is_ticket(&keys.hold("all", 0)));
    }

    #[test]
    fn no_name_leaves_its_place() {
        let keys = Keys::new("/deployer");
        let key = keys.instance("a/../b", "../node", "web");
        assert!(key.starts_with(&keys.all_instances()) && key.matches('/').count() == 5, "{key}");
        assert_eq!(keys.service_of(&key).as_deref(), Some("a/../b"));
        assert_eq!(keys.container_of(&key).as_deref(), Some("web"));
        assert_eq!(keys.instance_of(&key), Some(("../node".to_owned(), "web".to_owned())));
        for key in ["/deployer/instances/x", "/deployer/instances/d2Vi/x/y", "/deployer/reports/d2Vi/bm9kZQ/d2Vi"] {
            assert_eq!(keys.instance_of(key), None, "{key}");
        }
    }
}
