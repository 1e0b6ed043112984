#!/usr/bin/env bash
# Rule: no path of a machine, nothing left over from editing
. "$(dirname "$0")/lib.sh"
mapfile -t files < <(tree_files | grep -vE '^test/lint/10_machine\.sh$')
breach "$(grep -nIE '(^|[^a-z.])/(root|home/[a-z]+|work|Users)/' "${files[@]}")"
breach "$(grep -nIE '^(<<<<<<<|>>>>>>>|=======$)' "${files[@]}")"
breach "$(grep -nIE '[[:blank:]]+$' "${files[@]}" | grep -vE '^(expected/|test/isolation/expected/|[^:]*\.(md|out|patch):)' | sed 's/$/ <- blank at the end/')"
finish
