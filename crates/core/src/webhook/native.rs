//! The project's own call, for any CI: `{"image": "host/path:tag"}`, or a list under `images`.
//! A digest after the tag is a hint. A reference without a tag deploys nothing.

use serde_json::Value;

use super::reading::{Passed, notice};
use super::{Malformed, Notice, Parsed};
use crate::image::{Digest, ImageRef, Registry};

pub fn parse(body: &Value, registry: Option<&Registry>) -> Result<Parsed, Malformed> {
    let one = body.get("image").into_iter();
    let several = body.get("images").and_then(Value::as_array).into_iter().flatten();
    let references: Vec<&Value> = one.chain(several).collect();
    if references.is_empty() {
        return Err(Malformed("native", "write {\"image\": \"host/path:tag\"}".to_owned()));
    }
    let mut parsed = Parsed::default();
    let mut mistake = None;
    for reference in references {
        let text = reference
            .as_str()
            .ok_or_else(|| Malformed("native", "an image is a text, such as \"host/path:tag\"".to_owned()))?;
        mistake = mistake.or_else(|| ImageRef::parse(text).err());
        parsed.take(read(text, registry));
    }
    // Unlike a registry, whoever wrote this call can mend it, and should not believe that it deployed something.
    match mistake {
        Some(mistake) if parsed.notices.is_empty() => Err(Malformed("native", mistake.to_string())),
        _ => Ok(parsed),
    }
}

fn read(text: &str, registry: Option<&Registry>) -> Result<Notice, Passed> {
    let image = ImageRef::parse(text).map_err(|_| Passed::InvalidRef)?;
    let tag = image.tag.ok_or(Passed::Untagged)?;
    let registry = registry.unwrap_or(image.name.registry()).clone();
    notice(registry, image.name.repository(), tag.as_str(), image.digest.as_ref().map(Digest::as_str))
}
