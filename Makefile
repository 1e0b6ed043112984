# pg_fleet: see README.md.  `make help` lists the targets.
#
# For packagers: PGXS's own targets and variables (PG_CONFIG, DESTDIR, install, installcheck, clean),
# and builds in another folder, `make -f …/Makefile` with or without VPATH.
EXTENSION = pg_fleet
MODULE_big = pg_fleet
BUILD ?= build/obj

# Where the sources are: this file's folder.
top := $(or $(VPATH),$(patsubst %/,%,$(dir $(firstword $(MAKEFILE_LIST)))))
sources_of = $(sort $(patsubst $(top)/%,%,$(wildcard $(addprefix $(top)/,$(1)))))

# The version stands in the control file; test/lint/21_version.sh names the places that repeat it.
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" $(top)/pg_fleet.control)

SOURCES := $(call sources_of,src/*.c src/*/*.c src/*/*/*.c)
# Not HEADERS: that is PGXS's variable for headers to install, and nothing includes ours.
PRIVATE_HEADERS := $(call sources_of,src/*.h src/*/*.h src/*/*/*.h)
OBJS = $(SOURCES:src/%.c=$(BUILD)/%.o)
SQL_SCRIPT = pg_fleet--$(EXTVERSION).sql
DATA_built = $(SQL_SCRIPT)
DATA := $(call sources_of,src/sql/upgrade/pg_fleet--*--*.sql)
DOCS := $(call sources_of,doc/*.md)
EXTRA_CLEAN = build

# make installcheck, against a running server with this version installed: the regression suite,
# sessions that meet, and, where PostgreSQL was configured with --enable-tap-tests, the TAP files that
# need no test build (-DFLEET_TEST_POINTS).  Those make clusters of their own.
REGRESS = install $(filter-out install,$(notdir $(basename $(call sources_of,sql/*.sql))))
REGRESS_OPTS = --inputdir=$(top) --launcher=$(top)/test/regress_launcher.sh
ISOLATION = $(notdir $(basename $(call sources_of,test/isolation/specs/*.spec)))
ISOLATION_OPTS = --inputdir=$(top)/test/isolation --load-extension=pg_fleet
TAP_TESTS = 1
PROVE_TESTS ?= $(shell cd $(top) && grep -L -e '->point' -e agent_memory -e '(test build)' test/t/*.pl)

PG_CONFIG ?= pg_config
# -isystem: the server's own headers are not ours to warn about.
PG_CPPFLAGS = -I$(top)/src -I$(shell $(PG_CONFIG) --includedir) \
	-isystem $(shell $(PG_CONFIG) --includedir-server)
# Three warnings are off: callbacks and SQL functions have signatures that are given, so some
# parameters stay unused; C11 code declares where it first has a value (the server's C90 habit is
# in its CFLAGS); and gcc's guess about longjmp names, at -O2, variables that PG_TRY never changes.
# WERROR=1 makes warnings errors: our own tests and `make lint` do that.  Who builds a release may
# have a newer compiler, with warnings that nobody has seen yet.
PG_CFLAGS = -std=gnu11 -Wall -Wextra $(if $(WERROR),-Werror) -Wno-unused-parameter \
	-Wno-declaration-after-statement -Wno-clobbered
SHLIB_LINK = -L$(shell $(PG_CONFIG) --libdir) -lpq
# Only what the server looks up by name is exported.  (PostgreSQL 16 and later could do that by
# visibility; 15 does not mark SQL functions.)  The macOS linker has no version scripts.
ifneq ($(shell uname -s),Darwin)
SHLIB_LINK += -Wl,--version-script=$(top)/src/exports.map
endif

# Targets that need no server package must work where there is none (the core is plain C, and
# `make test`, `make demo` install what is missing).
NO_PGXS = help version setup lint format test test-core test-core-bugs test-core-coverage \
	test-core-asan test-core-valgrind test-report tap asan demo bench bench-history check-regress check-isolation mutants
ifneq ($(filter-out $(NO_PGXS),$(or $(MAKECMDGOALS),all)),)
# No bitcode: inlining our functions into JIT-compiled queries gives nothing, and needs clang.
override with_llvm := no
PGXS := $(shell $(PG_CONFIG) --pgxs)
ifeq ($(PGXS),)
$(error pg_config is missing: run test/setup.sh, or install postgresql-server-dev and libpq-dev)
endif
include $(PGXS)

# Our rules name every source by its path.  PGXS's search through VPATH would take what a build in
# the source tree left behind for what is to be built here.
srcdir := $(top)
override VPATH :=
vpath %.control $(top)

# After PGXS, which sets both anew; PROVE_FLAGS is for who calls make (PROVE_FLAGS=-j4).
PG_PROVE_FLAGS += -I $(abspath $(top))/test/lib

# The documents have general names: they get a folder of their own.  (PGXS's uninstall looks for
# them in doc/.)
docmoduledir := $(EXTENSION)
uninstall: uninstall-docs
.PHONY: uninstall-docs
uninstall-docs:
	rm -f $(addprefix '$(DESTDIR)$(docdir)/$(docmoduledir)'/,$(notdir $(DOCS)))

all: $(SQL_SCRIPT)

# One pattern rule, so that objects stay out of src/.  Every object depends on every header: the
# project is small, and a stale object costs more than a rebuild.
$(BUILD)/%.o: $(top)/src/%.c $(addprefix $(top)/,$(PRIVATE_HEADERS)) $(top)/Makefile
	@mkdir -p $(@D)
	$(if $(V),,@echo 'CC $(<:$(top)/%=%)';)$(CC) $(CFLAGS) $(CPPFLAGS) -c -o $@ $<

$(SQL_SCRIPT): $(addprefix $(top)/,$(call sources_of,src/sql/[0-9][0-9]_*.sql) Makefile)
	{ printf '%s\n' '\echo Use "CREATE EXTENSION pg_fleet" to load this file. \quit'; \
	  cat $(filter %.sql,$^); } > $@.tmp && mv $@.tmp $@
endif

.PHONY: help version setup lint format test test-core test-core-bugs test-core-coverage test-core-asan \
	test-core-valgrind test-report tap asan demo bench bench-history check-regress check-isolation mutants

help:
	@echo 'make            build'
	@echo 'make install    install into the server that PG_CONFIG names'
	@echo 'make demo       the tour on five real clusters; leaves nothing behind'
	@echo 'make test       every test; needs nothing but apt; PARTS="core runner regress isolation tap"'
	@echo 'make tap        TAP suites only; TESTS="test/t/003_modes.pl …"'
	@echo 'make test-report  the pages in headless Chromium'
	@echo 'make test-core  unit tests and the simulator of src/core; CASES=n SEED=s'
	@echo 'make lint       one script a rule: test/lint/'
	@echo 'make asan       the TAP and regression suites with AddressSanitizer'
	@echo 'make bench      the benchmark against the peers'
	@echo 'make bench-history  the purge of LINES=n log lines, and all that goes with them, while packages run'
	@echo 'make torture    random packages and random faults on real clusters; SEED=s MINUTES=m'
	@echo 'make test-year  a package every night for a year, with clocks that are moved; NIGHTS=n SEED=s'
	@echo 'make torture-sweep  a crash at every boundary of a scenario; SWEEP=regex EVERY=n SEED=s'
	@echo 'make liar       a parent and servers that lie; CASES=n SEED=s'
	@echo 'make mutants    plants bugs and tells which test catches each; ONLY=regex RANDOM=n SEED=s'

version:
	@echo $(EXTVERSION)

setup:
	test/setup.sh

test:
	test/run.sh $(PARTS)

tap:
	TESTS='$(TESTS)' test/run.sh tap

# Looks at the pages of fleet.report() and fleet.overview() in a browser; a part of "make test".
test-report:
	TESTS=test/report/pages.pl test/run.sh tap

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

bench-history:
	LINES='$(or $(LINES),10000000)' test/bench/run.sh history.py

# Make's own RANDOM does not exist; bash's must not come through.
JOBS ?= 2
mutants:
	test/setup.sh
	test/mutants/run.py --jobs $(JOBS) $(if $(ONLY),--only '$(ONLY)') $(if $(RANDOM),--random $(RANDOM)) \
		$(if $(SEED),--seed $(SEED)) $(if $(QUICK),--quick) $(if $(PART),--part $(PART)) $(if $(RESUME),--resume) \
		$(if $(SHUFFLE),--shuffle $(SHUFFLE))

# Not part of "make test".
.PHONY: torture torture-sweep liar test-year
torture:
	TESTS=test/torture/torture.pl TORTURE=1 SEED='$(SEED)' MINUTES='$(MINUTES)' ROUND='$(ROUND)' ROUNDS='$(ROUNDS)' TIMES='$(TIMES)' BRIEF='$(BRIEF)' FAULTS='$(FAULTS)' test/run.sh tap
torture-sweep:
	TESTS=test/torture/sweep.pl SWEEP='$(SWEEP)' EVERY='$(EVERY)' SEED='$(SEED)' test/run.sh tap

# A year of nights: the clocks of the servers are moved.
test-year:
	TESTS=test/year/year.pl NIGHTS='$(NIGHTS)' SEED='$(SEED)' test/run.sh tap

# Cases of the lying server; with AddressSanitizer: FLEET_ASAN=1.
liar:
	TESTS=test/t/061_liar_between.pl FLEET_LIAR_CASES='$(or $(filter-out 100000,$(CASES)),10000)' FLEET_LIAR_SEED='$(SEED)' test/run.sh tap
