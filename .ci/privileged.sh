#!/usr/bin/env bash
# Whether this process may run BPF programs in the kernel: CAP_NET_ADMIN (12), CAP_PERFMON (38) and CAP_BPF (39), or
# CAP_SYS_ADMIN (21), which stands for the last two.
set -euo pipefail
effective=$((16#$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)))
has() { [ $((effective >> $1 & 1)) = 1 ]; }
has 12 && { has 21 || { has 38 && has 39; }; }
