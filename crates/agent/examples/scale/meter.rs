//! What etcd says of itself: how much was asked of it, how much it has sent, and how much memory it takes.

use std::collections::BTreeMap;

use deployer_testkit::Etcd;
use serde_json::{Value, json};

/// Where etcd is asked.
pub struct Meter<'a>(&'a Etcd);

/// What etcd has counted since it was started.
#[derive(Clone, Default)]
pub struct Reading {
    /// Messages that came in, of whatever call: of a stream each counts.
    pub requests: f64,
    /// Bytes of messages that went out to clients.
    pub bytes: f64,
    /// Transactions that wrote something.
    pub revisions: f64,
    /// Keys written.
    pub puts: f64,
    calls: BTreeMap<String, f64>,
}

impl<'a> Meter<'a> {
    /// The meter of a server.
    pub fn of(server: &'a Etcd) -> Self {
        Self(server)
    }

    /// How it stands now.
    pub fn read(&self) -> Reading {
        let text = self.0.metrics();
        let mut reading = Reading::default();
        for (name, value) in lines(&text) {
            match name.split_once('{') {
                Some(("grpc_server_msg_received_total", labels)) => {
                    let call = labels.split("grpc_method=\"").nth(1).and_then(|rest| rest.split('"').next());
                    *reading.calls.entry(call.unwrap_or_default().to_owned()).or_default() += value;
                    reading.requests += value;
                }
                Some(_) => {}
                None if name == "etcd_network_client_grpc_sent_bytes_total" => reading.bytes = value,
                None if name == "etcd_debugging_mvcc_current_revision" => reading.revisions = value,
                None if name == "etcd_mvcc_put_total" => reading.puts = value,
                None => {}
            }
        }
        reading
    }

    /// Bytes resident.
    pub fn memory(&self) -> f64 {
        lines(&self.0.metrics()).find(|(name, _)| *name == "process_resident_memory_bytes").map_or(0.0, |line| line.1)
    }
}

/// Names with their labels, and values.
fn lines(text: &str) -> impl Iterator<Item = (&str, f64)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit_once(' ')).filter_map(|(name, value)| Some((name, value.parse().ok()?)))
}

impl Reading {
    /// What was counted in between.
    pub fn since(&self, before: &Self) -> Self {
        let calls = self.calls.iter().map(|(call, count)| {
            let old = before.calls.get(call).copied().unwrap_or_default();
            (call.clone(), count - old)
        });
        Self {
            requests: self.requests - before.requests,
            bytes: self.bytes - before.bytes,
            revisions: self.revisions - before.revisions,
            puts: self.puts - before.puts,
            calls: calls.collect(),
        }
    }

    /// Requests of each call for each node.
    pub fn by_call(&self, nodes: f64) -> Value {
        let calls = self.calls.iter().filter(|(_, count)| **count > 0.0);
        json!(calls.map(|(call, count)| (call.clone(), count / nodes)).collect::<BTreeMap<_, _>>())
    }
}
