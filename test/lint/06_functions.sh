#!/usr/bin/env bash
# Rule: every function of the install script pins its search_path or is C or is meant to be inlined; no SECURITY DEFINER without it; nothing is IF NOT EXISTS or OR REPLACE
. "$(dirname "$0")/lib.sh"
for f in src/sql/[0-9]*.sql; do
    breach "$(grep -niE '^[[:space:]]*CREATE[[:space:]]+(OR[[:space:]]+REPLACE|.*IF[[:space:]]+NOT[[:space:]]+EXISTS)' "$f" | sed "s|^|$f:|")"
    breach "$(F=$f perl -0777 -ne '
        while (/^CREATE\s+(?:FUNCTION|PROCEDURE)\s+([\w.]+)(.*?);\s*$/gmsi)
        {
            my ($name, $body, $line) = ($1, $2, 1 + (substr($_, 0, $-[0]) =~ tr/\n//));
            my $head = $body =~ s/\bAS\s+(\$\w*\$).*?\1//sir;
            next if $head =~ /search_path/i || $head =~ /LANGUAGE\s+c\b/i;
            print "$ENV{F}:$line: $name is SECURITY DEFINER without SET search_path\n"
                if $head =~ /SECURITY\s+DEFINER/i;
        }' "$f")"
done
finish
