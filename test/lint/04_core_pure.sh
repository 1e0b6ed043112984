#!/usr/bin/env bash
# Rule: the core has no I/O, clock, random source, global allocation or PostgreSQL word
. "$(dirname "$0")/lib.sh"
mapfile -t files < <(find src/core -name '*.[ch]' ! -path src/core/core.c | sort)
breach "$(grep_code '\b(palloc|pfree|elog|ereport|malloc|calloc|realloc|free|printf|fprintf|fopen|rand|random|srand|getenv|exit|abort|sleep|usleep|SPI_[a-z]+|PQ[a-z]+)[[:space:]]*\(' "${files[@]}")"
finish
