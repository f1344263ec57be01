#!/usr/bin/env bash
# Runs all tests with counters and prints what they reach: source lines of the datapath's programs, counted by the
# interpreter, and of the Rust code, where LLVM's tools are here. Everything is below target/coverage.
#
#   coverage.sh           both
#   coverage.sh datapath  the programs only
set -euo pipefail
cd "$(dirname "$0")/.."

out=target/coverage
counts=$out/counts
# Random scenarios on the counting interpreter, and in each of the differential tests.
scenarios=${HOPWISE_SCENARIOS:-200}
cargo=${CARGO:-cargo}
llvm=$(rustc --version --verbose | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')

# ---- the Rust side's tools ----------------------------------------------------------------------------------------

# Prints the directory of llvm-cov and llvm-profdata that read what this compiler writes.
find_tools() {
    local directory
    for directory in "$(rustc --print sysroot)"/lib/rustlib/*/bin "/usr/lib/llvm-$llvm/bin"; do
        if [ -x "$directory/llvm-cov" ] && [ -x "$directory/llvm-profdata" ]; then
            echo "$directory"
            return
        fi
    done
    return 1
}

install_tools() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    echo "installing llvm-$llvm" >&2
    { apt-get update && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "llvm-$llvm"; } >&2
}

# ---- running ------------------------------------------------------------------------------------------------------

run_all_tests() {
    rm -rf "$out/profiles"
    export RUSTC_WORKSPACE_WRAPPER=$PWD/.ci/instrumented-rustc CARGO_TARGET_DIR=$PWD/$out/build
    # Processes of one binary share files, as many as there are after the percent sign.
    export LLVM_PROFILE_FILE=$PWD/$out/profiles/%4m.profraw
    HOPWISE_COVERAGE=$counts HOPWISE_SCENARIOS=$scenarios \
        $cargo test --locked --workspace --lib --bins --tests
}

run_datapath_tests() {
    HOPWISE_COVERAGE=$counts HOPWISE_SCENARIOS=$scenarios \
        $cargo test --locked --package tests --test it coverage::
}

report_datapath() {
    $cargo build --locked --quiet --package repl --bin hopwise
    "${CARGO_TARGET_DIR:-target}/debug/hopwise" test fixtures/cases fixtures/shop.hop --datapath-coverage "$out" \
        --merge-coverage "$counts/frames.json" --merge-coverage "$counts/random.json" >"$out/cases.txt" || {
        cat "$out/cases.txt" >&2
        return 1
    }
    cat "$out/datapath.txt"
}

# The executables of the tests, and the binary that some of them start, as arguments of llvm-cov.
objects() {
    $cargo test --locked --workspace --lib --bins --tests --no-run --message-format json 2>/dev/null |
        sed -n 's/.*"executable":"\([^"]*\)".*/--object=\1/p' | sort -u
    echo "--object=$CARGO_TARGET_DIR/debug/hopwise"
}

report_rust() { # TOOLS
    local profile=$out/rust.profdata files
    mapfile -t files < <(objects)
    "$1/llvm-profdata" merge --sparse --failure-mode=all --output "$profile" "$out"/profiles/*.profraw
    # Tests are not measured, nor what builds the packages, nor what macros of others write into ours.
    local ignored="^$PWD/(tests|datapath/build)|/\.\./build/|/src/(.*/)?tests(/.*)?\.rs$|/registry/src/|^/rustc/"
    local options=(--instr-profile "$profile" --ignore-filename-regex="$ignored" "${files[@]}")
    "$1/llvm-cov" report "${options[@]}" >"$out/rust.txt" 2>"$out/rust.log"
    "$1/llvm-cov" export --format lcov "${options[@]}" >"$out/rust.info" 2>>"$out/rust.log"
    "$1/llvm-cov" show --format html --output-dir "$out/rust" "${options[@]}" >/dev/null 2>>"$out/rust.log"
    sum_up "$out/rust.txt"
}

# Lines by package, and all of them. Columns 8 and 9 of llvm-cov's table are lines and those missed.
sum_up() { # REPORT
    awk '
        function tell(name, all, missed) {
            printf "%-10s%6d of %6d lines (%.1f%%)\n", name, all - missed, all, int(1000 * (all - missed) / all) / 10
        }
        $1 ~ /\.rs$/ && $8 > 0 {
            match($1, /(engine|lang|datapath|repl)\//)
            if (RSTART == 0) next
            owner = substr($1, RSTART, RLENGTH - 1)
            lines[owner] += $8; missed[owner] += $9
            lines["total"] += $8; missed["total"] += $9
        }
        END { for (owner in lines) tell(owner, lines[owner], missed[owner]) }' "$1" | sort
}

mkdir -p "$out"
rm -rf "$counts"
if [ "${1:-}" = datapath ]; then
    run_datapath_tests
    report_datapath
    exit
fi
if tools=$(find_tools) || { install_tools && tools=$(find_tools); }; then
    run_all_tests
    report_datapath
    printf '\nRust code\n'
    report_rust "$tools"
    echo "pages: $out/datapath.html, $out/rust/index.html; LCOV: $out/datapath.info, $out/rust.info"
else
    run_datapath_tests
    report_datapath
    echo
    echo "the Rust side is not measured: no llvm-cov and llvm-profdata of LLVM $llvm are here"
    echo "help: rustup component add llvm-tools; or on Debian, as root: apt-get install llvm-$llvm"
fi
