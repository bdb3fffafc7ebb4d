//! A real registry, and the answers of those that are not at hand here.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use deployer_core::image::Track;
use deployer_testkit::{AppImage, Registry, RegistryOptions, Scene};
use tokio::net::TcpListener;

use super::*;

async fn ask(image: &str, reference: &str) -> Result<String, ResolveError> {
    let track = Track::parse(image).expect("a track");
    let found = resolve(track.name(), reference, image, &[]).await;
    found.map(|resolved| resolved.digest.to_string())
}

#[tokio::test]
async fn a_registry_tells_by_a_head_what_it_has() {
    let scene = Scene::new();
    let registry = Registry::start(RegistryOptions::default());
    let pushed = AppImage::new("v1").push(&scene, &registry, "acme/web", "latest");
    let image = registry.image("acme/web", "latest");
    assert_eq!(ask(&image, "latest").await.expect("told"), pushed);
    assert_eq!(ask(&image, &pushed).await.expect("told"), pushed);
    let absent = ask(&registry.image("acme/web", "none"), "none").await;
    assert!(matches!(absent, Err(ResolveError::Absent { .. })), "{absent:?}");
    let nobody = ask("127.0.0.1:1/acme/web:latest", "latest").await;
    assert!(matches!(nobody, Err(ResolveError::Unavailable { .. })), "{nobody:?}");
    let is_get = |request: &deployer_testkit::Access| request.method == "GET" && request.path.contains("/manifests/");
    assert!(!registry.requests().iter().any(is_get), "a GET of a manifest counts as a pull");
}

#[tokio::test]
async fn a_registry_that_wants_a_login_gets_it_or_is_said_to_want_it() {
    let registry = Registry::start(RegistryOptions { login: true, ..RegistryOptions::default() });
    let denied = ask(&registry.image("acme/web", "latest"), "latest").await.expect_err("nobody has logged in");
    assert!(matches!(&denied, ResolveError::Denied { .. }), "{denied:?}");
    assert!(denied.to_string().contains("docker login"), "{denied}");
}

/// What was asked of a registry that is none: method, path with query, `Authorization`, and body.
type Asked = Arc<Mutex<Vec<String>>>;

const DIGEST_OF_ALL: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// The answers of a registry whose tokens are had at `/token`.
async fn fake() -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let host = listener.local_addr().expect("bound").to_string();
    let asked = Asked::default();
    let router = Router::new().fallback(answer).with_state((host.clone(), Arc::clone(&asked)));
    let mut served = tokio::task::JoinSet::new();
    served.spawn(async move { axum::serve(listener, router).await });
    std::mem::forget(served);
    (host, asked)
}

async fn answer(State((host, asked)): State<(String, Asked)>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let authorization = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
    let body = to_bytes(body, 1024).await.expect("short");
    let line = format!("{} {} {authorization} {}", head.method, head.uri, String::from_utf8_lossy(&body));
    asked.lock().expect("no panic").push(line);
    let tag = head.uri.path().rsplit('/').next().unwrap_or_default();
    let challenge =
        format!(r#"Bearer realm="http://{host}/token",service="registry",scope="repository:acme/web:pull""#);
    match (tag, authorization.as_str()) {
        ("token", _) => r#"{"access_token": "T"}"#.into_response(),
        ("busy", _) => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "60")]).into_response(),
        ("secret", _) => StatusCode::FORBIDDEN.into_response(),
        ("broken", _) => [(DIGEST, "sha256:no")].into_response(),
        ("undigested", "Bearer T") => "{}".into_response(),
        (_, "Bearer T") => [(DIGEST, DIGEST_OF_ALL)].into_response(),
        _ => (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response(),
    }
}

#[tokio::test]
async fn a_token_is_had_where_the_registry_says_and_the_question_asked_again() {
    let (host, asked) = fake().await;
    assert_eq!(ask(&format!("{host}/acme/web:latest"), "latest").await.expect("told"), DIGEST_OF_ALL);
    let asked = asked.lock().expect("no panic").clone();
    let path = "/v2/acme/web/manifests/latest";
    let token = "/token?service=registry&scope=repository%3Aacme%2Fweb%3Apull";
    assert_eq!(asked, [format!("HEAD {path} - "), format!("GET {token} - "), format!("HEAD {path} Bearer T ")]);
}

/// The digest is that of the manifest's very bytes (OCI distribution specification).
#[tokio::test]
async fn a_registry_that_tells_no_digest_is_asked_for_the_manifest() {
    let (host, _) = fake().await;
    let digest = ask(&format!("{host}/acme/web:undigested"), "undigested").await.expect("told");
    assert_eq!(digest, "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
}

#[tokio::test]
async fn what_a_registry_answers_is_told_in_the_terms_of_a_resolve() {
    let (host, _) = fake().await;
    for (tag, kind, words) in [
        ("busy", "Throttled", "come again after 60"),
        ("secret", "Denied", "403"),
        ("broken", "Unavailable", "is not a digest"),
    ] {
        let error = ask(&format!("{host}/acme/web:{tag}"), tag).await.expect_err(tag);
        assert!(format!("{error:?}").starts_with(kind), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_login_goes_to_the_giver_of_tokens_and_never_in_the_clear() {
    let (host, asked) = fake().await;
    let client = client::of(&host, true).expect("a client");
    let question =
        |is_plain| Question { image: "web", host: &host, client: client.clone(), is_plain, url: String::new() };
    let realm = format!("http://{host}/token");
    let token = question(true).token(&realm, "s", "", Some(Login::of("user", "pass"))).await.expect("a token");
    assert_eq!(token, "Bearer T");
    let grant = question(true).token(&realm, "s", "", Some(Login::of("<token>", "refresh"))).await.expect("a token");
    assert_eq!(grant, "Bearer T");
    let lines = asked.lock().expect("no panic").clone();
    assert_eq!(lines[0], "GET /token?service=s Basic dXNlcjpwYXNz ");
    assert_eq!(lines[1], "POST /token - service=s&grant_type=refresh_token&client_id=deployer&refresh_token=refresh");
    let refused = question(false).token(&realm, "s", "", Some(Login::of("user", "pass"))).await.expect_err("clear");
    assert!(refused.to_string().contains("in the clear"), "{refused}");
    assert_eq!(asked.lock().expect("no panic").len(), 2, "nothing was sent");
}
