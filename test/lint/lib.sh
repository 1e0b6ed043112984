# shellcheck shell=bash
# Common to the rules: each rule is a script that prints every breach as "file:line: what" and
# ends with 1 if there was one.  Sourced, not run.
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
breaches=0

# breach TEXT… : one or more lines, each a breach
breach()
{
    [ -z "$*" ] && return 0
    printf '%s\n' "$@"
    breaches=1
}

# breaches_of COMMAND ARG… : what it prints, each line a breach; also what it dies of
breaches_of()
{
    local out
    out=$("$@" 2>&1) || out=${out:-"$1 failed and printed nothing"}
    breach "$out"
}

finish()
{
    exit "$breaches"
}

# Files of the tree that are not build outputs (tracked, or new and not ignored).
tree_files()
{
    git ls-files --cached --others --exclude-standard -- "$@" 2>/dev/null |
        while read -r f; do [ -f "$f" ] && echo "$f"; done
}

# C code without comments and string constants, lines kept: for rules that look for words.
c_code()
{
    perl -0777 -pe '
        s{("(?:\\.|[^"\\\n])*"|\x27(?:\\.|[^\x27\\\n])*\x27)|(/\*.*?\*/|//[^\n]*)}
         { defined $1 ? (length $1 > 3 ? "\"\"" : $1) : ($2 =~ tr/\n//cdr) }gse' "$1"
}

# grep_code PATTERN FILE… : "file:line: text" of matches outside of comments and strings
grep_code()
{
    local pattern=$1 f
    shift
    for f in "$@"; do
        c_code "$f" | grep -nE -- "$pattern" | sed "s|^|$f:|"
    done
    return 0
}

# Compiles everything, with warnings as errors, into build/lint: objects in the folders of src/, and
# the library.  A rule that looks at them and cannot have them has found a breach.
compiled()
{
    local o out lock
    mkdir -p build/lint
    exec {lock}>build/lint/lock # two rules may run at the same time
    flock "$lock"
    while read -r o; do
        [ -e "src/${o%.o}.c" ] || rm "build/lint/obj/$o"
    done < <(cd build/lint/obj 2>/dev/null && find . -name '*.o')
    out=$(make -s -j"$(nproc)" WERROR=1 BUILD=build/lint/obj shlib=build/lint/pg_fleet.so all 2>&1) || {
        breach "it does not compile without a warning:" "$out"
        finish
    }
    exec {lock}>&-
}
