#!/usr/bin/env bash
# Builds the eBPF object, or checks that the committed one is what the sources give.
#
#   bpf.sh build             builds datapath/prebuilt/ anew: the object, the digest of its sources, the toolchain
#   bpf.sh check [--install] compares the digest; where the recorded toolchain is here, also every byte
#
# Two toolchains do: Debian's (rustc-web with the BPF target's library, LLVM), or rustup's nightly with rust-src.
# Both need bpf-linker. With --install, and for a build as root, Debian's is installed where it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD
prebuilt=datapath/prebuilt
target=$root/target/bpf
linker_version=0.13.0
llvm=22
packages=(rustc-web libstd-rust-web-dev-bpf llvm-$llvm llvm-$llvm-dev)
export PATH=$root/target/tools/bin:$PATH

fail() { # MESSAGE HELP...
    echo "error: $1" >&2
    shift
    printf 'help: %s\n' "$@" >&2
    exit 4
}

# ---- the toolchain ------------------------------------------------------------------------------------------------

has_debian() {
    [ -x /usr/bin/rustc ] && [ -x /usr/lib/llvm-$llvm/bin/llvm-strip ] &&
        [ -d "$(/usr/bin/rustc --print sysroot)/lib/rustlib/bpfel-unknown-none" ]
}

has_nightly() {
    command -v rustup >/dev/null &&
        rustup component list --toolchain nightly --installed 2>/dev/null | grep -q '^rust-src'
}

install_debian() {
    echo "installing ${packages[*]}" >&2
    { apt-get update && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "${packages[@]}"; } >/dev/null
}

install_linker() {
    echo "installing bpf-linker $linker_version into target/tools" >&2
    local options=(--version "$linker_version" --locked --quiet --root "$root/target/tools")
    if [ "$kind" = debian ]; then
        LLVM_PREFIX=/usr/lib/llvm-$llvm cargo install bpf-linker "${options[@]}" \
            --no-default-features --features llvm-$llvm
    else
        cargo install bpf-linker "${options[@]}"
    fi
}

# Sets `kind`; false, or an end with what to install, where there is none.
find_toolchain() { # INSTALL
    if has_debian; then
        kind=debian
    elif has_nightly; then
        kind=nightly
    elif [ "$1" = install ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && install_debian; then
        kind=debian
    else
        return 1
    fi
    command -v bpf-linker >/dev/null && return
    [ "$1" = install ] && install_linker
}

explain_missing() {
    fail 'there is no toolchain for the BPF target here' \
        "on Debian, as root: apt-get install ${packages[*]}" \
        'or, with rustup: rustup toolchain install nightly --component rust-src' \
        "and for either: cargo install bpf-linker --version $linker_version"
}

compiler() {
    if [ "$kind" = debian ]; then echo /usr/bin/rustc; else rustup which --toolchain nightly rustc; fi
}

describe_toolchain() {
    "$(compiler)" --version --verbose | grep -E '^(release|commit-hash|LLVM version):'
    echo "bpf-linker: $(bpf-linker --version 2>/dev/null | head -n 1)"
    # Where the library's sources lie under the name that line information has, the linker reads their text.
    local sources=/usr/src/rustc-$("$(compiler)" --version | cut -d ' ' -f 2)
    echo "library: $kind$([ ! -d "$sources/library" ] || echo ' with its sources')"
}

strip_debug() { # FROM TO
    local tool
    for tool in /usr/lib/llvm-$llvm/bin/llvm-strip llvm-strip rust-strip; do
        if command -v "$tool" >/dev/null; then
            "$tool" --strip-debug -o "$2" "$1"
            return
        fi
    done
    fail 'no llvm-strip is here' "on Debian: apt-get install llvm-$llvm" 'or: cargo install cargo-binutils'
}

# ---- building -----------------------------------------------------------------------------------------------------

build() { # TO
    local flags="-C linker=$(command -v bpf-linker) --cfg bpf_target_arch=\"x86_64\" -C debuginfo=2"
    # The linker's default turns every small clearing and copying into a call of a loop over bytes.
    flags+=" -C link-arg=--btf -C link-arg=--disable-expand-memcpy-in-order"
    # Paths are those that a person in the root writes. The linker cannot open a file by them where it runs: the source
    # text that it puts into the line information comes from the compiler.
    flags+=" --remap-path-prefix=$root= -Z embed-source=yes -C dwarf-version=5"
    local sources
    for sources in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
        flags+=" --remap-path-prefix=$sources=cargo"
    done
    local extra=()
    if [ "$kind" = nightly ]; then extra=(-Z build-std=core); fi
    (
        cd datapath/ebpf
        # Debian's compiler is a stable one; the target needs unstable features of either.
        RUSTC_BOOTSTRAP=1 RUSTC=$(compiler) RUSTC_WRAPPER=$root/.ci/bpf-rustc RUSTFLAGS=$flags \
            cargo build --release --locked --quiet --target bpfel-unknown-none --target-dir "$target" "${extra[@]}"
    )
    strip_debug "$target/bpfel-unknown-none/release/hopwise" "$1"
}

digest() { .ci/digest.sh; }

fetch() {
    # The paths to remap are known only when the sources are here.
    cargo fetch --locked --quiet --manifest-path datapath/ebpf/Cargo.toml
}

case ${1:-} in
build)
    find_toolchain install || explain_missing
    fetch
    mkdir -p "$prebuilt"
    build "$prebuilt/hopwise.bpf.o"
    digest >"$prebuilt/digest"
    describe_toolchain >"$prebuilt/toolchain"
    echo "built $prebuilt/hopwise.bpf.o, $(wc -c <"$prebuilt/hopwise.bpf.o") bytes"
    ;;
check)
    if [ "$(digest)" != "$(cat "$prebuilt/digest")" ]; then
        fail "$prebuilt/hopwise.bpf.o is not built from the present sources" 'make bpf'
    fi
    install=no
    [ "${2:-}" = --install ] && install=install
    if ! find_toolchain "$install"; then
        echo 'the digest of the sources matches; without a BPF toolchain the bytes are not compared'
        exit
    fi
    if [ "$(describe_toolchain)" != "$(cat "$prebuilt/toolchain")" ]; then
        echo 'the digest of the sources matches; with another toolchain than the recorded one the bytes are not compared:'
        diff <(describe_toolchain) "$prebuilt/toolchain" || true
        exit
    fi
    fetch
    mkdir -p "$target"
    build "$target/check.o"
    cmp "$target/check.o" "$prebuilt/hopwise.bpf.o" ||
        fail "$prebuilt/hopwise.bpf.o differs from what its sources give" 'make bpf'
    echo 'the committed object is what the sources give, byte for byte'
    ;;
*)
    fail "usage: bpf.sh build | check [--install]" 'make bpf'
    ;;
esac
