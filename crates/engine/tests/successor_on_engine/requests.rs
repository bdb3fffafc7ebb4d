//! What users ask for, each request with the further networks that are connected after its creation.

use serde_json::{Value, json};

use crate::corner::Corner;

/// The body of a create call, and the networks that are connected afterwards, each with its endpoint's settings.
pub type Request = (Value, Vec<(String, Value)>);

impl Corner {
    /// Containers of every kind.
    pub fn requests(&self) -> impl Iterator<Item = Request> {
        std::iter::once(self.everything()).chain(self.others())
    }

    /// What the user of the most demanding container asks for.
    fn everything(&self) -> Request {
        let asked = json!({
            "Hostname": "own-host", "Domainname": "example.org", "User": "7:8", "Tty": true, "OpenStdin": true,
            "Env": ["MINE=a=b", "EMPTY=", "LINES=1\n2", "PLAIN=mine"], "WorkingDir": "/work", "StopSignal": "SIGINT",
            "StopTimeout": 3, "MacAddress": "92:d0:c6:0a:29:33", "Cmd": ["sleep", "2000"],
            "Labels": { "mine": "x", "version": "mine" }, "ExposedPorts": { "90/tcp": {}, "80/tcp": {} },
            "Volumes": { "/from-command-line/": {} }, "Healthcheck": { "Interval": 3_600_000_000_000_i64, "Retries": 9 },
            "HostConfig": self.everything_of_the_host(),
            "NetworkingConfig": { "EndpointsConfig": { self.network("lan"): {
                "Aliases": ["web", "www"], "IPAMConfig": { "IPv4Address": format!("{}.77", self.subnet_start()) } } } },
        });
        let connect = vec![(self.network("back"), json!({ "Aliases": ["behind"] })), ("bridge".to_owned(), json!({}))];
        (asked, connect)
    }

    fn everything_of_the_host(&self) -> Value {
        json!({
            "NetworkMode": self.network("lan"),
            "Binds": [format!("{}:/named:ro", self.volume()), "/anonymous-bind", "/etc/hostname:/host-name:ro,rprivate"],
            "Mounts": [
                { "Type": "volume", "Target": "/anonymous-mount", "VolumeOptions": { "NoCopy": true, "Labels": { "of": "mount" } } },
                { "Type": "tmpfs", "Target": "/scratch", "TmpfsOptions": { "SizeBytes": 1 << 20, "Mode": 448 } },
            ],
            "Tmpfs": { "/run": "size=1m" },
            "PortBindings": { "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "" }], "90/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "" }] },
            "RestartPolicy": { "Name": "on-failure", "MaximumRetryCount": 3 },
            "LogConfig": { "Type": "json-file", "Config": { "max-size": "1m", "max-file": "2" } },
            "CapAdd": ["NET_ADMIN"], "CapDrop": ["MKNOD"], "Dns": ["198.18.0.53"], "DnsOptions": ["ndots:2"], "DnsSearch": ["example.org"],
            "ExtraHosts": ["other:198.18.0.9"], "GroupAdd": ["9"], "Init": true, "ShmSize": 1 << 21, "PidsLimit": 50,
            "Ulimits": [{ "Name": "nofile", "Soft": 512, "Hard": 1024 }], "Memory": 1 << 26, "NanoCpus": 500_000_000,
            "Sysctls": { "net.ipv4.ip_unprivileged_port_start": "0" }, "SecurityOpt": ["no-new-privileges"],
            "Devices": [{ "PathOnHost": "/dev/null", "PathInContainer": "/dev/other", "CgroupPermissions": "r" }],
            "OomScoreAdj": 100, "ReadonlyPaths": ["/proc/bus", "/proc/fs"], "MaskedPaths": ["/proc/kcore"],
        })
    }

    /// Further containers, each with a setting that excludes another's.
    fn others(&self) -> Vec<Request> {
        let alone = |asked: Value| (asked, Vec::new());
        vec![
            alone(json!({})),
            alone(json!({ "HostConfig": { "NetworkMode": "host" } })),
            alone(json!({ "HostConfig": { "NetworkMode": "host", "UTSMode": "host" } })),
            alone(json!({ "Hostname": "own", "HostConfig": { "NetworkMode": "host" } })),
            alone(json!({ "Hostname": "own", "HostConfig": { "NetworkMode": "none", "ReadonlyRootfs": true } })),
            alone(json!({ "NetworkDisabled": true })),
            alone(json!({ "HostConfig": { "PidMode": "host", "IpcMode": "shareable", "PublishAllPorts": true } })),
            alone(
                json!({ "Entrypoint": [""], "Cmd": ["busybox", "sleep", "2001"], "Healthcheck": { "Test": ["NONE"] } }),
            ),
            alone(json!({ "Entrypoint": [], "Cmd": ["busybox", "sleep", "2002"] })),
            alone(json!({ "Entrypoint": ["busybox", "sleep", "2003"] })),
            alone(
                json!({ "Entrypoint": ["/bin/busybox"], "Cmd": ["sleep", "2004"], "Env": ["PLAIN", "VERSION=1", "Z=1"] }),
            ),
            (json!({ "HostConfig": { "NetworkMode": self.network("back") } }), vec![(self.network("lan"), json!({}))]),
        ]
    }
}
