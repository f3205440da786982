//! What could not be used of a data set.

/// What was left out: how much, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bad {
    /// How many.
    pub count: usize,
    /// What is wrong with the first few, with file and line.
    pub first: Vec<String>,
}

impl Bad {
    /// How many reasons are kept.
    const KEPT: usize = 3;

    pub(crate) fn add(&mut self, reason: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < Self::KEPT {
            self.first.push(reason());
        }
    }

    /// Adds what another one has.
    pub(crate) fn extend(&mut self, other: Self) {
        self.count += other.count;
        self.first.extend(other.first);
        self.first.truncate(Self::KEPT);
    }

    /// For people: `lines left out: 2 (a.tsv line 3: …)`, and so on for the first few.
    pub fn summary(&self, what: &str) -> String {
        self.told(&format!("{what} left out"))
    }

    /// The same in other words than that they were left out.
    pub fn told(&self, what: &str) -> String {
        let reasons = self.first.join("; ");
        let reasons = if reasons.is_empty() { reasons } else { format!(" ({reasons})") };
        format!("{what}: {}{reasons}", self.count)
    }
}
