#!/usr/bin/env bash
# Rule: SQLSTATEs that C stores or compares, and their classes, are named in core/sqlstate.h and nowhere else
. "$(dirname "$0")/lib.sh"
mapfile -t files < <(find src -name '*.[ch]' ! -path src/core/sqlstate.h | sort)
# the classes of PostgreSQL's errcodes.txt, and our own: a string constant that is nothing but one,
# or one and three characters more
classes='0[0-3]|0[89]|0[ABFLPZ]|2[0-8]|2[BDF]|3[489BDF]|4[024]|5[34578]|72|F0|FE|HV|P0|XX'
[ ${#files[@]} -eq 0 ] || breach "$(grep -HnE "\"($classes)([0-9A-Z]{3})?\"" "${files[@]}")"
breach "$(grep_code '\bMAKE_SQLSTATE\b' "${files[@]}")"
finish
