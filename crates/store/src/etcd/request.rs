//! The store's values in etcd's words, and back.

use std::time::Duration;

use deployer_core::store::{Change, Compare, Entry, Listed, Range, Revision, Txn, Write};
use etcd_client::{
    CompareOp, Event, EventType, GetOptions, KeyValue, PutOptions, ResponseHeader, SortOrder, SortTarget, TxnOp,
    TxnOpResponse,
};

/// The keys from the first up to the second, which is not among them: those that begin with a prefix.
pub(super) fn range(prefix: &str) -> (Vec<u8>, Vec<u8>) {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return (prefix.as_bytes().to_vec(), end);
        }
    }
    // To etcd a zero byte is the first key, and as an end it means "up to the last".
    (vec![0], vec![0])
}

/// A transaction. One that writes nothing reads a key besides: etcd answers a transaction without any read or write
/// from the member's own state, which may be behind.
pub(super) fn txn(txn: &Txn) -> etcd_client::Txn {
    let conditions: Vec<etcd_client::Compare> = txn.when.iter().map(condition).collect();
    let mut writes: Vec<TxnOp> = txn.then.iter().map(write).collect();
    let mut otherwise = Vec::new();
    if let (true, Some(first)) = (writes.is_empty(), txn.when.first()) {
        let read = TxnOp::get(key_of(first), Some(GetOptions::new().with_count_only()));
        writes.push(read.clone());
        otherwise.push(read);
    }
    etcd_client::Txn::new().when(conditions).and_then(writes).or_else(otherwise)
}

fn condition(compare: &Compare) -> etcd_client::Compare {
    match compare {
        Compare::ModRevision(key, seen) => {
            etcd_client::Compare::mod_revision(key.as_str(), CompareOp::Equal, signed(*seen))
        }
        Compare::CreateRevision(key, seen) => {
            etcd_client::Compare::create_revision(key.as_str(), CompareOp::Equal, signed(*seen))
        }
        Compare::Value(key, value) => etcd_client::Compare::value(key.as_str(), CompareOp::Equal, value.as_slice()),
        Compare::NoneNewer(prefix, seen) => {
            let (key, end) = range(prefix);
            etcd_client::Compare::create_revision(key, CompareOp::Less, signed(seen.saturating_add(1))).with_range(end)
        }
    }
}

fn key_of(compare: &Compare) -> Vec<u8> {
    match compare {
        Compare::NoneNewer(prefix, _) => range(prefix).0,
        of_one => of_one.key().as_bytes().to_vec(),
    }
}

fn write(write: &Write) -> TxnOp {
    match write {
        Write::Put(key, value, lease) => {
            let options = lease.map(|lease| PutOptions::new().with_lease(lease.0));
            TxnOp::put(key.as_str(), value.as_slice(), options)
        }
        Write::Delete(key) => TxnOp::delete(key.as_str(), None),
    }
}

/// A range as a part of a transaction that writes nothing.
pub(super) fn question(question: &Range) -> TxnOp {
    let (key, end) = range(question.prefix());
    let options = GetOptions::new();
    let options = match question {
        Range::All(_) => options.with_range(end),
        Range::Count(_) => options.with_range(end).with_count_only(),
        Range::LastBefore { before, limit, .. } => {
            let options = options.with_range(before.as_bytes()).with_limit((*limit).into());
            options.with_sort(SortTarget::Key, SortOrder::Descend)
        }
    };
    TxnOp::get(key, Some(options))
}

/// What was found, if this is the answer to a range.
pub(super) fn found(answer: &TxnOpResponse) -> Option<Listed> {
    let TxnOpResponse::Get(answer) = answer else { return None };
    let entries: Vec<Entry> = answer.kvs().iter().filter_map(entry).collect();
    let count = if entries.is_empty() { unsigned(answer.count()) } else { entries.len() as u64 };
    Some(Listed { entries, count })
}

/// Whole seconds, rounded up: a lease must not end before its time.
pub(super) fn seconds(ttl: Duration) -> i64 {
    let whole = ttl.as_secs().saturating_add(u64::from(ttl.subsec_nanos() > 0));
    i64::try_from(whole).unwrap_or(i64::MAX)
}

/// An entry. A key that is no text is none of deployer's, whose keys are all text.
pub(super) fn entry(found: &KeyValue) -> Option<Entry> {
    Some(Entry {
        key: found.key_str().ok()?.to_owned(),
        value: found.value().to_vec(),
        create_revision: unsigned(found.create_revision()),
        mod_revision: unsigned(found.mod_revision()),
    })
}

/// A change, with the same exception as [`entry`].
pub(super) fn change(event: &Event) -> Option<Change> {
    let entry = entry(event.kv()?)?;
    Some(match event.event_type() {
        EventType::Put => Change::Put(entry),
        EventType::Delete => Change::Delete(entry.key, entry.mod_revision),
    })
}

/// The store's revision when it answered.
pub(super) fn revision(header: Option<&ResponseHeader>) -> Revision {
    header.map_or(0, |header| unsigned(header.revision()))
}

/// etcd counts revisions from 1 with a sign.
pub(super) fn unsigned(revision: i64) -> Revision {
    Revision::try_from(revision).unwrap_or(0)
}

/// A revision that etcd could not have given stands for one that will never come.
pub(super) fn signed(revision: Revision) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_range(prefix: &str, key: &[u8], end: &[u8]) {
        assert_eq!(range(prefix), (key.to_vec(), end.to_vec()));
    }

    #[test]
    fn a_prefix_is_a_range() {
        check_range("/deployer/", b"/deployer/", b"/deployer0");
        check_range("a\u{7f}", b"a\x7f", b"a\x80");
        check_range("", b"\0", b"\0");
    }

    #[test]
    fn a_lease_is_never_shorter_than_asked() {
        assert_eq!(seconds(Duration::from_secs(30)), 30);
        assert_eq!(seconds(Duration::from_millis(1_001)), 2);
        assert_eq!(seconds(Duration::MAX), i64::MAX);
    }
}
