#!/usr/bin/env bash
# Rule: every function of the install script pins its search_path, or is C, or has a parsed body (BEGIN ATOMIC, RETURN); nothing is IF NOT EXISTS or OR REPLACE
. "$(dirname "$0")/lib.sh"
for f in src/sql/[0-9]*.sql; do
    breach "$(grep -niE '^[[:space:]]*CREATE[[:space:]]+(OR[[:space:]]+REPLACE|.*IF[[:space:]]+NOT[[:space:]]+EXISTS)' "$f" | sed "s|^|$f:|")"
    breach "$(F=$f perl -0777 -ne '
        while (/^CREATE\s+(?:FUNCTION|PROCEDURE)\s+([\w.]+)(.*?);\s*$/gmsi)
        {
            my ($name, $body, $line) = ($1, $2, 1 + (substr($_, 0, $-[0]) =~ tr/\n//));
            # they commit, which a procedure with a SET clause may not: they qualify every name, types too
            if ($name =~ /^(?:fleet\.execute_(?:package|job)|fleet_link\.follow_run)$/)
            {
                my ($declared, $does) = $body =~ /\bDECLARE\b(.*?)\bBEGIN\b(.*)/si;
                while ($declared =~ /^\s*(\w+)\s+(?!pg_catalog\.)(\w+)/gm) { print "$ENV{F}:$line: $name declares $1 with the unqualified type $2\n"; }
                while ($does =~ /(?:::|\bAS)\s*(?!pg_catalog\.)(text|jsonb?|name|bool|int\w*|float\w*|numeric|uuid|interval|timestamp\w*|date|record|regclass)\b/gi) { print "$ENV{F}:$line: $name casts to the unqualified type $1\n"; }
                next;
            }
            my $head = $body =~ s/\bAS\s+(\$\w*\$).*?\1//sir;
            next if $head =~ /\bSET\s+search_path\s*(?:=|TO)\s*pg_catalog\s*,\s*pg_temp\b/i;
            next if $head =~ /\bLANGUAGE\s+c\b/i;
            # names of a parsed body were looked up at installation; a definer still needs it pinned
            next if $head =~ /\bBEGIN\s+ATOMIC\b|\bRETURN\s+[^;]/i && $head !~ /SECURITY\s+DEFINER/i;
            print "$ENV{F}:$line: $name without SET search_path = pg_catalog, pg_temp\n";
        }' "$f")"
done
finish
