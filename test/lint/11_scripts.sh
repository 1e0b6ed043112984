#!/usr/bin/env bash
# Rule: shell, Perl and Python are clean
. "$(dirname "$0")/lib.sh"
if command -v shellcheck >/dev/null; then
    mapfile -t shells < <({ tree_files '*.sh'; tree_files '.ci/*'; } | sort -u)
    breach "$(shellcheck -x -P SCRIPTDIR -e SC1091 -f gcc "${shells[@]}" | grep -E '(error|warning):')"
else
    echo "shellcheck is not here"
fi
pgxs=$(pg_config --pgxs 2>/dev/null || true)
perl_lib=(-I test/lib)
[ -n "$pgxs" ] && perl_lib+=(-I "$(dirname "$pgxs")/../../src/test/perl")
for f in $(tree_files '*.pl' '*.pm'); do
    out=$(TESTDATADIR=/tmp TESTLOGDIR=/tmp perl "${perl_lib[@]}" -wc "$f" 2>&1) || breach "$f: $out"
done
for f in $(tree_files '*.py'); do
    out=$(python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read(), sys.argv[1])' "$f" 2>&1) || breach "$f: $out"
done
finish
