//! Calls that concern images and, through the engine, registries.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use deployer_core::image::{Digest, ImageName, ImageRef, Tag, Track};
use deployer_core::plain;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::Value;

use super::client::{Client, Request, short};
use super::endpoints;
use crate::engine::{EngineError, PullError, PullProgress, ResolveError, Resolved};
use crate::image::ImageSummary;
use crate::registry::{self, credentials};

/// How long the engine may take to ask a registry what a tag points to.
const RESOLVE_LIMIT: Duration = Duration::from_secs(30);
/// How long a pull may be silent before it is given up.
const PULL_SILENCE_MAX: Duration = Duration::from_secs(300);
/// Times that a list of images is asked for which comes to nothing because one of them is being removed; after that
/// the engine counts as failing.
const LIST_TRIES_MAX: u32 = 5;
/// The pause between such tries.
const LIST_PAUSE: Duration = Duration::from_millis(200);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
}

impl Listed {
    /// Its names, Docker's `<none>` placeholders left out.
    fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.repo_tags.iter().chain(&self.repo_digests).flatten();
        names.map(String::as_str).filter(|name| !name.contains("<none>"))
    }

    /// Whether its ID is the digest that registries know it by, and not, as it used to be, that of its configuration.
    fn is_its_digest(&self) -> bool {
        self.names().any(|name| name.split_once('@').is_some_and(|(_, digest)| digest == self.id))
    }
}

/// All images. An engine on containerd's image store fails altogether while one of them is being removed.
pub async fn list(client: &Client) -> Result<Vec<ImageSummary>, EngineError> {
    let mut tries = 1;
    let entries: Vec<Value> = loop {
        match client.read(Request::new(&endpoints::IMAGES, &[], "list images")).await {
            Err(EngineError::NotFound { .. }) if tries < LIST_TRIES_MAX => tries += 1,
            outcome => break outcome?,
        }
        tokio::time::sleep(LIST_PAUSE).await;
    };
    let images: Vec<Listed> = entries.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect();
    // One image tells for all of them: an engine has one image store.
    let is_containerds = images.iter().any(Listed::is_its_digest);
    Ok(images.iter().map(|image| if is_containerds { from_containerd(image) } else { classic(image) }).collect())
}

/// One image as the list has it. An inspection shows every name, and so tells alone whose image store it is from.
pub async fn summary(client: &Client, reference: &str) -> Result<ImageSummary, EngineError> {
    let what = format!("inspect image {reference}");
    let image: Listed = client.read(Request::new(&endpoints::IMAGE, &[reference], &what)).await?;
    Ok(if image.is_its_digest() { from_containerd(&image) } else { classic(&image) })
}

fn classic(listed: &Listed) -> ImageSummary {
    ImageSummary::named(&listed.id, listed.names())
}

/// An image of containerd's store. There each name is an entry of its own, `name@digest` among the tags, and of the
/// digests the list shows that of the last entry alone, be it a keep-tag's. But whatever names it, the ID is the digest
/// of its manifest or index: so it is the image of that digest in every repository that a name of it is in.
fn from_containerd(listed: &Listed) -> ImageSummary {
    let image = classic(listed);
    let Ok(digest) = Digest::parse(&image.id) else { return image };
    let tagged: BTreeSet<ImageName> = image.tags.iter().map(|tag| tag.name().clone()).collect();
    let repositories = tagged.iter().chain(image.digests.keys());
    let digests = repositories.map(|name| (name.clone(), BTreeSet::from([digest.clone()]))).collect();
    // A pull by digest leaves a name by digest, and nothing else does.
    let names = listed.repo_tags.iter().flatten().map(String::as_str).filter(|name| name.contains('@'));
    let pulled = ImageSummary::named(&listed.id, names).digests;
    let unverified = tagged.into_iter().filter(|name| !pulled.contains_key(name)).collect();
    ImageSummary { digests, unverified, ..image }
}

/// The raw inspection.
pub async fn inspect(client: &Client, reference: &str) -> Result<Value, EngineError> {
    let what = format!("inspect image {reference}");
    client.read(Request::new(&endpoints::IMAGE, &[reference], &what)).await
}

/// Points a name at an image.
pub async fn tag(client: &Client, image_id: &str, repository: &str, tag: &str) -> Result<(), EngineError> {
    let what = format!("tag image {} as {repository}:{tag}", short(image_id.trim_start_matches("sha256:")));
    client.perform(Request::new(&endpoints::TAG, &[image_id, repository, tag], &what)).await
}

/// Takes a name off an image.
pub async fn untag(client: &Client, reference: &str) -> Result<(), EngineError> {
    let what = format!("remove image name {reference}");
    match client.perform(Request::new(&endpoints::UNTAG, &[reference], &what)).await {
        Err(EngineError::NotFound { .. }) => Ok(()),
        outcome => outcome,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Distribution {
    descriptor: Descriptor,
    #[serde(default)]
    platforms: Option<Vec<BTreeMap<String, Value>>>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
}

/// Asks the registry what a track points to.
pub async fn resolve(client: &Client, track: &Track) -> Result<Resolved, ResolveError> {
    ask(client, track.to_string(), track.name(), track.tag().as_str()).await
}

/// Asks the registry whether it has a digest.
pub async fn has(client: &Client, image: &ImageRef) -> Result<bool, ResolveError> {
    let (digest, tag) = (image.digest.as_ref().map(Digest::as_str), image.tag.as_ref().map(Tag::as_str));
    let reference = digest.or(tag).unwrap_or("latest");
    match ask(client, image.to_string(), &image.name, reference).await {
        Ok(_) => Ok(true),
        Err(ResolveError::Absent { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Through the engine, or where it does not ask for us, by ourselves.
async fn ask(client: &Client, image: String, name: &ImageName, reference: &str) -> Result<Resolved, ResolveError> {
    let what = format!("resolve {image}");
    let auth = registry_auth(name.registry().as_str()).await;
    let request =
        Request::new(&endpoints::DISTRIBUTION, &[&image], &what).header("x-registry-auth", auth).limit(RESOLVE_LIMIT);
    let answer: Distribution = match client.read(request).await {
        Err(EngineError::NotOffered { .. }) => {
            return registry::resolve(name, reference, &image, &client.plain_http).await;
        }
        answer => answer.map_err(|error| resolve_error(image.clone(), error))?,
    };
    let digest = Digest::parse(&answer.descriptor.digest)
        .map_err(|error| ResolveError::Unavailable { image, message: error.to_string() })?;
    let platforms = answer.platforms.unwrap_or_default().iter().map(platform).collect();
    Ok(Resolved { digest, platforms })
}

fn platform(platform: &BTreeMap<String, Value>) -> String {
    ["os", "architecture", "variant"]
        .iter()
        .filter_map(|part| platform.get(*part)?.as_str())
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("/")
}

/// What the engine's answer says of the registry's. Engine 20.10 turns a registry's 404 and 401 into 401 or 403
/// with the registry's words, newer ones pass the status on: so words count before the status.
fn resolve_error(image: String, error: EngineError) -> ResolveError {
    let (status, message) = match &error {
        EngineError::NotFound { message, .. } => (404, message.clone()),
        EngineError::Refused { status, message, .. } => (*status, message.clone()),
        EngineError::Timeout { limit, .. } => {
            return ResolveError::Unavailable { image, message: format!("no answer within {limit:?}") };
        }
        EngineError::Nonsense { message, .. } => {
            return ResolveError::Unavailable { image, message: format!("an answer that makes no sense: {message}") };
        }
        _ => return ResolveError::Engine(error),
    };
    match classify(status, &message) {
        Words::Absent => ResolveError::Absent { image, message },
        Words::Denied => ResolveError::Denied { image, message },
        Words::Throttled => ResolveError::Throttled { image, message },
        Words::Platform | Words::Full | Words::Other => ResolveError::Unavailable { image, message },
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Words {
    Absent,
    Denied,
    Throttled,
    Platform,
    Full,
    Other,
}

fn classify(status: u16, message: &str) -> Words {
    let message = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&["toomanyrequests", "too many requests", "rate limit"]) || status == 429 {
        Words::Throttled
    } else if says(&["no space left on device", "disk quota exceeded"]) {
        Words::Full
    } else if says(&[
        "no matching manifest",
        "does not match the specified platform",
        "cannot be used on this platform",
    ]) {
        Words::Platform
    } else if says(&["manifest unknown", "name unknown", "not found", "repository does not exist"]) || status == 404 {
        Words::Absent
    } else if says(&["unauthorized", "denied", "no basic auth", "authentication required"])
        || matches!(status, 401 | 403)
    {
        Words::Denied
    } else {
        Words::Other
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PullLine {
    status: String,
    id: Option<String>,
    progress_detail: Option<Amount>,
    error: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Amount {
    current: u64,
    total: u64,
}

/// Pulls exactly one digest. The engine answers 200 first and tells of errors inside the stream.
pub async fn pull(
    client: &Client,
    image: &ImageRef,
    progress: &(dyn Fn(PullProgress) + Send + Sync),
) -> Result<(), PullError> {
    let what = format!("pull {image}");
    let version = image.digest.as_ref().map(Digest::to_string).unwrap_or_default();
    let auth = registry_auth(image.name.registry().as_str()).await;
    let request = Request::new(&endpoints::PULL, &[&image.name.to_string(), &version], &what)
        .header("x-registry-auth", auth)
        .limit(PULL_SILENCE_MAX);
    let answer = client.send(request).await.map_err(|error| pull_error(image, error))?;
    let mut layers: BTreeMap<String, Amount> = BTreeMap::new();
    let mut lines = std::pin::pin!(answer.lines());
    loop {
        let line = tokio::time::timeout(PULL_SILENCE_MAX, lines.next()).await.map_err(|_| PullError::Failed {
            image: image.to_string(),
            message: format!("silent for {PULL_SILENCE_MAX:?}"),
        })?;
        let Some(line) = line else { return Ok(()) };
        let line = line.map_err(|error| PullError::Engine(client.wire_error(&what, error)))?;
        let line: PullLine = serde_json::from_slice(&line).unwrap_or_default();
        if let Some(message) = line.error {
            let status = 200;
            return Err(pull_error(image, EngineError::Refused { what, status, message: plain::words(&message) }));
        }
        progress(add_up(&mut layers, line));
    }
}

fn add_up(layers: &mut BTreeMap<String, Amount>, line: PullLine) -> PullProgress {
    if let (Some(id), Some(amount)) = (line.id, line.progress_detail)
        && line.status == "Downloading"
    {
        layers.insert(id, amount);
    }
    let bytes = layers.values().map(|amount| amount.current).sum();
    let bytes_total = layers.values().map(|amount| amount.total).sum();
    PullProgress { status: line.status, bytes, bytes_total }
}

fn pull_error(image: &ImageRef, error: EngineError) -> PullError {
    let (status, message) = match &error {
        EngineError::NotFound { message, .. } => (404, message.clone()),
        EngineError::Refused { status, message, .. } => (*status, message.clone()),
        _ => return PullError::Engine(error),
    };
    let image = image.to_string();
    match classify(status, &message) {
        Words::Absent => PullError::Absent { image, message },
        Words::Denied => PullError::Denied { image, message },
        Words::Platform => PullError::Platform { image, message },
        Words::Full => PullError::Full { image, message },
        Words::Throttled | Words::Other => PullError::Failed { image, message },
    }
}

/// The credentials' header for a registry. A broken credentials file must not keep public images from being
/// pulled, so it is reported and the call made without.
async fn registry_auth(registry: &str) -> Option<String> {
    match credentials::header(registry).await {
        Ok(header) => header,
        Err(error) => {
            tracing::warn!(registry, error = %error, "credentials cannot be read; asking without");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, message: &str, expected: Words) {
        assert_eq!(classify(status, message), expected, "{status} {message}");
    }

    #[test]
    fn a_registrys_answer_is_told_from_the_engines_words() {
        check(404, "manifest unknown: manifest unknown", Words::Absent);
        check(403, "errors:\ndenied: requested access to the resource is denied\nunauthorized: …", Words::Denied);
        check(401, "no basic auth credentials", Words::Denied);
        check(500, "toomanyrequests: You have reached your pull rate limit.", Words::Throttled);
        check(200, "no matching manifest for linux/amd64 in the manifest list entries", Words::Platform);
        check(200, "failed to register layer: write /bin/app: no space left on device", Words::Full);
        check(500, "Get \"https://ghcr.io/v2/\": dial tcp: connection refused", Words::Other);
    }

    #[test]
    fn progress_adds_up_over_layers() {
        let mut layers = BTreeMap::new();
        let line = |id: &str, current, total| PullLine {
            status: "Downloading".into(),
            id: Some(id.into()),
            progress_detail: Some(Amount { current, total }),
            error: None,
        };
        add_up(&mut layers, line("a", 1, 10));
        add_up(&mut layers, line("b", 2, 20));
        let progress = add_up(&mut layers, line("a", 5, 10));
        assert_eq!((progress.bytes, progress.bytes_total), (7, 30));
    }
}
