#!/usr/bin/env bash
# Rule: a build in another folder installs the library, the control file, the scripts and the documents, and nothing else (no header); twice is as once; clean leaves nothing; installcheck finds its modules
. "$(dirname "$0")/lib.sh"
compiled
top=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/build"
# the objects are those of the other rules
outside() # make, in that folder
{
    make -s -C "$work/build" -f "$top/Makefile" VPATH="$top" BUILD="$top/build/lint/obj" DESTDIR="$work/root" "$@"
}
for time in first second; do
    if ! out=$(outside install 2>&1); then
        breach "make -f .../Makefile VPATH=... install failed, the $time time: $out"
        finish
    fi
done
{
    echo pg_fleet.so
    echo pg_fleet.control
    basename -a "$work"/build/pg_fleet--*.sql
    find src/sql/upgrade doc -name 'pg_fleet--*--*.sql' -o -name '*.md' 2>/dev/null | sed 's|.*/||'
} | sort >"$work/wanted"
find "$work/root" -type f -printf '%f\n' | sort >"$work/found"
breach "$(diff "$work/wanted" "$work/found" | sed -n -e 's/^</make install: missing:/p' -e 's/^>/make install: too much:/p')"
outside uninstall >/dev/null 2>&1
breach "$(find "$work/root" -type f -printf 'make uninstall: left behind: %f\n')"
outside -n installcheck 2>/dev/null | grep -qF -e "-I $top/test/lib" || breach "make installcheck: prove does not find test/lib"
# the folder as a packager would have it, with objects of its own (none is built here)
make -s -C "$work/build" -f "$top/Makefile" VPATH="$top" clean >/dev/null 2>&1
breach "$(find "$work/build" -type f -printf 'make clean: left behind: %f\n')"
finish
