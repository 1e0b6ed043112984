/*
 * diagnostics.h
 *     What is said of an error or a message: level, SQLSTATE, and four texts.
 *     The same struct on the whole way, from the process or the server where it
 *     was raised to the row that keeps it.  In every process; knows nothing of
 *     PostgreSQL's wire protocol (link/text.c) or of rows (store/).
 *
 * A text that is NULL is absent.  The struct never owns its texts by itself:
 * the struct that it is a part of, or the function that hands it over, says how
 * long they live.  Of events and callbacks they are valid during the call, and
 * whoever keeps them copies them into a memory context of its own; rows that
 * are collected (store/run_write.c) copy them when they are given.
 *
 * Bounds: message, detail, hint and context have at most FLEET_MESSAGE_MAX bytes
 * each, cut at a character; level FLEET_LEVEL_MAX.  They are cut and
 * made valid in the database's encoding where they come in (from an error here,
 * or by link/text.c from a server), and not again.
 */
#ifndef FLEET_DIAGNOSTICS_H
#define FLEET_DIAGNOSTICS_H

#include "postgres.h"

#include "core/sqlstate.h"

#define FLEET_MESSAGE_MAX 65536 /* each of message, detail, hint, context, in bytes */
#define FLEET_LEVEL_MAX 16
#define FLEET_SQLSTATE_LENGTH 5

typedef struct FleetDiagnostics
{
    const char *level;    /* as PostgreSQL writes it, not translated: ERROR, NOTICE … */
    const char *sqlstate; /* five characters: core/sqlstate.h has those of our own errors */
    const char *message;
    const char *detail;
    const char *hint;
    const char *context;
} FleetDiagnostics;

/* Frees the texts, which were palloc'd one by one; all are absent then. */
extern void fleet_diagnostics_free(FleetDiagnostics *diag);
/* Copies of the texts, in that context.  What "to" had before is not freed. */
extern void fleet_diagnostics_copy(FleetDiagnostics *to, const FleetDiagnostics *from,
                                   MemoryContext context);
/* An error of ours, with copies of both texts in the current context. */
extern void fleet_diagnostics_set(FleetDiagnostics *diag, const char *sqlstate,
                                  const char *message);
/* Of an error or a message of this process: copies in the current context, within the bounds. */
extern void fleet_diagnostics_of_error(FleetDiagnostics *diag, const ErrorData *error);

/* For where nothing can be palloc'd: the bytes that copies take, each text cut to the bound (not at
 * a character), and the copies themselves, one behind the other. */
extern Size fleet_diagnostics_size(const FleetDiagnostics *diag);
extern void fleet_diagnostics_place(FleetDiagnostics *to, const FleetDiagnostics *from,
                                    char *place);

/* A copy of at most "limit" bytes, cut at a character; NULL stays NULL. */
extern char *fleet_clip(const char *text, int limit);

#endif
