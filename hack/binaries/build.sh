#!/usr/bin/env bash
# Builds one program of the local control plane from this module's pinned versions.
#   build.sh PACKAGE OUTPUT
set -euo pipefail
cd "$(dirname "$0")"
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
# kubectl refuses to read its own version without this.
stamp="-X k8s.io/component-base/version.gitVersion=$version -X k8s.io/client-go/pkg/version.gitVersion=$version"
exec ../build.sh . "$1" "$2" -ldflags "-s -w $stamp"
