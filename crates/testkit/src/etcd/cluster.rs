//! An etcd of several members.

use std::time::Duration;

use serde_json::Value;

use super::{Etcd, EtcdOptions, Ports};
use crate::wait::wait_until;

/// A running etcd of several members on 127.0.0.1.
pub struct EtcdCluster {
    members: Vec<Etcd>,
}

impl EtcdCluster {
    /// Starts them and waits until all of them are healthy.
    ///
    /// # Panics
    ///
    /// When they do not get there.
    #[track_caller]
    pub fn start(count: usize) -> Self {
        Self::start_with(count, &EtcdOptions::default())
    }

    /// The same, run as told.
    #[track_caller]
    pub fn start_with(count: usize, options: &EtcdOptions) -> Self {
        let ports: Vec<(String, Ports)> =
            (1..=count).map(|number| (format!("member-{number}"), Ports::free())).collect();
        let urls: Vec<String> = ports.iter().map(|(name, ports)| format!("{name}={}", ports.peer_url())).collect();
        let urls = urls.join(",");
        let members: Vec<Etcd> = ports.iter().map(|(name, ports)| Etcd::spawn(name, *ports, &urls, options)).collect();
        members.iter().for_each(Etcd::wait_until_it_is_healthy);
        Self { members }
    }

    /// How clients reach each member, in their order.
    pub fn urls(&self) -> Vec<String> {
        self.members.iter().map(Etcd::url).collect()
    }

    /// Where clients reach each member, `127.0.0.1:PORT`, in their order.
    pub fn addresses(&self) -> Vec<String> {
        self.members.iter().map(Etcd::address).collect()
    }

    /// [`Etcd::control`] of the first member that answers.
    ///
    /// # Panics
    ///
    /// When none does, with what was said of the last.
    #[track_caller]
    pub fn control<const N: usize>(&self, arguments: [&str; N]) -> String {
        let mut seen = "it has no members".to_owned();
        for member in &self.members {
            match member.try_control(arguments) {
                Ok(answer) => return answer,
                Err(error) => seen = error,
            }
        }
        panic!("{seen}")
    }

    /// A member, to be killed, held, restarted, or asked with `control`. What one of them is told holds for all.
    pub fn member(&mut self, index: usize) -> &mut Etcd {
        &mut self.members[index]
    }

    /// Which member leads, as those that answer say.
    ///
    /// # Panics
    ///
    /// When none is found in time.
    #[track_caller]
    pub fn leader(&self) -> usize {
        wait_until(Duration::from_secs(30), "the cluster to have a leader", || {
            self.members.iter().position(is_leader).ok_or("no member says that it leads")
        })
    }
}

fn is_leader(member: &Etcd) -> bool {
    let status = member.try_control(["endpoint", "status", "--command-timeout", "1s", "--write-out", "json"]);
    let status: Value = serde_json::from_str(&status.unwrap_or_default()).unwrap_or_default();
    let status = &status[0]["Status"];
    status["leader"].is_number() && status["leader"] == status["header"]["member_id"]
}
