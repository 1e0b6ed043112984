#!/bin/sh
# Line coverage of src/core/: a line a file, and the total; fails under LEAST percent.
# coverage.sh DIR-OF-OBJECTS SOURCE…  (a source below src/core/, its object below the directory)
dir=$1
shift
for source in "$@"; do
    name=${source##*/src/core/}
    (cd "$dir" && gcov -n -o "${name%.c}.o" "$(basename "$source")" 2>/dev/null) |
        awk -v name="$name" '
            /^File / { mine = index($0, name) > 0 && $0 ~ ("/" name "\x27$") }
            mine && /^Lines executed/ {
                split($0, part, /[:% ]+/)
                printf "%s %s %s\n", name, part[3], part[5]
                exit
            }'
done | awk -v least="${LEAST:-95}" '
    { covered = $2 / 100 * $3; sum += covered; all += $3; printf "%-22s %6.2f %% of %d lines\n", $1, $2, $3 }
    END {
        if (all == 0) { print "no coverage data"; exit 1 }
        printf "%-22s %6.2f %% of %d lines\n", "total", sum / all * 100, all
        exit sum / all * 100 < least
    }'
