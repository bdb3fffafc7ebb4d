//! The ledger on disk: one redb file, in an encoding of our own.
//!
//! redb changes its type system between major versions, so it sees bytes only and a form number says how to
//! read them. All calls block; a commit has reached the disk when it returns.
//!
//! Form 1: table `deployer` holds `form` (one byte) and `revision`; table `entries` maps a key to create
//! revision, mod revision, lease (0: none) and the value. All numbers are 8 bytes, big end first.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use deployer_core::store::{LeaseId, Revision};
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::ledger::{Decided, Item, Ledger};
use crate::store::StoreError;

const FORM: u8 = 1;
const ABOUT: TableDefinition<&[u8], &[u8]> = TableDefinition::new("deployer");
const ENTRIES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("entries");

/// Pages that redb may keep in memory. Reads never come here, so only what a commit touches is worth keeping.
const CACHE_BYTES: usize = 1024 * 1024;

const START_AFRESH: &str = "or move the file away: deployer then starts with an empty store, adopts what runs, \
                            and has forgotten verdicts and withdrawn versions";

/// The open file; no other process can open it meanwhile.
pub(super) struct StoreFile {
    path: PathBuf,
    database: Database,
}

impl StoreFile {
    /// Opens the file, making an empty one where none is, and reads all of it.
    pub fn open(path: &Path) -> Result<(Self, Ledger), StoreError> {
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => create(path).map_err(|error| broken(path, &error))?,
            Err(error) => return Err(broken(path, &error.into())),
        }
        let database = builder().open(path).map_err(|error| broken(path, &error.into()))?;
        let ledger = load(&database, path)?;
        Ok((Self { path: path.to_owned(), database }, ledger))
    }

    /// Makes a decision durable, all or nothing.
    ///
    /// # Errors
    /// After one the file must be opened anew, and only that shows whether the decision is in it.
    pub fn write(&self, decided: &Decided) -> Result<(), StoreError> {
        write(&self.database, decided).map_err(|error| broken(&self.path, &error))
    }
}

/// A store's file as it is found while no daemon has it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is none yet.
    Nothing,
    /// It was not closed: the next daemon repairs it.
    Unfinished,
    /// It can be read from end to end.
    Sound,
}

/// Looks at a store's file without changing it. Nobody can open it meanwhile.
///
/// # Errors
/// [`StoreError::Broken`] if a daemon could not open it either.
pub fn inspect(path: &Path) -> Result<Found, StoreError> {
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Ok(Found::Nothing),
        Err(error) => return Err(broken(path, &error.into())),
    }
    match builder().open_read_only(path) {
        Ok(database) => load(&database, path).map(|_| Found::Sound),
        Err(redb::DatabaseError::RepairAborted) => Ok(Found::Unfinished),
        Err(error) => Err(broken(path, &error.into())),
    }
}

/// redb checks its own file after a crash only, and trusts a damaged one up to a panic otherwise; at our size
/// the check of every page at each start costs milliseconds.
fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// Makes an empty store under another name first, so that a crash in between leaves no half file behind.
fn create(path: &Path) -> Result<(), redb::Error> {
    let unfinished = path.with_extension("unfinished");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let database = builder().create(&unfinished)?;
    let transaction = database.begin_write()?;
    transaction.open_table(ABOUT)?.insert(b"form".as_slice(), [FORM].as_slice())?;
    transaction.open_table(ENTRIES)?;
    transaction.commit()?;
    write(&database, &Decided { revision: 0, items: BTreeMap::new(), changes: Vec::new() })?;
    database.close()?;
    fs::rename(&unfinished, path)?;
    if let Some(folder) = path.parent() {
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn write(database: &Database, decided: &Decided) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut entries = transaction.open_table(ENTRIES)?;
        for (key, item) in &decided.items {
            match item {
                Some(item) => entries.insert(key.as_bytes(), encode(item).as_slice())?,
                None => entries.remove(key.as_bytes())?,
            };
        }
        let mut about = transaction.open_table(ABOUT)?;
        about.insert(b"revision".as_slice(), decided.revision.to_be_bytes().as_slice())?;
    }
    transaction.commit()?;
    Ok(())
}

fn load(database: &impl ReadableDatabase, path: &Path) -> Result<Ledger, StoreError> {
    match read_form(database).map_err(|error| broken(path, &error))? {
        Some(FORM) => {}
        Some(form) => {
            return Err(unusable(
                path,
                format!(
                    "it was written by a newer deployer (form {form}, this one reads {FORM}); start that version, {START_AFRESH}"
                ),
            ));
        }
        None => {
            return Err(unusable(
                path,
                format!(
                    "it is a database of some other program; give deployer a state directory of its own, {START_AFRESH}"
                ),
            ));
        }
    }
    let ledger = read_entries(database).map_err(|error| broken(path, &error))?;
    ledger.ok_or_else(|| damaged(path, "an entry cannot be read"))
}

fn read_form(database: &impl ReadableDatabase) -> Result<Option<u8>, redb::Error> {
    match database.begin_read()?.open_table(ABOUT) {
        Ok(about) => Ok(about.get(b"form".as_slice())?.and_then(|form| form.value().first().copied())),
        Err(
            redb::TableError::TableDoesNotExist(_)
            | redb::TableError::TableTypeMismatch { .. }
            | redb::TableError::TableIsMultimap(_),
        ) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The whole file; `None` if something in it is not as form 1 says.
fn read_entries(database: &impl ReadableDatabase) -> Result<Option<Ledger>, redb::Error> {
    let transaction = database.begin_read()?;
    let revision = transaction.open_table(ABOUT)?.get(b"revision".as_slice())?;
    let Some(revision) = revision.and_then(|bytes| Some(Revision::from_be_bytes(bytes.value().try_into().ok()?)))
    else {
        return Ok(None);
    };
    let mut items = BTreeMap::new();
    for row in transaction.open_table(ENTRIES)?.iter()? {
        let (key, value) = row?;
        let (Ok(key), Some(item)) = (String::from_utf8(key.value().to_vec()), decode(value.value())) else {
            return Ok(None);
        };
        items.insert(key, item);
    }
    Ok(Some(Ledger { revision, items }))
}

fn encode(item: &Item) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24 + item.value.len());
    bytes.extend_from_slice(&item.create_revision.to_be_bytes());
    bytes.extend_from_slice(&item.mod_revision.to_be_bytes());
    bytes.extend_from_slice(&item.lease.map_or(0, |lease| lease.0).to_be_bytes());
    bytes.extend_from_slice(&item.value);
    bytes
}

fn decode(bytes: &[u8]) -> Option<Item> {
    let (create_revision, rest) = bytes.split_first_chunk()?;
    let (mod_revision, rest) = rest.split_first_chunk()?;
    let (lease, value) = rest.split_first_chunk()?;
    let lease = i64::from_be_bytes(*lease);
    Some(Item {
        create_revision: Revision::from_be_bytes(*create_revision),
        mod_revision: Revision::from_be_bytes(*mod_revision),
        lease: (lease != 0).then_some(LeaseId(lease)),
        value: value.to_vec(),
    })
}

fn broken(path: &Path, error: &redb::Error) -> StoreError {
    match error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => unusable(
            path,
            "another process has it open; stop the other deployer, or give this one its own state directory".to_owned(),
        ),
        redb::Error::UpgradeRequired(form) => unusable(
            path,
            format!("it is in an old format of redb ({form}); start the deployer that wrote it, {START_AFRESH}"),
        ),
        redb::Error::Corrupted(message) => damaged(path, message),
        redb::Error::Io(error) => unusable(path, input_output(error)),
        other => unusable(path, other.to_string()),
    }
}

fn input_output(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            format!("there is no room to write ({error}); free some, deployer then goes on by itself")
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            format!("it cannot be opened for writing ({error}); check the owner and mode of the state directory")
        }
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
            format!("it is not a store of deployer, or cut short ({error}); restore it from a backup, {START_AFRESH}")
        }
        _ => error.to_string(),
    }
}

fn damaged(path: &Path, message: &str) -> StoreError {
    unusable(path, format!("it is damaged ({message}); restore it from a backup, {START_AFRESH}"))
}

fn unusable(path: &Path, message: String) -> StoreError {
    StoreError::Broken(format!("{}: {message}", path.display()))
}
