#!/usr/bin/env bash
# Tests the runners without an agent: builds fleet_runner_test.so, with the points of src/points.h,
# and runs runner.pl.  Ends with "N passed, N failed".  As root it continues as an unprivileged user.
#
# usage: test/runner/run.sh
#   FLEET_BINDIR=…   programs of the server to test with: those of test/private_prefix.sh
#                    (default: the system's own, of which nothing is changed)
#   FLEET_BAIL=1     ends at the first failure
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/pg_fleet_runner.XXXXXX")
trap 'rm -rf "$work"' EXIT
CFLAGS=${CFLAGS:--DFLEET_TEST_POINTS} "$here/build.sh" "$work"
cp "$here"/runner.pl "$here"/fleet_runner_test.sql "$here"/../prove.pl "$work"
chmod 755 "$work"
as_user=()
if [ "$(id -u)" -eq 0 ]; then
    user=postgres
    id "$user" >/dev/null 2>&1 || user=pg_fleet_test
    chown -R "$user" "$work"
    as_user=(runuser -u "$user" --)
fi
for v in $(compgen -e PG); do
    [ "$v" = PG_TEST_PORT_DIR ] || unset "$v"
done
bindir=${FLEET_BINDIR:-$(pg_config --bindir)}
pgxs=$(dirname "$(pg_config --pgxs)")/../..
cd "$work"
rc=0
"${as_user[@]}" env -u HOME HOME="$work" TMPDIR="$work" LC_ALL=C.UTF-8 PATH="$bindir:$PATH" \
    FLEET_RUNNER_LIB="$work/fleet_runner_test" PG_REGRESS="$pgxs/src/test/regress/pg_regress" \
    TESTLOGDIR="$work/log" TESTDATADIR="$work/data" TESTDIR="$work" \
    perl prove.pl --jobs 1 -I "$pgxs/src/test/perl" runner.pl || rc=$?
if [ "$rc" -ne 0 ]; then
    mkdir -p "$here/../../build/test-logs/runner"
    cp -r "$work/log" "$here/../../build/test-logs/runner/" || true
    echo "logs: build/test-logs/runner/"
fi
exit "$rc"
