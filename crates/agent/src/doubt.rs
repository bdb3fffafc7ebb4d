//! Whether something may yet be written that this node has given up; see [`crate::sign`].

/// The memory.
#[derive(Default)]
pub struct Doubt(bool);

impl Doubt {
    /// Notes that nobody was told what became of a writing.
    pub fn arise(&mut self) {
        self.0 = true;
    }

    /// Whether one may yet be carried out.
    pub fn is_left(&self) -> bool {
        self.0
    }

    /// Notes that what is not written by now will not be.
    pub fn settle(&mut self) {
        self.0 = false;
    }
}
