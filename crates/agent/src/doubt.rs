//! Whether something may yet be written that this node has given up; see [`crate::sign`].

/// The memory.
#[derive(Default)]
pub struct Doubt {
    arisen: u64,
    settled: u64,
}

impl Doubt {
    /// Notes that nobody was told what became of a writing.
    pub fn arise(&mut self) {
        self.arisen += 1;
    }

    /// Whether one may yet be carried out.
    pub fn is_left(&self) -> bool {
        self.arisen > self.settled
    }

    /// How often it has arisen.
    pub fn arisen(&self) -> u64 {
        self.arisen
    }

    /// Notes that of what was given up when it had arisen so often nothing will be written.
    pub fn settle(&mut self, arisen: u64) {
        self.settled = self.settled.max(arisen);
    }
}
