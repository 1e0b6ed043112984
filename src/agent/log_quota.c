/*
 * agent/log_quota.c
 *     How much log a role may leave here in an hour (agent/log_quota.h), so that
 *     one role cannot fill the disk of all.  In the agent's process.
 *
 * Counted are the lines that steps say, with their details, as they come: here,
 * and from servers.  The start and the end of each step, with its error, are
 * kept whatever was said.  The hour begins with the first line after the last
 * one, and anew with another agent: nothing is read or stored for it.
 */
#include "postgres.h"

#include "agent/log_quota.h"
#include "agent/quota.h"
#include "agent/raise.h"
#include "miscadmin.h"
#include "store/spi.h"
#include "utils/memutils.h"

#define HOUR FLEET_SECONDS(3600)
#define ROW_BYTES 100 /* of a line that says nothing */

typedef struct LogUse
{
    Oid role; /* hash key */
    FleetTime since;
    uint64 bytes; /* in that hour */
    bool said;    /* that no more is kept */
} LogUse;

static HTAB *uses; /* NULL: nothing yet */

static uint64
size_of(const FleetDiagnostics *line)
{
    const char *texts[] = {line->message, line->detail, line->hint, line->context};
    uint64 bytes = ROW_BYTES;

    for (int i = 0; i < (int) lengthof(texts); i++)
        bytes += texts[i] == NULL ? 0 : strlen(texts[i]);
    return bytes;
}

/* What it has used of the present hour. */
static LogUse *
use_of(Oid role)
{
    FleetTime now = fleet_clock_now();
    bool known;
    LogUse *use;

    if (uses == NULL)
        uses = agent_table("pg_fleet log of roles", sizeof(Oid), sizeof(LogUse), HASH_BLOBS);
    use = hash_search(uses, &role, HASH_ENTER, &known);
    if (!known || now - use->since >= HOUR)
        *use = (LogUse){.role = role, .since = now};
    return use;
}

static void
say_reached(LogUse *use, uint32 most)
{
    const char *name;

    fleet_catalog_begin();
    name = GetUserNameFromId(use->role, true);
    use->said = true;
    agent_raise(FLEET_RAISED_QUOTA_REACHED, use->role, NULL, NULL,
                psprintf("log lines of role \"%s\" are not kept: %u MB in an hour are",
                         name != NULL ? name : "", most));
}

bool
agent_log_quota_keeps(Oid role, const FleetDiagnostics *line)
{
    uint32 most = OidIsValid(role) ? agent_quota_log_mb(role) : 0;
    uint64 bytes;
    LogUse *use;

    if (most == 0)
        return true;
    use = use_of(role);
    bytes = size_of(line);
    if (use->bytes + bytes <= (uint64) most * 1024 * 1024)
    {
        use->bytes += bytes;
        return true;
    }
    if (!use->said)
        say_reached(use, most);
    return false;
}
