#!/usr/bin/env bash
# Rule: a durable state is changed by store/state_change.c, which asks core/state.h, or by SQL that asks it
. "$(dirname "$0")/lib.sh"
states='(RUN|TASK|JOB|STEP)_STATE'
mapfile -t files < <(find src -name '*.c' | grep -v '^src/store/state_change\.c$' | sort)
# a state column by any other function that writes columns
[ ${#files[@]} -eq 0 ] || breach "$(grep -HnE "(^|[^a-z_])(set_[a-z0-9]+|fleet_rows_set(_null)?)\(rows, *$states\>" "${files[@]}")"
# SQL: rows of runs are inserted (queued, or canceled before they arrived), and updated only by what asks too
mapfile -t files < <(find src -name '*.c' -o -name '*.sql' | sort)
[ ${#files[@]} -eq 0 ] || breach "$(grep -HnEi 'update +(only +)?"?(fleet_catalog\.)?(run|task_run|job_run|step_run)"? +(as +[a-z]+ *)?("|$|set)' "${files[@]}" | grep -v 'SET state = fleet_catalog\.state_change(')"
finish
