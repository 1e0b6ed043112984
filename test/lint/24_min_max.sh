#!/usr/bin/env bash
# Rule: no call within Min() and Max(), which evaluate an argument twice: fleet_earlier(), or a variable.  (Pure look-ups are let through.)
. "$(dirname "$0")/lib.sh"
mapfile -t files < <(find src -name '*.[ch]' | sort)
for f in "${files[@]}"; do
    breach "$(c_code "$f" | F=$f perl -0777 -ne '
        my $args;
        $args = qr/\((?:[^()]++|(?&p))*+\)(?(DEFINE)(?<p>\((?:[^()]++|(?&p))*+\)))/;
        while (/\b(?:Min|Max)(?=($args))/g)
        {
            my ($at, $text) = (pos, $1);
            my @calls = grep { !/^(?:Min|Max|sizeof|lengthof|strlen|list_length|dlist_container|PG_NARGS|lfirst\w*|FLEET_[A-Z]+|int|u?int\d+|Size|if|while)$/ } $text =~ /\b([A-Za-z_]\w*)\s*\(/g;
            my $line = 1 + (substr($_, 0, $at) =~ tr/\n//);
            print "$ENV{F}:$line: $_() may be called twice\n" for @calls;
        }')"
done
finish
