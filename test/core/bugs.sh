#!/bin/sh
# The test of the test: for each planted bug, a simulator with that bug in it.  Each must be found
# within CASES cases.  Prints at which one, and by what rule.
# A bug that is no business of a single run's outcome may be named in UNIT_ONLY: then a unit test
# must find it.
set -u
here=$(dirname "$0")
root=$here/../..
UNIT_ONLY=${UNIT_ONLY:-FLEET_BUG_STARVATION}
bugs=$(sed -n 's/^#define \(FLEET_BUG_[A-Z_]*\) 0$/\1/p' "$root/src/core/bugs.h" "$here/sim_bugs.h")
mkdir -p "$OUT"

one() {
    bug=$1
    program=$OUT/$bug
    case " $UNIT_ONLY " in
        *" $bug "*)
            found=-
            for test in "$here"/test_*.c; do
                $CC $FLAGS -D$bug=1 -o "$program" "$test" "$root"/src/core/*.c $CMOCKA_LIBS -lm &&
                    { timeout 120 "$program" >/dev/null 2>&1 || found=$(basename "$test" .c); }
            done
            [ "$found" = - ] && echo "$bug|not found|" || echo "$bug|unit test|$found" ;;
        *)
            if ! $CC $FLAGS -D$bug=1 -o "$program" "$here"/sim*.c "$root"/src/core/*.c -lm 2>"$program.err"; then
                echo "$bug|does not compile|$(head -1 "$program.err")"
            elif "$program" -q -j 1 -n "$CASES" -s "$SEED" >"$program.log" 2>/dev/null; then
                echo "$bug|not found|"
            else
                echo "$bug|$(sed -n 's/^sim: case \([0-9]*\) breaks.*/\1/p' "$program.log")|$(sed -n 's/^  why: //p' "$program.log")"
            fi ;;
    esac >"$program.result"
    rm -f "$program"
}

n=0
for bug in $bugs; do
    one "$bug" &
    n=$((n + 1))
    [ $((n % ${JOBS:-2})) -eq 0 ] && wait
done
wait

echo "| planted bug | found at case | rule that it broke |"
echo "|---|---|---|"
missed=0 by_sim=0
for bug in $bugs; do
    IFS='|' read -r name at why <"$OUT/$bug.result"
    echo "| $name | $at | $why |"
    case $at in
        not* | does* | '') missed=$((missed + 1)) ;;
        unit*) ;;
        *) by_sim=$((by_sim + 1)) ;;
    esac
done
echo
echo "$((n - missed)) passed, $missed failed ($by_sim found by the simulator within $CASES cases)"
[ $missed -eq 0 ] && [ $by_sim -ge 10 ]
