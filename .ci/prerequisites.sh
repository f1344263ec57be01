#!/usr/bin/env bash
# Installs what building hopwise needs beyond Rust: a C compiler, pkg-config and the headers of libelf and
# zlib (for libbpf). As root, or through sudo; otherwise prints the exact command and stops.
set -euo pipefail

packages=()
want() { # PACKAGE COMMAND...: the package is needed unless the command succeeds
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || packages+=("$package")
}

want gcc command -v gcc
want make command -v make
want pkg-config command -v pkg-config
want libelf-dev pkg-config --exists libelf
want zlib1g-dev pkg-config --exists zlib

if [ "${#packages[@]}" -gt 0 ]; then
    install="apt-get update && apt-get install -y --no-install-recommends ${packages[*]}"
    if ! command -v apt-get >/dev/null; then
        echo "error: missing on this machine: ${packages[*]} (as Debian names them)" >&2
        echo "help: install them with this system's package manager, then run the command again" >&2
        exit 4
    elif [ "$(id -u)" = 0 ]; then
        become=()
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        become=(sudo -n)
    elif command -v sudo >/dev/null && [ -t 0 ]; then
        become=(sudo)
    else
        echo "error: missing on this machine: ${packages[*]}" >&2
        echo "help: run this as root, then run the command again:" >&2
        echo "  $install" >&2
        exit 4
    fi
    echo "installing ${packages[*]}"
    "${become[@]}" env DEBIAN_FRONTEND=noninteractive sh -c "$install" >&2
fi

if ! command -v cargo >/dev/null; then
    echo "error: cargo is not on the PATH" >&2
    echo "help: install Rust (https://rustup.rs), then run the command again" >&2
    exit 4
fi
