#!/usr/bin/env bash
# Runs the tests, and closes with one line "N passed, N failed", and ", N skipped" where something
# was: what is not installed here, or a test that says that it is still to do.
#
# usage: test/run.sh [core] [runner] [regress] [isolation] [tap]      (default: all)
#   TESTS=…       TAP files to run (default: all of test/t and test/report)
#   JOBS=n        TAP files at the same time (default: one more than processors, as many of them wait)
#   CASES=n       cases of the core's simulator
#   KEEP=1        keep the temporary folder
#   FLEET_NO_SKIP=1  what is skipped has failed (continuous integration: everything is installed)
#   FLEET_ASAN=1  with AddressSanitizer, or, where this machine's server cannot run with its runtime
#                 preloaded, under valgrind (then the regression suite only: it is slow)
#
# As root it continues as an unprivileged user, because a PostgreSQL server refuses root.
# Everything happens in a temporary folder with a private copy of the installation.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
exec </dev/null
parts=("$@")
[ "${#parts[@]}" -gt 0 ] || parts=(core runner regress isolation tap)
for p in "${parts[@]}"; do
    case $p in
        core | runner | regress | isolation | tap) ;;
        *)
            echo "run.sh: there is no part \"$p\"" >&2
            exit 2
            ;;
    esac
done
wants()
{
    local p
    for p in "${parts[@]}"; do [ "$p" = "$1" ] && return 0; done
    return 1
}

test/setup.sh

status=0
passed=0
failed=0
skipped=0
# Adds the closing line "N passed, N failed[, N skipped]" of file $1; $2 is the exit code that goes
# with it.  A part without that line, or in which nothing passed and nothing was skipped, has failed.
count()
{
    local line p f s=0
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$' "$1" | tail -1) || true
    if [ -z "$line" ]; then
        failed=$((failed + 1))
        status=1
        return
    fi
    read -r p _ f _ s _ <<<"$line 0"
    [ $((p + f + s)) -gt 0 ] || f=1
    # it failed without a test to show for it
    [ "$2" -eq 0 ] || [ "$f" -gt 0 ] || f=1
    [ "$f" -eq 0 ] || status=1
    passed=$((passed + p))
    failed=$((failed + f))
    skipped=$((skipped + s))
}

work=$(mktemp -d "${TMPDIR:-/tmp}/pg_fleet_test.XXXXXX")
chmod 755 "$work"
# The environment of a developer's own server must not lead the tests anywhere.
for v in $(compgen -e PG); do unset "$v"; done
# Several runs of this script at the same time take ports from one list.
export PG_TEST_PORT_DIR=${TMPDIR:-/tmp}/pg_fleet_ports
mkdir -p "$PG_TEST_PORT_DIR"
chmod 1777 "$PG_TEST_PORT_DIR" 2>/dev/null || true # somebody else's, then it is so already
export TMPDIR=$work

begin=$SECONDS
section()
{
    printf '\n== %s (after %d s)\n' "$1" $((SECONDS - begin))
}

# The core is plain C on one processor: it runs beside the other parts.
core_pid=
if wants core; then
    make -s test-core CASES="${CASES:-100000}" >"$work/core.log" 2>&1 &
    core_pid=$!
fi
core_result()
{
    local part_rc=0
    section 'core: unit tests and simulator'
    wait "$core_pid" || part_rc=$?
    tail -n 60 "$work/core.log"
    count "$work/core.log" "$part_rc"
}

if wants runner || wants regress || wants isolation || wants tap; then
    section 'build'
    # With the points of src/points.h; objects and library of their own, the plain build stays as it is.
    build=build/test
    copt=-DFLEET_TEST_POINTS
    if [ -n "${FLEET_ASAN:-}" ]; then
        # the runtime comes first; why it is not alone, asan_preload.c says
        gcc -O2 -shared -fPIC -o "$work/asan_preload.so" test/asan_preload.c
        asan_preload="$(gcc -print-file-name=libasan.so) $work/asan_preload.so"
    fi
    if [ -n "${FLEET_ASAN:-}" ] && ! timeout -k 1 20 env LD_PRELOAD="$asan_preload" \
        ASAN_OPTIONS=detect_leaks=0 "$(pg_config --bindir)/postgres" -V >/dev/null 2>&1; then
        echo 'the server does not run with the runtime of AddressSanitizer preloaded: valgrind instead'
        unset FLEET_ASAN
        parts=(regress)
        mkdir "$work/valgrind"
        chmod 777 "$work/valgrind"
        export FLEET_VALGRIND=$work/valgrind
    fi
    if [ -n "${FLEET_ASAN:-}" ]; then
        build=build/asan
        copt="$copt -fsanitize=address,undefined -fno-sanitize-recover=undefined -O1"
    fi
    mkdir -p "$build"
    make -s -j"$(nproc)" WERROR=1 BUILD="$build/obj" shlib="$build/pg_fleet.so" COPT="$copt" all
    so=$top/$build/pg_fleet.so
    bindir=$(FLEET_SO=$so test/private_prefix.sh "$work/prefix")
    # earlier versions, which 034_upgrade.pl upgrades from
    perl -Itest/lib -MUpgrade -e 'Upgrade::install(@ARGV)' "pg_fleet--$(make -s version).sql" "$so" \
        "$("$bindir/pg_config" --sharedir)/extension"
    pgxs=$(dirname "$(pg_config --pgxs)")/../..
    mv "$bindir/initdb" "$bindir/initdb.plain"
    cp test/initdb.sh "$bindir/initdb"
    mkdir "$work/tree" "$work/out" "$work/out/templates"
    cp -r sql expected test pg_fleet.control "$work/tree/"
    cp -r demo doc monitoring ./*.md LICENSE "$work/tree/" # what 031_documents.pl reads

    # who runs the servers
    as_user=()
    if [ "$(id -u)" -eq 0 ]; then
        user=postgres
        id "$user" >/dev/null 2>&1 || { user=pg_fleet_test; useradd -M -d / -s /bin/sh "$user"; }
        chown -R "$user" "$work/tree" "$work/out"
        as_user=(runuser -u "$user" --)
    fi
    if [ -n "${FLEET_ASAN:-}" ]; then
        # The server is a plain build, so it alone gets the runtime preloaded, and not perl and
        # psql.  Leaks at exit are not asked for: a backend never frees its memory before it ends.
        # Frames are not kept after their return: the server measures its stack by addresses.
        # It keeps the wrapper's name, because pg_ctl restarts it by that.
        # Little of what was freed is kept back, since a test sees to it that memory stays flat.
        mv "$bindir/postgres" "$bindir/postgres.plain"
        cat >"$bindir/postgres" <<WRAPPER
#!/bin/bash
LD_PRELOAD="$asan_preload" \\
ASAN_OPTIONS="detect_leaks=0:detect_stack_use_after_return=0:quarantine_size_mb=1:thread_local_quarantine_size_kb=64:abort_on_error=1:log_path=$work/out/asan" \\
UBSAN_OPTIONS="print_stacktrace=1:log_path=$work/out/asan" \\
exec -a "\$0" "$bindir/postgres.plain" "\$@"
WRAPPER
        chmod +x "$bindir/postgres"
    fi
    run()
    {
        (cd "$work/tree" && "${as_user[@]}" env -u HOME HOME="$work/out" TMPDIR="$work/out" \
            FLEET_TEMPLATES="${FLEET_TEMPLATES:-$work/out/templates}" LC_ALL=C.UTF-8 PATH="$bindir:$PATH" FLEET_TREE="$work/tree" "$@")
    }
fi

# A small disk that the torture can fill, where one can be made.
if [ -n "${TORTURE:-}" ] && mkdir "$work/small" && mount -t tmpfs -o size=300m tmpfs "$work/small" 2>/dev/null; then
    trap 'umount -l "$work/small"' EXIT
    chmod 777 "$work/small"
    export TORTURE_DISK=$work/small
fi

if wants runner; then
    section 'runner: the runners without an agent'
    # It builds a library of its own from src/, and becomes an unprivileged user by itself.
    part_rc=0
    FLEET_BINDIR=$bindir test/runner/run.sh >"$work/runner.log" 2>&1 || part_rc=$?
    tail -n 60 "$work/runner.log"
    count "$work/runner.log" "$part_rc"
fi

regress_count() # output of pg_regress in $1, its exit code in $2
{
    local ok bad
    ok=$(grep -cE '(^ok |\.\.\. ok )' "$1") || true
    bad=$(grep -cE '(^not ok |FAILED)' "$1") || true
    # it failed without a test to show for it, or there was none
    [ "$2" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
    [ $((ok + bad)) -gt 0 ] || bad=1
    [ "$bad" -eq 0 ] || status=1
    passed=$((passed + ok))
    failed=$((failed + bad))
}

if wants regress; then
    section 'regress: SQL surface'
    tests=(install) # makes the extension that the others use
    for f in sql/*.sql; do
        [ "$f" = sql/install.sql ] || tests+=("$(basename "$f" .sql)")
    done
    part_rc=0
    run "$pgxs/src/test/regress/pg_regress" --inputdir=. --outputdir="$work/out" \
        --bindir="$bindir" --temp-instance="$work/out/regress" --temp-config=test/regress.conf \
        --dbname=contrib_regression --no-locale --encoding=UTF8 --launcher=test/regress_launcher.sh "${tests[@]}" \
        >"$work/regress.log" 2>&1 || part_rc=$?
    cat "$work/regress.log"
    [ "$part_rc" -eq 0 ] || head -n 300 "$work/out/regression.diffs" 2>/dev/null || true
    regress_count "$work/regress.log" "$part_rc"
fi

if wants isolation; then
    section 'isolation'
    specs=()
    for f in test/isolation/specs/*.spec; do specs+=("$(basename "$f" .spec)"); done
    part_rc=0
    run "$pgxs/src/test/isolation/pg_isolation_regress" --inputdir=test/isolation \
        --outputdir="$work/out/iso" --bindir="$bindir" --temp-instance="$work/out/iso_instance" \
        --temp-config=test/regress.conf --no-locale --encoding=UTF8 \
        --load-extension=pg_fleet "${specs[@]}" >"$work/isolation.log" 2>&1 || part_rc=$?
    cat "$work/isolation.log"
    [ "$part_rc" -eq 0 ] || head -n 300 "$work/out/iso/regression.diffs" 2>/dev/null || true
    regress_count "$work/isolation.log" "$part_rc"
fi

if wants tap; then
    section 'TAP: several servers'
    read -r -a files <<<"${TESTS:-}"
    if [ "${#files[@]}" -eq 0 ]; then
        for f in test/report/*.pl test/t/*.pl; do files+=("$f"); done
    fi
    part_rc=0
    run env PG_REGRESS="$pgxs/src/test/regress/pg_regress" TESTLOGDIR="$work/out/tap" \
        TESTDATADIR="$work/out/data" TESTDIR="$work/out" \
        perl test/prove.pl --jobs "${JOBS:-$(($(nproc) + 1))}" -I "$pgxs/src/test/perl" -I test/lib "${files[@]}" \
        2>&1 | tee "$work/tap.log" || part_rc=$?
    count "$work/tap.log" "$part_rc"
fi

if wants core; then core_result; fi

if [ -n "${FLEET_ASAN:-}" ]; then
    section 'sanitizer reports'
    # AddressSanitizer's are files, those of undefined behaviour are in the servers' logs
    find "$work/out" -maxdepth 1 -name 'asan.*' -exec head -n 60 {} + >"$work/sanitizer.log"
    find "$work/out" -name '*.log' -exec grep -h -A 4 'runtime error:' {} + >>"$work/sanitizer.log" || true
    if [ -s "$work/sanitizer.log" ]; then
        head -n 300 "$work/sanitizer.log"
        failed=$((failed + 1))
    else
        echo none
    fi
fi

if [ -n "${FLEET_VALGRIND:-}" ]; then
    # The server's own code is not ours to judge: an error counts if our library is on the stack.
    section 'valgrind'
    cat "$work"/valgrind/valgrind.* | perl -e '
        my (%count, $block);
        my $end = sub { $count{$block}++ if defined $block && $block =~ /pg_fleet\.so/; undef $block; };
        while (<>)
        {
            s/^==\d+== ?// or next;
            if (/^\s*$/) { $end->(); next; }
            s/0x[0-9A-F]+/0x/g;
            $block .= $_;
        }
        $end->();
        print "$count{$_} times:\n$_\n" for sort { $count{$b} <=> $count{$a} } keys %count;
        exit(%count ? 1 : 0);' && passed=$((passed + 1)) || failed=$((failed + 1))
    echo "$(find "$work/valgrind" -type f | wc -l) processes watched"
fi

if [ "$failed" -gt 0 ] || [ "$status" -ne 0 ]; then
    status=1
    rm -rf build/test-logs
    mkdir -p build/test-logs
    cp -r "$work"/*.log build/test-logs/ 2>/dev/null || true
    cp -r "$work/out/tap" "$work/out/tmp_check/log" "$work/out/regression.diffs" build/test-logs/ 2>/dev/null || true
    echo "logs: build/test-logs/"
fi
if [ -n "${TORTURE_DISK:-}" ]; then
    umount -l "$TORTURE_DISK" && trap - EXIT
fi
if [ -n "${KEEP:-}" ]; then
    echo "kept: $work"
else
    rm -rf "$work"
fi
section 'all'
# exit code and counts say the same
[ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
echo "$passed passed, $failed failed$([ "$skipped" -eq 0 ] || echo ", $skipped skipped")"
exit "$status"
