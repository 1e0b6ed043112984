#!/usr/bin/env bash
# Rule: a build in another folder installs the library, the control file, the scripts and the documents, and nothing else (no header)
. "$(dirname "$0")/lib.sh"
compiled
top=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/build"
# the objects are those of the other rules
if ! out=$(make -s -C "$work/build" -f "$top/Makefile" VPATH="$top" BUILD="$top/build/lint/obj" DESTDIR="$work/root" install 2>&1); then
    breach "make -f .../Makefile VPATH=... install failed: $out"
    finish
fi
{
    echo pg_fleet.so
    echo pg_fleet.control
    basename -a "$work"/build/pg_fleet--*.sql
    find src/sql/upgrade doc -name 'pg_fleet--*--*.sql' -o -name '*.md' 2>/dev/null | sed 's|.*/||'
} | sort >"$work/wanted"
find "$work/root" -type f -printf '%f\n' | sort >"$work/found"
breach "$(diff "$work/wanted" "$work/found" | sed -n -e 's/^</make install: missing:/p' -e 's/^>/make install: too much:/p')"
make -s -C "$work/build" -f "$top/Makefile" VPATH="$top" BUILD="$top/build/lint/obj" DESTDIR="$work/root" uninstall >/dev/null 2>&1
breach "$(find "$work/root" -type f -printf 'make uninstall: left behind: %f\n')"
finish
