#!/usr/bin/env bash
# Builds hopwise and traces the reference cluster's captured ping through the kernel. Running BPF programs takes
# privileges, so where the caller has none the trace alone goes through sudo; without sudo the interpreter answers.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --locked --package repl --bin hopwise
target=$(cargo metadata --format-version 1 --no-deps --offline |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
hopwise=$target/debug/hopwise
command=("$hopwise" trace -f fixtures/reference-cluster.hop
    'CA -> CB icmp echo id 502 seq 1878 ip-id 35369 df with reply')

become=()
if ! .ci/privileged.sh && [ "$(id -u)" != 0 ] && command -v sudo >/dev/null; then
    if sudo -n true 2>/dev/null; then
        become=(sudo -n)
    elif [ -t 0 ]; then
        become=(sudo)
    fi
fi

printf '\n$ %s\n' "hopwise trace -f fixtures/reference-cluster.hop '${command[4]}'"
exec "${become[@]}" "${command[@]}"
