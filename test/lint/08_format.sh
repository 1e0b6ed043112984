#!/usr/bin/env bash
# Rule: C code is as clang-format leaves it
. "$(dirname "$0")/lib.sh"
command -v clang-format >/dev/null || { echo "clang-format is missing"; exit 1; }
mapfile -t files < <(tree_files 'src/*.c' 'src/*.h' 'test/*.c' 'test/*.h')
[ "${#files[@]}" -gt 0 ] || finish
breach "$(clang-format --dry-run -Werror "${files[@]}" 2>&1 | grep -E 'error:' | awk -F: '{print $1": not formatted"}' | sort | uniq -c | sed -E 's/^ *([0-9]+) (.*)/\2 (\1 places)/')"
finish
