#!/usr/bin/env bash
# Brings what the chart's tests on a real control plane need into $HEARTH_CACHE (default ~/.cache/hearth), where it is
# absent: helm 3, kubectl, etcd, and of Kubernetes the API server, controller manager, scheduler and kubelet, and kwok, which
# plays nodes. All are built from the modules that go.mod beside this file pins, which takes about ten minutes of processor
# time the first time. `tools.sh node` also installs what a real node and an image need (Debian packages).
set -euo pipefail

modules=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../setup.sh
source "$modules/../setup.sh"

programs=(
    go.etcd.io/etcd/server/v3
    k8s.io/kubernetes/cmd/kube-apiserver
    k8s.io/kubernetes/cmd/kubectl
    helm.sh/helm/v3/cmd/helm
    k8s.io/kubernetes/cmd/kube-controller-manager
    k8s.io/kubernetes/cmd/kube-scheduler
    sigs.k8s.io/kwok/cmd/kwok
    k8s.io/kubernetes/cmd/kubelet
)

# The name under which a program is kept.
name_of() {
    case $1 in
        */etcd/server/v3) echo etcd ;;
        */cmd/helm) echo helm3 ;;
        *) basename "$1" ;;
    esac
}

# What go.mod pins module $1 to.
pinned() { awk -v module="$1" '$1 == module { print $2; exit }' "$modules/go.mod"; }

# Names each version; other versions are other folders.
tools_folder() { echo "$cache/kubernetes-$(sha256sum "$modules/go.mod" | cut -c1-16)"; }

# Shows every ten seconds how many packages are compiled.
show_packages() {
    awk -v name="$1" -v began="$(date +%s)" '
        /^[A-Za-z0-9_.\/-]+$/ {
            count++
            now = systime()
            if (now >= told + 10) { told = now; printf "setup: %s: %d packages compiled, %d s\n", name, count, now - began; fflush() }
            next
        }
        { print; fflush() }' >&2
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
    flags+=" -X helm.sh/helm/v3/internal/version.version=$(pinned helm.sh/helm/v3)"
    export GOMODCACHE=$cache/go/mod GOCACHE=$cache/go/build CGO_ENABLED=0 GOFLAGS="-mod=readonly -trimpath -buildvcs=false -modcacherw"
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
    for pair in buildah:buildah podman:podman runc:runc containerd:containerd mmdebstrap:mmdebstrap ip:iproute2; do
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
    helm
    build_programs
    [[ $mode != node ]] || node_packages
    ln -sfn "$(tools_folder)" "$cache/kubernetes"
}

[[ ${BASH_SOURCE[0]} != "$0" ]] || tools_main "$@"
