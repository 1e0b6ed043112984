#!/bin/sh
# Runs what was built in one directory: unit tests, tables, simulator; counts; says so in the last
# line.   run.sh DIR "TESTS" "TABLES"      (settings: CASES SEED JOBS SIM_ARGS WITH)
dir=$1 tests=$2 tables=$3
passed=0 failed=0
log=$dir/run.log

for test in $tests; do
    CMOCKA_MESSAGE_OUTPUT=STDOUT $WITH "$dir/$test" >"$log" 2>&1
    status=$?
    ok=$(grep -c '^\[       OK \]' "$log")
    bad=$(grep -c '^\[  FAILED  \] [a-z_0-9]*$' "$log")
    # cmocka names each failed test twice: where it failed, and in its summary
    bad=$((bad / 2))
    # it ended badly without a test to show for it, or there was not a single test
    if [ $status -ne 0 ] || [ $((ok + bad)) -eq 0 ]; then
        [ $bad -eq 0 ] && bad=1
        cat "$log"
    fi
    echo "$test: $ok passed, $bad failed"
    passed=$((passed + ok)) failed=$((failed + bad))
done

for table in $tables; do
    echo
    if $WITH "$dir/$table"; then
        passed=$((passed + 1))
    else
        echo "$table: not as promised"
        failed=$((failed + 1))
    fi
done

echo
if $WITH "$dir/sim" -n "${CASES:-100000}" -s "${SEED:-1}" -j "${JOBS:-2}" $SIM_ARGS >"$log" 2>&1; then
    passed=$((passed + ${CASES:-100000}))
else
    failed=$((failed + 1))
fi
cat "$log"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
