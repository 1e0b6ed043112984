#!/usr/bin/env bash
# Stands for initdb in the tests' private copy of the installation: the first call with some options
# makes a cluster, each further one copies it and gives the copy a system identifier of its own
# (pg_fleet tells servers apart by that).  A quarter of the suite's time would go into initdb.
# Clusters are kept in $FLEET_TEMPLATES; the real program is initdb.plain beside this one.
set -euo pipefail
bin=$(cd "$(dirname "$0")" && pwd)
data=
others=()
for ((i = 1; i <= $#; i++)); do
    case ${!i} in
        -D | --pgdata) i=$((i + 1)) && data=${!i} ;;
        --pgdata=*) data=${!i#*=} ;;
        *) others+=("${!i}") ;;
    esac
done
if [ -z "$data" ] || [ -z "${FLEET_TEMPLATES:-}" ]; then
    exec "$bin/initdb.plain" "$@"
fi
template=$FLEET_TEMPLATES/$(printf '%s\n' "${LC_ALL:-}" "${others[@]}" | md5sum | cut -c1-32)
if [ ! -d "$template" ]; then
    new=$template.$$
    "$bin/initdb.plain" -D "$new" "${others[@]}"
    # somebody else was faster: theirs is as good
    mv -T "$new" "$template" 2>/dev/null || rm -rf "$new"
fi
mkdir -p "$data"
chmod 700 "$data"
cp -a "$template/." "$data/"
# Seven of the identifier's eight bytes (least significant first).  pg_resetwal finds the checksum
# wrong, takes the rest as it is, and writes control file and log anew.
dd if=/dev/urandom of="$data/global/pg_control" bs=7 count=1 conv=notrunc status=none
"$bin/pg_resetwal" -f -D "$data" 2>/dev/null
