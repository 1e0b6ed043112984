#!/usr/bin/env bash
# A rule that cannot fail holds nothing: plants one breach a rule in a small tree of its own, and
# requires that the rule finds it, and that it is content without.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree/test" "$tree/src/mailbox" "$tree/src/core/engine" "$tree/src/core" "$tree/src/link" "$tree/src/store" "$tree/src/api" "$tree/src/agent" "$tree/src/sql" "$tree/src/runner"
cp -r "$here" "$tree/test/lint"
cp "$here/../../.clang-format" "$tree/"
git -C "$tree" init -q
rc=0

# fine RULE FILE < text: the rule has nothing against it
fine()
{
    cat >"$tree/$2"
    "$tree/test/lint/$1.sh" || { echo "selftest: $1 complains about what is right in $2"; rc=1; }
    rm "$tree/$2"
}

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

plant 01_includes src/agent/main.c <<<'#include "libpq-fe.h"'
plant 01_includes src/link/server_link.c <<<'#include "executor/spi.h"'
plant 01_includes src/core/graph.c <<<'#include "postgres.h"'
plant 01_includes src/store/run_read.c <<<'#include "link/link.h"'
plant 01_includes src/mailbox/session.c <<<'#include "agent/agent.h"'
plant 02_clock src/agent/main.c <<<'static long f(void) { return GetCurrentTimestamp(); }'
plant 03_compat src/agent/main.c <<<'#if PG_VERSION_NUM >= 160000'
plant 04_core_pure src/core/graph.c <<<'static void *f(void) { return malloc(1); }'
plant 04_core_pure src/core/engine/queue.c <<<'static void *f(void) { return malloc(1); }'
plant 05_agent_sql src/store/run_read.c <<<'const char *a = "SELECT run_id FROM run WHERE state = 1";'
plant 05_agent_sql src/store/run_read.c <<<'const char *a = "SELECT lower(x) FROM fleet_catalog.run";'
plant 05_agent_sql src/store/run_read.c <<<'const char *a = "SET search_path = public";'
plant 05_agent_sql src/store/run_read.c <<<'const char *a = "SELECT r.run_id FROM fleet_catalog.run AS r WHERE r.state = 1";'
plant 05_agent_sql src/store/run_read.c <<<'const char *a = "UPDATE fleet_catalog.run AS r SET state = 1 WHERE r.run_id = $1";'
plant 05_agent_sql src/store/run_read.c <<<'const char *a = "UPDATE fleet_catalog.run AS r SET state = r.state + 1";'
plant 05_agent_sql src/store/run_read.c <<<'const char *a = "SELECT r.run_id FROM fleet_catalog.run AS r WHERE r.state IN (1, 2)";'
plant 05_agent_sql src/store/run_read.c <<<'const char *a = "SELECT r.run_id FROM fleet_catalog.run AS r WHERE r.state IS DISTINCT FROM $1";'
fine 05_agent_sql src/store/run_read.c <<'C'
const char *a = "UPDATE fleet_catalog.run AS r SET state = 1, message = $2"
                " WHERE r.run_id OPERATOR(pg_catalog.=) $1 RETURNING *";
const char *b = "SELECT pg_catalog.count(*), r.* FROM fleet_catalog.run AS r";
C
plant 06_functions src/sql/10_x.sql <<<'CREATE FUNCTION fleet.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS $$SELECT 1$$;'
plant 06_functions src/sql/10_x.sql <<<'CREATE TABLE IF NOT EXISTS fleet.t (i int);'
plant 06_functions src/sql/10_x.sql <<<'CREATE FUNCTION fleet.f() RETURNS int LANGUAGE sql AS $$SELECT 1$$;'
plant 06_functions src/sql/10_x.sql <<<'CREATE FUNCTION fleet.f() RETURNS void LANGUAGE plpgsql AS $$BEGIN END$$;'
plant 06_functions src/sql/10_x.sql <<<'CREATE FUNCTION fleet.f() RETURNS void LANGUAGE plpgsql SET search_path = public AS $$BEGIN END$$;'
plant 06_functions src/sql/10_x.sql <<<'CREATE PROCEDURE fleet.f() LANGUAGE plpgsql AS $$BEGIN END$$;'
plant 06_functions src/sql/10_x.sql <<<'CREATE PROCEDURE fleet.execute_package() LANGUAGE plpgsql AS $$DECLARE v_a text; BEGIN END$$;'
plant 06_functions src/sql/10_x.sql <<<'CREATE PROCEDURE fleet.execute_package() LANGUAGE plpgsql AS $$DECLARE v_a pg_catalog.text; BEGIN v_a := 1::text; END$$;'
fine 06_functions src/sql/10_x.sql <<'SQL'
CREATE FUNCTION fleet.f() RETURNS int LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$BEGIN RETURN 1; END$$;
CREATE FUNCTION fleet.g() RETURNS int LANGUAGE sql RETURN 1;
CREATE FUNCTION fleet.h() RETURNS int AS 'MODULE_PATHNAME', 'h' LANGUAGE c;
SQL
plant 19_ascii src/sql/10_x.sql < <(printf -- '-- from 1\xe2\x80\xa6n\n')
plant 19_ascii src/agent/main.c < <(printf 'const char *a = "1 \xe2\x80\xa6 n";\n')
fine 19_ascii src/agent/main.c < <(printf '/* 1 \xe2\x80\xa6 n */\n')

# The rules that look at objects: a Makefile that compiles what is planted, as ours does.
cat >"$tree/Makefile" <<'MAKE'
all:
	for f in $$(cd src && find . -name '*.c'); do \
	    mkdir -p $(BUILD)/$$(dirname $$f) && $(CC) -Wall $(if $(WERROR),-Werror) -fPIC -Isrc -c -o $(BUILD)/$${f%.c}.o src/$$f || exit 1; done
	$(if $(NO_LIBRARY),,$(CC) -shared -Wl,--version-script=src/exports.map -o $(shlib) $$(find $(BUILD) -name '*.o'))
MAKE
echo '{ global: fleet_*_main; stray; local: *; };' >"$tree/src/exports.map"
printf '#include "runner/ring.h"\nint fleet_ring_size(void) { return 1; }\nvoid fleet_x_main(void) { }\n' >"$tree/src/runner/ring.c"
echo 'extern int fleet_ring_size(void); extern void fleet_x_main(void);' | tr ';' '\n' | sed '/./s/$/;/' >"$tree/src/runner/ring.h"
printf '#include "agent/turn.h"\n#include "runner/ring.h"\nint turn(void) { return fleet_ring_size(); }\n' >"$tree/src/agent/turn.c"
echo 'extern int turn(void);' >"$tree/src/agent/turn.h"
: >"$tree/test/lint/circles.txt"
plant 07_symbols src/core/graph.c <<<'int stray(void) { return 1; }'
plant 07_symbols src/core/graph.c <<<'int stray(void) { int unused; return 1; }'
rm -f "$tree/build/lint/pg_fleet.so"
if NO_LIBRARY=1 "$tree/test/lint/07_symbols.sh" >/dev/null 2>&1; then
    echo 'selftest: 07_symbols is content where no library is built'
    rc=1
fi
for layer in link runner store mailbox; do
    plant 16_layers "src/$layer/x.c" <<<'extern int turn(void); int fleet_x(void); int fleet_x(void) { return turn(); }'
done
plant 16_layers src/core/graph.c <<<'extern int fleet_ring_size(void); int fleet_x(void); int fleet_x(void) { return fleet_ring_size(); }'
# ring.c needs what the planted file has, and the other way round
sed -i 's/return 1/extern int needed(void) __attribute__((weak)); return needed ? needed() : 1/' "$tree/src/runner/ring.c"
plant 17_circles src/agent/needed.c <<<'extern int fleet_ring_size(void); int needed(void); int needed(void) { return fleet_ring_size(); }'
echo 'runner/ring agent/needed: a reason' >"$tree/test/lint/circles.txt"
echo 'extern int fleet_ring_size(void); int needed(void); int needed(void) { return fleet_ring_size(); }' >"$tree/src/agent/needed.c"
"$tree/test/lint/17_circles.sh" || { echo 'selftest: 17_circles finds a circle that has a reason'; rc=1; }
echo 'runner/ring agent/needed:' >"$tree/test/lint/circles.txt"
! "$tree/test/lint/17_circles.sh" >/dev/null || { echo 'selftest: 17_circles takes an exception without a reason'; rc=1; }
rm "$tree/src/agent/needed.c"
echo 'runner/ring agent/needed: a reason' >"$tree/test/lint/circles.txt"
! "$tree/test/lint/17_circles.sh" >/dev/null || { echo 'selftest: 17_circles keeps an exception for nothing'; rc=1; }
: >"$tree/test/lint/circles.txt"
sed -i 's/extern int needed.*/return 1; }/' "$tree/src/runner/ring.c"
plant 18_externs src/core/graph.c <<<'extern int fleet_ring_size(void);'
plant 18_externs src/core/graph.h <<<'extern int fleet_ring_size(void);'
plant 18_externs src/core/graph.h <<<'extern int fleet_gone(void);'
plant 18_externs src/agent/turn.c <<<'int turn(void) { return 1; }'
rm -r "$tree/Makefile" "$tree/src/runner" "$tree/build" "$tree/src/agent/turn.h"
# in the real tree, with a variable of PGXS that only this rule would miss
if HEADERS=src/guc.h "$here/20_install.sh" >/dev/null 2>&1; then
    echo 'selftest: 20_install does not see that a header is installed'
    rc=1
fi
plant 08_format src/agent/main.c <<<'int   f( void ){return 1;}'
plant 09_switch src/agent/main.c <<'C'
static int f(int x) { switch (x) { case FLEET_RUNNING: return 1; default: return 2; } }
C
plant 10_machine src/agent/main.c <<<"/* see /$(printf home)/somebody/notes */"
plant 10_machine src/agent/main.c <<<'int a; '
plant 11_scripts test/x.pl <<<'sub f {'
plant 11_scripts test/x.py <<<'def f('
plant 11_scripts test/x.sh <<<'cd $1; rm "$undefined'
printf 'struct AgentTask\n{\n    int state;\n    char *message;\n};\n' >"$tree/src/agent/state.h"
fine 24_min_max src/agent/main.c < <(printf '/* Max(f(a), 1) */ int f(int a) { return Max(lengthof(x), Min((int) a, sizeof(a))); }\n')
plant 24_min_max src/agent/main.c < <(printf 'int f(int a) { return Max(g(a), 1); }\n')
plant 24_min_max src/agent/main.c < <(printf 'int f(int a) { return Min(1,\n Max(2, t->g(a))); }\n')
fine 23_owners src/agent/task.c < <(printf '#include "agent/state.h"\nvoid f(struct AgentTask *task) { task->state = 1; }\n')
plant 23_owners src/agent/decide.c < <(printf '#include "agent/state.h"\nvoid f(struct AgentTask *task) { task->state = 1; }\n')
plant 23_owners src/agent/decide.c < <(printf '#include "agent/state.h"\nvoid g(char **s);\nvoid f(struct AgentTask *task) { g(&task->message); }\n')
rm "$tree/src/agent/state.h"
plant 15_states src/store/run_read.c <<<'static void f(void) { set_int2(rows, TASK_STATE, FLEET_LOST); }'
plant 15_states src/store/run_read.c <<<'static void f(void) { fleet_rows_set(rows, RUN_STATE, Int16GetDatum(3)); }'
plant 15_states src/store/run_read.c <<<'const char *a = "UPDATE fleet_catalog.step_run AS s" "   SET state = 16";'
plant 15_states src/sql/10_x.sql <<<'UPDATE fleet_catalog.run AS r SET state = 12;'
plant 22_sqlstates src/agent/main.c <<<'const char *a = "57014";'
plant 22_sqlstates src/core/graph.c <<<'static const char never[][3] = {"42", "22"};'
plant 22_sqlstates src/agent/main.c <<<'static int f(const char *s) { return strncmp(s, "XX", 2); }'
plant 22_sqlstates src/api/child.c <<<"enum { EPOCH_ENDED = MAKE_SQLSTATE('F', 'E', '0', '0', '1') };"
fine 22_sqlstates src/agent/main.c <<<'const char *a = "10000", *b = "ERROR", *c = "error 57014"; /* error 57014, no MAKE_SQLSTATE */'
plant 12_size src/agent/main.c < <(seq -f '/* %g */' 701)
for breach in '$f->wait_for("parent", "SELECT 1");' \
    '$f->wait_for("parent", q{SELECT count(*), 1 FROM (VALUES (1)) AS v(x)}, "1");' \
    '$f->point_waits("parent", "step_prepared");' \
    '$f->wait_run($run);' \
    '$node->poll_query_until("postgres", "SELECT true");' \
    'sleep 3;' 'Time::HiRes::usleep(10);' 'select undef, undef, undef, 0.1;' \
    '$f->sql("SELECT pg_sleep(3)");' '$node->safe_psql("postgres", q{SELECT pg_sleep(3)});'; do
    mkdir -p "$tree/test/t"
    plant 14_waits test/t/001_x.pl <<<"$breach"
done
# and is content with what is right
cat >"$tree/test/t/001_x.pl" <<'PERL'
$f->wait_for('parent', q{SELECT count(*), '(' FROM (VALUES (1)) AS v(x)}, "1, 'x'", 'a name');
$f->job('long', 'SELECT pg_sleep(600)');
is($f->wait_run($run), 'succeeded', 'ends');
$f->package('slow', sleep => { sql => 'SELECT pg_sleep(600)' });
$f->sql('SELECT pg_sleep(3)'); # an idle agent (time passes)
PERL
"$tree/test/lint/14_waits.sh" || { echo 'selftest: 14_waits complains about what is right'; rc=1; }

# The map: a tree in which every name exists, and one change after the other to its table.
mkdir -p "$tree/sql" "$tree/doc" "$tree/expected" "$tree/test/core" "$tree/test/mutants"
echo '# is(1, 1, "only a comment")' >"$tree/test/t/002_y.pl"
echo 'is($x, 1, "COMMIT is sent last") or diag;' >>"$tree/test/t/002_y.pl"
echo 'SELECT 1;' >"$tree/sql/surface.sql"
echo 1 >"$tree/expected/surface.out"
echo 'cmocka_unit_test(test_a_state)' >"$tree/test/core/test_state.c"
printf 'mutant: m-one\npromise: 3.1\nin: f\n<<<<\na\n====\nb\n>>>>\n' >"$tree/test/mutants/x.mutants"
good='| 3.1 | a sentence | t/002_y "COMMIT is sent", regress/surface; core/test_state "test_a_state" | m-one |'
documents()
{
    printf '## Faults that are tried\n| fault | test | what comes out |\n|---|---|---|\n| a cut | %s | told |\n' "$1" >"$tree/doc/guarantees.md"
    printf '## Attacks that are tried\n| attack | test | what comes out |\n|---|---|---|\n| a token | %s | refused |\n' "$2" >"$tree/doc/security.md"
}
map()
{
    printf '| id | sentence | tests | mutants |\n|---|---|---|---|\n%s\n' "$1" >"$tree/test/promises.md"
    "$tree/test/lint/13_promises.sh" >/dev/null 2>&1
}
documents 002 002
map "$good" || { echo 'selftest: 13_promises complains about a good map'; rc=1; }
map "$good"$'\n''| 3.2 | nobody can | – no test: why | – |' || { echo 'selftest: 13_promises wants a test where a word says why not'; rc=1; }
for change in 's/002_y/003_z/' 's/COMMIT is sent/COMMIT is held/' 's/COMMIT is sent/only a comment/' 's/regress.surface/regress\/gone/' \
    's/test_a_state/test_b_state/' 's/m-one/m-two/' 's/| m-one |/| – none |/' 's/| m-one |/| |/' 's/^| 3.1/| 3.3/' \
    's/ "COMMIT is sent"//' 's/; core/ and core/' 's/| t\/.*state" |/| |/' 's/^.*$/&\n&/'; do
    if map "$(sed "$change" <<<"$good")"; then
        echo "selftest: 13_promises did not find $change"
        rc=1
    fi
done
for numbers in '003 002' '002 003'; do
    # shellcheck disable=SC2086 # two words
    documents $numbers
    if map "$good"; then
        echo "selftest: 13_promises did not find that there is no test 003 ($numbers)"
        rc=1
    fi
done
documents 002 002
rm "$tree/doc/security.md"
if map "$good"; then
    echo 'selftest: 13_promises is content when its program dies'
    rc=1
fi
rm -r "$tree/test/promises.md" "$tree/doc/guarantees.md"
[ "$rc" -eq 0 ] && echo 'each rule finds its breach'
exit "$rc"
