#!/usr/bin/env bash
# Rule: rooms are small: no C file over 700 lines, no function over 60 (files over 600 are named, to think again)
. "$(dirname "$0")/lib.sh"
large=()
for f in $(find src -name '*.c' | sort); do
    n=$(wc -l <"$f")
    [ "$n" -le 700 ] || breach "$f: $n lines"
    [ "$n" -le 600 ] || large+=("$(basename "$f") $n")
    breach "$(awk -v f="$f" '/^\{/ {s=NR} /^\}/ {if (s && NR-s > 60) print f":"s": function of "NR-s" lines"; s=0}' "$f")"
done
[ "${#large[@]}" -eq 0 ] || echo "over 600: ${large[*]}"
finish
