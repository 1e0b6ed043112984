#!/usr/bin/env bash
# The benchmark: installs what it needs, builds, and runs.  See README.md.
# usage: run.sh [history.py]
#
# environment: BENCH="throughput latency makespan scale rest overhead" (and "slots"), ROUNDS,
# CHILDREN and the other sizes of bench.py; INSTALL=no leaves packages and the installed extension
# as they are.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)

if [ "${INSTALL:-yes}" = yes ]; then
    "$root/test/setup.sh" test
    major=$(pg_config --version | sed -n 's/^PostgreSQL \([0-9]*\).*/\1/p')
    missing=()
    for p in "postgresql-$major-cron" pgagent; do
        [ "${1:-}" = history.py ] || [ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
    done
    if [ "${#missing[@]}" -gt 0 ]; then
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" </dev/null
    fi
    make -C "$root" -s
    "${as_root[@]}" make -C "$root" -s install
fi
[ "${1:-}" != history.py ] || exec python3 -B "$here/history.py"
make -C "$here" -s bare_loop
exec python3 -B "$here/bench.py" "$root/build/bench" "$root/build/bench/bare_loop" "$root/src/sql/10_tables.sql"
