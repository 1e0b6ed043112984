#!/usr/bin/env bash
# Rule: the library exports what the server looks up by name, nothing else, and that begins with fleet_
. "$(dirname "$0")/lib.sh"
compiled
so=build/lint/pg_fleet.so
[ -e "$so" ] || breach "$so: there is no library to look at"
breach "$(nm -D --defined-only "$so" | awk '$2 ~ /[TDBRVW]/ {print $3}' |
    grep -vE '^(fleet_sql_.*|fleet_[a-z_]+_main|_PG_init|Pg_magic_func|pg_finfo_fleet_sql_.*|_init|_fini)$' | sed 's/^/pg_fleet.so: exports /')"
finish
