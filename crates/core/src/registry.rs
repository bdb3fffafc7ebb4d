//! How a registry is asked without an engine: what its answers mean (OCI distribution specification 1.1; the token flow of
//! CNCF Distribution, `docs/spec/auth/token.md`; challenges as in RFC 9110, 11.6.1).

use crate::image::{DOCKER_HUB, ImageName};

/// The host that answers for Docker Hub's API.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// Media types of everything that is a manifest, or a list of them: a registry converts for whoever names fewer, and
/// tells the digest of the conversion.
pub const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// What a registry asks for before it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// User and password.
    Basic,
    /// A token, to be had elsewhere.
    Bearer {
        /// The address that gives tokens.
        realm: String,
        /// For which service; empty if the registry does not say.
        service: String,
        /// For what; empty if the registry does not say.
        scope: String,
    },
}

/// The host to ask about an image, with its port if it has one.
pub fn host(name: &ImageName) -> &str {
    match name.registry().as_str() {
        DOCKER_HUB => DOCKER_HUB_HOST,
        host => host,
    }
}

/// Whether a registry may be spoken to without encryption: those that somebody has named, with their ports, and those of this
/// very machine, as engines have it.
pub fn is_plain(host: &str, named: &[String]) -> bool {
    named.iter().any(|named| named == host) || is_of_this_machine(host)
}

fn is_of_this_machine(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost"
        || name.trim_matches(['[', ']']).parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// The challenge of a `WWW-Authenticate` header; of several the one that a token answers. `None` if none is understood.
pub fn challenge(header: &str) -> Option<Challenge> {
    let lower = header.to_ascii_lowercase();
    let Some(at) = lower.find("bearer ") else { return lower.contains("basic").then_some(Challenge::Basic) };
    let mut found = Challenge::Bearer { realm: String::new(), service: String::new(), scope: String::new() };
    let Challenge::Bearer { realm, service, scope } = &mut found else { return None };
    for (name, value) in parameters(&header[at + "bearer ".len()..]) {
        match name.to_ascii_lowercase().as_str() {
            "realm" => *realm = value,
            "service" => *service = value,
            "scope" => *scope = value,
            _ => {}
        }
    }
    (!realm.is_empty()).then_some(found)
}

/// `name=value` pairs, values quoted or not, as far as they go.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => {
                let end = after.find([',', ' ']).unwrap_or(after.len());
                (after[..end].to_owned(), &after[end..])
            }
        };
        found.push((name.trim().to_owned(), value));
        rest = left.trim_start_matches([',', ' ']);
    }
    found
}

/// A quoted string without its quotes, and what follows.
fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Track;

    fn bearer(realm: &str, service: &str, scope: &str) -> Option<Challenge> {
        let [realm, service, scope] = [realm, service, scope].map(str::to_owned);
        Some(Challenge::Bearer { realm, service, scope })
    }

    #[test]
    fn challenges_are_understood_as_registries_write_them() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull""#,
                bearer("https://auth.docker.io/token", "registry.docker.io", "repository:library/nginx:pull"),
            ),
            (
                r#"Bearer realm="https://ghcr.io/token", service=ghcr.io, scope="repository:a/b:pull,push", error="invalid_token""#,
                bearer("https://ghcr.io/token", "ghcr.io", "repository:a/b:pull,push"),
            ),
            (r#"bearer realm="https://h/t?a=\"b\"""#, bearer("https://h/t?a=\"b\"", "", "")),
            (r#"Basic realm="Registry Realm""#, Some(Challenge::Basic)),
            (r#"Basic realm="x", Bearer realm="https://h/t""#, bearer("https://h/t", "", "")),
            ("Negotiate", None),
            ("Bearer", None),
            ("Bearer service=x", None),
            (r#"Bearer realm="unfinished"#, bearer("unfinished", "", "")),
        ] {
            assert_eq!(challenge(header), expected, "{header}");
        }
    }

    #[test]
    fn who_is_asked_about_an_image_and_whether_in_the_clear() {
        let of = |track: &str| host(Track::parse(track).expect("a track").name()).to_owned();
        assert_eq!(of("nginx:1"), "registry-1.docker.io");
        assert_eq!(of("ghcr.io/acme/web:1"), "ghcr.io");
        for (host, expected) in [
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.8.8.8", true),
            ("[::1]:5000", true),
            ("localhost.example.com", false),
            ("10.0.0.1:5000", false),
            ("registry-1.docker.io", false),
        ] {
            assert_eq!(is_plain(host, &[]), expected, "{host}");
        }
        let named = ["registry.lan:5000".to_owned()];
        for (host, expected) in
            [("registry.lan:5000", true), ("registry.lan", false), ("localhost", true), ("lan:5000", false)]
        {
            assert_eq!(is_plain(host, &named), expected, "{host}");
        }
    }
}
