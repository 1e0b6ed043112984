# pg_fleet: see README.md
EXTENSION = pg_fleet
EXTVERSION = 0.1.0
MODULE_big = pg_fleet
OBJS = $(patsubst %.c,%.o,$(wildcard src/*.c src/*/*.c))
DATA = pg_fleet--$(EXTVERSION).sql
EXTRA_CLEAN = pg_fleet--$(EXTVERSION).sql

PG_CPPFLAGS = -I$(srcdir)/src -I$(shell $(PG_CONFIG) --includedir)
PG_CFLAGS = -std=gnu11 -Wall -Wextra -Werror -Wno-unused-parameter
SHLIB_LINK = -L$(shell $(PG_CONFIG) --libdir) -lpq

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

all: pg_fleet--$(EXTVERSION).sql
pg_fleet--$(EXTVERSION).sql: $(sort $(wildcard src/sql/*.sql))
	cat $^ > $@
