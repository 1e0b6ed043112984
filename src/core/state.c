/*
 * core/state.c
 *     The one table of every legal transition, and what reads it.
 *
 * The list below is expanded twice: into the flat table that people see, and
 * into an index by (machine, state, event).  A pair listed twice is a compiler
 * error (-Woverride-init).
 */
#include "core/state.h"

#include <string.h>

/* clang-format off */
#define TRANSITIONS(T) \
    T(RUN, QUEUED, START, RUNNING, "the run's turn has come") \
    T(RUN, QUEUED, FAILED, FAILED, "cannot be started at all: its definition or one of its rows is unusable") \
    T(RUN, QUEUED, CANCEL, CANCELED, "canceled before anything started") \
    T(RUN, RUNNING, SUCCEEDED, SUCCEEDED, "everything has ended, and every failure was handled") \
    T(RUN, RUNNING, FAILED, FAILED, "everything has ended, and the failure of a task was not handled") \
    T(RUN, RUNNING, CANCEL, CANCELING, "what runs is being stopped, and nothing new starts") \
    T(RUN, CANCELING, STOPPED, CANCELED, "everything has stopped") \
    T(RUN, CANCELING, SUCCEEDED, SUCCEEDED, "the cancel came too late to stop anything") \
    T(RUN, CANCELING, FAILED, FAILED, "the cancel came too late to stop anything, and a task had failed") \
    T(TASK, QUEUED, START, STARTING, "placed; committed with server, attempt and token before it is sent") \
    T(TASK, QUEUED, FAILED, FAILED, "cannot be started at all: job, role or mapping is missing, or the query for its items failed") \
    T(TASK, QUEUED, SKIP, SKIPPED, "its constraints can never hold, or it is left out of this run") \
    T(TASK, QUEUED, CANCEL, CANCELED, "canceled before it started") \
    T(TASK, QUEUED, CARRY, SUCCEEDED, "carried over: it succeeded in the run that this one restarts") \
    T(TASK, STARTING, ACCEPTED, RUNNING, "the server has it") \
    T(TASK, STARTING, NOT_STARTED, QUEUED, "it surely never started there: it is placed again") \
    T(TASK, STARTING, SUCCEEDED, SUCCEEDED, "it succeeded before its acceptance was reported") \
    T(TASK, STARTING, FAILED, FAILED, "it failed, or was refused for good") \
    T(TASK, STARTING, STOPPED, CANCELED, "it was stopped on its server") \
    T(TASK, STARTING, LOST, LOST, "its server did not come back, or came back without it") \
    T(TASK, STARTING, UNKNOWN, UNKNOWN, "it was cut off and it is not known what it did") \
    T(TASK, STARTING, RETRY, RETRYING, "this attempt ended badly, the next is due later") \
    T(TASK, STARTING, CANCEL, CANCELING, "a cancel is under way; it is sent until confirmed") \
    T(TASK, RUNNING, SUCCEEDED, SUCCEEDED, "it succeeded") \
    T(TASK, RUNNING, FAILED, FAILED, "it failed and has no retry left") \
    T(TASK, RUNNING, STOPPED, CANCELED, "it was stopped on its server") \
    T(TASK, RUNNING, LOST, LOST, "its server did not come back, or came back without it") \
    T(TASK, RUNNING, UNKNOWN, UNKNOWN, "it was cut off and it is not known what it did") \
    T(TASK, RUNNING, RETRY, RETRYING, "this attempt ended badly, the next is due later") \
    T(TASK, RUNNING, CANCEL, CANCELING, "a cancel is under way; it is sent until confirmed") \
    T(TASK, RETRYING, DUE, QUEUED, "the wait has ended: it is placed again") \
    T(TASK, RETRYING, FAILED, FAILED, "cannot be started again: job, role or mapping is missing") \
    T(TASK, RETRYING, SKIP, SKIPPED, "its run ended before the retry was due") \
    T(TASK, RETRYING, CANCEL, CANCELED, "canceled while it waited for its retry") \
    T(TASK, CANCELING, ACCEPTED, CANCELING, "the server has it; the cancel stands") \
    T(TASK, CANCELING, NOT_STARTED, CANCELED, "it surely never started") \
    T(TASK, CANCELING, STOPPED, CANCELED, "the cancel is confirmed: it has stopped") \
    T(TASK, CANCELING, SUCCEEDED, SUCCEEDED, "it succeeded before the cancel reached it") \
    T(TASK, CANCELING, FAILED, FAILED, "it failed before the cancel reached it, or ran out of its time") \
    T(TASK, CANCELING, LOST, LOST, "its server did not come back, or came back without it") \
    T(TASK, CANCELING, UNKNOWN, UNKNOWN, "it was cut off and it is not known what it did") \
    T(TASK, CANCELING, RETRY, RETRYING, "stopped because of its timeout, the next attempt is due later") \
    T(TASK, FAILED, AGAIN, QUEUED, "started once more by request, while its run goes on") \
    T(TASK, CANCELED, AGAIN, QUEUED, "started once more by request, while its run goes on") \
    T(TASK, LOST, AGAIN, QUEUED, "started once more by request, while its run goes on") \
    T(TASK, UNKNOWN, AGAIN, QUEUED, "started once more by request, while its run goes on") \
    T(TASK, SKIPPED, AGAIN, QUEUED, "what it depends on is started once more by request") \
    T(JOB, QUEUED, START, RUNNING, "its first step begins") \
    T(JOB, QUEUED, FAILED, FAILED, "cannot be started at all: its role does not exist, or it has no step") \
    T(JOB, QUEUED, CANCEL, CANCELED, "canceled before it started") \
    T(JOB, RUNNING, SUCCEEDED, SUCCEEDED, "quit with success") \
    T(JOB, RUNNING, FAILED, FAILED, "quit with failure") \
    T(JOB, RUNNING, STOPPED, CANCELED, "a step was stopped, and the job with it") \
    T(JOB, RUNNING, UNKNOWN, UNKNOWN, "quit because of a step whose effect is not known") \
    T(JOB, RUNNING, LOST, LOST, "its executor did not come back") \
    T(JOB, RUNNING, CANCEL, CANCELING, "the running step is being stopped") \
    T(JOB, CANCELING, STOPPED, CANCELED, "it has stopped") \
    T(JOB, CANCELING, SUCCEEDED, SUCCEEDED, "its last step succeeded before the cancel reached it") \
    T(JOB, CANCELING, FAILED, FAILED, "the step failed before the cancel reached it") \
    T(JOB, CANCELING, UNKNOWN, UNKNOWN, "the step was cut off and it is not known what it did") \
    T(JOB, CANCELING, LOST, LOST, "its executor did not come back") \
    T(STEP, QUEUED, START, STARTING, "the intent is durable, the command is handed to an executor") \
    T(STEP, QUEUED, FAILED, FAILED, "cannot be started at all: role or mapping is missing") \
    T(STEP, QUEUED, CANCEL, CANCELED, "canceled before it started") \
    T(STEP, STARTING, ACCEPTED, RUNNING, "the command has begun") \
    T(STEP, STARTING, NOT_STARTED, QUEUED, "no executor took it: the same attempt again") \
    T(STEP, STARTING, SUCCEEDED, SUCCEEDED, "it succeeded before its begin was reported") \
    T(STEP, STARTING, FAILED, FAILED, "it failed before its begin was reported") \
    T(STEP, STARTING, STOPPED, CANCELED, "it was stopped") \
    T(STEP, STARTING, LOST, LOST, "its server did not come back in time") \
    T(STEP, STARTING, UNKNOWN, UNKNOWN, "it was cut off and it is not known what it did") \
    T(STEP, STARTING, SKIP, SKIPPED, "it surely never began, and its task run is placed elsewhere; or it is disabled") \
    T(STEP, STARTING, RETRY, RETRYING, "this attempt ended badly, the next is due later") \
    T(STEP, STARTING, CANCEL, CANCELING, "the step is being stopped") \
    T(STEP, RUNNING, NOT_STARTED, QUEUED, "cut off, and surely without effect: the same attempt again") \
    T(STEP, RUNNING, SUCCEEDED, SUCCEEDED, "it succeeded") \
    T(STEP, RUNNING, FAILED, FAILED, "it failed and has no retry left") \
    T(STEP, RUNNING, STOPPED, CANCELED, "it was stopped") \
    T(STEP, RUNNING, LOST, LOST, "its server did not come back in time") \
    T(STEP, RUNNING, UNKNOWN, UNKNOWN, "it was cut off and it is not known what it did") \
    T(STEP, RUNNING, RETRY, RETRYING, "this attempt ended badly, the next is due later") \
    T(STEP, RUNNING, CANCEL, CANCELING, "the step is being stopped: canceled, or out of its time") \
    T(STEP, RETRYING, DUE, QUEUED, "the wait has ended") \
    T(STEP, RETRYING, CANCEL, CANCELED, "canceled while it waited for its retry") \
    T(STEP, CANCELING, ACCEPTED, CANCELING, "the command has begun; the cancel stands") \
    T(STEP, CANCELING, NOT_STARTED, CANCELED, "surely without effect") \
    T(STEP, CANCELING, STOPPED, CANCELED, "it has stopped") \
    T(STEP, CANCELING, SUCCEEDED, SUCCEEDED, "it succeeded before the cancel reached it") \
    T(STEP, CANCELING, FAILED, FAILED, "it failed before the cancel reached it, or ran out of its time") \
    T(STEP, CANCELING, LOST, LOST, "its server did not come back in time") \
    T(STEP, CANCELING, UNKNOWN, UNKNOWN, "it was cut off and it is not known what it did") \
    T(STEP, CANCELING, RETRY, RETRYING, "stopped because of its timeout, the next attempt is due later")
/* clang-format on */

#define AS_ROW(machine, from, event, to, note)                                                     \
    {FLEET_MACHINE_##machine, FLEET_##from, FLEET_EVENT_##event, FLEET_##to, note},
#define AS_INDEX(machine, from, event, to, note)                                                   \
    [FLEET_MACHINE_##machine][FLEET_##from][FLEET_EVENT_##event] = FLEET_##to,

#define NMACHINES (FLEET_MACHINE_STEP + 1)
#define NSTATES (FLEET_UNKNOWN + 1)
#define NEVENTS (FLEET_EVENT_AGAIN + 1)

const FleetTransition fleet_transitions[] = {TRANSITIONS(AS_ROW)};
const int fleet_transition_count = sizeof(fleet_transitions) / sizeof(fleet_transitions[0]);

/* 0: illegal (no state has the number 0). */
static const uint8_t next_state[NMACHINES][NSTATES][NEVENTS] = {TRANSITIONS(AS_INDEX)};

static const char *const machine_names[NMACHINES] = {"run", "task", "job", "step"};

static const char *const state_names[NSTATES] = {
    [FLEET_QUEUED] = "queued",     [FLEET_STARTING] = "starting",   [FLEET_RUNNING] = "running",
    [FLEET_RETRYING] = "retrying", [FLEET_CANCELING] = "canceling", [FLEET_SUCCEEDED] = "succeeded",
    [FLEET_FAILED] = "failed",     [FLEET_CANCELED] = "canceled",   [FLEET_SKIPPED] = "skipped",
    [FLEET_LOST] = "lost",         [FLEET_UNKNOWN] = "unknown",
};

static const char *const event_names[NEVENTS] = {
    [FLEET_EVENT_START] = "start",
    [FLEET_EVENT_ACCEPTED] = "accepted",
    [FLEET_EVENT_NOT_STARTED] = "not started",
    [FLEET_EVENT_SUCCEEDED] = "succeeded",
    [FLEET_EVENT_FAILED] = "failed",
    [FLEET_EVENT_STOPPED] = "stopped",
    [FLEET_EVENT_LOST] = "lost",
    [FLEET_EVENT_UNKNOWN] = "unknown",
    [FLEET_EVENT_RETRY] = "retry",
    [FLEET_EVENT_DUE] = "due",
    [FLEET_EVENT_SKIP] = "skip",
    [FLEET_EVENT_CANCEL] = "cancel",
    [FLEET_EVENT_CARRY] = "carry",
    [FLEET_EVENT_AGAIN] = "again",
};

bool
fleet_state_next(FleetMachine machine, FleetState from, FleetEvent event, FleetState *next)
{
    uint8_t to;

    if ((unsigned) machine >= NMACHINES || (unsigned) from >= NSTATES ||
        (unsigned) event >= NEVENTS)
        return false;
    to = next_state[machine][from][event];
    if (to == 0)
        return false;
    *next = (FleetState) to;
    return true;
}

const char *
fleet_machine_name(FleetMachine machine)
{
    return (unsigned) machine < NMACHINES ? machine_names[machine] : NULL;
}

const char *
fleet_state_name(FleetState state)
{
    return (unsigned) state < NSTATES ? state_names[state] : NULL;
}

const char *
fleet_event_name(FleetEvent event)
{
    return (unsigned) event < NEVENTS ? event_names[event] : NULL;
}

bool
fleet_state_parse(const char *name, FleetState *state)
{
    for (int s = 0; s < NSTATES; s++)
    {
        if (state_names[s] != NULL && strcmp(state_names[s], name) == 0)
        {
            *state = (FleetState) s;
            return true;
        }
    }
    return false;
}

/* ---- several events ---- */

typedef uint32_t StateSet; /* one bit a state */

static StateSet
after_one_event(FleetMachine machine, StateSet from)
{
    StateSet to = 0;

    for (int s = 0; s < NSTATES; s++)
    {
        FleetState next;

        if ((from & (StateSet) 1 << s) == 0)
            continue;
        for (int e = 0; e < NEVENTS; e++)
        {
            if (fleet_state_next(machine, (FleetState) s, (FleetEvent) e, &next))
                to |= (StateSet) 1 << next;
        }
    }
    return to;
}

/* Found once for each pair, and kept: callers ask for every row that they write. */
bool
fleet_state_reaches(FleetMachine machine, FleetState from, FleetState to)
{
    static StateSet known[NMACHINES][NSTATES];
    StateSet *reached;

    if ((unsigned) machine >= NMACHINES || (unsigned) from >= NSTATES || (unsigned) to >= NSTATES)
        return false;
    reached = &known[machine][from];
    if (*reached == 0)
    {
        StateSet before;

        *reached = after_one_event(machine, (StateSet) 1 << from);
        do
        {
            before = *reached;
            *reached |= after_one_event(machine, before);
        } while (*reached != before);
        if (*reached != 0) /* a state that can be left may also be written again as it is */
            *reached |= (StateSet) 1 << from;
    }
    return (*reached & (StateSet) 1 << to) != 0;
}

/* ---- Graphviz ---- */

typedef struct DotWriter
{
    void (*emit)(void *arg, const char *text);
    void *arg;
} DotWriter;

static void
dot_state(const DotWriter *dot, FleetState state)
{
    dot->emit(dot->arg, "  ");
    dot->emit(dot->arg, state_names[state]);
    if (FLEET_STATE_IS_FINAL(state))
        dot->emit(dot->arg, " [peripheries=2]");
    dot->emit(dot->arg, ";\n");
}

/* One arrow for all events between the same two states. */
static void
dot_arrow(const DotWriter *dot, FleetMachine machine, FleetState from, FleetState to)
{
    bool first = true;

    for (int i = 0; i < fleet_transition_count; i++)
    {
        const FleetTransition *t = &fleet_transitions[i];

        if (t->machine != machine || t->from != from || t->to != to)
            continue;
        if (first)
        {
            dot->emit(dot->arg, "  ");
            dot->emit(dot->arg, state_names[from]);
            dot->emit(dot->arg, " -> ");
            dot->emit(dot->arg, state_names[to]);
            dot->emit(dot->arg, " [label=\"");
        }
        else
            dot->emit(dot->arg, "\\n");
        dot->emit(dot->arg, event_names[t->event]);
        first = false;
    }
    if (!first)
        dot->emit(dot->arg, "\"];\n");
}

void
fleet_state_dot(FleetMachine machine, void (*emit)(void *arg, const char *text), void *arg)
{
    DotWriter dot = {emit, arg};
    bool seen[NSTATES] = {false};

    emit(arg, "digraph ");
    emit(arg, machine_names[machine]);
    emit(arg, " {\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n"
              "  edge [fontname=\"sans-serif\", fontsize=10];\n");
    for (int i = 0; i < fleet_transition_count; i++)
    {
        if (fleet_transitions[i].machine == machine)
            seen[fleet_transitions[i].from] = seen[fleet_transitions[i].to] = true;
    }
    for (int s = 0; s < NSTATES; s++)
    {
        if (seen[s])
            dot_state(&dot, (FleetState) s);
    }
    for (int from = 0; from < NSTATES; from++)
    {
        for (int to = 0; to < NSTATES; to++)
            dot_arrow(&dot, machine, (FleetState) from, (FleetState) to);
    }
    emit(arg, "}\n");
}
