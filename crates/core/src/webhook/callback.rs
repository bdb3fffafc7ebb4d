//! Which address a notification may have us call. It is written by whoever knows the hook's secret, so nothing of it
//! decides where we connect: only a path is taken from it, and only below Docker Hub's own name.
//!
//! What is asked for is compared as a text, not parsed as a URL: two parsers that differ over a user, a port or a
//! backslash are how such checks are got round.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The one host that is called back, over TLS on its usual port.
pub const CALLBACK_HOST: &str = "registry.hub.docker.com";
/// What every address to be called begins with.
const FRONT: &str = "https://registry.hub.docker.com/u/";
/// Longest path, in bytes; Docker Hub's own have about a hundred.
const PATH_BYTES_MAX: usize = 512;

/// A path on [`CALLBACK_HOST`] where Docker Hub waits to hear what became of a push. It is a secret of the sender's.
#[derive(Clone, PartialEq, Eq)]
pub struct Callback(String);

/// An address that is not called, whatever is wrong with it.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("only https://registry.hub.docker.com/u/… is called back")]
pub struct NotCalled;

impl Callback {
    /// Takes the path of a `callback_url`.
    ///
    /// # Errors
    /// [`NotCalled`] for another scheme, host, port or place, for a user, a query or a fragment, and for a path in which
    /// any character would have to be read twice.
    pub fn parse(url: &str) -> Result<Self, NotCalled> {
        let rest = url.strip_prefix(FRONT).ok_or(NotCalled)?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte);
        let is_step = |part: &str| part == "." || part == "..";
        let is_path = !rest.is_empty()
            && rest.bytes().all(is_plain)
            && !rest.starts_with('/')
            && !rest.contains("//")
            && !rest.split('/').any(is_step);
        let path = format!("/u/{rest}");
        if is_path && path.len() <= PATH_BYTES_MAX { Ok(Self(path)) } else { Err(NotCalled) }
    }

    /// The path, from its leading slash.
    pub fn path(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Callback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("/u/…")
    }
}

/// Whether an address is one of the public network. Whoever answers for a name can point it anywhere, so what it points to
/// is checked before it is connected to: what only this machine, its link or its site can reach is not Docker Hub.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => is_public_v4(address),
            None => is_public_v6(address),
        },
    }
}

/// The registry of special-purpose addresses (RFC 6890 and what came after it), multicast, and the reserved rest.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let is_special = match address.octets() {
        [0 | 10 | 127, ..] => true,
        [100, second, ..] => (64..128).contains(&second),
        [169, 254, ..] | [192, 168, ..] | [198, 18 | 19, ..] => true,
        [172, second, ..] => (16..32).contains(&second),
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        [first, ..] => first >= 224,
    };
    !is_special
}

/// Only what is handed out for global use, 2000::/3, less the parts of it that stand for something else: protocol
/// assignments with Teredo, 6to4, and two ranges for documentation.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let is_special = match address.segments() {
        [0x2001, second, ..] => second < 0x0200 || second == 0x0db8,
        [0x2002, ..] => true,
        [0x3fff, second, ..] => second < 0x1000,
        [first, ..] => first & 0xe000 != 0x2000,
    };
    !is_special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: Option<&str>) {
        let path = Callback::parse(url).ok();
        assert_eq!(path.as_ref().map(Callback::path), expected, "{url}");
    }

    #[test]
    fn only_docker_hub_is_called() {
        check("https://registry.hub.docker.com/u/acme/web/hook/2b0f1c/", Some("/u/acme/web/hook/2b0f1c/"));
        check("https://registry.hub.docker.com/u/redis/hook/2b0f-1c_0~", Some("/u/redis/hook/2b0f-1c_0~"));
        for url in [
            "",
            "registry.hub.docker.com/u/a/",
            "//registry.hub.docker.com/u/a/",
            "http://registry.hub.docker.com/u/a/",
            "HTTPS://registry.hub.docker.com/u/a/",
            "https:/registry.hub.docker.com/u/a/",
            " https://registry.hub.docker.com/u/a/",
            "http://169.254.169.254/latest/meta-data/",
            "https://169.254.169.254/u/a/",
            "https://127.0.0.1/u/a/",
            "https://2130706433/u/a/",
            "https://[::1]/u/a/",
            "https://localhost/u/a/",
            "https://hub.docker.com/u/a/",
            "https://registry.hub.docker.com.evil.example/u/a/",
            "https://evil.example/https://registry.hub.docker.com/u/a/",
            "https://registry.hub.docker.com./u/a/",
            "https://registry.hub.docker.com:443/u/a/",
            "https://registry.hub.docker.com:8443/u/a/",
            "https://user@registry.hub.docker.com/u/a/",
            "https://user:word@registry.hub.docker.com/u/a/",
            "https://registry.hub.docker.com@evil.example/u/a/",
            "https://registry.hub.docker.com\\@evil.example/u/a/",
            "https://evil.example#registry.hub.docker.com/u/a/",
            "file:///etc/passwd",
            "gopher://registry.hub.docker.com/u/a/",
        ] {
            check(url, None);
        }
    }

    #[test]
    fn only_a_plain_path_below_its_place_is_called() {
        for rest in [
            "",
            "/a/",
            "a//b",
            "../v2/",
            "a/../../v2/",
            "./a",
            "a/..",
            "%2e%2e/v2/",
            "a?to=evil",
            "a#b",
            "a b",
            "a\r\nHost: x",
            "a\tb",
            "a;b",
            "a:b",
            "a@b",
            "a\\b",
            "é",
            "\0",
        ] {
            check(&format!("https://registry.hub.docker.com/u/{rest}"), None);
        }
        for path in ["", "/", "/u", "/U/a/", "/v2/", "/v2/u/a/"] {
            check(&format!("https://registry.hub.docker.com{path}"), None);
        }
        let long = |bytes: usize| format!("https://registry.hub.docker.com/u/{}", "a".repeat(bytes));
        check(&long(PATH_BYTES_MAX - 3), Some(&format!("/u/{}", "a".repeat(PATH_BYTES_MAX - 3))));
        check(&long(PATH_BYTES_MAX - 2), None);
    }

    #[test]
    fn the_front_is_the_host_over_tls() {
        assert_eq!(FRONT, format!("https://{CALLBACK_HOST}/u/"));
    }

    #[test]
    fn only_public_addresses_are_connected_to() {
        for address in
            ["1.1.1.1", "44.205.64.79", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "192.1.0.1"]
                .into_iter()
                .chain([
                    "198.17.0.1",
                    "198.20.0.1",
                    "223.255.255.255",
                    "::ffff:1.1.1.1",
                    "2600:1f18::1",
                    "2001:4860::8888",
                ])
        {
            assert!(is_public(address.parse().expect("an address")), "{address}");
        }
        for address in
            ["0.0.0.0", "10.1.2.3", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.9.9.9", "169.254.169.254"]
                .into_iter()
                .chain([
                    "172.16.0.1",
                    "172.31.255.255",
                    "192.0.0.1",
                    "192.0.2.1",
                    "192.88.99.1",
                    "192.168.1.1",
                    "198.18.0.1",
                ])
                .chain(["198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"])
                .chain([
                    "::",
                    "::1",
                    "::127.0.0.1",
                    "::ffff:127.0.0.1",
                    "::ffff:169.254.169.254",
                    "64:ff9b::7f00:1",
                    "fe80::1",
                ])
                .chain([
                    "fc00::1",
                    "fd12::1",
                    "ff02::1",
                    "2001::1",
                    "2001:db8::1",
                    "2002:7f00:1::",
                    "3fff::1",
                    "100::1",
                ])
        {
            assert!(!is_public(address.parse().expect("an address")), "{address}");
        }
    }

    #[test]
    fn debug_output_holds_no_path() {
        let callback =
            Callback::parse("https://registry.hub.docker.com/u/acme/web/hook/2b0f1c/").expect("Docker Hub's");
        assert_eq!(format!("{callback:?}"), "/u/…");
    }
}
