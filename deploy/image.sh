#!/usr/bin/env bash
# Builds the image of Hearth with buildah, where nothing can be pulled: the last stage of deploy/Containerfile, with the binary
# that cargo has built for its stage `build`, and the libraries of this Debian for its stage `base`. Does so twice, from two
# folders, compares the digests, and runs the image. `image.sh --once` builds once and runs nothing. Needs root.
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
    (cd "$debs" && apt-get -o APT::Sandbox::User=root download -q -q libc6 libgcc-s1 libstdc++6 ca-certificates tzdata) || fail "apt-get download failed"
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
    mkdir -p "$root/var/lib"
    install -d -m 1777 "$root/tmp"
}

# Prints the digest of what it builds as $2 in folder $1.
build() {
    local work=$1 tag=$2 binary=$3
    mkdir -p "$work/built/src/target/release" "$work/built/src/empty" "$work/context"
    install -m 755 "$binary" "$work/built/src/target/release/hearth"
    strip "$work/built/src/target/release/hearth"
    make_base "$work/base" "$work/debs"
    { printf 'FROM scratch\nCOPY --from=base / /\n'; sed -n '/^FROM base$/,$ { /^FROM/d; p }' "$here/Containerfile"; } >"$work/Containerfile"
    buildah bud --quiet --isolation=chroot --timestamp "$SOURCE_DATE_EPOCH" \
        --build-context build="$work/built" --build-context base="$work/base" \
        -f "$work/Containerfile" -t "$tag" "$work/context" >/dev/null
    buildah push --quiet --digestfile "$work/digest" "$tag" "oci-archive:$work/image.tar" >&2
    cat "$work/digest"
}

# Runs it as Kubernetes does: no rights, nothing to write on but its volume.
try() {
    local tag=$1 name=hearth-image-$$
    local restrained=(podman --cgroup-manager=cgroupfs --runtime=runc run --rm --ulimit nofile=20000:20000 --ulimit nproc=9000:9000
        --read-only --cap-drop=all --security-opt=no-new-privileges --network=none)
    [[ $("${restrained[@]}" "$tag" --version) == "hearth $(version)" ]] || fail "the image does not say its version"
    "${restrained[@]}" "$tag" config >/dev/null || fail "the image cannot print its settings"
    if "${restrained[@]}" --entrypoint /bin/sh "$tag" -c true 2>/dev/null; then fail "the image has a shell"; fi
    [[ $(buildah inspect --format '{{.OCIv1.Config.User}}' "$tag") == 10001:10001 ]] || fail "the image runs as root"
    "${restrained[@]}" -d --name "$name" --volume /var/lib/hearth "$tag" \
        demo --homes 5 --past-days 0 --data-dir /var/lib/hearth/demo >/dev/null
    trap 'podman rm -f -t 0 "$name" >/dev/null 2>&1 || true; rm -rf "$scratch"' EXIT
    podman --runtime=runc exec "$name" /usr/local/bin/hearth ready --wait-s 120 http://127.0.0.1:8080 >&2 ||
        { podman logs "$name" >&2; fail "the demo in the image does not become ready"; }
    podman stop -t 40 "$name" >/dev/null || fail "the demo in the image does not stop"
    say "the image runs: no rights, read-only, ready, stopped"
}

main() {
    [[ $(id -u) -eq 0 ]] || fail "needs root"
    local binary tag first second
    binary=$(built_binary)
    [[ -x $binary ]] || fail "no binary at $binary: cargo build --release -p hearth --bin hearth"
    tag=localhost/hearth:$(version)
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    first=$(build "$scratch/one" "$tag" "$binary")
    mkdir -p "$here/../target/image"
    rm -f "$here/../target/image/hearth.tar"
    buildah push --quiet "$tag" "docker-archive:$here/../target/image/hearth.tar:$tag" >&2
    say "$tag $first, $(($(stat -c %s "$scratch/one/image.tar") / 1000000)) MB packed, $(du -sm "$scratch/one/base" | cut -f1) MB of it libraries unpacked; archive: target/image/hearth.tar"
    [[ ${1:-} != --once ]] || return 0
    second=$(build "$scratch/another/folder/two" "$tag" "$binary")
    [[ $first == "$second" ]] || fail "another folder gives another image: $second"
    say "another folder gives the same image"
    try "$tag"
}

[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@"
