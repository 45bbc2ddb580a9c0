#!/usr/bin/env bash
# Builds the image of Hearth from deploy/Containerfile with buildah, where nothing can be pulled: the stage `build` is the
# binary that cargo has built, the stage `base` the libraries of this Debian. Does so twice, from two folders, compares the
# digests, and runs the image. `image.sh --once` builds once and runs nothing. Needs root.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Files of the image are as old as the commit.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$here" log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

say() { printf 'image: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

version() { sed -n 's/^version = "\(.*\)"/\1/p' "$here/../Cargo.toml" | head -n1; }

built_binary() {
    if [[ -n ${HEARTH_BIN:-} ]]; then
        echo "$HEARTH_BIN"
        return
    fi
    local target
    target=$(cd "$here" && cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
    echo "$target/release/hearth"
}

# What a program of C and C++ needs and nothing else: no shell, no package manager.
make_base() {
    local root=$1 debs=$2 deb
    mkdir -p "$root" "$debs"
    (cd "$debs" && apt-get download -q -q libc6 libgcc-s1 libstdc++6 ca-certificates tzdata) || fail "apt-get download failed"
    for deb in "$debs"/*.deb; do
        dpkg-deb -x "$deb" "$root"
    done
    # The authorities, as update-ca-certificates would put them together.
    mkdir -p "$root/etc/ssl/certs"
    find "$root/usr/share/ca-certificates" -name '*.crt' | LC_ALL=C sort | xargs cat >"$root/etc/ssl/certs/ca-certificates.crt"
    rm -rf "$root"/usr/share/{man,locale,lintian,doc-base,ca-certificates} "$root"/usr/lib/*/gconv "$root"/usr/sbin "$root"/sbin
    find "$root/usr/share/doc" -type f ! -name copyright -delete
    printf 'root:x:0:0::/:/nonexistent\nhearth:x:10001:10001::/var/lib/hearth:/nonexistent\n' >"$root/etc/passwd"
    printf 'root:x:0:\nhearth:x:10001:\n' >"$root/etc/group"
    printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
    install -d -o 10001 -g 10001 "$root/var/lib/hearth"
    install -d -m 1777 "$root/tmp"
}

# Prints the digest of what it builds as $2 in folder $1.
build() {
    local work=$1 tag=$2 binary=$3
    mkdir -p "$work/built/src/target/release" "$work/context"
    install -m 755 "$binary" "$work/built/src/target/release/hearth"
    strip "$work/built/src/target/release/hearth"
    make_base "$work/base" "$work/debs"
    buildah bud --quiet --isolation=chroot --timestamp "$SOURCE_DATE_EPOCH" \
        --build-context build="$work/built" --build-context base="$work/base" \
        -f "$here/Containerfile" -t "$tag" "$work/context" >/dev/null
    buildah push --quiet --digestfile "$work/digest" "$tag" "oci-archive:$work/image.tar" >&2
    cat "$work/digest"
}

