#!/usr/bin/env bash
# Rule: the install and update scripts, and strings in C code, are ASCII only, so that CREATE EXTENSION works and messages are readable in a database of any encoding
. "$(dirname "$0")/lib.sh"
mapfile -t files < <(find src/sql -name '*.sql' | sort)
[ "${#files[@]}" -eq 0 ] || breach "$(LC_ALL=C grep -HnP '[^\x00-\x7f]' "${files[@]}")"
for f in $(find src -name '*.[ch]' | sort); do
    breach "$(F=$f perl -0777 -ne '
        # comments go, lines stay
        s{("(?:\\.|[^"\\\n])*"|\x27(?:\\.|[^\x27\\\n])*\x27)|(/\*.*?\*/|//[^\n]*)}{defined $1 ? $1 : ($2 =~ tr/\n//cdr)}gse;
        my $n = 0;
        for (split /\n/) { $n++; print "$ENV{F}:$n: $_\n" if /[^\x00-\x7f]/ }' "$f")"
done
finish
