/*
 * points.c
 *     Points at which tests stop or end a process: see points.h.
 */
#include "postgres.h"

#include "points.h"

#ifdef FLEET_TEST_POINTS

#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "utils/memutils.h"

#define POINTS_DIR "fleet_points"

/* Reads the point's file: what to do, into word, and at which time from now on.  False: none. */
static bool
point_read(const char *path, char *word, Size size, int *when)
{
    FILE *file = AllocateFile(path, "r");
    char line[64] = "";
    bool ok;

    if (file == NULL)
        return false;
    ok = fgets(line, sizeof(line), file) != NULL;
    FreeFile(file);
    *when = 1;
    Assert(size >= 16);
    return ok && sscanf(line, "%15s %d", word, when) >= 1;
}

static void
point_write(const char *path, const char *word, int when)
{
    FILE *file = AllocateFile(path, "w");

    if (file == NULL)
        return;
    fprintf(file, "%s %d\n", word, when);
    FreeFile(file);
}

static void
point_wait(const char *path)
{
    char waiting[MAXPGPATH];

    snprintf(waiting, sizeof(waiting), "%s.waiting", path);
    if (rename(path, waiting) != 0)
        return;
    while (access(waiting, F_OK) == 0)
    {
        if (!PostmasterIsAlive())
            proc_exit(1);
        if (CritSectionCount == 0 && InterruptHoldoffCount == 0)
            CHECK_FOR_INTERRUPTS();
        pg_usleep(5000L);
    }
}

static void
add_context(MemoryContext context, MemoryContextCounters *total)
{
    context->methods->stats(context, NULL, NULL, total, false);
    for (MemoryContext child = context->firstchild; child != NULL; child = child->nextchild)
        add_context(child, total);
}

/* What is used, to the byte, of the memory contexts and, apart from their blocks, of malloc. */
static void
point_memory(const char *name)
{
    MemoryContextCounters contexts = {0};
    struct mallinfo2 info = mallinfo2();
    char path[MAXPGPATH];
    FILE *file;

    add_context(TopMemoryContext, &contexts);
    snprintf(path, sizeof(path), POINTS_DIR "/%s.memory", name);
    file = AllocateFile(path, "w");
    if (file == NULL)
        return;
    fprintf(file, "%zu %zd\n", contexts.totalspace - contexts.freespace,
            (ssize_t) (info.uordblks + info.hblkhd) - (ssize_t) contexts.totalspace);
    FreeFile(file);
}

bool
fleet_point(const char *name)
{
    char path[MAXPGPATH];
    char word[16];
    int when;
    bool each;

    snprintf(path, sizeof(path), POINTS_DIR "/%s", name);
    if (access(path, F_OK) != 0 || !point_read(path, word, sizeof(word), &when))
        return false;
    each = word[strlen(word) - 1] == 's';
    if (when > 1 && !each)
    {
        point_write(path, word, when - 1);
        return false;
    }
    if (strcmp(word, "wait") == 0)
    {
        point_wait(path);
        return true;
    }
    if (strcmp(word, "memory") == 0)
        point_memory(name);
    if (when > 1)
        point_write(path, word, when - 1);
    else
        unlink(path);
    if (strncmp(word, "error", 5) == 0)
        ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("test point \"%s\"", name)));
    if (strncmp(word, "exit", 4) == 0)
        ereport(FATAL, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("test point \"%s\"", name)));
    if (strcmp(word, "kill") == 0)
        (void) kill(MyProcPid, SIGKILL);
    return true;
}

int64
fleet_point_seconds(const char *name)
{
    char path[MAXPGPATH];
    char line[64] = "";
    FILE *file;

    snprintf(path, sizeof(path), POINTS_DIR "/%s", name);
    if (access(path, F_OK) != 0 || (file = AllocateFile(path, "r")) == NULL)
        return 0;
    if (fgets(line, sizeof(line), file) == NULL)
        line[0] = '\0';
    FreeFile(file);
    return strtoll(line, NULL, 10);
}

/* With the objects that it is for: each has a file of its own. */
void
fleet_point_of(const char *name, int64 id)
{
    char path[MAXPGPATH];
    char word[16];
    int times;

    snprintf(path, sizeof(path), POINTS_DIR "/%s.%lld", name, (long long) id);
    if (access(path, F_OK) != 0 || !point_read(path, word, sizeof(word), &times))
        return;
    if (strcmp(word, "poison") != 0)
    {
        if (times > 1)
            point_write(path, word, times - 1);
        else
            unlink(path);
    }
    if (strcmp(word, "kill") == 0)
        (void) kill(MyProcPid, SIGKILL);
    if (strcmp(word, "locks") == 0)
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of shared memory")));
    ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("test point \"%s\"", name)));
}

#endif
