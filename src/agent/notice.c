/*
 * agent/notice.c
 *     Job runs that other agents asked for: what has changed in them is
 *     announced to their parents, with the turn's commit; and so are events, to
 *     whoever listens.  In the agent's process.
 */
#include "postgres.h"

#include "agent/notice.h"
#include "catalog/pg_database.h"
#include "commands/async.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "points.h"
#include "storage/lock.h"
#include "store/spi.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

#define QUEUE_FULL 0.95
#define EVENTS_MAX 6900           /* bytes; a payload has 7,999 at most */
#define NOTIFY_AGAIN FLEET_MS(20) /* while somebody else notifies */

/* Job runs whose parents are to be told, by parent; none is kept without any. */
typedef struct Notice
{
    dlist_node node;
    char parent[37];
    int64 *ids;
    int count, capacity;
} Notice;

static dlist_head notices = DLIST_STATIC_INIT(notices);

/* What of events is to go out with the next NOTIFY fleet_event; "": nothing. */
static char events[EVENTS_MAX + 1] = "";
static int events_length = 0;
static bool more_events = false; /* there were some that found no room */

static FleetTime not_before =
    0; /* the queue of notifications was full, or somebody else notified */

static int
compare_ids(const void *a, const void *b)
{
    int64 x = *(const int64 *) a, y = *(const int64 *) b;

    return x < y ? -1 : x > y;
}

/* They may have to wait for long: each job run is kept once. */
static void
notice_grow(Notice *notice)
{
    int n = 0;

    qsort(notice->ids, (size_t) notice->count, sizeof(int64), compare_ids);
    for (int i = 0; i < notice->count; i++)
    {
        if (n == 0 || notice->ids[n - 1] != notice->ids[i])
            notice->ids[n++] = notice->ids[i];
    }
    notice->count = n;
    if (n <= notice->capacity / 2)
        return;
    notice->capacity *= 2;
    notice->ids = repalloc_huge(notice->ids, sizeof(int64) * notice->capacity);
}

void
agent_notice(const char *parent_uuid, int64 job_run_id)
{
    Notice *notice = NULL;
    dlist_iter iter;

    dlist_foreach(iter, &notices)
    {
        Notice *n = dlist_container(Notice, node, iter.cur);

        if (strcmp(n->parent, parent_uuid) == 0)
        {
            notice = n;
            break;
        }
    }
    if (notice == NULL)
    {
        notice = MemoryContextAllocZero(agent.context, sizeof(Notice));
        strlcpy(notice->parent, parent_uuid, sizeof(notice->parent));
        notice->capacity = 64;
        notice->ids = MemoryContextAlloc(agent.context, sizeof(int64) * notice->capacity);
        dlist_push_tail(&notices, &notice->node);
    }
    if (notice->count > 0 && notice->ids[notice->count - 1] == job_run_id)
        return;
    if (notice->count == notice->capacity)
        notice_grow(notice);
    notice->ids[notice->count++] = job_run_id;
}

/* They wait as long as nobody can be notified, and take no more room then: the rows are there. */
void
agent_notice_event(const char *json)
{
    int length = (int) strlen(json);

    if (more_events || events_length + 2 + length > EVENTS_MAX)
    {
        more_events = true;
        return;
    }
    if (events_length > 0)
        strcpy(events + events_length, ", ");
    strcat(events, json);
    events_length = (int) strlen(events);
}

static void
events_send(void)
{
    char *payload;

    if (events_length == 0)
        return;
    payload = psprintf("{\"events\": [%s], \"more\": %s}", events, more_events ? "true" : "false");
    Async_Notify("fleet_event", payload);
    pfree(payload);
    events[0] = '\0';
    events_length = 0;
    more_events = false;
}

/* NOTIFY fleet_report_<uuid>, payload: job_run_ids, a few hundred in each. */
static void
notice_send(Notice *notice)
{
    char channel[64] = "fleet_report_";
    int length = (int) strlen(channel);
    StringInfoData payload;

    for (const char *p = notice->parent; *p != '\0'; p++)
    {
        if (*p != '-')
            channel[length++] = *p;
    }
    channel[length] = '\0';
    initStringInfo(&payload);
    for (int i = 0; i < notice->count; i++)
    {
        appendStringInfo(&payload, "%s%lld", payload.len > 0 ? " " : "",
                         (long long) notice->ids[i]);
        if (payload.len > 7800 || i == notice->count - 1)
        {
            Async_Notify(channel, payload.data);
            resetStringInfo(&payload);
        }
    }
    pfree(payload.data);
}

/*
 * A commit that finds no room for its NOTIFY fails, and with it all that this
 * turn has to store: so it is asked before.  What is between our limit and the
 * queue's end (8 GB, for a session that listens and never commits) is for what
 * others add until our commit.
 */
static bool
queue_is_full(void)
{
    static FleetTime told = 0;
    double used = DatumGetFloat8(DirectFunctionCall1(pg_notification_queue_usage, (Datum) 0));
    FleetTime now = fleet_clock_now();

    if (used < QUEUE_FULL && !FLEET_POINT_HIT("notify_queue_full"))
        return false;
    not_before = now + FLEET_SECONDS(1);
    if (told != 0 && now - told < FLEET_SECONDS(60))
        return true;
    told = now;
    ereport(LOG,
            (errmsg("pg_fleet: the queue of notifications is full: parents hear later of what runs "
                    "here, and listeners of events"),
             errhint("Look for a session that listens and does not end its transaction.")));
    return true;
}

/*
 * Whoever notifies holds a lock of the whole cluster from then on until its COMMIT is over, for which
 * it may wait as long as it likes: for a standby that is gone.  The agent waits for no user: it has the
 * lock now, before its own COMMIT asks for it, or notifies later.  (PreCommit_Notify() in
 * src/backend/commands/async.c has that lock.)
 */
static bool
others_notify(void)
{
    LOCKTAG tag;

    SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, InvalidOid, 0);
    if (LockAcquire(&tag, AccessExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL)
        return false;
    not_before = fleet_clock_now() + NOTIFY_AGAIN;
    return true;
}

bool
agent_notices_pending(void)
{
    if (dlist_is_empty(&notices) && events_length == 0)
        return false;
    if (fleet_clock_now() >= not_before)
        return true;
    turn_wake_at(not_before);
    return false;
}

void
agent_notices_send(void)
{
    if (!agent_notices_pending())
        return;
    if (queue_is_full())
    {
        turn_wake_at(not_before);
        return;
    }
    fleet_catalog_begin();
    if (others_notify())
    {
        turn_wake_at(not_before);
        return;
    }
    events_send();
    while (!dlist_is_empty(&notices))
    {
        Notice *notice = dlist_container(Notice, node, dlist_pop_head_node(&notices));

        notice_send(notice);
        pfree(notice->ids);
        pfree(notice);
    }
}
