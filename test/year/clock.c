/*
 * test/year/clock.c
 *     Preloaded into servers: their clocks, the wall clock and the monotonic one,
 *     are as many seconds ahead as the file FLEET_TEST_CLOCK says (one int64, in
 *     the machine's order), for all processes from the moment that it is written.
 *
 * Why not libfaketime: until version 16 the postmaster starts workers in a
 * signal handler, that is, often in the middle of its select(), which libfaketime
 * wraps, and the worker then has the true time for good.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *ahead;

__attribute__((constructor)) static void
begin(void)
{
    const char *path = getenv("FLEET_TEST_CLOCK");
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*ahead), PROT_READ, MAP_SHARED, fd, 0);

    if (map != MAP_FAILED)
        ahead = map;
    if (fd >= 0)
        close(fd);
}

static time_t
seconds_ahead(void)
{
    return ahead == NULL ? 0 : (time_t) *ahead;
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
    int rc = (int) syscall(SYS_clock_gettime, clock, now);

    if (rc == 0 && clock != CLOCK_PROCESS_CPUTIME_ID && clock != CLOCK_THREAD_CPUTIME_ID)
        now->tv_sec += seconds_ahead();
    return rc;
}

int
gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;

    (void) zone;
    if (clock_gettime(CLOCK_REALTIME, &exact) != 0)
        return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t
time(time_t *where)
{
    struct timespec now;

    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return (time_t) -1;
    if (where != NULL)
        *where = now.tv_sec;
    return now.tv_sec;
}
