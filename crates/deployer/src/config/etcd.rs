//! The `[etcd]` table: with it the machines share one store, without it this machine has its own.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use deployer_store::etcd::{EtcdSettings, Password, Tls, User};
use hyper::Uri;
use serde::Deserialize;
use toml::Spanned;

use super::certificates::{Unusable, check_authority, check_identity};
use super::file::{read, read_private};
use super::place::{Document, Setting};
use super::{ConfigError, Flags, PREFIX};

/// The table as it is written.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct EtcdForm {
    endpoints: Option<Vec<Spanned<String>>>,
    prefix: Option<Spanned<String>>,
    ca_file: Option<Spanned<String>>,
    cert_file: Option<Spanned<String>>,
    key_file: Option<Spanned<String>>,
    user: Option<Spanned<String>>,
    password_file: Option<Spanned<String>>,
}

/// The store that machines share.
#[derive(Debug)]
pub struct EtcdConfig {
    /// What every key begins with.
    pub prefix: String,
    /// Where etcd is and as whom it is spoken to.
    pub settings: EtcdSettings,
    /// The files that were read, by setting, for people.
    files: Vec<(&'static str, PathBuf)>,
}

/// A file's setting, its path, and its text.
struct Read {
    setting: Setting,
    path: PathBuf,
    text: String,
}

/// Reads the flags and the table. `None` if etcd is named nowhere.
pub fn parse(
    form: Option<Spanned<EtcdForm>>,
    flags: &Flags,
    document: &Document,
) -> Result<Option<EtcdConfig>, ConfigError> {
    let table = form.as_ref().map(|form| document.place(form.span()));
    let form = form.map(Spanned::into_inner).unwrap_or_default();
    let at = |name, text: Spanned<String>| {
        let place = document.place(text.span());
        Setting::new(name, text.into_inner(), place)
    };
    let from_flag = flags.etcd_prefix.clone();
    let from_flag =
        from_flag.map(|text| Setting::new("etcd.prefix", text, "--etcd-prefix or DEPLOYER_ETCD_PREFIX".into()));
    let prefix = from_flag.or_else(|| form.prefix.map(|prefix| at("etcd.prefix", prefix)));
    let endpoints: Vec<Setting> = match &flags.etcd {
        Some(list) => {
            let origin = "--etcd or DEPLOYER_ETCD".to_owned();
            list.split(',').map(|url| Setting::new("etcd.endpoints", url.trim().to_owned(), origin.clone())).collect()
        }
        None => form.endpoints.into_iter().flatten().map(|url| at("etcd.endpoints", url)).collect(),
    };
    let Some(first) = endpoints.first() else {
        let missing = "there are none; set endpoints, such as [\"https://etcd-1.example.com:2379\"], or --etcd";
        return match (table, prefix) {
            (Some(place), _) => Err(Setting::new("etcd.endpoints", String::new(), place).wrong(missing)),
            (None, Some(prefix)) => Err(prefix.wrong("it says nothing without etcd.endpoints or --etcd")),
            (None, None) => Ok(None),
        };
    };
    let prefix = prefix.unwrap_or_else(|| Setting::new("etcd.prefix", PREFIX.to_owned(), "default".to_owned()));
    let is_encrypted = scheme_of(&endpoints)? == "https";
    let file = |name, path: Option<Spanned<String>>, read: fn(&std::path::Path) -> Result<String, String>| {
        let Some(setting) = path.map(|path| at(name, path)) else { return Ok(None) };
        let path = document.folder().join(&setting.text);
        let text = read(&path).map_err(|message| setting.wrong(message))?;
        Ok(Some(Read { setting, path, text }))
    };
    let ca = file("etcd.ca_file", form.ca_file, read)?;
    let certificate = file("etcd.cert_file", form.cert_file, read)?;
    let key = file("etcd.key_file", form.key_file, read_private)?;
    let password = file("etcd.password_file", form.password_file, read_private)?;
    let named = [("ca_file", &ca), ("cert_file", &certificate), ("key_file", &key), ("password_file", &password)];
    let files = named.iter().filter_map(|(name, read)| Some((*name, read.as_ref()?.path.clone()))).collect();
    let user = user(form.user.map(|user| at("etcd.user", user)), password)?;
    let tls = tls(first, is_encrypted, ca, certificate, key)?;
    let endpoints = endpoints.iter().map(|endpoint| endpoint.text.trim_end_matches('/').to_owned()).collect();
    let settings = EtcdSettings { endpoints, tls, user };
    Ok(Some(EtcdConfig { prefix: parse_prefix(prefix)?, settings, files }))
}

/// The one scheme of all endpoints: certificates are for all of them or for none.
fn scheme_of(endpoints: &[Setting]) -> Result<&str, ConfigError> {
    let mut first: Option<&str> = None;
    for endpoint in endpoints {
        let is_address = endpoint.text.parse::<Uri>().is_ok_and(|uri| is_address(&uri));
        let scheme = endpoint.text.split_once("://").filter(|_| is_address).map(|(scheme, _)| scheme);
        let Some(scheme) = scheme.filter(|scheme| ["http", "https"].contains(scheme)) else {
            return Err(endpoint.is_not("an address such as https://etcd-1.example.com:2379"));
        };
        if *first.get_or_insert(scheme) != scheme {
            return Err(endpoint.wrong("some endpoints are https and some are not; make all of them https"));
        }
    }
    Ok(first.unwrap_or_default())
}

/// A host and a port, and nothing else that the client would leave out without a word.
fn is_address(uri: &Uri) -> bool {
    let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    uri.port_u16().is_some() && !has_user && uri.path() == "/" && uri.query().is_none()
}

fn parse_prefix(setting: Setting) -> Result<String, ConfigError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
    let prefix = setting.text.trim_end_matches('/');
    if prefix.len() > 1 && prefix.starts_with('/') && prefix.bytes().all(is_plain) && !prefix.contains("//") {
        Ok(prefix.to_owned())
    } else {
        Err(setting.is_not("a prefix from letters, digits and -._/ such as /deployer"))
    }
}

fn user(name: Option<Setting>, password: Option<Read>) -> Result<Option<User>, ConfigError> {
    match (name, password) {
        (None, None) => Ok(None),
        (Some(name), None) => Err(name.wrong("it has no password; set etcd.password_file")),
        (None, Some(password)) => Err(password.setting.wrong("it is nobody's; set etcd.user")),
        (Some(name), Some(Read { setting, path, text })) => match text.lines().next().unwrap_or_default() {
            "" => Err(setting.wrong(format!("{} has an empty first line", path.display()))),
            password => Ok(Some(User { name: name.text, password: Password(password.to_owned()) })),
        },
    }
}

fn tls(
    endpoint: &Setting,
    is_encrypted: bool,
    ca: Option<Read>,
    certificate: Option<Read>,
    key: Option<Read>,
) -> Result<Option<Tls>, ConfigError> {
    if !is_encrypted {
        return match ca.or(certificate).or(key) {
            Some(file) => Err(file.setting.wrong("the endpoints are http://; write https://, or leave it out")),
            None => Ok(None),
        };
    }
    let Some(ca) = ca else {
        return Err(endpoint.wrong("https needs etcd.ca_file, the certificate of who signs those of etcd"));
    };
    check_authority(&ca.text).map_err(|message| wrong_file(&ca, message))?;
    let identity = match (certificate, key) {
        (None, None) => None,
        (Some(certificate), None) => return Err(certificate.setting.wrong("its key is missing; set etcd.key_file")),
        (None, Some(key)) => return Err(key.setting.wrong("its certificate is missing; set etcd.cert_file")),
        (Some(certificate), Some(key)) => {
            check_identity(&certificate.text, &key.text).map_err(|unusable| match unusable {
                Unusable::Certificate(message) => wrong_file(&certificate, message),
                Unusable::Key(message) => wrong_file(&key, &message),
            })?;
            Some((certificate.text, key.text))
        }
    };
    Ok(Some(Tls { ca: ca.text, identity }))
}

fn wrong_file(file: &Read, message: &str) -> ConfigError {
    file.setting.wrong(format!("{} {message}", file.path.display()))
}

impl EtcdConfig {
    /// The endpoints beyond this machine that are spoken to in the clear.
    pub fn in_the_clear(&self) -> Vec<&str> {
        let is_clear = |endpoint: &&str| endpoint.strip_prefix("http://").is_some_and(|host| !is_loopback(host));
        self.settings.endpoints.iter().map(String::as_str).filter(is_clear).collect()
    }
}

fn is_loopback(authority: &str) -> bool {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for EtcdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[etcd]\nendpoints = {:?}\nprefix = \"{}\"", self.settings.endpoints, self.prefix)?;
        if let Some(user) = &self.settings.user {
            writeln!(f, "user = \"{}\"", user.name)?;
        }
        for (setting, path) in &self.files {
            writeln!(f, "{setting} = \"{}\"", path.display())?;
        }
        Ok(())
    }
}
