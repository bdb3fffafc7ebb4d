//! Certificates, made by `openssl` and signed by an authority of the test's own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::directory::Directory;
use crate::process::run;

/// What `openssl` is told of the certificates, whatever its own configuration says. Names are for server and client
/// alike: a server may have to speak to itself.
const CONFIGURATION: &str = "\
[req]
distinguished_name = name
prompt = no
[name]
CN = nobody
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[issued]
basicConstraints = critical, CA:FALSE
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = IP:127.0.0.1, DNS:localhost
";

/// An authority that signs certificates. Its files go when it is dropped.
pub struct Authority {
    directory: Directory,
}

/// A certificate and its key, in PEM. Nobody else can read the key.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The key's file.
    pub key: PathBuf,
}

impl Authority {
    /// A new one, which nobody trusts yet.
    ///
    /// # Panics
    ///
    /// When `openssl` fails, with what it said.
    #[track_caller]
    pub fn new() -> Self {
        let directory = Directory::make();
        fs::write(directory.join("openssl.cnf"), CONFIGURATION).expect("a file in it can be written");
        let authority = Self { directory };
        authority.openssl(
            "req -x509 -days 2 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=testkit \
             -config openssl.cnf -extensions authority -keyout authority.key -out authority.pem",
        );
        authority
    }

    /// The authority's own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.path("authority.pem")
    }

    /// A certificate of a server or client of that name on this machine.
    #[track_caller]
    pub fn issue(&self, name: &str) -> Issued {
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -config openssl.cnf \
             -keyout {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -days 2 -in {name}.csr -CA authority.pem -CAkey authority.key -CAcreateserial \
             -extfile openssl.cnf -extensions issued -out {name}.pem"
        ));
        Issued { certificate: self.path(&format!("{name}.pem")), key: self.path(&format!("{name}.key")) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    #[track_caller]
    fn openssl(&self, words: &str) {
        let mut command = Command::new("openssl");
        command.args(words.split_whitespace()).current_dir(self.directory.path());
        run(&mut command).unwrap_or_else(|error| panic!("{error}"));
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
