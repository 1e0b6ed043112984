#!/bin/sh
# Builds the test library of the runners.  Usage: build.sh DIRECTORY (it gets fleet_runner_test.so).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
src=$here/../../src
out=$1
config=${PG_CONFIG:-pg_config}
# shellcheck disable=SC2086 # flags for the compiler are several words
"${CC:-gcc}" -std=gnu11 -O2 -g -Wall -Wextra -Werror -Wno-unused-parameter -fPIC -shared \
    ${CFLAGS:-} -I"$src" -isystem "$("$config" --includedir-server)" \
    "-DFLEET_RUNNER_LIBRARY=\"$out/fleet_runner_test\"" \
    -o "$out/fleet_runner_test.so" "$here/fleet_runner_test.c" \
    "$src"/runner/*.c "$src"/clock.c "$src"/diagnostics.c "$src"/dsm.c "$src"/points.c "$src"/core/commits.c
