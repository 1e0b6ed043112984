#!/usr/bin/env bash
# Tests the runners without an agent: builds fleet_runner_test.so and runs runner.pl.  Ends with
# "N passed, N failed".  As root it continues as the user postgres.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/pg_fleet_runner.XXXXXX")
trap 'rm -rf "$work"' EXIT
"$here/build.sh" "$work"
cp "$here"/runner.pl "$here"/fleet_runner_test.sql "$here"/../prove.pl "$work"
chmod 755 "$work"
as_user=()
if [ "$(id -u)" -eq 0 ]; then
    chown -R postgres "$work"
    as_user=(runuser -u postgres --)
fi
for v in $(compgen -e PG); do unset "$v"; done
pgxs=$(dirname "$(pg_config --pgxs)")/../..
cd "$work"
"${as_user[@]}" env HOME="$work" TMPDIR="$work" LC_ALL=C.UTF-8 PATH="$(pg_config --bindir):$PATH" \
    FLEET_RUNNER_LIB="$work/fleet_runner_test" PG_REGRESS="$pgxs/src/test/regress/pg_regress" \
    TESTLOGDIR="$work/log" TESTDATADIR="$work/data" TESTDIR="$work" \
    perl prove.pl --jobs 1 -I "$pgxs/src/test/perl" runner.pl
