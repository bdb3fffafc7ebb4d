//! Every call that is made to an engine, and what for. Nobody asks for anything else: who filters an engine's socket goes by
//! this list, which `docs/usage/socket.md` shows.

use deployer_wire::encode;
use hyper::Method;

/// A call.
pub struct Endpoint {
    pub method: Method,
    /// Below the version; `{}` stands for a word, `{*}` for one whose slashes are the path's own.
    path: &'static str,
    /// What it is made for, to end "deployer …".
    #[cfg_attr(not(test), expect(dead_code, reason = "for the page that is made of it"))]
    purpose: &'static str,
}

impl Endpoint {
    /// The path with its words in it, in their order.
    pub fn with(&self, words: &[&str]) -> String {
        debug_assert_eq!(words.len(), self.path.matches('{').count(), "{}", self.path);
        let mut path = String::with_capacity(self.path.len());
        let mut rest = self.path;
        for word in words {
            let Some((before, hole)) = rest.split_once('{') else { break };
            path.push_str(before);
            let (kind, after) = hole.split_once('}').unwrap_or((hole, ""));
            // As the Docker client sends the name of an image.
            let encoded =
                if kind == "*" { word.split('/').map(encode).collect::<Vec<_>>().join("/") } else { encode(word) };
            path.push_str(&encoded);
            rest = after;
        }
        path + rest
    }
}

macro_rules! endpoints {
    ($($name:ident = $method:ident $path:literal, $purpose:literal;)*) => {
        $(pub static $name: Endpoint = Endpoint { method: Method::$method, path: $path, purpose: $purpose };)*
        /// All of them.
        #[cfg(test)]
        pub static ALL: &[&Endpoint] = &[$(&$name),*];
    };
}

endpoints! {
    PING = GET "/_ping", "learns the API's version, and whether the engine still answers";
    VERSION = GET "/version", "shows who the engine is";
    INFO = GET "/info", "warns of a swarm, of live-restore and of a wrong clock; it can do without";
    EVENTS = GET "/events?filters={}", "hears what happens to containers and images";
    CONTAINERS = GET "/containers/json?all=true", "lists containers after a start and after a gap in the events";
    CONTAINER = GET "/containers/{}/json", "reads what a container is";
    CHANGES = GET "/containers/{}/changes", "looks for files that were put into a container";
    FILE = HEAD "/containers/{}/archive?path={}", "learns when such a file was made; its content is not read";
    LOG = GET "/containers/{}/logs?stdout=true&stderr=true&tail={}", "shows the last words of a candidate that failed";
    CREATE = POST "/containers/create?name={}", "creates a candidate";
    CONNECT = POST "/networks/{}/connect", "connects a candidate to its further networks, below API 1.44";
    START = POST "/containers/{}/start", "starts a candidate, or the old one again";
    STOP = POST "/containers/{}/stop?t={}", "stops a container";
    RENAME = POST "/containers/{}/rename?name={}", "gives a container the name that it is to have";
    UPDATE = POST "/containers/{}/update", "takes the restart policy away for the time of a replacement, and gives it back";
    REMOVE = DELETE "/containers/{}?v=false&force=false", "removes a container that was replaced, never its volumes";
    NETWORK = GET "/networks/{}", "makes sure that a network is there before anything stops";
    VOLUME = GET "/volumes/{}", "makes sure that a volume is there before anything stops";
    IMAGES = GET "/images/json", "lists images";
    IMAGE = GET "/images/{*}/json", "reads an image's defaults and platform";
    PULL = POST "/images/create?fromImage={}&tag={}", "pulls a version by its digest";
    TAG = POST "/images/{}/tag?repo={}&tag={}", "names what it has pulled, and moves the tag to what runs";
    UNTAG = DELETE "/images/{*}", "takes such a name away again";
    DISTRIBUTION = GET "/distribution/{*}/json", "asks the registry what a tag points to; denied, it asks by itself";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_put_where_they_belong() {
        assert_eq!(PULL.with(&["r:5000/a", "sha256:1"]), "/images/create?fromImage=r%3A5000%2Fa&tag=sha256%3A1");
        assert_eq!(IMAGE.with(&["r:5000/a/b:1"]), "/images/r%3A5000/a/b%3A1/json");
        assert_eq!(PING.with(&[]), "/_ping");
    }

    /// Write it anew with `UPDATE_DOCS=1`.
    #[test]
    fn the_page_for_who_filters_the_socket_shows_every_call() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/usage/socket.md");
        let page = std::fs::read_to_string(file).expect("the page is there");
        let (head, rest) = page.split_once("<!-- calls -->\n").expect("a mark where the calls begin");
        let (_, tail) = rest.split_once("<!-- end of calls -->").expect("a mark where they end");
        let line = |endpoint: &&Endpoint| {
            let path =
                endpoint.path.split('?').next().unwrap_or_default().replace("{*}", "{name}").replace("{}", "{id}");
            format!("| `{} {path}` | {} |\n", endpoint.method, endpoint.purpose)
        };
        let calls: String = ALL.iter().map(line).collect();
        let expected =
            format!("{head}<!-- calls -->\n| call | deployer … |\n|---|---|\n{calls}<!-- end of calls -->{tail}");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(file, &expected).expect("the page can be written");
        }
        assert!(page == expected, "docs/usage/socket.md is behind: run this test with UPDATE_DOCS=1");
    }
}
