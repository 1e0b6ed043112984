/*
 * agent/notice.c
 *     Job runs that other agents asked for: what has changed in them is
 *     announced to their parents, with the turn's commit.  In the agent's
 *     process.
 */
#include "postgres.h"

#include "agent/notice.h"
#include "commands/async.h"
#include "lib/stringinfo.h"
#include "store/spi.h"
#include "utils/memutils.h"

/* Job runs whose parents are to be told, by parent. */
typedef struct Notice
{
    dlist_node node;
    char parent[37];
    int64 *ids;
    int count, capacity;
} Notice;

static dlist_head notices = DLIST_STATIC_INIT(notices);

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
    {
        notice->capacity *= 2;
        notice->ids = repalloc_huge(notice->ids, sizeof(int64) * notice->capacity);
    }
    notice->ids[notice->count++] = job_run_id;
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
    notice->count = 0;
}

bool
agent_notices_pending(void)
{
    dlist_iter iter;

    dlist_foreach(iter, &notices)
    {
        if (dlist_container(Notice, node, iter.cur)->count > 0)
            return true;
    }
    return false;
}

void
agent_notices_send(void)
{
    dlist_iter iter;

    if (!agent_notices_pending())
        return;
    fleet_catalog_begin();
    dlist_foreach(iter, &notices)
    {
        Notice *notice = dlist_container(Notice, node, iter.cur);

        if (notice->count > 0)
            notice_send(notice);
    }
}
