/*
 * settings.c
 *     The settings of the processes that are our own: agent, starter, launcher.
 *     Not of runners, which execute what psql would, as psql would.
 *
 * A database's owner gives settings to all who log in there (ALTER DATABASE …
 * SET), a role gives itself some (ALTER ROLE … SET), and a configuration may
 * say anything.  None of them knows of the agent.  So what changes
 * the meaning of a statement, forbids it, or ends it, is the same in each of our
 * processes: the table below.  PGC_S_SESSION is above all of these sources, and
 * above a later reload.
 *
 * What administrators decide for the whole server stays theirs: log_*, memory,
 * and how durable a commit is (durable_commits).
 */
#include "postgres.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "settings.h"
#include "utils/guc.h"
#include "utils/memutils.h"

typedef struct Setting
{
    const char *name;
    const char *value;
} Setting;

static const Setting pinned[] = {
    /* who we are, and what a name means */
    {"role", "none"},
    {"search_path", "pg_catalog, pg_temp"},
    {"row_security", "off"},
    {"session_replication_role", "origin"},
    {"restrict_nonsystem_relation_kind", ""},
    {"track_activities", "on"}, /* the starter says there why there is no agent */
    /* which transactions there are, and how long */
    {"default_transaction_isolation", "read committed"},
    {"default_transaction_read_only", "off"},
    {"default_transaction_deferrable", "off"},
    {"statement_timeout", "0"},
    {"lock_timeout", "0"},
    {"transaction_timeout", "0"},
    {"idle_in_transaction_session_timeout", "0"},
    {"idle_session_timeout", "0"},
    {"exit_on_error", "off"}, /* would make the end of us of what a subtransaction contains */
    /* text, in and out */
    {"standard_conforming_strings", "on"},
    {"escape_string_warning", "on"},
    {"backslash_quote", "safe_encoding"},
    {"array_nulls", "on"},
    {"transform_null_equals", "off"},
    {"quote_all_identifiers", "off"},
    {"bytea_output", "hex"},
    {"xmlbinary", "base64"},
    {"xmloption", "content"},
    {"extra_float_digits", "1"},
    {"DateStyle", "ISO, MDY"},
    {"IntervalStyle", "postgres"},
    {"TimeZone", "UTC"},
    {"timezone_abbreviations", "Default"},
    {"lc_monetary", "C"},
    {"lc_numeric", "C"},
    {"lc_time", "C"},
    /* where a table or a value would go */
    {"default_tablespace", ""},
    {"temp_tablespaces", ""},
    {"default_table_access_method", "heap"},
    {"default_toast_compression", "pglz"},
    {"check_function_bodies", "on"},
    {"stats_fetch_consistency", "cache"},
    /* Plans.  A short array is joined through an index; statistics must not talk a plan out of it. */
    {"enable_hashjoin", "off"},
    {"enable_mergejoin", "off"},
    {"enable_seqscan", "off"},
    {"enable_nestloop", "on"},
    {"enable_indexscan", "on"},
    {"enable_indexonlyscan", "on"},
    {"enable_bitmapscan", "on"},
    {"enable_tidscan", "on"},
    {"enable_sort", "on"},
    {"enable_incremental_sort", "on"},
    {"enable_hashagg", "on"},
    {"enable_material", "on"},
    {"enable_memoize", "on"},
    {"enable_async_append", "on"},
    {"seq_page_cost", "1"},
    {"random_page_cost", "4"},
    {"cpu_tuple_cost", "0.01"},
    {"cpu_index_tuple_cost", "0.005"},
    {"cpu_operator_cost", "0.0025"},
    {"cursor_tuple_fraction", "0.1"},
    {"constraint_exclusion", "partition"},
    {"from_collapse_limit", "8"},
    {"join_collapse_limit", "8"},
    {"geqo", "off"},
    {"jit", "off"},
    {"max_parallel_workers_per_gather", "0"},
    {"force_parallel_mode", "off"},  /* until 15 */
    {"debug_parallel_query", "off"}, /* its name since */
    /* Planned once: the custom plan of a short array looks cheaper each time, and is planned anew. */
    {"plan_cache_mode", "force_generic_plan"},
};

/* synchronous_commit as configured, if the database or a role has another one; else it is asked for. */
static const char *configured_commit = NULL;

static void
set(const char *name, const char *value)
{
    SetConfigOption(name, value, PGC_SUSET, PGC_S_SESSION);
}

/*
 * What the agent has stored before it sends something must be there after a
 * crash.  A database or a role cannot take that away, and "off" means "local".
 * For the rest, what the configuration says holds: to wait for a standby, or not to.
 */
static void
durable_commits(void)
{
    const char *commit = configured_commit != NULL
                             ? configured_commit
                             : GetConfigOptionResetString("synchronous_commit");

    set("synchronous_commit", pg_strcasecmp(commit, "off") == 0 ? "local" : commit);
}

/* Only ALTER … SET session_authorization can have made it another one. */
static void
be_ourselves(void)
{
    if (GetSessionUserId() == GetAuthenticatedUserId())
        return;
    StartTransactionCommand();
    SetSessionAuthorization(GetAuthenticatedUserId(), true);
    CommitTransactionCommand();
}

static void
pin_settings(void)
{
    for (size_t i = 0; i < lengthof(pinned); i++)
    {
        /* not every version has each */
        if (GetConfigOption(pinned[i].name, true, false) != NULL)
            set(pinned[i].name, pinned[i].value);
    }
    set("client_encoding", GetDatabaseEncodingName());
    durable_commits();
}

void
fleet_worker_connect(Oid database)
{
    /* As the postmaster has it: from the configuration. */
    const char *commit =
        MemoryContextStrdup(TopMemoryContext, GetConfigOption("synchronous_commit", false, false));

    BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
    if (strcmp(commit, GetConfigOptionResetString("synchronous_commit")) != 0)
        configured_commit = commit;
    if (OidIsValid(database))
        be_ourselves();
    pin_settings();
}

void
fleet_settings_reloaded(void)
{
    durable_commits();
}
