#!/usr/bin/env bash
# Rule: link/, runner/, store/ and mailbox/ need no symbol of agent/, and core/ none of anybody (what the objects say: callbacks are handed in)
. "$(dirname "$0")/lib.sh"
compiled
breaches_of test/lint/objects.py layers build/lint/obj
finish
