#!/usr/bin/env bash
# Prints the digest of the sources that the eBPF object is built from: SHA-256 over `sha256sum`'s lines for them, by
# path. `datapath/build.rs` computes the same.
set -euo pipefail
cd "$(dirname "$0")/../datapath"
find ebpf/Cargo.toml ebpf/Cargo.lock ebpf/src abi/Cargo.toml abi/src -type f | LC_ALL=C sort |
    xargs sha256sum | sha256sum | cut -d ' ' -f 1
