#!/usr/bin/env bash
# Rule: a TAP test waits for a condition by name, which is a test of its own; it never lets time pass ("(time passes)" in a comment of the line: that is what it is about)
. "$(dirname "$0")/lib.sh"
for f in $(tree_files 'test/t/*.pl' 'test/runner/*.pl'); do
    breach "$(F=$f perl -0777 -ne '
        my $src = $_;
        sub line_of { return 1 + (substr($src, 0, $_[0]) =~ tr/\n//) }
        sub text_of { my ($n) = @_; return (split /\n/, $src)[$n - 1] }
        sub report
        {
            my ($at, $what) = @_;
            my $line = line_of($at);
            print "$ENV{F}:$line: $what\n" unless text_of($line) =~ /^\s*#|#.*\(time passes\)/;
        }
        # the arguments of a call, from behind its parenthesis
        my %close = ("(" => ")", "{" => "}", "[" => "]", "<" => ">");
        sub arguments
        {
            my ($at) = @_;
            my ($n, $depth, $any) = (1, 0, 0);
            pos($src) = $at;
            while (pos($src) < length $src)
            {
                if ($src =~ /\G(?:"(?:\\.|[^"\\])*"|\x27(?:\\.|[^\x27\\])*\x27)/gcs) { $any = 1; }
                elsif ($src =~ /\G(?<![\w\$\@%])q[qw]?\s*([({\[<])/gc)
                {
                    my ($open, $end, $level) = ($1, $close{$1}, 1);
                    $any = 1;
                    while ($level && $src =~ /\G.*?(\\.|\Q$open\E|\Q$end\E)/gcs) { $level += $1 eq $open ? 1 : $1 eq $end ? -1 : 0; }
                }
                elsif ($src =~ /\G[({\[]/gc) { $depth++; }
                elsif ($src =~ /\G[)}\]]/gc) { last if $depth-- == 0; }
                elsif ($src =~ /\G(?:,|=>)\s*/gc) { $n++ if $depth == 0 && $src !~ /\G\)/; }
                elsif ($src =~ /\G\s+/gc) { }
                else { $src =~ /\G./gcs; $any = 1; }
            }
            return $any ? $n : 0;
        }
        while ($src =~ /->(wait_for|point_waits|point_fired)\(/g)
        {
            my ($at, $end, $what) = ($-[0], $+[0], $1);
            my $least = $what eq "wait_for" ? 4 : 3;
            report($at, "$what without a name") if arguments($end) < $least;
            pos($src) = $end;
        }
        report($-[1], "$2: nothing is made of its answer") while $src =~ /^[ \t]*(\$\w+(?:->\w+)*->(wait_run|poll_query_until|fired)\()/gm;
        report($-[0], "it lets time pass: $1") while $src =~ /(?<![\w>\$\@%])(sleep|usleep|nanosleep)\b\s*[\d(\$]/g;
        report($-[0], "it lets time pass: select") while $src =~ /\bselect\s*\(?\s*undef\s*,\s*undef\s*,\s*undef/g;
        report($-[0], "it lets time pass: pg_sleep") while $src =~ /\b(?:sql|sql_on|sql_as|try_as|safe_psql|psql|query|query_safe)\s*\(\s*(?:[^,;]{0,60},\s*)?(?:qq?[({]|["\x27])\s*SELECT\s+pg_sleep/gi;
    ' "$f")"
done
finish
