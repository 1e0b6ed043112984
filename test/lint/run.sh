#!/usr/bin/env bash
# Runs every rule of this folder (NN_name.sh); one line a rule, breaches below it.
set -u
here=$(cd "$(dirname "$0")" && pwd)
passed=0
failed=0
for rule in "$here"/[0-9]*.sh; do
    name=$(basename "$rule" .sh)
    if out=$("$rule" 2>&1); then
        echo "ok      $name${out:+   ($out)}"
        passed=$((passed + 1))
    else
        echo "NOT OK  $name: $(sed -n 's/^# Rule: //p' "$rule")"
        # shellcheck disable=SC2001 # an indent on each line is what sed is for
        echo "$out" | sed 's/^/        /'
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
