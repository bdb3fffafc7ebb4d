//! One container of a simulated engine, and how it is shown.

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::history::{By, Shown};

/// A container.
#[derive(Clone, Debug)]
pub struct Container {
    pub name: String,
    pub image: String,
    pub body: Value,
    pub policy: Value,
    pub process: Process,
    /// Which of its lives this is or was: what was planned for another does not happen.
    pub life: u64,
    pub begun: Instant,
    /// When this life began by the engine's own clock, which goes on by one with each event; 0: never.
    pub started: i64,
    pub is_paused: bool,
    pub health: Option<&'static str>,
    pub exit_code: i64,
    /// How often the engine has restarted it, since somebody else started it.
    pub restarts: u32,
    /// Somebody stopped it and nobody has started it since; the engine's own end does not count.
    pub is_stopped_by_hand: bool,
    /// It ended, by somebody's doing, and the engine has not seen it yet.
    pub unseen: Option<By>,
    /// Whoever wants it started again once it has ended.
    pub again: Option<By>,
    /// Paths at which its files are not those of its image.
    pub changes: Vec<String>,
    /// What the history knows.
    pub noted: Option<(Shown, bool)>,
}

/// A container's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    Never,
    Lives {
        serves: bool,
        /// Whoever asked it to end.
        ending: Option<By>,
    },
    /// Between its end and the engine's next try.
    Restarting,
    Gone,
}

impl Container {
    pub fn lives(&self) -> bool {
        matches!(self.process, Process::Lives { .. })
    }

    pub fn serves(&self) -> bool {
        matches!(self.process, Process::Lives { serves: true, .. })
            && !self.is_paused
            && self.health != Some("unhealthy")
    }

    pub fn shown(&self) -> Shown {
        match self.process {
            Process::Never => Shown::Created,
            Process::Lives { .. } if self.is_paused => Shown::Paused,
            Process::Lives { .. } if self.health == Some("unhealthy") => Shown::Unhealthy,
            Process::Lives { .. } => Shown::Running,
            Process::Restarting => Shown::Restarting,
            Process::Gone => Shown::Exited,
        }
    }

    pub fn word(&self) -> &'static str {
        match self.shown() {
            Shown::Created => "created",
            Shown::Running | Shown::Unhealthy => "running",
            Shown::Restarting => "restarting",
            Shown::Paused => "paused",
            Shown::Exited => "exited",
        }
    }

    pub fn reference(&self) -> &str {
        self.body["Image"].as_str().unwrap_or_default()
    }

    /// The port of the machine that it publishes.
    pub fn port(&self) -> Option<&str> {
        self.body["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"].as_str()
    }

    /// Whether it is opted in, and runs or is about to.
    pub fn is_meant_to_run(&self) -> bool {
        self.is_managed() && (self.lives() || self.process == Process::Restarting)
    }

    pub fn is_managed(&self) -> bool {
        self.label("deployer.enable") == Some("true")
    }

    pub fn label(&self, name: &str) -> Option<&str> {
        self.body["Labels"][name].as_str()
    }

    /// The raw inspection, with the ports that its image exposes.
    pub fn inspection(&self, id: &str, exposed: &[u16]) -> Value {
        let mut config = self.body.clone();
        // As an engine shows it: merged with the image's defaults.
        for port in exposed {
            config["ExposedPorts"][format!("{port}/tcp")] = json!({});
        }
        let mut host = config.as_object_mut().and_then(|config| config.remove("HostConfig")).unwrap_or_default();
        config.as_object_mut().and_then(|config| config.remove("NetworkingConfig"));
        host["RestartPolicy"] = self.policy.clone();
        let is_restarting = self.process == Process::Restarting;
        let mut state = json!({
            "Status": self.word(), "Running": self.lives() || is_restarting, "Paused": self.is_paused,
            "Restarting": is_restarting, "ExitCode": self.exit_code,
            "StartedAt": clock(self.started),
        });
        if let Some(health) = self.health {
            state["Health"] = json!({"Status": health});
        }
        let network = match host["NetworkMode"].as_str() {
            None | Some("default") => "bridge",
            Some(network) => network,
        };
        json!({
            "Id": id, "Name": format!("/{}", self.name), "Image": self.image, "Created": "2026-01-01T00:00:00Z",
            "Config": config, "HostConfig": host, "RestartCount": self.restarts, "Mounts": [], "State": state,
            "NetworkSettings": {"Networks": {network: {"IPAddress": address_of(id).to_string()}}},
        })
    }
}

/// A moment of the engine's clock, as it writes it.
fn clock(nanos: i64) -> String {
    if nanos == 0 { "0001-01-01T00:00:00Z".to_owned() } else { format!("1970-01-01T00:00:00.{nanos:09}Z") }
}

/// The address of the container of an ID.
pub fn address_of(id: &str) -> Ipv4Addr {
    let number = number_of(id);
    Ipv4Addr::new(10, 0, (number >> 8) as u8, (number & 255) as u8)
}

/// The ID of the container that the engine of a host made as its first, second, and so on. No two engines give the same.
pub fn id_of(host: &str, number: u32) -> String {
    format!("{:0<56}{number:08x}", hex::encode(host))
}

/// The number of a container: its ID, for people.
pub fn number_of(id: &str) -> u32 {
    u32::from_str_radix(&id[56..], 16).unwrap_or_default()
}
