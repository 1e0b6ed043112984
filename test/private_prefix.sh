#!/usr/bin/env bash
# Makes a private copy of the PostgreSQL installation, with this tree's pg_fleet in it, so that
# tests and demo never touch the system's own.  PostgreSQL's programs find their files relative to
# themselves, so only the programs are copied; libraries and shared files are links.
#
# usage: test/private_prefix.sh DIRECTORY        prints the directory with the programs
#        FLEET_SO: install this library instead of the tree's
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
prefix=$1
pg_config=${PG_CONFIG:-pg_config}
bindir=$("$pg_config" --bindir)
libdir=$("$pg_config" --pkglibdir)
sharedir=$("$pg_config" --sharedir)
# Debian: /usr/lib/postgresql/15/bin.  What they have in common with the copy is the path below /usr.
root=${bindir%/lib/*}
new_bin=$prefix/${bindir#"$root"/}
new_lib=$prefix/${libdir#"$root"/}
new_share=$prefix/${sharedir#"$root"/}

mkdir -p "$new_bin" "$new_lib" "$new_share/extension"
cp -fp "$bindir"/* "$new_bin"/
ln -sf "$libdir"/* "$new_lib"/
for f in "$sharedir"/*; do
    [ "$(basename "$f")" = extension ] || ln -sfn "$f" "$new_share/$(basename "$f")"
done
ln -sf "$sharedir"/extension/* "$new_share/extension"/
# our own, if it was ever installed into the system, must not come through
rm -f "$new_lib/pg_fleet.so" "$new_share"/extension/pg_fleet[.-]*

cp "${FLEET_SO:-$top/pg_fleet.so}" "$new_lib/pg_fleet.so"
cp "$top"/pg_fleet.control "$top"/pg_fleet--*.sql "$new_share/extension"/
find "$top/src/sql/upgrade" -name 'pg_fleet--*--*.sql' -exec cp -t "$new_share/extension" {} + 2>/dev/null || true

# FLEET_VALGRIND=directory: the server runs under valgrind, which reports there
if [ -n "${FLEET_VALGRIND:-}" ]; then
    mv "$new_bin/postgres" "$new_bin/postgres.plain"
    cat >"$new_bin/postgres" <<WRAPPER
#!/bin/sh
exec valgrind --quiet --trace-children=yes --leak-check=no --error-limit=no --num-callers=25 \\
    --log-file="$FLEET_VALGRIND/valgrind.%p" "$new_bin/postgres.plain" "\$@"
WRAPPER
    chmod +x "$new_bin/postgres"
fi
echo "$new_bin"
