#!/usr/bin/env bash
# Rule: each layer includes only what DESIGN section 3 lets it see
. "$(dirname "$0")/lib.sh"

# only PATTERN WHAT ALLOWED-REGEX : the include is allowed only in files matching the regex
only()
{
    local pattern=$1 allowed=$2 f
    for f in $(find src -name '*.[ch]' | sort); do
        [[ $f =~ $allowed ]] && continue
        breach "$(grep -nE "^[[:space:]]*#[[:space:]]*include[[:space:]]+[<\"](${pattern})[>\"]" "$f" | sed "s|^|$f:|")"
    done
}
only 'libpq-fe\.h|libpq-events\.h' '^src/link/'
only 'executor/spi\.h' '^src/(store/|api/|runner/exec\.c)'
# rows without SPI: the hot path's tables only
only 'store/rows\.h' '^src/store/(rows|tables|places|state_change|stat)\.[ch]$'
only 'store/tables\.h' '^src/(store/(tables|run_write|run_read|run_close|stat)\.c|api/(child|known_job)\.c)$'
only 'libpq/libpq-be-fe-helpers\.h|internal/.*' '^$'

# the core is plain C: its own headers and the C library's
while IFS= read -r f; do
    while IFS= read -r line; do
        file=$(sed -E 's/.*[<"]([^>"]*)[>"].*/\1/' <<<"$line")
        case $line in
            *\"*)
                [ -e "src/$file" ] && [[ $file == core/* ]] && continue
                [ -e "src/core/$file" ] && continue
                ;;
            *'<'*)
                [[ $file =~ ^(std(int|bool|arg|def|lib|io|atomic)|string|limits|float|math|inttypes|assert|errno|ctype)\.h$ ]] && continue
                ;;
        esac
        breach "$f: $line"
    done < <(grep -hE '^[[:space:]]*#[[:space:]]*include' "$f")
done < <(find src/core -name '*.[ch]' | sort)

# downward only: who may include whom
layer_is_clean() # FILES-REGEX FORBIDDEN-INCLUDE-REGEX
{
    local f
    for f in $(find src -name '*.[ch]' | sort); do
        [[ $f =~ $1 ]] || continue
        breach "$(grep -nE "#[[:space:]]*include[[:space:]]+\"($2)" "$f" | sed "s|^|$f:|")"
    done
}
layer_is_clean '^src/(link|store|runner)/' 'agent/|launcher/|api/'
layer_is_clean '^src/mailbox/' 'agent/|api/'
layer_is_clean '^src/store/' 'link/|runner/|mailbox/'
layer_is_clean '^src/link/' 'store/|mailbox/'
finish
