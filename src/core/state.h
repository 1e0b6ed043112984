/*
 * core/state.h
 *     The states of a run, task run, job run and step run, and one flat table
 *     of every legal transition (machine, state, event, next state, note).
 *
 * Every change of state goes through this table: those in memory, in the
 * engine (runs, task runs) and in core/job.c (job runs, steps), one event at a
 * time through fleet_state_next(); those of rows through store/state_change.c,
 * which asks fleet_state_reaches(), since a row is written once a turn and
 * several events may have come since.  fleet_state_next() answers false to an
 * event that is not in the table for that state; a row is never changed
 * against the table, the attempt is an ERROR.
 */
#ifndef FLEET_CORE_STATE_H
#define FLEET_CORE_STATE_H

#include "core/core.h"

typedef enum FleetMachine
{
    FLEET_MACHINE_RUN,  /* one execution of a package */
    FLEET_MACHINE_TASK, /* one task run (an item of a for_each is one too) */
    FLEET_MACHINE_JOB,  /* one job run */
    FLEET_MACHINE_STEP, /* one attempt of one step */
} FleetMachine;

/* The numbers are stored in the catalog ("char"-sized); never renumber. */
typedef enum FleetState
{
    FLEET_QUEUED = 1,
    FLEET_STARTING = 2,
    FLEET_RUNNING = 3,
    FLEET_RETRYING = 4,
    FLEET_CANCELING = 5,
    FLEET_SUCCEEDED = 11, /* from here on final */
    FLEET_FAILED = 12,
    FLEET_CANCELED = 13,
    FLEET_SKIPPED = 14,
    FLEET_LOST = 15,
    FLEET_UNKNOWN = 16,
} FleetState;

#define FLEET_STATE_IS_FINAL(s) ((s) >= FLEET_SUCCEEDED)

typedef enum FleetEvent
{
    FLEET_EVENT_START,       /* placed: the intent is being committed */
    FLEET_EVENT_ACCEPTED,    /* the server has it / the step's command began */
    FLEET_EVENT_NOT_STARTED, /* it surely never started there: back to the queue */
    FLEET_EVENT_SUCCEEDED,
    FLEET_EVENT_FAILED,
    FLEET_EVENT_STOPPED, /* a cancel was confirmed */
    FLEET_EVENT_LOST,
    FLEET_EVENT_UNKNOWN,
    FLEET_EVENT_RETRY,  /* this attempt ended badly, another one is due later */
    FLEET_EVENT_DUE,    /* the wait before the retry has ended */
    FLEET_EVENT_SKIP,   /* can never become ready */
    FLEET_EVENT_CANCEL, /* it is to be stopped */
    FLEET_EVENT_CARRY,  /* it succeeded in the run that this one restarts */
    FLEET_EVENT_AGAIN,  /* somebody wants it once more, while its run goes on */
} FleetEvent;

typedef struct FleetTransition
{
    FleetMachine machine;
    FleetState from;
    FleetEvent event;
    FleetState to;
    const char *note; /* a sentence for the administrator */
} FleetTransition;

extern const FleetTransition fleet_transitions[];
extern const int fleet_transition_count;

/* Looks the transition up in O(1).  False: illegal, *next untouched. */
extern bool fleet_state_next(FleetMachine machine, FleetState from, FleetEvent event,
                             FleetState *next);

/*
 * True: events of the table lead from one state to the other.  No event leads
 * out of a final state, so that it does not reach itself either; every other
 * state does.  O(1), but for the first question about a state.
 */
extern bool fleet_state_reaches(FleetMachine machine, FleetState from, FleetState to);

extern const char *fleet_machine_name(FleetMachine machine); /* 'run', 'task', 'job', 'step' */
extern const char *fleet_state_name(FleetState state);       /* 'queued' ..., or NULL */
extern const char *fleet_event_name(FleetEvent event);
extern bool fleet_state_parse(const char *name, FleetState *state);

/* Graphviz source of one machine's table, written piecewise through "emit". */
extern void fleet_state_dot(FleetMachine machine, void (*emit)(void *arg, const char *text),
                            void *arg);

#endif
