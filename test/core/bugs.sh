#!/bin/sh
# The test of the test: for each planted bug, a simulator with that bug in it.  Each must be found
# within CASES cases.  Prints at which one, and which rule it broke.
# Only the files that name the bug are compiled again; the others come from PLAIN.
set -u
here=$(dirname "$0")
core=$here/../../src/core
bugs=$(sed -n 's/^#define \(FLEET_BUG_[A-Z_]*\) 0$/\1/p;s/^#define \(FLEET_BUG_[A-Z_]*\) 0 .*/\1/p' \
    "$core/bugs.h" "$here/sim_bugs.h")
mkdir -p "$OUT"

build() { # bug program
    objects=
    for source in "$here"/sim*.c "$core"/*.c "$core"/*/*.c; do
        name=$(basename "$source" .c)
        plain=$PLAIN/$name.o
        case $source in
            "$core"/*)
                name=${source#"$core"/}
                plain=$PLAIN/core/${name%.c}.o
                name=$(echo "${name%.c}" | tr / _)
                ;;
        esac
        if grep -q "$1" "$source"; then
            $CC $FLAGS "-D$1=1" -c -o "$2.$name.o" "$source" || return 1
            plain=$2.$name.o
        fi
        objects="$objects $plain"
    done
    # shellcheck disable=SC2086
    $CC $FLAGS -o "$2" $objects -lm
}

one() {
    bug=$1
    program=$OUT/$bug
    if ! build "$bug" "$program" 2>"$program.err"; then
        echo "$bug|does not compile|$(head -1 "$program.err")"
    elif "$program" -q -j 1 -n "$CASES" -s "$SEED" >"$program.log" 2>/dev/null; then
        echo "$bug|not found|"
    else
        echo "$bug|$(sed -n 's/^sim: case \([0-9]*\) breaks.*/\1/p' "$program.log")|$(sed -n 's/^  why: //p' "$program.log")"
    fi >"$program.result"
    rm -f "$program" "$program".*.o
}

# Two at a time: every second one each.
half() {
    n=0
    for bug in $bugs; do
        [ $((n % JOBS)) -eq "$1" ] && one "$bug"
        n=$((n + 1))
    done
}

job=0
while [ $job -lt "$JOBS" ]; do
    half $job &
    job=$((job + 1))
done
wait

echo "| planted bug | found at case | rule that it broke |"
echo "|---|---|---|"
missed=0 found=0
for bug in $bugs; do
    IFS='|' read -r name at why <"$OUT/$bug.result"
    echo "| $name | $at | $why |"
    case $at in
        '' | *[!0-9]*) missed=$((missed + 1)) ;;
        *) found=$((found + 1)) ;;
    esac
done
echo
echo "$found passed, $missed failed (planted bugs found within $CASES cases, seed $SEED)"
[ $missed -eq 0 ] && [ $found -ge 10 ]
