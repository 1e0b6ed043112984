#!/usr/bin/env bash
# Rule: every test and mutant that test/promises.md names exists, every mutant is aimed at a promise of it and listed there, and what nothing holds says so; the tables of faults and attacks in doc/ name files that are there
. "$(dirname "$0")/lib.sh"
breaches_of test/lint/promises.py
finish
