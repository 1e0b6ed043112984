#!/usr/bin/env bash
# Rule: SQL of our own qualifies every relation, function and operator that a search_path could lead astray
. "$(dirname "$0")/lib.sh"
files=$(find src -name '*.c' | sort -u)
for f in $files; do
    breach "$(F=$f perl -0777 -ne '
        # adjacent string constants are one text; remember the line where each begins
        my $src = $_;
        while ($src =~ /((?:"(?:\\.|[^"\\\n])*"[ \t\n]*)+)/g)
        {
            my ($at, $raw) = ($-[0], $1);
            my $line = 1 + (substr($src, 0, $at) =~ tr/\n//);
            my $sql = join "", $raw =~ /"((?:\\.|[^"\\\n])*)"/g;
            next unless $sql =~ /^\s*(?:SELECT|INSERT|UPDATE|DELETE|WITH|LOCK)\b.*\b(?:FROM|INTO|SET|VALUES|TABLE|SELECT)\b/is;
            $sql =~ s/\x27[^\x27]*\x27//g;                       # constants
            my @bad;
            # relations
            while ($sql =~ /\b(?:FROM|JOIN|INTO|UPDATE|LOCK TABLE)\s+(?!ONLY\b|ROWS\s+FROM\b|LATERAL\b|SELECT\b|SET\b|NOTHING\b|OF\b)([a-z_][a-z_0-9]*)\b(?!\s*\.)(?!\()/gi)
            {
                my $name = $1;
                next if $sql =~ /\b\Q$name\E\s*(?:\([^)]*\))?\s+AS\s*(?:MATERIALIZED\s*)?\(/i;  # a WITH name
                next if $sql =~ /\bDO\s+UPDATE\s*$/i || $name =~ /^(?:skip|nowait)$/i;
                push @bad, "relation $name" unless substr($sql, 0, $-[0] + 6) =~ /DISTINCT\s+FROM$|FOR\s+UPDATE$/i;
            }
            # functions
            while ($sql =~ /(?<![.\w])([a-z_][a-z_0-9]*)\s*\(/gi)
            {
                next if $1 =~ /^(?:values|in|any|all|exists|as|and|or|not|on|over|filter|coalesce|nullif|greatest|least|row|array|cast|using|by|where|select|from|set|conflict|into|with|when|then|else|grouping|interval|materialized|case|returning|distinct|numeric|varchar|operator|t|overlay|extract|position|substring|trim|within|group|order|limit|is|like)$/i;
                my $name = $1;
                next if $sql =~ /\b(?:INTO|JOIN|FROM)\s+[\w.]*\Q$name\E\s*\(/i && $sql =~ /\bAS\s+\Q$name\E\s*\(/i;
                next if $sql =~ /\b(?:AS|WITH)\s+\Q$name\E\s*\(/i;      # column list of an alias
                next if $sql =~ /\.\Q$name\E\s*\(/i && $sql !~ /(?<![.\w])\Q$name\E\s*\(/i;
                push @bad, "function $name()";
            }
            # operators, and what stands for one
            push @bad, "operator ~~ or LIKE" if $sql =~ /\b(?:LIKE|ILIKE|SIMILAR TO)\b/i;
            push @bad, "operator in $1" while $sql =~ /(\bBETWEEN\b|\bIN\s*\((?!\s*SHARE)|(?<!\bON )\bDISTINCT\s+FROM\b)/gi;
            my $rest = $sql;
            $rest =~ s/OPERATOR\(pg_catalog\.[^)]*\)//gi;
            $rest =~ s/(\bSET|,)(\s+[a-z_]\w*\s*)=/$1$2/gi;      # assignments
            $rest =~ s/=>|::|\(\*\)|\.\*|\b(?:SELECT|RETURNING)\s+\*//gi;
            push @bad, "operator $1" while $rest =~ m{([-+*/<>=~!@#%^&|`?]+)}g;
            print "$ENV{F}:$line: $_\n" for @bad;
        }' "$f")"
done

# whoever runs SQL of ours does it with the search_path pinned
breach "$(grep -rnE 'search_path' src --include='*.c' | grep -E 'SET|set_config' | grep -vE 'pg_catalog, *pg_temp|\$1|%s' || true)"
finish
