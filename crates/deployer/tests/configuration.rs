//! Settings: each message says what, where and what to do, and the exit code is the user's mistake.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use deployer_testkit::Authority;
use tempfile::TempDir;

const SAMPLE: &str = include_str!("../../../dist/deployer.toml");
/// 32 bytes in base64.
const SIGNING_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

const PATH_SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A folder with the configuration, and secrets that only their owner can read.
fn folder(file: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "deployer.toml", file, 0o600);
    for name in ["registry.secret", "ci.secret", "signing.secret"] {
        write(folder.path(), name, &format!("{SIGNING_KEY}\n"), 0o600);
    }
    write(folder.path(), "hub.secret", &format!("{PATH_SECRET}\n"), 0o600);
    write(folder.path(), "open.secret", "hunter2", 0o644);
    write(folder.path(), "empty.secret", "\n", 0o600);
    folder
}

fn write(folder: &Path, name: &str, text: &str, mode: u32) {
    fs::write(folder.join(name), text).expect("a file");
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).expect("its owner may");
}

fn config_check(folder: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deployer"));
    command.args(["config", "check", "--config"]).arg(folder.path().join("deployer.toml")).args(arguments);
    command.env_remove("DOCKER_HOST").output().expect("the binary runs")
}

#[track_caller]
fn check_with(arguments: &[&str], file: &str, expected: &str) {
    let folder = folder(file);
    let output = config_check(&folder, arguments);
    let said = String::from_utf8_lossy(&output.stderr).replace(&folder.path().display().to_string(), "…");
    assert_eq!((output.status.code(), said.trim()), (Some(2), expected), "{file}");
}

#[track_caller]
fn check(file: &str, expected: &str) {
    check_with(&[], file, expected);
}

/// A hook with these further lines, whose path stands in line 2 and whose first further line is line 3.
#[track_caller]
fn check_hook(lines: &str, expected: &str) {
    check(&format!("[[hook]]\npath = \"/hooks/a\"\n{lines}\n"), expected);
}

#[test]
fn what_is_no_configuration_is_refused_with_its_place() {
    check(
        "manage = \"all\"\nintervall = \"1h\"\n",
        "error: …/deployer.toml:2:1: unknown field `intervall`, expected one of `docker`, `state_dir`, \
         `listen`, `node`, `manage`, `interval`, `registry_check`, `scope`, `plain_http`, `etcd`, \
         `hook`",
    );
    check("node = \"é\" x\n", "error: …/deployer.toml:1:12: unexpected key or value, expected newline, `#`");
    check("listen = 7380\n", "error: …/deployer.toml:1:10: invalid type: integer `7380`, expected a string");
    check_hook(
        "source = \"native\"\ntoken = \"x\"",
        "error: …/deployer.toml:4:1: unknown field `token`, expected one of `path`, `source`, `auth`, `secret`, `secrets`, `secret_file`, `registry_host`, `insecure`, `callback`",
    );
}

#[test]
fn a_wrong_value_says_where_it_stands_and_what_would_be_right() {
    check(
        "\n  manage = \"some\"\n",
        "error: …/deployer.toml:2:12: manage: 'some' is not labeled, labeled=VALUE or all",
    );
    check(
        "interval = \"soon\"\n",
        "error: …/deployer.toml:1:12: interval: 'soon' is not a duration such as 90s, 15m, 1h or 1d, up to 365d",
    );
    check(
        "registry_check = \"0s\"\n",
        "error: …/deployer.toml:1:18: registry_check: '0s' is not a duration such as 90s, 15m, 1h or 1d, up to 365d",
    );
    check(
        "registry_check = \"200000000000000d\"\n",
        "error: …/deployer.toml:1:18: registry_check: '200000000000000d' is not a duration such as 90s, 15m, 1h or 1d, \
         up to 365d",
    );
    check(
        "listen = \"nowhere\"\n",
        "error: …/deployer.toml:1:10: listen: 'nowhere' is not an address such as 127.0.0.1:7380",
    );
    check(
        "plain_http = [\"registry.lan:5000\", \"http://other.lan\"]\n",
        "error: …/deployer.toml:1:36: plain_http: 'http://other.lan' is not a registry's host as in images' names, such as \
         registry.lan:5000",
    );
    check("node = \"a b\"\n", "error: …/deployer.toml:1:8: node: 'a b' is not a name from letters, digits and -._");
    check(
        "docker = \"/var/run/docker.sock\"\n",
        "error: …/deployer.toml:1:10: docker: '/var/run/docker.sock' is not an address; \
         write unix:///path/to/socket or tcp://host:port",
    );
    check_with(
        &["--interval", "soon"],
        "interval = \"1h\"\n",
        "error: --interval or DEPLOYER_INTERVAL: interval: 'soon' is not a duration such as 90s, 15m, 1h or 1d, up to 365d",
    );
}

#[test]
fn a_hook_without_a_secret_is_refused() {
    check_hook(
        "source = \"native\"",
        "error: …/deployer.toml:2:8: hook.path: it has no secret; \
         set secret_file, or insecure = true if anybody may call it",
    );
    check_hook(
        "source = \"native\"\nsecret = \"\"",
        "error: …/deployer.toml:2:8: hook.path: it has no secret; \
         set secret_file, or insecure = true if anybody may call it",
    );
    check_hook(
        "source = \"native\"\nsecret = \"x\"\ninsecure = true",
        "error: …/deployer.toml:2:8: hook.path: it has a secret and insecure = true; keep one of them",
    );
    check_hook(
        "secret_file = \"open.secret\"\nsource = \"native\"",
        "error: …/deployer.toml:3:15: hook.secret_file: …/open.secret can be read by everybody; \
         run: chmod 600 …/open.secret",
    );
    check_hook(
        "secret_file = \"empty.secret\"\nsource = \"native\"",
        "error: …/deployer.toml:3:15: hook.secret_file: …/empty.secret is empty",
    );
    check_hook(
        "secret_file = \"none.secret\"\nsource = \"native\"",
        "error: …/deployer.toml:3:15: hook.secret_file: cannot read …/none.secret: No such file or directory (os error 2)",
    );
}

#[test]
fn a_hook_that_makes_no_sense_is_refused() {
    check_hook(
        "source = \"guess\"\nsecret = \"x\"",
        "error: …/deployer.toml:3:10: hook.source: 'guess' is unknown; the sources are distribution, dockerhub, native",
    );
    check_hook(
        "auth = \"basic\"\nsource = \"native\"\nsecret = \"x\"",
        "error: …/deployer.toml:3:8: hook.auth: 'basic' is unknown; it is header, bearer, path or standard-webhooks",
    );
    check_hook(
        "registry_host = \"https://r.example\"\nsource = \"native\"\nsecret = \"x\"",
        "error: …/deployer.toml:3:17: hook.registry_host: 'https://r.example' is not a registry host \
         (expected host or host:port)",
    );
    check_hook(
        "source = \"native\"\nauth = \"standard-webhooks\"\nsecret = \"password\"",
        "error: …/deployer.toml:2:8: hook.path: a secret of it is not base64 of 16 bytes or more, with or without \
         whsec_; make one with: openssl rand -base64 32",
    );
    check_hook(
        "source = \"native\"\nsecret = \"x\"\n[[hook]]\npath = \"/hooks/a\"\nsource = \"native\"\nsecret = \"y\"",
        "error: …/deployer.toml:6:8: hook.path: another hook has the same path, at …/deployer.toml:2:8",
    );
    for path in ["ci", "/healthz", "/:ci", "/*ci", "/{ci}", "/hooks?x", "/hö"] {
        check(
            &format!("[[hook]]\nsource = \"native\"\nsecret = \"x\"\npath = \"{path}\"\n"),
            "error: …/deployer.toml:4:8: hook.path: write a path of its own from letters, digits and -._~/, \
             such as /hooks/registry",
        );
    }
}

#[test]
fn a_secret_of_a_path_must_fit_into_one() {
    for secret in
        ["hunter2", "0123456789abcdef01234", "0123456789abcdef/0123456789abcdef", "0123456789abcdef=0123456789abcdef"]
    {
        check_hook(
            &format!("source = \"dockerhub\"\nsecret = \"{secret}\""),
            "error: …/deployer.toml:2:8: hook.path: a secret of it is not 22 or more letters, digits and -._~; \
             make one with: openssl rand -hex 16",
        );
    }
    check(
        &format!("[[hook]]\npath = \"/hub/\"\nsource = \"dockerhub\"\nsecret = \"{PATH_SECRET}\"\n"),
        "error: …/deployer.toml:2:8: hook.path: the secret follows it; leave the last slash out",
    );
}

#[test]
fn only_docker_hub_is_called_back_and_not_on_a_strangers_word() {
    check_hook(
        "callback = true\nsource = \"native\"\nsecret = \"x\"",
        "error: …/deployer.toml:3:12: hook.callback: only Docker Hub waits to be called back; leave it out",
    );
    check_hook(
        "callback = true\nsource = \"dockerhub\"\ninsecure = true",
        "error: …/deployer.toml:3:12: hook.callback: a hook that anybody may call is not called back; give it a secret",
    );
    check_hook(
        "callback = \"yes\"\nsource = \"dockerhub\"",
        "error: …/deployer.toml:3:12: invalid type: string \"yes\", expected a boolean",
    );
}

#[test]
fn what_came_out_is_printed_without_secrets() {
    let folder = folder(
        "interval = \"2h\"\n[[hook]]\npath = \"/a\"\nsource = \"native\"\nsecret = \"hunter2\"\n\
         [[hook]]\npath = \"/hooks/0123456789abcdef\"\nsource = \"distribution\"\ninsecure = true\n\
         [[hook]]\npath = \"/hub\"\nsource = \"dockerhub\"\nsecret_file = \"hub.secret\"\ncallback = true\n",
    );
    let output = config_check(&folder, &["--node", "here", "--interval", "15m"]);
    let said = String::from_utf8_lossy(&output.stdout);
    let expected = "docker = \"unix:///var/run/docker.sock\"\nstate_dir = \"/var/lib/deployer\"\n\
        listen = \"127.0.0.1:7380\"\nnode = \"here\"\nmanage = \"labeled=true\"\ninterval = \"900s\"\n\
        registry_check = \"86400s\"\nscope = \"cluster\"\n[[hook]]\npath = \"/a\"\nsource = \"native\"\nauth = \"bearer\"\nsecret = \"***\"\n\
        [[hook]]\npath = \"/hooks/***\"\nsource = \"distribution\"\ninsecure = true\n\
        [[hook]]\npath = \"/hub\"\nsource = \"dockerhub\"\nauth = \"path\"\nsecret = \"***\"\ncallback = true\n";
    assert_eq!(said, expected, "{output:?}");
}

/// As it is, and with each commented setting taken as written: those are the defaults, but for the name and the tables.
#[test]
fn the_sample_is_right() {
    let is_setting = |line: &str| line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| is_key(key));
    let bare = |line: &str| line.strip_prefix("# ").filter(|line| is_setting(line)).unwrap_or(line).to_owned();
    let written: Vec<String> = SAMPLE.lines().map(bare).collect();
    let print = |file: &str| {
        let folder = folder(file);
        let authority = Authority::new();
        let client = authority.issue("deployer");
        copy(&authority.certificate(), folder.path(), "etcd-ca.pem", 0o644);
        copy(&client.certificate, folder.path(), "etcd-client.pem", 0o644);
        copy(&client.key, folder.path(), "etcd-client-key.pem", 0o600);
        write(folder.path(), "etcd.password", "hunter2\n", 0o600);
        let output = config_check(&folder, &["--node", "web-1"]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text").replace(&folder.path().display().to_string(), "…")
    };
    let (silent, spoken) = (print(SAMPLE), print(&written.join("\n")));
    let (settings, tables) = spoken.split_at(spoken.find('[').expect("tables"));
    assert_eq!(settings, silent);
    let (etcd, hooks) = tables.split_at(tables.find("[[hook]]").expect("hooks"));
    assert_eq!(hooks.matches("[[hook]]").count(), 4, "{hooks}");
    let expected = "[etcd]\nendpoints = [\"https://etcd-1.example.com:2379\", \"https://etcd-2.example.com:2379\", \
        \"https://etcd-3.example.com:2379\"]\nprefix = \"/deployer\"\nuser = \"deployer\"\n\
        ca_file = \"…/etcd-ca.pem\"\ncert_file = \"…/etcd-client.pem\"\nkey_file = \"…/etcd-client-key.pem\"\n\
        password_file = \"…/etcd.password\"\n";
    assert_eq!(etcd, expected);
}

fn copy(from: &Path, folder: &Path, name: &str, mode: u32) {
    write(folder, name, &fs::read_to_string(from).expect("a file"), mode);
}

fn is_key(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}
