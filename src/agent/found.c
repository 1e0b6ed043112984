/*
 * agent/found.c
 *     What was found out about commands, by their errors (agent/found.h).  In
 *     the agent's process.
 *
 * Keyed by server and text: a command that is changed is found out anew.  Where
 * a procedure that it calls has been changed so that it does not commit any
 * more, the command still runs without a transaction of ours, which is right,
 * only less is known when it is cut off.
 */
#include "postgres.h"

#include "agent/found.h"
#include "agent/state.h"
#include "store/commits.h"
#include "utils/hsearch.h"

typedef struct Found
{
    FleetCommitsRow key; /* first */
    bool stored;
} Found;

static HTAB *all = NULL;
static bool pending = false;

static FleetCommitsRow
found_key(int server_id, const char *command)
{
    return (FleetCommitsRow){.server_id = server_id, .command_hash = fleet_command_hash(command)};
}

void
agent_found_load(void)
{
    HASHCTL how = {
        .keysize = sizeof(FleetCommitsRow), .entrysize = sizeof(Found), .hcxt = agent.context};
    FleetCommitsRow *rows;
    int n = fleet_commits_read_rows(&rows);

    all = hash_create("pg_fleet found", 16, &how, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    for (int i = 0; i < n; i++)
    {
        Found *found = hash_search(all, &rows[i], HASH_ENTER, NULL);

        found->stored = true;
    }
    pfree(rows);
}

bool
agent_found_commits(int server_id, const char *command)
{
    FleetCommitsRow key;

    if (hash_get_num_entries(all) == 0)
        return false;
    key = found_key(server_id, command);
    return hash_search(all, &key, HASH_FIND, NULL) != NULL;
}

void
agent_found_add(int server_id, const char *command)
{
    FleetCommitsRow key = found_key(server_id, command);
    bool known;
    Found *found;

    if (hash_get_num_entries(all) >= 2 * FLEET_COMMITS_KEPT)
        return; /* somebody makes them: the next agent begins with the newest ones */
    found = hash_search(all, &key, HASH_ENTER, &known);
    if (known)
        return;
    found->stored = false;
    pending = true;
    turn_again();
}

bool
agent_found_pending(void)
{
    return pending;
}

void
agent_found_flush(void)
{
    HASH_SEQ_STATUS seq;
    Found *found;

    if (!pending)
        return;
    pending = false;
    hash_seq_init(&seq, all);
    while ((found = hash_seq_search(&seq)) != NULL)
    {
        if (!found->stored)
            fleet_commits_write(&found->key);
        found->stored = true;
    }
    fleet_commits_tidy();
}
