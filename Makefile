# pg_fleet: see README.md.  `make help` lists the targets.
EXTENSION = pg_fleet
EXTVERSION = 0.1.0
MODULE_big = pg_fleet
BUILD ?= build/obj

SOURCES := $(sort $(wildcard src/*.c src/*/*.c src/*/*/*.c))
PRIVATE_HEADERS := $(sort $(wildcard src/*.h src/*/*.h src/*/*/*.h))
OBJS = $(SOURCES:src/%.c=$(BUILD)/%.o)
SQL_SCRIPT = pg_fleet--$(EXTVERSION).sql
DATA_built = $(SQL_SCRIPT)
DATA = $(wildcard src/sql/upgrade/pg_fleet--*--*.sql)
EXTRA_CLEAN = build

# make installcheck: the regression suite against a running server with this version installed
REGRESS = install $(filter-out install,$(patsubst sql/%.sql,%,$(sort $(wildcard sql/*.sql))))
REGRESS_OPTS = --inputdir=. --launcher=test/regress_launcher.sh

PG_CONFIG ?= pg_config
# -isystem: the server's own headers are not ours to warn about.
PG_CPPFLAGS = -Isrc -I$(shell $(PG_CONFIG) --includedir) \
	-isystem $(shell $(PG_CONFIG) --includedir-server)
# Three warnings are off: callbacks and SQL functions have signatures that are given, so some
# parameters stay unused; C11 code declares where it first has a value (the server's C90 habit is
# in its CFLAGS); and gcc's guess about longjmp names, at -O2, variables that PG_TRY never changes.
PG_CFLAGS = -std=gnu11 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-declaration-after-statement \
	-Wno-clobbered
SHLIB_LINK = -L$(shell $(PG_CONFIG) --libdir) -lpq
# Only what the server looks up by name is exported.  (PostgreSQL 16 and later could do that by
# visibility; 15 does not mark SQL functions.)  The macOS linker has no version scripts.
ifneq ($(shell uname -s),Darwin)
SHLIB_LINK += -Wl,--version-script=src/exports.map
endif

# Targets that need no server package must work where there is none (the core is plain C, and
# `make test`, `make demo` install what is missing).
NO_PGXS = help setup lint format test test-core test-core-bugs test-core-coverage \
	test-core-asan test-core-valgrind tap asan demo bench check-regress check-isolation mutants
ifneq ($(filter-out $(NO_PGXS),$(or $(MAKECMDGOALS),all)),)
# No bitcode: inlining our functions into JIT-compiled queries gives nothing, and needs clang.
override with_llvm := no
PGXS := $(shell $(PG_CONFIG) --pgxs)
ifeq ($(PGXS),)
$(error pg_config is missing: run test/setup.sh, or install postgresql-server-dev and libpq-dev)
endif
include $(PGXS)

all: $(SQL_SCRIPT)

# One pattern rule, so that objects stay out of src/.  Every object depends on every header: the
# project is small, and a stale object costs more than a rebuild.
$(BUILD)/%.o: src/%.c $(PRIVATE_HEADERS) Makefile
	@mkdir -p $(@D)
	$(if $(V),,@echo 'CC $<';)$(CC) $(CFLAGS) $(CPPFLAGS) -c -o $@ $<

$(SQL_SCRIPT): $(sort $(wildcard src/sql/[0-9][0-9]_*.sql)) Makefile
	{ printf '%s\n' '\echo Use "CREATE EXTENSION pg_fleet" to load this file. \quit'; \
	  cat $(filter %.sql,$^); } > $@.tmp && mv $@.tmp $@
endif

.PHONY: help setup lint format test test-core test-core-bugs test-core-coverage test-core-asan \
	test-core-valgrind tap asan demo bench check-regress check-isolation mutants

help:
	@echo 'make            build'
	@echo 'make install    install into the server that PG_CONFIG names'
	@echo 'make demo       the tour on five real clusters; leaves nothing behind'
	@echo 'make test       every test; needs nothing but apt; PARTS="core runner regress isolation tap"'
	@echo 'make tap        TAP suites only; TESTS="test/t/003_modes.pl …"'
	@echo 'make test-core  unit tests and the simulator of src/core; CASES=n SEED=s'
	@echo 'make lint       one script a rule: test/lint/'
	@echo 'make asan       the TAP and regression suites with AddressSanitizer'
	@echo 'make bench      the benchmark against the peers'
	@echo 'make mutants    plants bugs and tells which test catches each; ONLY=regex RANDOM=n SEED=s'

setup:
	test/setup.sh

test:
	test/run.sh $(PARTS)

tap:
	TESTS='$(TESTS)' test/run.sh tap

check-regress:
	test/run.sh regress

check-isolation:
	test/run.sh isolation

asan:
	TESTS='$(TESTS)' FLEET_ASAN=1 test/run.sh $(or $(PARTS),regress isolation tap)

CASES ?= 100000
SEED ?=
test-core:
	$(MAKE) -C test/core run CASES=$(CASES) $(if $(SEED),SEED=$(SEED))
test-core-bugs test-core-coverage test-core-asan test-core-valgrind: test-core-%:
	$(MAKE) -C test/core $*

lint:
	test/lint/run.sh

format:
	clang-format -i $(SOURCES) $(PRIVATE_HEADERS) $(wildcard test/core/*.[ch] test/*/*.c)

demo:
	demo/run.sh

bench:
	test/bench/run.sh

# Make's own RANDOM does not exist; bash's must not come through.
JOBS ?= 2
mutants:
	test/setup.sh
	test/mutants/run.py --jobs $(JOBS) $(if $(ONLY),--only '$(ONLY)') $(if $(RANDOM),--random $(RANDOM)) \
		$(if $(SEED),--seed $(SEED)) $(if $(QUICK),--quick) $(if $(RESUME),--resume) \
		$(if $(SHUFFLE),--shuffle $(SHUFFLE))
