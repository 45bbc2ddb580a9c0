//! What load and PV may turn out to be.

/// A course of load and PV.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course<'a> {
    /// The weights of all courses add up to 1.
    pub(crate) weight: f64,
    pub(crate) load_kw: &'a [f64],
    pub(crate) pv_kw: &'a [f64],
}
