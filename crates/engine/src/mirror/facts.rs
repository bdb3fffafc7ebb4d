//! What is kept of a container: small typed facts, never its inspection.

use std::collections::BTreeMap;
use std::net::IpAddr;

use deployer_core::gate::{addresses, known_ports};
use deployer_core::ownership::Owner;
use deployer_core::successor::{Dependence, depends_on};
use serde_json::Value;

use crate::engine::ContainerSummary;

/// How a container with a HEALTHCHECK is, by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Within its start period, or before the first outcome.
    Starting,
    /// The last check passed.
    Healthy,
    /// As many checks failed in a row as its settings allow.
    Unhealthy,
}

impl Health {
    /// The word that inspections and events have for it; any other word says nothing.
    pub fn of_word(word: &str) -> Option<Self> {
        match word {
            "starting" => Some(Self::Starting),
            "healthy" => Some(Self::Healthy),
            "unhealthy" => Some(Self::Unhealthy),
            _ => None,
        }
    }

    /// What a line of the list says in brackets, such as `Up 3 minutes (health: starting)`.
    fn of_status(status: &str) -> Option<Self> {
        let (_, bracket) = status.strip_suffix(')')?.rsplit_once('(')?;
        Self::of_word(bracket.trim_start_matches("health: "))
    }
}

/// Nanoseconds since 1970 of a moment as the engine writes it, to be compared with the time of a
/// [`Deed`](deployer_core::deed::Deed). What never was lies before everything.
pub fn nanos(moment: &str) -> i64 {
    let nanos = moment.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_nanosecond);
    nanos.ok().and_then(|nanos| i64::try_from(nanos).ok()).unwrap_or(i64::MIN)
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Full ID, 64 hexadecimal digits.
    pub id: String,
    /// Name without the leading slash; empty while the engine is removing it.
    pub name: String,
    /// ID of the image it was created from.
    pub image_id: String,
    /// `Config.Image`: what the user asked for, unlike the list's image, which turns into an ID as tags move.
    pub config_image: String,
    /// Labels, image's and user's merged.
    pub labels: BTreeMap<String, String>,
    /// The state's word as the engine gives it: `running`, `paused`, `restarting`, `exited`, …; unknown words are kept.
    pub state: String,
    /// How it is by its HEALTHCHECK, if it runs and has one.
    pub health: Option<Health>,
    /// When it was last started, as the engine writes it; the engine's year 1 if never.
    pub started_at: String,
    /// Its own addresses, while it runs.
    pub addresses: Vec<IpAddr>,
    /// The TCP ports that it publishes or exposes.
    pub ports: Vec<u16>,
    /// With what its process last ended.
    pub exit_code: i64,
    /// What it uses of other containers.
    pub leans_on: Vec<Dependence>,
    /// Whose it is.
    pub owner: Owner,
}

impl Container {
    /// The facts of a raw inspection; `None` if it names no container.
    pub(super) fn of_inspection(raw: &Value, owner: Owner) -> Option<Self> {
        let text = |pointer| raw.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let labels = raw.pointer("/Config/Labels").and_then(Value::as_object).into_iter().flatten();
        let labels = labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        let state = text("/State/Status");
        // An engine goes on showing how a container was that has ended.
        let health = Health::of_word(&text("/State/Health/Status")).filter(|_| state == "running");
        Some(Self {
            id: Some(text("/Id")).filter(|id| !id.is_empty())?,
            name: text("/Name").trim_start_matches('/').to_owned(),
            image_id: text("/Image"),
            config_image: text("/Config/Image"),
            labels: labels.collect(),
            state,
            health,
            started_at: text("/State/StartedAt"),
            addresses: addresses(raw),
            ports: known_ports(raw),
            exit_code: raw.pointer("/State/ExitCode").and_then(Value::as_i64).unwrap_or_default(),
            leans_on: depends_on(raw),
            owner,
        })
    }

    /// Whether a line of the list says nothing else.
    pub(super) fn agrees_with(&self, line: &ContainerSummary) -> bool {
        *self == self.with_line(line)
    }

    /// The same container by what a line of the list says of it.
    pub(super) fn with_line(&self, line: &ContainerSummary) -> Self {
        let (name, image_id, state) = (line.name.clone(), line.image_id.clone(), line.state.clone());
        let health = Health::of_status(&line.status).filter(|_| state == "running");
        Self { name, image_id, state, health, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_of_the_list_tells_of_health_in_brackets() {
        for (status, expected) in [
            ("Up 3 minutes (healthy)", Some(Health::Healthy)),
            ("Up 3 minutes (unhealthy)", Some(Health::Unhealthy)),
            ("Up 1 second (health: starting)", Some(Health::Starting)),
            ("Up 3 minutes", None),
            ("Up 3 minutes (Paused)", None),
            ("Exited (0) 3 minutes ago", None),
        ] {
            assert_eq!(Health::of_status(status), expected, "{status}");
        }
    }

    #[test]
    fn an_inspection_and_a_line_of_the_list_agree_on_a_container_that_ended_unhealthy() {
        let raw = json!({
            "Id": "a", "Name": "/web", "Image": "sha256:1",
            "State": {"Status": "exited", "Health": {"Status": "unhealthy"}, "StartedAt": "1970-01-01T00:00:00.5Z"},
        });
        let container = Container::of_inspection(&raw, Owner::User).expect("it has an ID");
        let mut line = ContainerSummary {
            id: "a".into(),
            name: "web".into(),
            image_id: "sha256:1".into(),
            labels: BTreeMap::new(),
            state: "exited".into(),
            status: "Exited (137) 2 minutes ago".into(),
        };
        assert!(container.agrees_with(&line));
        line.state = "running".into();
        assert!(!container.agrees_with(&line));
        assert_eq!(nanos(&container.started_at), 500_000_000);
        assert_eq!(nanos("0001-01-01T00:00:00Z"), i64::MIN);
        assert_eq!(Container::of_inspection(&json!({}), Owner::User), None);
    }
}
