#!/usr/bin/env bash
# A rule that cannot fail holds nothing: plants one breach a rule in a small tree of its own, and
# requires that the rule finds it, and that it is content without.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree/test" "$tree/src/core" "$tree/src/link" "$tree/src/catalog" "$tree/src/api" "$tree/src/sql"
cp -r "$here" "$tree/test/lint"
cp "$here/../../.clang-format" "$tree/"
git -C "$tree" init -q
rc=0

# plant RULE FILE < text
plant()
{
    local rule=$1 file=$2
    if ! "$tree/test/lint/$rule.sh" >/dev/null 2>&1; then
        echo "selftest: $rule complains about a clean tree"
        rc=1
    fi
    cat >"$tree/$file"
    if "$tree/test/lint/$rule.sh" >/dev/null 2>&1; then
        echo "selftest: $rule did not find its breach in $file: $(head -c 200 "$tree/$file")"
        rc=1
    fi
    rm "$tree/$file"
}

plant 01_includes src/agent.c <<<'#include "libpq-fe.h"'
plant 01_includes src/link/pool.c <<<'#include "executor/spi.h"'
plant 01_includes src/core/graph.c <<<'#include "postgres.h"'
plant 01_includes src/catalog/run.c <<<'#include "link/link.h"'
plant 02_clock src/agent.c <<<'static long f(void) { return GetCurrentTimestamp(); }'
plant 03_compat src/agent.c <<<'#if PG_VERSION_NUM >= 160000'
plant 04_core_pure src/core/graph.c <<<'static void *f(void) { return malloc(1); }'
plant 05_agent_sql src/catalog/run.c <<<'const char *a = "SELECT run_id FROM run WHERE state = 1";'
plant 05_agent_sql src/catalog/run.c <<<'const char *a = "SELECT lower(x) FROM fleet_catalog.run";'
plant 05_agent_sql src/catalog/run.c <<<'const char *a = "SET search_path = public";'
plant 06_functions src/sql/10_x.sql <<<'CREATE FUNCTION fleet.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS $$SELECT 1$$;'
plant 06_functions src/sql/10_x.sql <<<'CREATE TABLE IF NOT EXISTS fleet.t (i int);'
if command -v gcc >/dev/null; then
    echo 'int stray(void) { return 1; }' >"$tree/x.c"
    gcc -shared -fPIC -o "$tree/lib.so" "$tree/x.c"
    rm "$tree/x.c"
    plant 07_symbols pg_fleet.so <"$tree/lib.so"
    rm "$tree/lib.so"
fi
plant 08_format src/agent.c <<<'int   f( void ){return 1;}'
plant 09_switch src/agent.c <<'C'
static int f(int x) { switch (x) { case FLEET_RUNNING: return 1; default: return 2; } }
C
plant 10_machine src/agent.c <<<"/* see /$(printf home)/somebody/notes */"
plant 10_machine src/agent.c <<<'int a; '
plant 11_scripts test/x.pl <<<'sub f {'
plant 11_scripts test/x.py <<<'def f('
plant 11_scripts test/x.sh <<<'cd $1; rm "$undefined'
plant 12_size src/agent.c < <(seq -f '/* %g */' 1300)
[ "$rc" -eq 0 ] && echo 'each rule finds its breach'
exit "$rc"
