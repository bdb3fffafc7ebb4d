//! Wrong settings: each message says what, where and what to do, and the exit code is the user's mistake.

use std::process::Command;

#[track_caller]
fn check(file: &str, expected: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deployer.toml");
    std::fs::write(&path, file).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_deployer"));
    let output = command.args(["config", "check", "--config"]).arg(&path).output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr).replace(&folder.path().display().to_string(), "…");
    assert_eq!((output.status.code(), said.trim()), (Some(2), expected), "{file}");
}

#[test]
fn an_unknown_key_is_refused_with_its_place() {
    check(
        "manage = \"all\"\nintervall = \"1h\"\n",
        "error: …/deployer.toml: line 2, column 1: unknown field `intervall`, expected one of `docker`, `state_dir`, \
         `listen`, `node`, `manage`, `interval`, `registry_check`, `hook`",
    );
}

#[test]
fn a_wrong_value_says_what_would_be_right() {
    check("manage = \"some\"\n", "error: manage: 'some' is not labeled, labeled=VALUE or all");
    check("interval = \"soon\"\n", "error: interval: 'soon' is not a duration such as 90s, 15m, 1h or 1d");
    check("listen = \"nowhere\"\n", "error: listen: 'nowhere' is not an address such as 127.0.0.1:7380");
    check(
        "docker = \"/var/run/docker.sock\"\n",
        "error: docker: '/var/run/docker.sock' is not an address; write unix:///path/to/socket or tcp://host:port",
    );
}

#[test]
fn a_hook_without_a_secret_is_refused() {
    check(
        "[[hook]]\npath = \"/hooks/a\"\nsource = \"native\"\n",
        "error: hook /hooks/a: it has no secret; set secret_file, or insecure = true if anybody may call it",
    );
    check(
        "[[hook]]\npath = \"/hooks/a\"\nsource = \"guess\"\nsecret = \"x\"\n",
        "error: hook /hooks/a: source 'guess' is unknown; the sources are distribution, native",
    );
    check(
        "[[hook]]\npath = \"/a\"\nsource = \"native\"\nsecret = \"x\"\n[[hook]]\npath = \"/a\"\nsource = \"native\"\nsecret = \"y\"\n",
        "error: hook /a: it is there twice",
    );
}

#[test]
fn what_came_out_is_printed_without_secrets() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deployer.toml");
    std::fs::write(&path, "[[hook]]\npath = \"/a\"\nsource = \"native\"\nsecret = \"hunter2\"\n").expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_deployer"))
        .args(["config", "check", "--node", "here", "--config"])
        .arg(&path)
        .env("DEPLOYER_INTERVAL", "15m")
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("secret = \"***\"") && !said.contains("hunter2"), "{output:?}");
    assert!(said.contains("interval = \"900s\"") && said.contains("node = \"here\""), "{said}");
}
