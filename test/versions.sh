#!/usr/bin/env bash
# Builds and tests on other PostgreSQL versions than the installed one, each from nothing: a fresh
# Debian of the suite that has it, in a temporary folder, with that suite's compiler and libpq too.
#
# usage: test/versions.sh [VERSION …]         (default: 17 18), as root
#   SUITE_17=trixie SUITE_18=sid   the Debian suite of a version
#   PG_CONFIG_16=/opt/pg16/bin/pg_config
#                 use this installation instead, for a version that no suite has (16: one built
#                 from source).  Nothing is installed then: flex, libpq, Perl's IPC::Run are there.
#   TESTS=…       the TAP files (default: the same job in both modes, and steps of every kind)
#   KEEP=1        keep the temporary folder
#
# For each version: the build with all warnings as errors; CREATE EXTENSION and every regression
# test; TAP files that run a package of local tasks, of a direct server and of an agent's server.
# The tree is taken as it is, committed or not.  Exit code 0: everything passed.
#
# Not a part of `make test`: each version fetches about 400 MB from the mirror that this machine's
# own apt uses, unpacks 2 GB and takes some minutes.  Nothing stays behind: mounts and processes
# belong to a namespace that ends with its version, and the folder is removed.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
exec </dev/null
versions=("$@")
[ "${#versions[@]}" -gt 0 ] || versions=(17 18)
SUITE_17=${SUITE_17:-trixie}
SUITE_18=${SUITE_18:-sid}
TESTS=${TESTS:-test/t/003_modes.pl test/t/004_steps.pl}

[ "$(id -u)" -eq 0 ] || { echo 'versions: needs root, for debootstrap and chroot' >&2; exit 1; }

work=$(mktemp -d "${TMPDIR:-/tmp}/pg_fleet_versions.XXXXXX")
chmod 755 "$work"
finish()
{
    if [ -n "${KEEP:-}" ]; then
        echo "kept: $work"
    else
        rm -rf --one-file-system "$work"
    fi
}
trap finish EXIT

mirror() # where this machine's own packages come from, in either format of apt's lists
{
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list \
        2>/dev/null |
        sed -nE -e 's/^URIs: *([^ ]*).*/\1/p' -e 's/^deb +(\[[^]]*\] +)?([^ ]+).*/\2/p' |
        grep -E '/debian/?$' | head -n 1
}

inside() # a command in the Debian at $1, alone with its processes and mounts
{
    local root=$1
    shift
    # shellcheck disable=SC2016 # expanded by the inner shell
    unshare --mount --pid --fork --kill-child sh -c '
        root=$1
        shift
        mount -t proc proc "$root/proc"
        mkdir -p "$root/dev/shm" "$root/dev/pts"
        mount -t tmpfs tmpfs "$root/dev/shm"
        mount -t devpts devpts "$root/dev/pts"
        exec chroot "$root" "$@"' sh "$root" \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
        DEBIAN_FRONTEND=noninteractive TESTS="$TESTS" "$@"
}

tree() # a copy of the sources at $1, without what was built from them
{
    mkdir -p "$1"
    tar cf - --exclude=./.git --exclude=./build --exclude=./pg_fleet.so . | tar xf - -C "$1"
}

debian() # makes the Debian of version $1 in $2
{
    local suite=SUITE_$1 from
    [ -n "${!suite:-}" ] || { echo "no suite has PostgreSQL $1: set SUITE_$1 or PG_CONFIG_$1"; return 1; }
    from=$(mirror)
    [ -n "$from" ] || { echo 'no Debian mirror in the lists of apt'; return 1; }
    command -v debootstrap >/dev/null || apt-get install -y -q --no-install-recommends debootstrap ||
        return 1
    debootstrap --variant=minbase "${!suite}" "$2" "$from" || return 1
    # no service starts in there, and no cluster is made
    printf '#!/bin/sh\nexit 101\n' >"$2/usr/sbin/policy-rc.d"
    chmod +x "$2/usr/sbin/policy-rc.d"
    mkdir -p "$2/etc/postgresql-common"
    echo 'create_main_cluster = false' >"$2/etc/postgresql-common/createcluster.conf"
    inside "$2" apt-get install -y -q --no-install-recommends \
        "postgresql-server-dev-$1" "postgresql-$1" libpq-dev
}

try() # version $1, in the folder $2
{
    local pg_config=PG_CONFIG_$1 bindir
    mkdir -p "$2"
    if [ -n "${!pg_config:-}" ]; then
        bindir=$("${!pg_config}" --bindir)
        tree "$2/tree"
        # in this copy only: it would look for packages of Debian
        printf '#!/bin/sh\n' >"$2/tree/test/setup.sh"
        (cd "$2/tree" && PATH="$bindir:$PATH" TESTS=$TESTS test/run.sh regress isolation tap)
    else
        debian "$1" "$2/debian" >"$2/debian.log" 2>&1 || { tail -n 20 "$2/debian.log"; return 1; }
        tree "$2/debian/src"
        inside "$2/debian" /src/test/run.sh regress isolation tap
    fi
}

passed=0
failed=0
summary=()
for v in "${versions[@]}"; do
    printf '\n== PostgreSQL %s\n' "$v"
    rc=0
    try "$v" "$work/$v" >"$work/$v.log" 2>&1 || rc=$?
    line=$(grep -xE '[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?' "$work/$v.log" | tail -n 1) || true
    if [ "$rc" -ne 0 ] || [ -z "$line" ]; then
        cat "$work/$v.log"
        mkdir -p build/test-logs
        cp "$work/$v.log" "build/test-logs/versions-$v.log"
    fi
    ok=${line%% passed*}
    bad=${line#* passed, }
    bad=${bad%% failed*}
    # it ended without a count, or with a fault that is in none
    { [ "$rc" -eq 0 ] && [ -n "$line" ]; } || [ "${bad:-0}" -gt 0 ] || bad=1
    passed=$((passed + ${ok:-0}))
    failed=$((failed + ${bad:-0}))
    summary+=("PostgreSQL $v: ${ok:-0} passed, ${bad:-0} failed")
    echo "${summary[-1]}"
    [ -n "${KEEP:-}" ] || rm -rf --one-file-system "${work:?}/$v"
done

printf '\n== all\n'
printf '%s\n' "${summary[@]}"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
