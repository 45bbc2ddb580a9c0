//! The set-up script knows what a machine has.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::path::Path;
use std::process::Command;

/// Whether a machine with these files needs no libclang.
#[track_caller]
fn check_libclang(files: &[&str], expected: bool) {
    let root = tempfile::tempdir().unwrap();
    for file in files {
        let path = root.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, []).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/setup.sh");
    let status = Command::new("bash")
        .args(["-c", r#"source "$1"; have_libclang "$2""#, "-"])
        .args([&script, root.path()])
        .env_remove("LIBCLANG_PATH")
        .status()
        .unwrap();
    assert_eq!(status.success(), expected, "{files:?}");
}

#[test]
fn libclang_is_found_where_distributions_put_it() {
    check_libclang(&["usr/lib/llvm-14/lib/libclang.so"], true);
    check_libclang(&["usr/lib/llvm-14/lib/libclang-14.so.14"], true);
    check_libclang(&["usr/lib/x86_64-linux-gnu/libclang-14.so.14"], true);
    check_libclang(&["usr/lib64/libclang.so.18"], true);
}

/// The C++ library comes with other packages, and nothing can be bound with it.
#[test]
fn the_cpp_library_is_not_libclang() {
    check_libclang(&[], false);
    check_libclang(
        &[
            "usr/lib/llvm-14/lib/libclang-cpp.so.14",
            "usr/lib/x86_64-linux-gnu/libclang-cpp.so.14",
        ],
        false,
    );
}
