#!/usr/bin/env bash
# Rule: every rule here finds the breach that it is for
exec "$(dirname "$0")/selftest.sh"
