#!/usr/bin/env bash
# Rule: rooms are small: a C file over 900 lines, a function over 120 (STYLE rule 2 says think again at 600 and 60)
. "$(dirname "$0")/lib.sh"
for f in $(find src -name '*.c' | sort); do
    n=$(wc -l <"$f")
    [ "$n" -le 900 ] || breach "$f: $n lines"
    breach "$(awk -v f="$f" '/^\{/ {s=NR} /^\}/ {if (s && NR-s > 120) print f":"s": function of "NR-s" lines"; s=0}' "$f")"
done
finish
