#!/usr/bin/env bash
# Runs every rule of this folder (NN_name.sh); one line a rule, breaches below it.  The test of the rules
# themselves takes about as long as all of them, and works on a tree of its own: it runs beside them.
set -u
here=$(cd "$(dirname "$0")" && pwd)
PATH=/usr/bin:/bin:$PATH # the rules start hundreds of programs: no wrappers in front of them
passed=0
failed=0
beside=$(mktemp)
trap 'rm -f "$beside"' EXIT

# told RULE STATUS: its output is on the standard input
told()
{
    local name out
    name=$(basename "$1" .sh)
    out=$(cat)
    if [ "$2" -eq 0 ]; then
        echo "ok      $name${out:+   ($out)}"
        passed=$((passed + 1))
    else
        echo "NOT OK  $name: $(sed -n 's/^# Rule: //p' "$1")"
        # shellcheck disable=SC2001 # an indent on each line is what sed is for
        echo "$out" | sed 's/^/        /'
        failed=$((failed + 1))
    fi
}

"$here/99_selftest.sh" >"$beside" 2>&1 &
selftest=$!
for rule in "$here"/[0-9]*.sh; do
    if [ "$rule" = "$here/99_selftest.sh" ]; then
        wait "$selftest"
        told "$rule" $? <"$beside"
    else
        out=$("$rule" 2>&1)
        told "$rule" $? <<<"$out"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
