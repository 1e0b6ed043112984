#!/usr/bin/env bash
# Rule: one version number: what pg_fleet.control says is in META.json, src/pg_fleet.h, the head of CHANGELOG.md and the update scripts
. "$(dirname "$0")/lib.sh"
version=$(sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" pg_fleet.control)
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || breach "pg_fleet.control: default_version is '$version'"
grep -qE 'EXTVERSION *[:?]?= *[0-9]' Makefile && breach 'Makefile: a version of its own; it reads pg_fleet.control'
made=$(make -s -f Makefile version 2>/dev/null)
[ "$made" = "$version" ] || breach "Makefile: builds version '$made'"
in_header=$(sed -n 's/^#define FLEET_VERSION "\(.*\)"$/\1/p' src/pg_fleet.h)
[ "$in_header" = "$version" ] || breach "src/pg_fleet.h: FLEET_VERSION is '$in_header'"
in_log=$(sed -n 's/^## \([^ ]*\).*/\1/p' CHANGELOG.md | head -n 1)
[ "$in_log" = "$version" ] || breach "CHANGELOG.md: begins with '$in_log'"
breach "$(VERSION=$version python3 -c '
import json, os
meta = json.load(open("META.json"))
for what, found in [("version", meta["version"])] + [(f"provides {k}", v["version"]) for k, v in meta["provides"].items()]:
    if found != os.environ["VERSION"]:
        print(f"META.json: {what} is {found}")
for name in [p["file"] for p in meta["provides"].values()] + [p["docfile"] for p in meta["provides"].values()]:
    if not os.path.exists(name):
        print(f"META.json: there is no {name}")
' 2>&1)"
# an update script ends at a version that is or was: the newest ends here
newest=$(find src/sql/upgrade -name 'pg_fleet--*--*.sql' 2>/dev/null | sed 's/.*--\(.*\)\.sql$/\1/' | sort -V | tail -n 1)
[ -z "$newest" ] || [ "$newest" = "$version" ] || breach "src/sql/upgrade: the newest script ends at '$newest'"
finish
