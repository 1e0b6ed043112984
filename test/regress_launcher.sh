#!/bin/sh
# pg_regress runs psql through this.  The tests show every error with its SQLSTATE (VERBOSITY
# verbose); the place in the server's source that comes along is not ours, and differs by version.
"$@" 2>&1 | sed '/^LOCATION:  /d'
