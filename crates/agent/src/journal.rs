//! The journals of replacements: one file each, on the disk before the act that follows.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use deployer_core::replacement::{FORM, Replacement};
use thiserror::Error;

use crate::failpoint;

/// Why a journal cannot be kept or read.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The disk refused.
    #[error("cannot {action} {path}")]
    Disk {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a journal of a form that this version knows.
    #[error("{path} is not a journal that this version can read: {message}; finish it with the version that wrote it")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

/// What an engine may yet do to a container although it was given up without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// Give it a name that it is not to have any more.
    Rename,
    /// Start it.
    Start,
}

impl Late {
    const ALL: [Self; 2] = [Self::Rename, Self::Start];

    /// The folder of its notes, in the state directory.
    fn folder(self) -> &'static str {
        match self {
            Self::Rename => "renamed",
            Self::Start => "started",
        }
    }
}

/// The folder of journals. Journals hold container environments, so only root may read them.
pub struct Journals {
    folder: PathBuf,
    /// The state directory, with a folder for each kind of what may come late: a file for each container, by its ID, which holds
    /// when it was given up, in Unix seconds.
    state_dir: PathBuf,
}

impl Journals {
    /// Opens or makes the folder below the state directory, and clears what a crash left in the middle of a write: it is
    /// no journal, nothing rests on it, and it may hold a container's environment.
    ///
    /// # Errors
    /// [`JournalError::Disk`] if it cannot be made or cleared.
    pub fn open(state_dir: &Path) -> Result<Self, JournalError> {
        let folder = state_dir.join("replacements");
        let disk = |action, source| JournalError::Disk { action, path: folder.clone(), source };
        fs::create_dir_all(&folder).map_err(|source| disk("make", source))?;
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).map_err(|source| disk("protect", source))?;
        for late in Late::ALL {
            fs::create_dir_all(state_dir.join(late.folder())).map_err(|source| disk("make", source))?;
        }
        let journals = Self { folder, state_dir: state_dir.to_owned() };
        for unfinished in journals.files("new")? {
            let disk = |source| JournalError::Disk { action: "remove", path: unfinished.clone(), source };
            fs::remove_file(&unfinished).map_err(disk)?;
        }
        Ok(journals)
    }

    /// Writes a journal durably: a new file, synced, renamed over the old one, the folder synced.
    ///
    /// # Errors
    /// [`JournalError::Disk`]; the journal before it is then still in place.
    pub fn write(&self, replacement: &Replacement) -> Result<(), JournalError> {
        let path = self.path(&replacement.txn);
        let disk = |action, source| JournalError::Disk { action, path: path.clone(), source };
        let text = serde_json::to_vec(replacement).map_err(|error| disk("write", error.into()))?;
        let fresh = path.with_extension("new");
        let write = || {
            failpoint::room_beside(&self.folder)?;
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|source| disk("write", source))
    }

    /// Removes the journal of a replacement that has ended. Absent is success.
    ///
    /// # Errors
    /// [`JournalError::Disk`] if it is there and cannot be removed.
    pub fn close(&self, txn: &str) -> Result<(), JournalError> {
        remove(self.path(txn))
    }

    /// Notes a container to which an engine may yet do something, whatever becomes of its replacement, and since when.
    ///
    /// # Errors
    /// [`JournalError::Disk`] if it cannot be noted.
    pub fn note_late(&self, late: Late, id: &str, since: i64) -> Result<(), JournalError> {
        let path = self.state_dir.join(late.folder()).join(id);
        let noted = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let noted = noted.and_then(|mut file| file.write_all(since.to_string().as_bytes()));
        noted.map_err(|source| JournalError::Disk { action: "write", path, source })
    }

    /// The IDs of the containers that are noted so, and since when.
    ///
    /// # Errors
    /// [`JournalError::Disk`] if the folder cannot be read.
    pub fn late(&self, late: Late) -> Result<Vec<(String, i64)>, JournalError> {
        let path = self.state_dir.join(late.folder());
        let listed = fs::read_dir(&path);
        let listed = listed.map_err(|source| JournalError::Disk { action: "list", path, source })?;
        let since = |path: PathBuf| fs::read_to_string(path).ok()?.parse().ok();
        let noted = listed.flatten().filter_map(|entry| {
            let id = entry.file_name().into_string().ok()?;
            Some((id, since(entry.path()).unwrap_or_default()))
        });
        Ok(noted.collect())
    }

    /// Forgets a container that is no more. Absent is success.
    ///
    /// # Errors
    /// [`JournalError::Disk`] if a note is there and cannot be removed.
    pub fn forget_late(&self, id: &str) -> Result<(), JournalError> {
        Late::ALL.into_iter().try_for_each(|late| remove(self.state_dir.join(late.folder()).join(id)))
    }

    /// Every journal, in order of their names.
    ///
    /// # Errors
    /// [`JournalError::Form`] for one that cannot be understood: guessing could stop the wrong container.
    pub fn all(&self) -> Result<Vec<Replacement>, JournalError> {
        self.files("json")?.iter().map(|path| read(path)).collect()
    }

    /// The files of the folder whose names end so, sorted.
    fn files(&self, extension: &str) -> Result<Vec<PathBuf>, JournalError> {
        let disk = |source| JournalError::Disk { action: "list", path: self.folder.clone(), source };
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(disk)? {
            paths.push(entry.map_err(disk)?.path());
        }
        paths.retain(|path| path.extension().is_some_and(|found| found == extension));
        paths.sort();
        Ok(paths)
    }

    fn path(&self, txn: &str) -> PathBuf {
        self.folder.join(format!("{txn}.json"))
    }
}

fn remove(path: PathBuf) -> Result<(), JournalError> {
    match fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(JournalError::Disk { action: "remove", path, source })
        }
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<Replacement, JournalError> {
    let text = fs::read(path).map_err(|source| JournalError::Disk { action: "read", path: path.to_owned(), source })?;
    let form = |message: String| JournalError::Form { path: path.to_owned(), message };
    let replacement: Replacement = serde_json::from_slice(&text).map_err(|error| form(error.to_string()))?;
    if replacement.v > FORM {
        return Err(form(format!("form {} is newer than {FORM}", replacement.v)));
    }
    Ok(replacement)
}
