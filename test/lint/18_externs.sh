#!/usr/bin/env bash
# Rule: what is extern is declared in one header, and the one file that defines it includes that header
. "$(dirname "$0")/lib.sh"
compiled
breaches_of test/lint/objects.py externs build/lint/obj
finish
