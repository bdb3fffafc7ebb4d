//! Names of images: registry, repository, tag and digest, each a type of its own.
//!
//! A name is parsed once, at the border, into its parts; the parts are never joined and parsed again,
//! since a registry host without a dot or port would then turn into a Docker Hub user.
//! The grammar is that of the CNCF Distribution reference; Docker Hub's short forms are expanded.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The registry that a name without a host means.
pub const DOCKER_HUB: &str = "docker.io";
/// Other hosts that answer for Docker Hub.
const DOCKER_HUB_ALIASES: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];
/// The one of them that engines know, too.
const ENGINES_ALIAS: &str = "index.docker.io";
/// Longest `registry/repository` that registries accept, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// Longest tag, in bytes (OCI distribution specification).
const TAG_BYTES_MAX: usize = 128;

/// Why a text is not the name of an image.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ImageError {
    /// Nothing was written.
    #[error("an image name is missing")]
    Empty,
    /// The registry part is not a host with an optional port.
    #[error("'{0}' is not a registry host (expected host or host:port)")]
    Registry(String),
    /// The repository part has a character or a form that registries refuse.
    #[error("'{0}' is not a repository (expected lower-case parts of letters, digits, '.', '_' and '-' joined by '/')")]
    Repository(String),
    /// The tag has a character that registries refuse, or is too long.
    #[error("'{0}' is not a tag (expected up to 128 letters, digits, '_', '.' and '-', not starting with '.' or '-')")]
    Tag(String),
    /// The digest is not `sha256:` or `sha512:` with lower-case hexadecimal digits.
    #[error("'{0}' is not a digest (expected sha256: and 64 hexadecimal digits)")]
    Digest(String),
    /// The reference names no tag where one is needed.
    #[error("'{0}' names no tag; write the tag that the containers run, such as {0}:latest")]
    Untagged(String),
    /// The text is the ID of an image, not a name.
    #[error("'{0}' is an image ID, not a name")]
    Id(String),
}

/// A content digest, `sha256:…` or `sha512:…`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// Parses a digest.
    ///
    /// # Errors
    /// [`ImageError::Digest`] for another algorithm, a wrong length, or upper-case digits.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        let is_valid = text.split_once(':').is_some_and(|(algorithm, hex)| {
            let length = match algorithm {
                "sha256" => 64,
                "sha512" => 128,
                _ => return false,
            };
            hex.len() == length && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        });
        if is_valid { Ok(Self(text.to_owned())) } else { Err(ImageError::Digest(text.to_owned())) }
    }

    /// The whole digest, algorithm included.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve hexadecimal digits, for people.
    pub fn short(&self) -> &str {
        let start = self.0.find(':').map_or(0, |colon| colon + 1);
        self.0.get(start..start + 12).unwrap_or(&self.0)
    }
}

/// A registry's host with an optional port, lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Registry(String);

impl Registry {
    /// Parses a host, with or without port; Docker Hub's other host names become `docker.io`.
    ///
    /// # Errors
    /// [`ImageError::Registry`] if it is not a host.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        let host = text.to_ascii_lowercase();
        let refused = || ImageError::Registry(text.to_owned());
        let (name, port) = split_port(&host).ok_or_else(refused)?;
        let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
        let is_name = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => name.split('.').all(is_host_label),
        };
        if !is_port || !is_name {
            return Err(refused());
        }
        if DOCKER_HUB_ALIASES.contains(&host.as_str()) {
            return Ok(Self(DOCKER_HUB.to_owned()));
        }
        Ok(Self(host))
    }

    /// The host, with its port if it has one.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A tag. Never a digest, and never assumed to be `latest` where none was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

impl Tag {
    /// Parses a tag.
    ///
    /// # Errors
    /// [`ImageError::Tag`] for a character that registries refuse, or more than 128 of them.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let is_valid = text.len() <= TAG_BYTES_MAX
            && text.bytes().next().is_some_and(is_word)
            && text.bytes().all(|b| is_word(b) || b == b'.' || b == b'-');
        if is_valid { Ok(Self(text.to_owned())) } else { Err(ImageError::Tag(text.to_owned())) }
    }

    /// The tag's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Registry and repository: what a tag or a digest belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    registry: Registry,
    repository: String,
}

impl ImageName {
    /// Puts a name together from its parts, as a webhook tells them.
    /// On Docker Hub a repository of one part gets `library/` in front.
    ///
    /// # Errors
    /// [`ImageError::Repository`] if the repository's text is not one, or the whole is longer than 255 bytes.
    pub fn new(registry: Registry, repository: &str) -> Result<Self, ImageError> {
        let repository = match registry.as_str() {
            DOCKER_HUB if !repository.contains('/') => format!("library/{repository}"),
            _ => repository.to_owned(),
        };
        let is_valid = repository.split('/').all(is_repository_part)
            && registry.as_str().len() + 1 + repository.len() <= NAME_BYTES_MAX;
        if is_valid { Ok(Self { registry, repository }) } else { Err(ImageError::Repository(repository)) }
    }

    /// The registry's host.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The repository, without the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The name as Docker prints it: without Docker Hub's host, and without `library/`.
    pub fn familiar(&self) -> String {
        if self.registry.as_str() != DOCKER_HUB {
            return self.to_string();
        }
        self.repository.strip_prefix("library/").unwrap_or(&self.repository).to_owned()
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry.as_str(), self.repository)
    }
}

/// What somebody wrote to name an image: a name with a tag, a digest, both, or neither.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef {
    /// Registry and repository.
    pub name: ImageName,
    /// The tag, if one was written.
    pub tag: Option<Tag>,
    /// The digest, if one was written.
    pub digest: Option<Digest>,
}

impl ImageRef {
    /// Parses a reference as Docker does, but for one thing: a missing tag stays missing.
    ///
    /// # Errors
    /// [`ImageError`] names the part that is wrong; image IDs are refused as such.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ImageError::Empty);
        }
        if is_image_id(text) {
            return Err(ImageError::Id(text.to_owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::parse(digest)?)),
            None => (text, None),
        };
        let path_start = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (path, tag) = match rest.get(path_start..).and_then(|last| last.rfind(':')) {
            Some(colon) => {
                let (path, tag) = rest.split_at(path_start + colon);
                (path, Some(Tag::parse(&tag[1..])?))
            }
            None => (rest, None),
        };
        let name = match path.split_once('/') {
            Some((host, repository)) if is_host_of_reference(host) => {
                ImageName::new(Registry::parse(host)?, repository)?
            }
            _ => ImageName::new(Registry(DOCKER_HUB.to_owned()), path)?,
        };
        Ok(Self { name, tag, digest })
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{}", tag.as_str())?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{}", digest.as_str())?;
        }
        Ok(())
    }
}

/// An image name with a tag that containers run: what a push moves, and what is deployed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Track {
    name: ImageName,
    tag: Tag,
}

impl Track {
    /// A track from its parts.
    pub fn new(name: ImageName, tag: Tag) -> Self {
        Self { name, tag }
    }

    /// The track that a container's `Config.Image` names. Docker reads a missing tag there as `latest`, so this does too.
    ///
    /// # Errors
    /// [`ImageError`] if the text is no name, is an image ID, or is pinned by a digest ([`ImageError::Id`]).
    pub fn of_container(config_image: &str) -> Result<Self, ImageError> {
        let image = ImageRef::parse(config_image)?;
        if image.digest.is_some() {
            return Err(ImageError::Id(config_image.to_owned()));
        }
        let tag = image.tag.unwrap_or_else(|| Tag("latest".to_owned()));
        Ok(Self { name: image.name, tag })
    }

    /// Parses `name:tag`; a missing tag is an error, since a push without one deploys nothing.
    ///
    /// # Errors
    /// [`ImageError`] names the part that is wrong or missing.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        let image = ImageRef::parse(text)?;
        match (image.tag, image.digest) {
            (Some(tag), None) => Ok(Self { name: image.name, tag }),
            (None, None) => Err(ImageError::Untagged(text.to_owned())),
            (_, Some(_)) => Err(ImageError::Id(text.to_owned())),
        }
    }

    /// Whether an engine takes a container's `Config.Image` for this track. It knows two names of Docker Hub and keeps the
    /// spelling of any other host: under an alias that only this module knows, another tag of its lies.
    pub fn is_written(&self, config_image: &str) -> bool {
        let host = config_image.trim().split_once('/').map(|(host, _)| host).filter(|host| is_host_of_reference(host));
        let registry = self.name.registry.as_str();
        host.is_none_or(|host| host == registry || registry == DOCKER_HUB && host == ENGINES_ALIAS)
    }

    /// Registry and repository.
    pub fn name(&self) -> &ImageName {
        &self.name
    }

    /// The tag.
    pub fn tag(&self) -> &Tag {
        &self.tag
    }

    /// The track as Docker prints it, which is also how an engine's `RepoTags` list it.
    pub fn familiar(&self) -> String {
        format!("{}:{}", self.name.familiar(), self.tag.as_str())
    }

    /// The reference that pulls exactly `digest` of this track's repository.
    pub fn at(&self, digest: &Digest) -> ImageRef {
        ImageRef { name: self.name.clone(), tag: None, digest: Some(digest.clone()) }
    }
}

impl fmt::Display for Track {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.tag.as_str())
    }
}

/// Whether a text is the ID of an image: 64 hexadecimal digits, `sha256:` in front or not.
pub fn is_image_id(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        || text.starts_with("sha256:") && hex.len() >= 12 && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Docker's rule for telling a host from the first part of a Docker Hub path.
fn is_host_of_reference(part: &str) -> bool {
    part.contains('.') || part.contains(':') || part == "localhost" || part.bytes().any(|b| b.is_ascii_uppercase())
}

fn split_port(host: &str) -> Option<(&str, Option<&str>)> {
    let name_end = match host.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at_checked(name_end)?;
    match port.strip_prefix(':') {
        Some(port) => Some((name, Some(port))),
        None if port.is_empty() => Some((name, None)),
        None => None,
    }
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, the grammar of one part of a repository's path.
fn is_repository_part(part: &str) -> bool {
    let is_word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends_in_words = part.as_bytes().first().is_some_and(is_word) && part.as_bytes().last().is_some_and(is_word);
    ends_in_words
        && part
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
}

macro_rules! text_form {
    ($($type:ty => $parse:path, $text:expr;)*) => {$(
        impl TryFrom<String> for $type {
            type Error = ImageError;
            fn try_from(text: String) -> Result<Self, ImageError> { $parse(&text) }
        }
        impl FromStr for $type {
            type Err = ImageError;
            fn from_str(text: &str) -> Result<Self, ImageError> { $parse(text) }
        }
        impl From<$type> for String {
            fn from(value: $type) -> String { $text(&value) }
        }
    )*};
}

text_form! {
    Digest => Digest::parse, |value: &Digest| value.0.clone();
    Registry => Registry::parse, |value: &Registry| value.0.clone();
    Tag => Tag::parse, |value: &Tag| value.0.clone();
    Track => Track::parse, Track::to_string;
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
