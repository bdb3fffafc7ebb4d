//! The tickets that containers of this machine have in line. A ticket's key says whose turn comes when, so that it moves as
//! that changes; one whose fate nobody was told of is remembered until it is certainly gone, or it would keep all behind it
//! waiting for nobody.

use std::collections::BTreeMap;

/// The tickets.
#[derive(Default)]
pub struct Tickets {
    /// The keys of each container's tickets, by its name; the one that was drawn last at the end.
    of: BTreeMap<String, Vec<String>>,
}

impl Tickets {
    /// The ticket of a container that was drawn last.
    pub fn last(&self, container: &str) -> Option<String> {
        self.of.get(container)?.last().cloned()
    }

    /// All tickets that a container may have.
    pub fn all(&self, container: &str) -> Vec<String> {
        self.of.get(container).cloned().unwrap_or_default()
    }

    /// Notes that a ticket is about to be drawn. Gives those that it takes the place of.
    pub fn draw(&mut self, container: &str, key: &str) -> Vec<String> {
        let tickets = self.of.entry(container.to_owned()).or_default();
        tickets.retain(|ticket| ticket != key);
        let before = tickets.clone();
        tickets.push(key.to_owned());
        before
    }

    /// Notes that of a container's tickets none stands but the last.
    pub fn drawn(&mut self, container: &str) {
        if let Some(tickets) = self.of.get_mut(container) {
            tickets.drain(..tickets.len().saturating_sub(1));
        }
    }

    /// Notes that a container has none any more.
    pub fn forget(&mut self, container: &str) {
        self.of.remove(container);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_whose_fate_nobody_was_told_of_is_remembered() {
        let mut tickets = Tickets::default();
        assert_eq!(tickets.draw("web", "1"), [""; 0]);
        assert_eq!(tickets.draw("web", "1"), [""; 0], "the same once more");
        assert_eq!(tickets.draw("web", "2"), ["1"]);
        assert_eq!(tickets.draw("web", "1"), ["2"]);
        assert_eq!((tickets.last("web"), tickets.all("web").len()), (Some("1".into()), 2));
        tickets.drawn("web");
        assert_eq!(tickets.all("web"), ["1"]);
        tickets.forget("web");
        assert_eq!(tickets.last("web"), None);
    }
}
