/*
 * diagnostics.c
 *     What is said of an error or a message.  In every process; no state.
 */
#include "postgres.h"

#include "diagnostics.h"
#include "mb/pg_wchar.h"

#define TEXTS 6

/* The members, in their order. */
static void
texts_of(FleetDiagnostics *diag, const char **texts[TEXTS])
{
    texts[0] = &diag->level;
    texts[1] = &diag->sqlstate;
    texts[2] = &diag->message;
    texts[3] = &diag->detail;
    texts[4] = &diag->hint;
    texts[5] = &diag->context;
}

void
fleet_diagnostics_free(FleetDiagnostics *diag)
{
    const char **texts[TEXTS];

    texts_of(diag, texts);
    for (int i = 0; i < TEXTS; i++)
    {
        if (*texts[i] != NULL)
            pfree(unconstify(char *, *texts[i]));
    }
    memset(diag, 0, sizeof(*diag));
}

void
fleet_diagnostics_copy(FleetDiagnostics *to, const FleetDiagnostics *from, MemoryContext context)
{
    const char **texts[TEXTS];

    *to = *from;
    texts_of(to, texts);
    for (int i = 0; i < TEXTS; i++)
    {
        if (*texts[i] != NULL)
            *texts[i] = MemoryContextStrdup(context, *texts[i]);
    }
}

void
fleet_diagnostics_set(FleetDiagnostics *diag, const char *sqlstate, const char *message)
{
    FleetDiagnostics said = {.level = "ERROR", .sqlstate = sqlstate, .message = message};

    fleet_diagnostics_copy(diag, &said, CurrentMemoryContext);
}

void
fleet_diagnostics_of_error(FleetDiagnostics *diag, const ErrorData *error)
{
    diag->level = pstrdup(error_severity(error->elevel));
    diag->sqlstate = pstrdup(unpack_sql_state(error->sqlerrcode));
    diag->message =
        fleet_clip(error->message ? error->message : "missing error text", FLEET_MESSAGE_MAX);
    diag->detail = fleet_clip(error->detail, FLEET_MESSAGE_MAX);
    diag->hint = fleet_clip(error->hint, FLEET_MESSAGE_MAX);
    diag->context = fleet_clip(error->context, FLEET_MESSAGE_MAX);
}

Size
fleet_diagnostics_size(const FleetDiagnostics *diag)
{
    FleetDiagnostics copy = *diag;
    const char **texts[TEXTS];
    Size size = 0;

    texts_of(&copy, texts);
    for (int i = 0; i < TEXTS; i++)
    {
        if (*texts[i] != NULL)
            size += Min(strlen(*texts[i]), (Size) FLEET_MESSAGE_MAX) + 1;
    }
    return size;
}

void
fleet_diagnostics_place(FleetDiagnostics *to, const FleetDiagnostics *from, char *place)
{
    const char **texts[TEXTS];

    *to = *from;
    texts_of(to, texts);
    for (int i = 0; i < TEXTS; i++)
    {
        Size length;

        if (*texts[i] == NULL)
            continue;
        length = Min(strlen(*texts[i]), (Size) FLEET_MESSAGE_MAX);
        memcpy(place, *texts[i], length);
        place[length] = '\0';
        *texts[i] = place;
        place += length + 1;
    }
}

char *
fleet_clip(const char *text, int limit)
{
    int length;

    if (text == NULL)
        return NULL;
    length = (int) strlen(text);
    if (length > limit)
        length = pg_mbcliplen(text, length, limit);
    return pnstrdup(text, length);
}
