//! The recent changes, from which every watch reads at its own pace.
//!
//! One bounded history serves all watches, so that neither their number nor a slow one costs memory: who falls
//! behind it is told to list again. Before the store was opened there is no history.

use std::collections::VecDeque;

use deployer_core::store::{Change, Revision};

/// Changes kept; the oldest revisions are forgotten beyond it. A reader that lists again every time it is told
/// to could only starve if this many changes came while it lists.
pub(super) const HISTORY_CHANGES_MAX: usize = 1024;

/// Bytes of keys and values kept, with the same effect; the newest revision stays whatever its size.
pub(super) const HISTORY_BYTES_MAX: usize = 512 * 1024;

/// Changes that a watch takes out at once, rounded up to whole revisions, so that a copy for a reader that
/// begins far back stays small.
const PAGE_CHANGES: usize = 256;

/// The changes of the revisions above `forgotten`.
#[derive(Debug)]
pub(super) struct History {
    forgotten: Revision,
    revisions: VecDeque<(Revision, Vec<Change>)>,
    changes: usize,
    bytes: usize,
}

impl History {
    /// Without memory of anything up to `revision`.
    pub fn after(revision: Revision) -> Self {
        Self { forgotten: revision, revisions: VecDeque::new(), changes: 0, bytes: 0 }
    }

    /// The newest revision whose changes are forgotten.
    pub fn forgotten(&self) -> Revision {
        self.forgotten
    }

    /// Adds a revision, which must be newer than all before.
    pub fn push(&mut self, revision: Revision, changes: Vec<Change>) {
        self.changes += changes.len();
        self.bytes += changes.iter().map(size).sum::<usize>();
        self.revisions.push_back((revision, changes));
        while self.revisions.len() > 1 && (self.changes > HISTORY_CHANGES_MAX || self.bytes > HISTORY_BYTES_MAX) {
            let Some((revision, changes)) = self.revisions.pop_front() else { return };
            self.forgotten = revision;
            self.changes -= changes.len();
            self.bytes -= changes.iter().map(size).sum::<usize>();
        }
    }

    /// The next changes below `prefix` above `after`, and the revision up to which they are complete; `None`
    /// where that is no longer known.
    pub fn page(&self, prefix: &str, after: Revision) -> Option<(VecDeque<Change>, Revision)> {
        if after < self.forgotten {
            return None;
        }
        let start = self.revisions.partition_point(|(revision, _)| *revision <= after);
        let mut page = VecDeque::new();
        let mut complete = after;
        for (revision, changes) in self.revisions.range(start..) {
            page.extend(changes.iter().filter(|change| key(change).starts_with(prefix)).cloned());
            complete = *revision;
            if page.len() >= PAGE_CHANGES {
                break;
            }
        }
        Some((page, complete))
    }
}

fn key(change: &Change) -> &str {
    match change {
        Change::Put(entry) => &entry.key,
        Change::Delete(key, _) => key,
    }
}

fn size(change: &Change) -> usize {
    match change {
        Change::Put(entry) => entry.key.len() + entry.value.len(),
        Change::Delete(key, _) => key.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(key: &str, revision: Revision) -> Change {
        Change::Delete(key.to_owned(), revision)
    }

    #[track_caller]
    fn check_page(history: &History, prefix: &str, after: Revision, expected: Option<(usize, Revision)>) {
        assert_eq!(history.page(prefix, after).map(|(page, complete)| (page.len(), complete)), expected);
    }

    #[test]
    fn a_page_is_complete_up_to_its_revision() {
        let mut history = History::after(4);
        history.push(5, vec![gone("/a/1", 5), gone("/b/1", 5)]);
        history.push(6, vec![gone("/b/2", 6)]);
        check_page(&history, "/", 4, Some((3, 6)));
        check_page(&history, "/a/", 4, Some((1, 6)));
        check_page(&history, "/a/", 5, Some((0, 6)));
        check_page(&history, "/a/", 6, Some((0, 6)));
        check_page(&history, "/a/", 9, Some((0, 9)));
        check_page(&history, "/", 3, None);
    }

    #[test]
    fn the_oldest_revisions_are_forgotten_whole() {
        let mut history = History::after(0);
        for revision in 1..=HISTORY_CHANGES_MAX as Revision {
            history.push(revision, vec![gone("/a", revision), gone("/b", revision)]);
        }
        let half = HISTORY_CHANGES_MAX as Revision / 2;
        assert_eq!(history.forgotten(), half);
        check_page(&history, "/", half - 1, None);
        check_page(&history, "/", half, Some((PAGE_CHANGES, half + PAGE_CHANGES as Revision / 2)));
    }

    #[test]
    fn large_values_shorten_it() {
        let mut history = History::after(0);
        for revision in 1..=4 {
            history.push(revision, vec![gone(&"k".repeat(HISTORY_BYTES_MAX / 2), revision)]);
        }
        assert_eq!(history.forgotten(), 2);
        history.push(5, vec![gone(&"k".repeat(HISTORY_BYTES_MAX * 2), 5)]);
        assert_eq!(history.forgotten(), 4);
    }
}
