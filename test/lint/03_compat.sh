#!/usr/bin/env bash
# Rule: PG_VERSION_NUM is tested in compat.h only
. "$(dirname "$0")/lib.sh"
mapfile -t files < <(find src -name '*.[ch]' ! -path src/compat.h | sort)
breach "$(grep_code '\bPG_VERSION_NUM\b|\bPG_MAJORVERSION_NUM\b' "${files[@]}")"
finish
