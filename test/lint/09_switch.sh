#!/usr/bin/env bash
# Rule: a switch over an enum has no default, so that the compiler finds the forgotten member
. "$(dirname "$0")/lib.sh"
# A switch whose first case is a name in capitals with a prefix of ours is one over an enum.
for f in $(find src -name '*.c' | sort); do
    breach "$(c_code "$f" | F=$f perl -0777 -ne '
        while (/\bswitch\s*\(/g)
        {
            my $at = $-[0];
            my ($i, $depth, $body) = (pos, 0, "");
            my $open = index($_, "{", $i);
            next if $open < 0;
            my $p = $open;
            for (; $p < length; $p++)
            {
                my $c = substr($_, $p, 1);
                $depth++ if $c eq "{";
                $depth-- if $c eq "}";
                last if $depth == 0;
                $body .= $c if $depth == 1;
            }
            next unless $body =~ /\bcase\s+(?:FLEET|RUN|TASK|LINK|STEP|JOB)_/ && $body =~ /\bdefault\s*:/;
            my $line = 1 + (substr($_, 0, $at) =~ tr/\n//);
            print "$ENV{F}:$line: default in a switch over an enum\n";
        }')"
done
finish
