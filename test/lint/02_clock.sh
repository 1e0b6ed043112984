#!/usr/bin/env bash
# Rule: time is read in clock.c only
. "$(dirname "$0")/lib.sh"
mapfile -t files < <(find src -name '*.[ch]' ! -path src/clock.c | sort)
breach "$(grep_code '\b(GetCurrentTimestamp|GetCurrentStatementStartTimestamp|gettimeofday|clock_gettime|time)[[:space:]]*\(|INSTR_TIME_SET_CURRENT' "${files[@]}" |
    grep -vE '\btime\(([^N)&]|$)')"
finish
