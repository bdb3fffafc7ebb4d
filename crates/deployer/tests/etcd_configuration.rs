//! The `[etcd]` table: each message says what, where and what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::LazyLock;

use deployer_testkit::Authority;
use tempfile::TempDir;

const URL: &str = "endpoints = [\"https://127.0.0.1:2379\"]\n";

/// Certificates and keys by file name. Making them takes longer than all else here.
static CERTIFICATES: LazyLock<Vec<(&str, String)>> = LazyLock::new(|| {
    let (authority, other) = (Authority::new(), Authority::new());
    let (client, stranger) = (authority.issue("deployer"), other.issue("deployer"));
    let text = |path: &Path| fs::read_to_string(path).expect("a file of the authority");
    vec![
        ("ca.pem", text(&authority.certificate())),
        ("client.pem", text(&client.certificate)),
        ("client.key", text(&client.key)),
        ("other.key", text(&stranger.key)),
    ]
});

/// A folder with everything that a table may name, good and bad.
fn folder(table: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    if table.contains("ca.pem") {
        CERTIFICATES.iter().for_each(|(name, text)| write(folder.path(), name, text, 0o600));
    }
    write(folder.path(), "open.key", "", 0o644);
    write(folder.path(), "deployer.toml", table, 0o600);
    write(folder.path(), "password", "hunter2\n", 0o600);
    write(folder.path(), "empty", "\n", 0o600);
    write(folder.path(), "open", "hunter2", 0o644);
    folder
}

fn write(folder: &Path, name: &str, text: &str, mode: u32) {
    fs::write(folder.join(name), text).expect("a file");
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).expect("its owner may");
}

fn config_check(table: &str, arguments: &[&str]) -> (Output, String) {
    let folder = folder(table);
    let mut command = Command::new(env!("CARGO_BIN_EXE_deployer"));
    command.args(["config", "check", "--config"]).arg(folder.path().join("deployer.toml")).args(arguments);
    let output = command.env_remove("DOCKER_HOST").output().expect("the binary runs");
    let said = if output.status.success() { &output.stdout } else { &output.stderr };
    let said = String::from_utf8_lossy(said).replace(&folder.path().display().to_string(), "…");
    (output, said)
}

#[track_caller]
fn check_with(arguments: &[&str], table: &str, expected: &str) {
    let (output, said) = config_check(table, arguments);
    assert_eq!((output.status.code(), said.trim()), (Some(2), expected), "{table}");
}

/// The table's first line is line 2.
#[track_caller]
fn check(lines: &str, expected: &str) {
    check_with(&[], &format!("[etcd]\n{lines}"), expected);
}

/// Lines below an https endpoint and its authority, of which the first is line 4.
#[track_caller]
fn check_below(lines: &str, expected: &str) {
    check(&format!("{URL}ca_file = \"ca.pem\"\n{lines}"), expected);
}

#[test]
fn where_etcd_is_must_be_an_address() {
    for url in ["etcd:2379", "https://etcd", "ftp://etcd:21", "https://a@etcd:2379", "https://etcd:2379/v3", ""] {
        check(
            &format!("endpoints = [\"{url}\"]"),
            &format!(
                "error: …/deployer.toml:2:14: etcd.endpoints: '{url}' is not an address such as \
                 https://etcd-1.example.com:2379"
            ),
        );
    }
    check(
        "endpoints = [\"https://a:2379\", \"http://b:2379\"]",
        "error: …/deployer.toml:2:32: etcd.endpoints: some endpoints are https and some are not; \
         make all of them https",
    );
    check_with(
        &["--etcd", "http://a:2379,b"],
        "",
        "error: --etcd or DEPLOYER_ETCD: etcd.endpoints: 'b' is not an address such as https://etcd-1.example.com:2379",
    );
}

#[test]
fn a_table_without_endpoints_is_a_mistake() {
    let missing =
        "etcd.endpoints: there are none; set endpoints, such as [\"https://etcd-1.example.com:2379\"], or --etcd";
    check("prefix = \"/a\"", &format!("error: …/deployer.toml:1:1: {missing}"));
    check("endpoints = []", &format!("error: …/deployer.toml:1:1: {missing}"));
    check_with(
        &["--etcd-prefix", "/a"],
        "",
        "error: --etcd-prefix or DEPLOYER_ETCD_PREFIX: etcd.prefix: it says nothing without etcd.endpoints or --etcd",
    );
}

#[test]
fn a_prefix_is_a_path() {
    for prefix in ["", "/", "deployer", "/a//b", "/ä", "/a b"] {
        check(
            &format!("endpoints = [\"http://127.0.0.1:2379\"]\nprefix = \"{prefix}\""),
            &format!(
                "error: …/deployer.toml:3:10: etcd.prefix: '{prefix}' is not a prefix from letters, digits and -._/ \
                 such as /deployer"
            ),
        );
    }
}

#[test]
fn certificates_are_looked_into() {
    check(
        URL,
        "error: …/deployer.toml:2:14: etcd.endpoints: https needs etcd.ca_file, the certificate of who signs those \
         of etcd",
    );
    check(
        "endpoints = [\"http://127.0.0.1:2379\"]\nca_file = \"ca.pem\"",
        "error: …/deployer.toml:3:11: etcd.ca_file: the endpoints are http://; write https://, or leave it out",
    );
    check(
        &format!("{URL}ca_file = \"password\""),
        "error: …/deployer.toml:3:11: etcd.ca_file: …/password holds no certificate in PEM (-----BEGIN CERTIFICATE-----)",
    );
    check_below(
        "cert_file = \"client.pem\"",
        "error: …/deployer.toml:4:13: etcd.cert_file: its key is missing; set etcd.key_file",
    );
    check_below(
        "key_file = \"client.key\"",
        "error: …/deployer.toml:4:12: etcd.key_file: its certificate is missing; set etcd.cert_file",
    );
    check_below(
        "cert_file = \"client.pem\"\nkey_file = \"other.key\"",
        "error: …/deployer.toml:5:12: etcd.key_file: …/other.key is not the key of cert_file: keys may not be \
         consistent: KeyMismatch",
    );
    check_below(
        "cert_file = \"client.pem\"\nkey_file = \"ca.pem\"",
        "error: …/deployer.toml:5:12: etcd.key_file: …/ca.pem holds no key in PEM without a passphrase \
         (-----BEGIN PRIVATE KEY-----)",
    );
    check_below(
        "cert_file = \"client.pem\"\nkey_file = \"open.key\"",
        "error: …/deployer.toml:5:12: etcd.key_file: …/open.key can be read by everybody; run: chmod 600 …/open.key",
    );
}

#[test]
fn a_user_has_a_password_that_nobody_else_can_read() {
    check_below("user = \"a\"", "error: …/deployer.toml:4:8: etcd.user: it has no password; set etcd.password_file");
    check_below(
        "password_file = \"password\"",
        "error: …/deployer.toml:4:17: etcd.password_file: it is nobody's; set etcd.user",
    );
    check_below(
        "user = \"a\"\npassword_file = \"empty\"",
        "error: …/deployer.toml:5:17: etcd.password_file: …/empty has an empty first line",
    );
    check_below(
        "user = \"a\"\npassword_file = \"open\"",
        "error: …/deployer.toml:5:17: etcd.password_file: …/open can be read by everybody; run: chmod 600 …/open",
    );
    check_below(
        "user = \"a\"\npassword_file = \"none\"",
        "error: …/deployer.toml:5:17: etcd.password_file: cannot read …/none: No such file or directory (os error 2)",
    );
}

#[test]
fn flags_go_before_the_table_and_no_secret_is_printed() {
    let table = format!(
        "[etcd]\n{URL}prefix = \"/b\"\nca_file = \"ca.pem\"\ncert_file = \"client.pem\"\nkey_file = \"client.key\"\n\
         user = \"a\"\npassword_file = \"password\"\n"
    );
    let (_, said) = config_check(&table, &["--etcd", "https://one:2379, https://two:2379/", "--etcd-prefix", "/a/"]);
    let expected = "[etcd]\nendpoints = [\"https://one:2379\", \"https://two:2379\"]\nprefix = \"/a\"\nuser = \"a\"\n\
        ca_file = \"…/ca.pem\"\ncert_file = \"…/client.pem\"\nkey_file = \"…/client.key\"\n\
        password_file = \"…/password\"\n";
    assert_eq!(said.find("[etcd]").map(|at| &said[at..]), Some(expected), "{said}");
}
