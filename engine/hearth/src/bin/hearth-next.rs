//! `hearth` as it may be one version from now, for tests of upgrades: the same program over newer formats. Its name is its
//! own, so that both can stand side by side.

fn main() -> std::process::ExitCode {
    hearth::cli::main()
}
