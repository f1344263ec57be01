#!/usr/bin/env bash
# Runs what needs a kernel of its own, with tunnel devices that this host may lack, in an emulated machine: programs on real
# VXLAN and Geneve devices, and some cases with the kernel as the backend. Fetches what it needs from the packages that this
# machine is set up for; needs no KVM.
#
#   HOPWISE_QEMU_SUITE=bullseye   a kernel of another release of Debian (5.10), from the mirror that this machine uses
#   HOPWISE_QEMU_KERNEL=NAME      a kernel package by name, or the path of one that is here already
#   HOPWISE_QEMU_ACCEL=kvm        the processor's own virtual machines, where they work
#   HOPWISE_QEMU_LIMIT=SECONDS    how long the machine may run (600)
#
# Exit code: 0 all passed; 1 something failed; 3 the machine did not come to an end in time; 4 something is missing here.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C DEBIAN_FRONTEND=noninteractive CARGO_TERM_COLOR=never

suite=${HOPWISE_QEMU_SUITE:-}
work=$PWD/target/qemu
limit=${HOPWISE_QEMU_LIMIT:-600}
cases=(fixtures/shop.hop fixtures/cases/routing/*.hop fixtures/cases/services/cluster-ip*.hop)
modules=(veth vxlan geneve sch_ingress cls_bpf)

missing() { echo "error: $1" >&2; echo "help: $2" >&2; exit 4; }

install_tools() {
    local packages=()
    command -v qemu-system-x86_64 >/dev/null || packages+=(qemu-system-x86)
    command -v busybox >/dev/null || packages+=(busybox-static)
    command -v ip >/dev/null || packages+=(iproute2)
    command -v cpio >/dev/null || packages+=(cpio)
    command -v strip >/dev/null || packages+=(binutils)
    [ "${#packages[@]}" = 0 ] && return
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
        missing "missing on this machine: ${packages[*]} (as Debian names them)" 'install them, then run the command again'
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
}

# apt-get and apt-cache: of this machine, or of lists of our own where another release is asked for.
apt() {
    local tool=$1
    shift
    if [ -z "$suite" ]; then
        "$tool" "$@"
        return
    fi
    "$tool" -o Dir::Etc::sourcelist="$work/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::Lists="$work/apt/lists" -o Dir::Cache="$work/apt/cache" "$@"
}

# The first mirror of Debian's own packages that this machine is set up for.
mirror() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
        grep -oE '^(URIs:|deb)[[:space:]].*' | grep -oE '[a-z]+://[^[:space:]]+/debian(/|[[:space:]]|$)' | head -n 1
}

# Prints the path of the kernel package.
kernel_package() {
    local name=${HOPWISE_QEMU_KERNEL:-}
    if [ -f "$name" ]; then
        realpath "$name"
        return
    fi
    if [ -n "$suite" ]; then
        mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial"
        echo "deb $(mirror) $suite main" >"$work/apt/sources.list"
        apt apt-get update -qq >&2
    fi
    [ -n "$name" ] || name=$(apt apt-cache depends linux-image-cloud-amd64 2>/dev/null |
        awk '/Depends: linux-image-/ { print $2; exit }')
    if [ -z "$name" ]; then
        apt-get update -qq >&2
        name=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-/ { print $2; exit }')
    fi
    local folder=$work/packages/${suite:-here}
    mkdir -p "$folder"
    compgen -G "$folder/${name}_*.deb" >/dev/null ||
        (cd "$folder" && apt apt-get download "$name" >&2)
    compgen -G "$folder/${name}_*.deb" | head -n 1
}

# Copies a program and the libraries that it asks for, without what debuggers read.
bundle() { # PROGRAM PLACE
    strip -o "$root$2" "$1"
    local library
    for library in $(ldd "$1" 2>/dev/null | grep -oE '/[^ ]+'); do
        [ -e "$root$library" ] || install -D "$library" "$root$library"
    done
}

# Copies modules and what they depend on, in the order to load them in.
bundle_modules() {
    local base module path
    base=$(echo "$work"/kernel/lib/modules/*)
    busybox depmod -b "$work/kernel" "$(basename "$base")"
    for module in "${modules[@]}"; do
        path=$(grep -oE "^[^:]*/$module\.ko[^:]*" "$base/modules.dep") || continue # built in, or not there
        # What it depends on comes after it, nearest first.
        grep "^$path:" "$base/modules.dep" | tr -d ':' | tr ' ' '\n' | tac
    done | awk 'NF && !seen[$0]++' >"$root/modules"
    while read -r path; do
        install -D "$base/$path" "$root/lib/modules/$path"
    done <"$root/modules"
}

make_initramfs() {
    root=$work/root
    rm -rf "$root" "$work/kernel"
    mkdir -p "$root"/{bin,proc,sys,dev,tmp} "$work/kernel" "$root$PWD"
    dpkg-deb -x "$1" "$work/kernel"
    bundle_modules
    bundle "$(command -v busybox)" /bin/busybox
    bundle "$(command -v ip)" /bin/ip
    bundle "$tests" /bin/it
    bundle target/debug/hopwise /bin/hopwise
    cp -r fixtures "$root$PWD/"
    cat >"$root/init" <<EOF
#!/bin/busybox sh
/bin/busybox --install -s /bin 2>/dev/null
export PATH=/bin HOME=/tmp NO_COLOR=1 RUST_BACKTRACE=0 HOPWISE_REQUIRE=kernel,vxlan,geneve
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev
while read -r module; do insmod /lib/modules/\$module; done </modules
cd $PWD
echo "kernel \$(uname -r)"
{ hopwise doctor; echo; } 2>&1
failed=0
hopwise test --backend kernel ${cases[*]} >/tmp/cases || failed=1
if [ \$failed = 0 ]; then tail -n 1 /tmp/cases; else cat /tmp/cases; fi
it devices:: --test-threads=1 || failed=1
echo "result: \$failed"
poweroff -f
EOF
    chmod +x "$root/init"
    (cd "$root" && find . -print0 | cpio --null --create --quiet --format=newc --owner=0:0) | gzip -1 >"$work/initramfs.gz"
}

boot() {
    local image
    image=$(echo "$work"/kernel/boot/vmlinuz-*)
    timeout "$limit" qemu-system-x86_64 -accel "${HOPWISE_QEMU_ACCEL:-tcg}" -cpu max -smp 1 -m 2048 -nodefaults -no-reboot \
        -display none -serial stdio -nic none -kernel "$image" -initrd "$work/initramfs.gz" \
        -append 'console=ttyS0 quiet panic=-1 mitigations=off' </dev/null | tr -d '\r' | tee "$work/serial.log"
}

mkdir -p "$work"
install_tools
cargo build --locked --quiet --package repl --bin hopwise
cargo test --locked --package tests --test it --no-run 2>"$work/build.log" || { cat "$work/build.log" >&2; exit 1; }
tests=$(sed -n 's/.*Executable .*(\(.*\))$/\1/p' "$work/build.log")
package=$(kernel_package)
[ -n "$package" ] || missing 'no kernel package could be had' 'give the path of one: HOPWISE_QEMU_KERNEL=FILE.deb'
echo "== $(basename "$package")"
make_initramfs "$package"
boot || true
case $(sed -n 's/^result: //p' "$work/serial.log") in
    0) ;;
    1) exit 1 ;;
    *) echo "error: no result after ${SECONDS}s (limit ${limit}s)" >&2; exit 3 ;;
esac
