/*
 * core/job.h
 *     The steps of one job run as a pure function: an event comes in, one
 *     decision comes out.  Used by the agent for job runs of its own and for
 *     those that it executes over a direct link, and by the simulator.
 *
 * The FleetJobRun is plain data (no pointer): the catalog can hold it.  After
 * an event store it (due may have changed though the answer is NOTHING), then
 * do what was answered.
 *
 * A job that quits with failure because of an 'unknown' step is 'unknown'.
 * Canceled: the step is stopped, no other begins; the job is 'canceled', unless
 * the step ended by itself and the job with it.  A CANCEL may be repeated.
 * A step that ends as 'skipped' before it ran is disabled: the next one follows, whatever it says of success.
 * A timeout counts from STEP_RUNNING; the step is stopped and counts as failed
 * with SQLSTATE 57014.  A failed job with step_runs = FLEET_JOB_MAX_STEP_RUNS
 * went round too often.
 */
#ifndef FLEET_CORE_JOB_H
#define FLEET_CORE_JOB_H

#include "core/core.h"
#include "core/graph.h"
#include "core/state.h"

typedef enum FleetStepAction
{
    FLEET_STEP_NEXT, /* the next step; after the last one: quit with success */
    FLEET_STEP_QUIT_SUCCESS,
    FLEET_STEP_QUIT_FAILURE,
    FLEET_STEP_GOTO,
} FleetStepAction;

typedef enum FleetOnUnknown
{
    FLEET_UNKNOWN_FAIL, /* the default: the step is 'unknown', which counts as a failure */
    FLEET_UNKNOWN_RETRY,
} FleetOnUnknown;

typedef struct FleetStepSpec
{
    FleetStepAction on_success;
    uint16_t success_goto; /* 0-based index of a step */
    FleetStepAction on_failure;
    uint16_t failure_goto;
    FleetRetry retry;
    FleetTime timeout; /* of one attempt; 0: none */
    FleetOnUnknown on_unknown;
} FleetStepSpec;

/* A job run may visit at most so many steps, so that goto loops end (failed, 54001). */
#define FLEET_JOB_MAX_STEP_RUNS 10000

typedef struct FleetJobRun
{
    FleetState state;
    uint16_t step;      /* current step, 0-based */
    uint16_t attempt;   /* of the current step, from 1 */
    uint32_t step_runs; /* so far, each attempt counts */
    FleetTime due;      /* deadline of the running step, or time of the retry; FLEET_NEVER */
    bool cancel;        /* a cancel was asked for */
    bool timed_out;     /* the present step is being stopped because of its timeout */
    FleetState step_state;
} FleetJobRun;

typedef enum FleetJobEvent
{
    FLEET_JOB_BEGIN,        /* from queued */
    FLEET_JOB_STEP_RUNNING, /* the step's command has begun */
    FLEET_JOB_STEP_ENDED,   /* outcome: succeeded, failed, canceled, unknown */
    FLEET_JOB_STEP_REDO,    /* it was cut off and surely left no effect: the same attempt again */
    FLEET_JOB_TIMER,        /* now >= due */
    FLEET_JOB_CANCEL,
} FleetJobEvent;

typedef enum FleetJobDo
{
    FLEET_JOB_NOTHING,
    FLEET_JOB_START_STEP,  /* run->step, run->attempt */
    FLEET_JOB_CANCEL_STEP, /* stop what runs; its end comes as STEP_ENDED */
    FLEET_JOB_WAIT,        /* until run->due, then FLEET_JOB_TIMER */
    FLEET_JOB_FINISH,      /* run->state is final */
    FLEET_JOB_ILLEGAL,     /* not possible in this state; nothing changed */
} FleetJobDo;

/* It begins at the first step, or at the one to which "step" is set before FLEET_JOB_BEGIN. */
extern void fleet_job_init(FleetJobRun *run);
extern FleetJobDo fleet_job_event(const FleetStepSpec *steps, uint16_t nsteps, FleetJobRun *run,
                                  FleetJobEvent event, FleetState outcome, const char *sqlstate,
                                  FleetTime now, FleetRandom *random);

/* Checks gotos and that some step can be reached at all; false with *error. */
extern bool fleet_job_check(const FleetStepSpec *steps, uint16_t nsteps, FleetError *error);

#endif
