//! Which parts of the bench are wanted.

/// The prefix that selects a part.
#[derive(Debug)]
pub(crate) struct Selection<'a>(pub(crate) &'a str);

impl Selection<'_> {
    /// Returns whether some rows that start with `name` are selected.
    pub(crate) fn wants(&self, name: &str) -> bool {
        name.starts_with(self.0) || self.0.starts_with(name)
    }

    /// Returns whether only rows that start with `name` are selected.
    pub(crate) fn is_within(&self, name: &str) -> bool {
        self.0.starts_with(name)
    }
}
