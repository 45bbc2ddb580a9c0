//! The page of settings is that of the code.

use expect_test::expect_file;

#[test]
fn the_reference_lists_every_setting() {
    let page = hearth::config::reference::page().expect("defaults can be written");
    expect_file!["../../../docs/reference/config.md"].assert_eq(&page);
}
