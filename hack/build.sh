#!/usr/bin/env bash
# Builds one program from the pinned versions of a module under hack, and counts the packages compiled while it
# does, since the first build takes minutes.
#   build.sh MODULE PACKAGE OUTPUT [BUILD FLAG...]
# MODULE is the directory of the module, OUTPUT an absolute path. The flags are go build's; -ldflags replaces the
# default one, which strips the program.
set -euo pipefail
cd "$1"
package=$2 output=$3
shift 3
export CGO_ENABLED=0

total=$(go list -deps "$@" "$package" | wc -l)
name=$(basename "$output")

status=$(mktemp)
trap 'rm -f "$status"' EXIT
{ go build -v -trimpath -ldflags '-s -w' "$@" -o "$output" "$package" 2>&1; echo $? >"$status"; } |
	awk -v name="$name" -v total="$total" -v tty="$([ -t 2 ] && echo 1 || echo 0)" '
		/^[A-Za-z0-9._\/~-]+$/ { n++
			if (tty) printf "\r%-16s %4d of at most %d packages compiled", name, n, total > "/dev/stderr"
			else if (n % 200 == 0) printf "%-16s %4d of at most %d packages compiled\n", name, n, total > "/dev/stderr"
			next }
		{ print > "/dev/stderr" }
		END { printf "%s%-16s built, %d packages compiled\n", tty ? "\r" : "", name, n, total > "/dev/stderr" }'
exit "$(cat "$status")"
