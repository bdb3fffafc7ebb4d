//! What every source shares: from loose parts to a notice, or to the reason for passing it over.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Notice, Parsed};
use crate::image::{Digest, ImageName, Registry, Tag};

/// The configuration's media type by which a Helm chart shows itself.
pub const HELM_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
/// The configurations of images. A manifest with another one is something else, such as a program for a browser's engine.
const IMAGE_CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
/// What the media types of images' layers hold.
const LAYER_PARTS: [&str; 2] = [".layer.", ".rootfs."];
/// That of a build cache.
pub const BUILD_CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";

/// Why a part of a notification is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Passed {
    /// Somebody pulled.
    Pull,
    /// Something was removed.
    Delete,
    /// A layer was mounted from another repository.
    Mount,
    /// A layer or configuration was pushed.
    Blob,
    /// A manifest without a tag, such as one platform of an index.
    Untagged,
    /// The same event again.
    Duplicate,
    /// A Helm chart.
    Chart,
    /// Another artifact that is not an image.
    Artifact,
    /// A build cache.
    BuildCache,
    /// A signature.
    Signature,
    /// An attestation or a bill of materials.
    Attestation,
    /// The index of things that refer to an image.
    ReferrersIndex,
    /// A name or tag that no registry would accept.
    InvalidRef,
    /// Something else that is no push.
    OtherEvent,
}

impl Passed {
    /// A fixed word for answers, logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Delete => "delete",
            Self::Mount => "mount",
            Self::Blob => "blob",
            Self::Untagged => "untagged",
            Self::Duplicate => "duplicate",
            Self::Chart => "chart",
            Self::Artifact => "artifact",
            Self::BuildCache => "buildcache",
            Self::Signature => "signature",
            Self::Attestation => "attestation",
            Self::ReferrersIndex => "referrers-index",
            Self::InvalidRef => "invalid-ref",
            Self::OtherEvent => "other-event",
        }
    }
}

/// The text at a place; empty if there is none, or something else.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a single manifest that refers to parts of these media types is no image. Where its configuration is not among
/// them nobody can tell.
pub fn is_artifact(kinds: &[&str]) -> bool {
    let is_layer = |kind: &&str| LAYER_PARTS.iter().any(|part| kind.contains(part));
    !kinds.iter().any(|kind| IMAGE_CONFIGS.contains(kind)) && !kinds.iter().all(is_layer)
}

/// Puts a notice together, or says why not.
pub fn notice(registry: Registry, repository: &str, tag: &str, digest: Option<&str>) -> Result<Notice, Passed> {
    if let Some(passed) = of_tag(tag) {
        return Err(passed);
    }
    let name = ImageName::new(registry, repository).map_err(|_| Passed::InvalidRef)?;
    let tag = Tag::parse(tag).map_err(|_| Passed::InvalidRef)?;
    // A digest that is none is a hint less, not a reason to miss the push.
    Ok(Notice { name, tag, digest: digest.and_then(|digest| Digest::parse(digest).ok()) })
}

/// What a tag alone gives away: cosign's and the referrers' tags, digests in a tag's place, build caches.
fn of_tag(tag: &str) -> Option<Passed> {
    if tag.starts_with("sha256:") || tag.starts_with("sha512:") || tag.starts_with("sha256__") {
        return Some(Passed::Untagged);
    }
    if tag == "buildcache" || tag == "cache" || tag.ends_with("-buildcache") {
        return Some(Passed::BuildCache);
    }
    let hex = tag.strip_prefix("sha256-").or_else(|| tag.strip_prefix("sha512-"))?;
    let (hex, suffix) = hex.split_once('.').unwrap_or((hex, ""));
    let is_digest = (64..=128).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit());
    is_digest.then_some(match suffix {
        "" => Passed::ReferrersIndex,
        "sig" => Passed::Signature,
        _ => Passed::Attestation,
    })
}

impl Parsed {
    /// Adds a notice, or the reason for passing it over.
    pub fn take(&mut self, outcome: Result<Notice, Passed>) {
        match outcome {
            Ok(notice) => self.notices.push(notice),
            Err(passed) => self.passed.push(passed),
        }
    }

    /// Keeps the first of equal notices. By a set: a body of 8 MiB has room for a hundred thousand of them.
    pub fn without_doubles(mut self) -> Self {
        let before = self.notices.len();
        let mut seen = BTreeSet::new();
        self.notices.retain(|notice| seen.insert(notice.clone()));
        self.passed.extend(std::iter::repeat_n(Passed::Duplicate, before - self.notices.len()));
        self
    }
}
