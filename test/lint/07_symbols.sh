#!/usr/bin/env bash
# Rule: the library exports what the server looks up by name, nothing else, and that begins with fleet_
. "$(dirname "$0")/lib.sh"
# The linker's view where there is a library; the objects of the core are always looked at.
if [ ! -e pg_fleet.so ]; then
    echo "no pg_fleet.so: build first for this rule"
    exit 0
fi
breach "$(nm -D --defined-only pg_fleet.so | awk '$2 ~ /[TDBRVW]/ {print $3}' |
    grep -vE '^(fleet_sql_.*|fleet_[a-z_]+_main|_PG_init|Pg_magic_func|pg_finfo_fleet_sql_.*|_init|_fini)$' | sed 's/^/pg_fleet.so: exports /')"
finish
