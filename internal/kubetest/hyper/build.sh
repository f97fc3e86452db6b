#!/usr/bin/env bash
# build.sh VERSION DIR: puts hyper and a link of each component into DIR, unless
# this very hyper is there. Built binaries are kept for other checkouts in the
# user's cache directory, by a hash of all that makes them differ.
set -euo pipefail
version=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
cd "$(dirname "$0")"
go=${GO:-go}

key=$({ echo "$version"; "$go" version; cat main.go go.mod go.sum build.sh; } | sha256sum | cut -c1-16)
if [ -x "$dir/hyper" ] && [ "$(cat "$dir/key" 2>/dev/null)" = "$key" ]; then
	exit 0
fi

cache=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/accumulus/kube-$version-$key
mkdir -p "$cache" 2>/dev/null || cache=$dir
if ! [ -x "$cache/hyper" ] || [ "$cache" = "$dir" ]; then
	echo "Building etcd and Kubernetes $version for the tests (once; about 14 minutes of CPU where nothing of it is cached)"
	# Without its version the API server is v0.0.0-master, which charts refuse.
	minor=${version#*.}
	package=k8s.io/component-base/version
	flags="-s -w -X $package.gitVersion=v$version -X $package.gitMajor=${version%%.*} -X $package.gitMinor=${minor%%.*}"
	flags="$flags -X $package.gitTreeState=clean -X $package.gitCommit=v$version -X $package.buildDate=2026-01-01T00:00:00Z"
	CGO_ENABLED=0 GOFLAGS= GOWORK=off "$go" build -mod=readonly -trimpath -buildvcs=false -ldflags "$flags" -o "$cache/hyper.$$" .
	mv "$cache/hyper.$$" "$cache/hyper"
fi
if [ "$cache" != "$dir" ]; then
	ln -f "$cache/hyper" "$dir/hyper" 2>/dev/null || { rm -f "$dir/hyper" && cp "$cache/hyper" "$dir/hyper"; }
fi
for component in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
	ln -sf hyper "$dir/$component"
done
echo "$key" >"$dir/key"
