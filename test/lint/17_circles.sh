#!/usr/bin/env bash
# Rule: no files that need each other's symbols round in a circle, outside of the list in circles.txt with a reason each
. "$(dirname "$0")/lib.sh"
compiled
breaches_of test/lint/objects.py circles build/lint/obj test/lint/circles.txt
finish
