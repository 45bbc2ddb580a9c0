#!/usr/bin/env bash
# Makes a release of the commit that is checked out, into target/release-VERSION: one static binary, the chart, a list of
# what is in the binary (CycloneDX), the changelog's section, licence, and checksums of all.
#
# The same commit gives the same bytes, whoever builds it and wherever the checkout lies: everything is built in one fixed
# folder, from what is committed, at the commit's time. Compilers must be the same too; VERSIONS in the release names them.
set -euo pipefail

# Paths end up in binaries (OpenSSL keeps those of its build), so this one is the same everywhere.
root=${HEARTH_RELEASE_ROOT:-/var/tmp/hearth-release}
cache=${HEARTH_CACHE:-$HOME/.cache/hearth}
triple=$(uname -m)-unknown-linux-gnu

say() { printf 'release: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# The version in Cargo.toml $1.
version_of() { sed -n '/^\[workspace.package\]/,/^\[/ s/^version = "\(.*\)"$/\1/p' "$1"; }

# The section of version $2 in changelog $1; what is unreleased where there is none.
notes_of() {
    local section=$2
    grep -q "^## $2\b" "$1" || section=Unreleased
    [[ $section == "$2" ]] || say "no section for $2 in the changelog: taking what is unreleased"
    awk -v head="## $section" '
        index($0, head) == 1 { inside = 1; next }
        /^## / { inside = 0 }
        inside { print }' "$1" | sed -e '/./,$!d'
}

# A tar file $1 of what is in folder $2, always with the same bytes for the same files. $3 is its time in seconds.
pack() {
    tar --sort=name --format=ustar --mtime="@$3" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
        -C "$2" -c . | gzip -9n >"$1"
}

# The chart in folder $1 as file $2, checked by helm and then packed again, since helm puts its own time into files.
pack_chart() {
    local scratch
    scratch=$(mktemp -d)
    "$cache/bin/helm" lint --quiet "$1" >&2
    "$cache/bin/helm" package --destination "$scratch" "$1" >/dev/null
    mkdir "$scratch/chart"
    tar -xzf "$scratch"/*.tgz -C "$scratch/chart"
    # Helm looks for Chart.yaml below a folder with the chart's name, without ./ before it.
    tar --sort=name --format=ustar --mtime="@$3" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
        -C "$scratch/chart" -c "$(basename "$1")" | gzip -9n >"$2"
    rm -rf "$scratch"
}

# What is in the binary, without what differs from run to run. Standard input to standard output.
steady_bom() {
    python3 -c '
import json, sys
path = sys.argv[1]
bom = json.load(sys.stdin)
bom.pop("serialNumber", None)
bom.get("metadata", {}).pop("timestamp", None)
text = json.dumps(bom, indent=1, sort_keys=True, ensure_ascii=False)
# References to our own crates have the folder of the build in them.
print(text.replace("path+file://" + path, "path+file:///hearth"))' "$1"
}

# Exports commit $2 of checkout $1 into the fixed folder.
export_source() {
    rm -rf "$root/src"
    mkdir -p "$root/src"
    git -C "$1" archive --format=tar "$2" | tar -x -C "$root/src"
}

# Builds the binary in the fixed folder. Nothing of the caller's environment gets in.
build() {
    local epoch=$1 path=$PATH
    mkdir -p "$root"
    ln -sfn "${CARGO_HOME:-$HOME/.cargo}" "$root/cargo"
    # Without its build script's own folders in debug info, and with names of functions for backtraces.
    local flags=(-Ctarget-feature=+crt-static -Cstrip=debuginfo "--remap-path-prefix=$root/src=/hearth"
        "--remap-path-prefix=$root/cargo=/cargo" "--remap-path-prefix=$root/target=/target")
    local encoded
    encoded=$(printf '%s\x1f' "${flags[@]}")
    (
        cd "$root/src"
        env -i PATH="$path" HOME="$HOME" ${RUSTUP_HOME:+RUSTUP_HOME="$RUSTUP_HOME"} LC_ALL=C TZ=UTC \
            ${LIBCLANG_PATH:+LIBCLANG_PATH="$LIBCLANG_PATH"} SOURCE_DATE_EPOCH="$epoch" \
            CARGO_HOME="$root/cargo" CARGO_TARGET_DIR="$root/target" CARGO_INCREMENTAL=0 \
            CARGO_PROFILE_RELEASE_DEBUG=false CARGO_ENCODED_RUSTFLAGS="${encoded%$'\x1f'}" \
            CFLAGS="-g0 -ffile-prefix-map=$root/cargo=/cargo" CXXFLAGS="-g0 -ffile-prefix-map=$root/cargo=/cargo" \
            bash deploy/build.sh --release --locked --target "$triple" -p hearth --bin hearth --features highs
    )
}

# What the bytes depend on beside the commit.
versions() {
    rustc --version
    cc --version | head -n1
    ldd --version 2>&1 | head -n1
    printf '%s\n' "$triple"
}

# Refuses a binary that needs anything of the machine.
check_static() {
    file -L "$1" | grep -q 'statically linked\|static-pie linked' || fail "$1 is not static"
    # In an empty root there is no library, no user and no name service.
    local empty
    empty=$(mktemp -d)
    cp "$1" "$empty/hearth"
    if [[ $(id -u) -eq 0 ]]; then
        chroot "$empty" /hearth config >/dev/null || fail "the binary does not run in an empty root"
    else
        say "not root: the binary was not tried in an empty root"
    fi
    rm -rf "$empty"
}

main() {
    local here commit epoch version out name
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    commit=$(git -C "$here" rev-parse HEAD)
    epoch=$(git -C "$here" show -s --format=%ct HEAD)
    [[ -z $(git -C "$here" status --porcelain) ]] || say "not committed, so not in the release: $(git -C "$here" status --porcelain | wc -l) files"
    mkdir -p "$root"
    exec 9>"$root/lock"
    flock -n 9 || fail "another release is being built in $root"
    export_source "$here" "$commit"
    version=$(version_of "$root/src/Cargo.toml")
    name=hearth-$version
    say "$name at $commit"
    build "$epoch"
    check_static "$root/target/$triple/release/hearth"

    out=${1:-$here/target/release-$version}
    rm -rf "$out"
    mkdir -p "$out" "$root/pack"
    rm -rf "$root/pack"
    mkdir -p "$root/pack/$name"
    install -m 755 "$root/target/$triple/release/hearth" "$root/pack/$name/hearth"
    install -m 644 "$root/src/LICENSE" "$root/src/CHANGELOG.md" "$root/src/deploy/hearth.toml" "$root/pack/$name/"
    pack "$out/$name-$triple.tar.gz" "$root/pack" "$epoch"
    pack_chart "$root/src/helm/hearth" "$out/$name-chart.tgz" "$epoch"
    (
        cd "$root/src"
        SOURCE_DATE_EPOCH=$epoch CARGO_HOME="$root/cargo" "$cache/bin/cargo-cyclonedx" cyclonedx -q \
            --manifest-path engine/hearth/Cargo.toml --format json --features highs --target "$triple" \
            --spec-version 1.5 --override-filename hearth.cdx
    )
    steady_bom "$root/src" <"$root/src/engine/hearth/hearth.cdx.json" >"$out/$name.cdx.json"
    notes_of "$root/src/CHANGELOG.md" "$version" >"$out/CHANGES.md"
    { printf 'commit %s\n' "$commit"; versions; } >"$out/VERSIONS"
    (cd "$out" && sha256sum -- * >SHA256SUMS)
    cat "$out/SHA256SUMS"
    say "in $out"
}

# When sourced, it only defines its functions.
[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@"
