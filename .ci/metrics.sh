#!/usr/bin/env bash
# Scrapes the metrics with a real Prometheus server, of Debian's package: downloaded from where this machine gets its packages, unpacked
# into target/tools, and not installed. Exit code: 4 where it cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never

folder=$PWD/target/tools/prometheus
if [ -n "${HOPWISE_PROMETHEUS:-}" ]; then
    :
elif [ -x "$folder/usr/bin/prometheus" ]; then
    HOPWISE_PROMETHEUS=$folder/usr/bin
elif command -v prometheus promtool >/dev/null; then
    HOPWISE_PROMETHEUS=$(dirname "$(command -v prometheus)")
else
    command -v apt-get >/dev/null || {
        echo 'error: there is no Prometheus here, and no apt-get to have it by' >&2
        echo 'help: HOPWISE_PROMETHEUS=FOLDER names where prometheus and promtool are' >&2
        exit 4
    }
    mkdir -p "$folder"
    (
        cd "$folder"
        apt-get download -qq prometheus >&2 || { apt-get update -qq && apt-get download -qq prometheus >&2; }
        dpkg-deb -x prometheus_*.deb .
        rm prometheus_*.deb
    ) || exit 4
    HOPWISE_PROMETHEUS=$folder/usr/bin
fi
export HOPWISE_PROMETHEUS
export HOPWISE_REQUIRE=${HOPWISE_REQUIRE:-},prometheus
exec "${CARGO:-cargo}" test --locked --package tests --test it -- metrics
