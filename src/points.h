/*
 * points.h
 *     Named points of the code at which a test may stop or end the process: at
 *     every boundary between a commit and what is sent because of it.  In all
 *     processes.  Only in test builds (-DFLEET_TEST_POINTS, which test/run.sh
 *     sets); elsewhere a point is no code at all.
 *
 * A point does what the file fleet_points/NAME in the data directory says:
 *     wait    the file becomes NAME.waiting; goes on when that is removed.
 *             Interrupts are heard, where the caller can hear them.
 *     error   ERROR, XX000
 *     exit    the process ends as after a FATAL error
 *     kill    SIGKILL to itself: the whole cluster restarts
 *     signal  goes on at once (the file is gone: it came by)
 *     memory  the same; before, NAME.memory gets the bytes that the process uses:
 *             of its memory contexts, and of malloc besides their blocks
 * A number behind another word ("exit 3") means: only the third time.  Whatever a
 * point did, it did once: the file is removed first.  In the plural ("exits 3",
 * "errors 3", "signals 3") it does it each of the next three times.
 *
 * A point that is passed with an object in hand (hand.h) has the object's number in the
 * name of its file, fleet_points/NAME.42, and knows other words:
 *     poison  ERROR each time; the file stays
 *     sting   the same once, or as many times as the number behind it says
 *     kill    SIGKILL, in the same way
 *     locks   the ERROR of a full lock table, in the same way
 *
 * test/README.md lists the points and where they stand.
 */
#ifndef FLEET_POINTS_H
#define FLEET_POINTS_H

#ifdef FLEET_TEST_POINTS
extern bool fleet_point(const char *name);
#define FLEET_POINT(name) ((void) fleet_point(name))
/* True if it did something, for a test that leaves something out (a delay). */
#define FLEET_POINT_HIT(name) fleet_point(name)
/* What a test has put into its file, which stays: a number of seconds; 0: there is none. */
extern int64 fleet_point_seconds(const char *name);
#define FLEET_POINT_SECONDS(name) fleet_point_seconds(name)
/* One that is passed with an object in hand. */
extern void fleet_point_of(const char *name, int64 id);
#define FLEET_POINT_OF(name, id) fleet_point_of(name, id)
#else
#define FLEET_POINT(name) ((void) 0)
#define FLEET_POINT_HIT(name) false
#define FLEET_POINT_SECONDS(name) ((int64) 0)
#define FLEET_POINT_OF(name, id) ((void) 0)
#endif

#endif
