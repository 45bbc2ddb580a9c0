//! The figures of `docs/reference/cases.md`, to hold them to what the tests find.

const PAGE: &str = include_str!("../../../../docs/reference/cases.md");
/// What the page may be wrong by: it rounds to six digits.
const ROUNDED: f64 = 1e-6;

/// The row of the page that begins with `label` has these `figures`, and no other number in a cell of its own.
pub(crate) fn states(label: &str, figures: &[f64]) {
    let row = PAGE
        .lines()
        .find(|line| line.starts_with(&format!("| {label} |")))
        .unwrap_or_else(|| panic!("the page has a row for {label}"));
    let cells = row.trim_matches('|').split('|').skip(1);
    let stated: Vec<f64> = cells.filter_map(|cell| cell.trim().parse().ok()).collect();
    assert_eq!(stated.len(), figures.len(), "{label}: {stated:?}");
    for (stated, found) in stated.iter().zip(figures) {
        let difference = (stated - found).abs();
        assert!(
            difference < ROUNDED,
            "{label}: {stated} instead of {found:.6}"
        );
    }
}
