#!/usr/bin/env bash
# Installs, by apt, what building and testing need and this machine lacks.  Works as root, or as a
# user with sudo.  Does nothing (and needs no network) where all is there.
#
# usage: test/setup.sh [build|test]     (default: test, which includes build)
set -euo pipefail
what=${1:-test}

packages=(gcc make libc6-dev postgresql postgresql-contrib postgresql-server-dev-all libpq-dev)
if [ "$what" = test ]; then
    packages+=(libipc-run-perl libcmocka-dev valgrind strace python3 python3-croniter clang-format shellcheck)
fi

installed()
{
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

major()
{
    pg_config --version 2>/dev/null | sed -n 's/^PostgreSQL \([0-9]*\).*/\1/p'
}

missing=()
for p in "${packages[@]}"; do
    # any server's development package will do, not every one of them
    if [ "$p" = postgresql-server-dev-all ]; then
        m=$(major)
        [ -n "$m" ] && [ -e "$(pg_config --pgxs)" ] && continue
        p="postgresql-server-dev-15"
    fi
    installed "$p" || missing+=("$p")
done

# The server and its headers must be of one minor version: a module built with newer headers can
# use what an older server lacks.  So where the development package comes new, the server comes
# along.
m=$(major)
m=${m:-15}
# Both belong to one version of the server: pg_cron, that schedules are tested with, and plpgsql_check,
# which looks at what plpgsql itself looks at only when it gets there (test/t/033_plpgsql_check.pl).
if [ "$what" = test ]; then
    for p in "postgresql-$m-cron" "postgresql-$m-plpgsql-check"; do
        installed "$p" || missing+=("$p")
    done
    # A browser, to look at pages with (test/report), where there is one: not every architecture has it.  What monitoring/ is
    # tested with.
    for p in chromium chromium-driver python3-selenium prometheus prometheus-postgres-exporter; do
        installed "$p" || ! apt-cache show "$p" >/dev/null 2>&1 || missing+=("$p")
    done
fi
if [ "${#missing[@]}" -eq 0 ]; then
    server=$(dpkg-query -W -f='${Version}' "postgresql-$m" 2>/dev/null || true)
    headers=$(dpkg-query -W -f='${Version}' "postgresql-server-dev-$m" 2>/dev/null || true)
    [ "$server" = "$headers" ] && exit 0
fi
missing+=("postgresql-$m" "postgresql-client-$m" "postgresql-server-dev-$m" libpq-dev libpq5)

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "setup: need root or sudo to install: ${missing[*]}" >&2; exit 1; }
    as_root=(sudo)
fi
# Nothing that is installed starts a service: the tests start what they need, as long as they need it.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q
    --no-install-recommends -o Dpkg::Options::=--force-confold)
echo "setup: installing ${missing[*]}"
if ! "${install[@]}" "${missing[@]}" </dev/null; then
    "${as_root[@]}" apt-get update -q </dev/null
    "${install[@]}" "${missing[@]}" </dev/null
fi
