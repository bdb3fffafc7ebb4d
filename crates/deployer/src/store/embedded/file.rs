//! The store's file: one redb table of entries, one of the file's own facts.
//!
//! Values have a form of their own, so that a new major version of redb changes nothing but this file.

use std::path::{Path, PathBuf};

use deployer_core::store::{Change, Entry, Revision};
use redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use super::super::StoreError;
use super::memory::Prepared;

const ENTRIES: TableDefinition<&str, &[u8]> = TableDefinition::new("entries");
const FACTS: TableDefinition<&str, u64> = TableDefinition::new("facts");
/// The form of the file. A file of a newer form is refused rather than guessed at.
const FORM: u64 = 1;
/// Bytes before a value: the revisions of creation and of the last write.
const HEAD_BYTES: usize = 16;

pub struct File {
    database: Database,
    path: PathBuf,
}

impl File {
    /// Opens or makes the file, and reads all of it.
    pub fn open(path: &Path) -> Result<(Self, Vec<Entry>, Revision), StoreError> {
        let broken = |why: String| StoreError::Broken(format!("{}: {why}", path.display()));
        let database = Database::create(path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => broken("another process has it open".to_owned()),
            error => broken(format!("{error}; move it away to begin with an empty store")),
        })?;
        let file = Self { database, path: path.to_owned() };
        let (form, revision) = file.facts().map_err(|error| broken(error.to_string()))?;
        if form > FORM {
            return Err(broken(format!("written by a newer deployer (form {form}, known {FORM})")));
        }
        let entries = file.entries().map_err(|error| broken(error.to_string()))?;
        Ok((file, entries, revision))
    }

    fn facts(&self) -> Result<(u64, Revision), redb::Error> {
        let read = self.database.begin_read()?;
        let table = match read.open_table(FACTS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok((FORM, 0)),
            Err(error) => return Err(error.into()),
        };
        let fact = |name| table.get(name).map(|value| value.map_or(0, |value| value.value()));
        Ok((fact("form")?, fact("revision")?))
    }

    fn entries(&self) -> Result<Vec<Entry>, redb::Error> {
        let read = self.database.begin_read()?;
        let table = match read.open_table(ENTRIES) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut entries = Vec::new();
        for row in table.iter()? {
            let (key, value) = row?;
            entries.extend(decode(key.value(), value.value()));
        }
        Ok(entries)
    }

    /// Puts what outlives the process on the disk. Nothing is written if nothing does.
    pub fn commit(&mut self, prepared: &[Prepared], revision: Revision) -> Result<(), StoreError> {
        if !prepared.iter().any(|write| write.is_durable) {
            return Ok(());
        }
        self.write(prepared, revision).map_err(|error| StoreError::Broken(format!("{}: {error}", self.path.display())))
    }

    fn write(&self, prepared: &[Prepared], revision: Revision) -> Result<(), redb::Error> {
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        {
            let mut entries = write.open_table(ENTRIES)?;
            for Prepared { change, lease, .. } in prepared {
                match change {
                    Change::Put(entry) if lease.is_none() => {
                        entries.insert(entry.key.as_str(), encode(entry).as_slice())?;
                    }
                    // A leased key lives in memory only; what lay under it before does not come back.
                    Change::Put(Entry { key, .. }) | Change::Delete(key, _) => drop(entries.remove(key.as_str())?),
                }
            }
            let mut facts = write.open_table(FACTS)?;
            facts.insert("form", FORM)?;
            facts.insert("revision", revision)?;
        }
        write.commit()?;
        Ok(())
    }
}

fn encode(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + entry.value.len());
    bytes.extend_from_slice(&entry.create_revision.to_le_bytes());
    bytes.extend_from_slice(&entry.mod_revision.to_le_bytes());
    bytes.extend_from_slice(&entry.value);
    bytes
}

fn decode(key: &str, bytes: &[u8]) -> Option<Entry> {
    let (head, value) = bytes.split_at_checked(HEAD_BYTES)?;
    let (create, modified) = head.split_at(8);
    let number = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_le_bytes);
    Some(Entry {
        key: key.to_owned(),
        value: value.to_vec(),
        create_revision: number(create)?,
        mod_revision: number(modified)?,
    })
}
