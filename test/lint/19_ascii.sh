#!/usr/bin/env bash
# Rule: the install and update scripts are ASCII only, so that CREATE EXTENSION works in a database of any encoding
. "$(dirname "$0")/lib.sh"
mapfile -t files < <(find src/sql -name '*.sql' | sort)
[ "${#files[@]}" -gt 0 ] || finish
breach "$(LC_ALL=C grep -nP '[^\x00-\x7f]' "${files[@]}")"
finish
