/*
 * core/placement/internal.h
 *     What the files of the placer share; no other file includes it.
 *
 * From the top down; a file calls those below it only:
 *     placement.c  servers, targets, the calls of placement.h
 *     heap.c       targets by their best ticket, running work by its end
 *     choose.c     which ticket goes where
 *     look.c       which ticket is held back for a faster server
 *     queue.c      tickets, queues by length, flows in order of age
 *     tree.c       members of a target by their load, one tree a policy
 *     alloc.c      memory, counted
 *
 * A ticket takes 32 bytes, whether it waits or runs; they lie in pages, so
 * that a million of them are neither copied nor doubled.
 *
 * Waiting tickets of one (target, policy, priority, avoided server) form a
 * *queue*: lists by length of the critical path, 32 lists an octave, and a
 * bitmap of the lists that are not empty, so that every operation is O(1) and
 * the order is exact to 3 %; the few at the top are compared exactly.
 *
 * Waiting tickets of one (target, flow) are also linked in order of arrival.
 * The flows of a target form a ring in order of when each last saw its oldest
 * ticket go: that is what makes starvation impossible.
 *
 * A target with work and a free slot is in the heap of candidates, keyed by
 * its best ticket.  One whose tickets are all held back sleeps outside it until
 * a slot, a ticket or a server of it changes, or until its wake time.
 */
#ifndef FLEET_CORE_PLACEMENT_INTERNAL_H
#define FLEET_CORE_PLACEMENT_INTERNAL_H

#include "core/placement/placement.h"

#define NONE UINT32_MAX
#define QUEUE_ABSENT UINT32_MAX        /* ticket is not known to the placer */
#define QUEUE_RUNNING (UINT32_MAX - 1) /* ticket holds a slot */

#define PAGE_BITS 9
#define PAGE_SIZE (1u << PAGE_BITS)

#define OCTAVES 64
#define STEP_BITS 5
#define STEPS (1u << STEP_BITS)

#define POLICIES 4

/* So many tickets at the top of a queue are looked at one by one, and so many busy slots. */
#define LOOKAHEAD 64

/* Within one list so many are put in exact order at a time. */
#define EXACTLY 8

/* So many due flows are tried, if the first ones cannot use the slots that are free. */
#define DUE_TRIED 16

/* Flows that the placer made itself have this bit. */
#define BATCH_FLOW UINT32_C(0x80000000)

typedef struct Ticket
{
    union
    {
        struct
        {
            uint32_t next, prev;         /* in its list of the queue */
            uint32_t age_next, age_prev; /* in its flow, oldest first */
        } wait;
        struct
        {
            FleetTime end; /* predicted */
            uint32_t server;
            uint32_t position; /* in the server's heap of running tickets */
        } run;
    };
    float duration; /* at speed 1; negative: unknown, this is a guess */
    float tail;
    uint32_t queue;
    uint32_t flow;
} Ticket;

/* The lists of one octave. */
typedef struct Octave
{
    uint32_t occupied; /* bit n: list n is not empty */
    uint32_t first[STEPS], last[STEPS];
    struct Octave *next_free;
} Octave;

typedef struct Queue
{
    uint32_t target;
    FleetPolicy policy;
    int32_t priority;
    uint32_t avoid;
    uint32_t avoid_position; /* of the avoided server among the target's; NONE: no member */
    uint32_t waiting;
    uint64_t visit;           /* the last choice that looked at it */
    uint64_t occupied;        /* bit n: octave n has a ticket */
    Octave *octaves[OCTAVES]; /* NULL: empty */
} Queue;

typedef struct Flow
{
    uint32_t target, flow;
    uint32_t oldest, newest; /* tickets */
    uint32_t next, prev;     /* in the target's ring */
    uint32_t chain;          /* hash chain, or the free list */
    uint64_t stamp;          /* starts of the target when its oldest ticket last changed */
} Flow;

typedef struct Member
{
    uint32_t target, position;
} Member;

typedef struct Server
{
    FleetServerSpec spec;
    uint32_t busy;
    double load; /* busy share of the slots, below 1; INFINITY: nothing is free */
    uint32_t nheap, heap_capacity;
    uint32_t *heap; /* running tickets, first to end at the top */
    Member *members;
    uint32_t nmembers, member_capacity;
    bool takes;   /* may get something new, given free slots */
    int16_t rank; /* of its speed, in sixteenths of an octave: nearer ones count as equal */
} Server;

typedef struct SlotView /* a busy slot on a server, as the look ahead sees it */
{
    double free, speed; /* free: microseconds from now, an overrun taken into account */
    FleetTime end;      /* as predicted at the start */
    uint32_t server;
    int rank;
} SlotView;

typedef struct Target
{
    uint32_t *servers;
    uint32_t nservers;
    uint32_t nfree;            /* members with a free slot */
    uint32_t ntaking;          /* members online with slots at all */
    uint32_t nusable;          /* members online or suspect */
    uint32_t slots;            /* of the taking members */
    uint32_t *trees[POLICIES]; /* winner trees over the members; NULL until the policy is used */
    double *turn;              /* round robin: when a member had its last turn */
    double *pass;              /* weighted: virtual time of a member's next turn */
    double turns, virtual_time;
    uint32_t *queues; /* not empty, highest priority first */
    uint32_t nqueues, queue_capacity;
    uint32_t waiting, waiting_known;
    double work;                    /* sum of the known durations that wait */
    uint32_t ring_first, ring_last; /* flows */
    uint32_t nflows;
    uint32_t flow_cached;
    uint64_t starts, forced_at;
    uint64_t key;
    uint32_t heap_position; /* among the candidates; NONE: is not one */
    /* what was tried in vain since the last change; all forgotten when it is woken */
    bool due_blocked; /* the due tickets cannot be placed */
    bool floored;     /* nothing of priority "floor" or higher can be placed or should be */
    int32_t floor;
    bool asleep; /* nothing at all */
    FleetTime wake;
    uint32_t sleeper_position;
    /* what the look ahead needs of the members, refreshed every few changes */
    uint32_t changes; /* since then; NONE: must be refreshed */
    FleetTime viewed_at;
    int top_rank;      /* of the fastest taking member */
    double speed_sum;  /* of the slots that are free before the level */
    double offset_sum; /* of speed * time until free, of the same slots */
    SlotView *view;    /* busy slots, at most LOOKAHEAD, those that are free first */
    uint32_t nview, view_capacity;
} Target;

struct FleetPlacer
{
    const FleetAlloc *alloc;
    size_t bytes;
    Ticket **pages;
    uint32_t page_capacity;
    Server *servers;
    uint32_t nservers, server_capacity;
    Target **targets; /* NULL: not defined */
    uint32_t ntargets, target_capacity;
    Queue **queues;
    uint32_t nqueues, queue_capacity;
    uint32_t *free_queues;
    uint32_t nfree_queues, free_queue_capacity;
    Octave *free_octaves;
    Flow *flows;
    uint32_t nflows, flow_capacity, free_flow;
    uint32_t *buckets; /* hash of the flows */
    uint32_t nbuckets, flows_used;
    uint32_t *candidates; /* heap of targets */
    uint32_t ncandidates, candidate_capacity;
    uint32_t *sleepers;
    uint32_t nsleepers, sleeper_capacity;
    FleetTime wakeup;
    uint32_t batch; /* of tickets without a flow of their own */
    bool batch_used;
    uint64_t visit; /* number of the present choice */
};

/* One look ahead: where the tickets that are held back would go. */
typedef struct Look
{
    double level; /* from now */
    double speed; /* of the free server */
    uint32_t nslots;
    uint32_t examined;
    FleetTime now, wake;
    SlotView slots[LOOKAHEAD]; /* busy ones of faster servers */
} Look;

/* ---- tickets ---- */

/* Longer than thirty years is as good as for ever, and sums of it still are times. */
#define LONGEST_SPAN 1e15

static inline float
ticket_span(FleetTime span)
{
    return span < (FleetTime) LONGEST_SPAN ? (float) span : (float) LONGEST_SPAN;
}

/* One that surely exists. */
static inline Ticket *
ticket_at(const FleetPlacer *placer, uint32_t number)
{
    return &placer->pages[number >> PAGE_BITS][number & (PAGE_SIZE - 1)];
}

/* NULL: the placer does not know it. */
static inline Ticket *
placer_ticket(const FleetPlacer *placer, uint32_t number)
{
    uint32_t page = number >> PAGE_BITS;
    Ticket *ticket;

    if (page >= placer->page_capacity || placer->pages[page] == NULL)
        return NULL;
    ticket = ticket_at(placer, number);
    return ticket->queue == QUEUE_ABSENT ? NULL : ticket;
}

static inline float
ticket_length(const Ticket *ticket)
{
    return ticket->duration < 0 ? -ticket->duration : ticket->duration;
}

static inline float
ticket_path(const Ticket *ticket)
{
    return ticket_length(ticket) + ticket->tail;
}

/* Does a go before b in the order of shortest_finish? */
static inline bool
ticket_before(const Ticket *a, const Ticket *b)
{
    float path_a = ticket_path(a), path_b = ticket_path(b);

    return path_a > path_b || (path_a == path_b && ticket_length(a) > ticket_length(b));
}

/* ---- alloc.c ---- */
extern void *placer_resize(FleetPlacer *placer, void *ptr, size_t old_size, size_t new_size);
extern void placer_grow(FleetPlacer *placer, void *array, uint32_t *capacity, uint32_t needed,
                        size_t element);

/* ---- tree.c ---- */
extern void target_tree_make(FleetPlacer *placer, Target *target, FleetPolicy policy);
extern void target_tree_update(FleetPlacer *placer, Target *target, uint32_t position);
extern void target_trees_rebuild(FleetPlacer *placer, Target *target, uint32_t old_members);
extern void server_load(Server *server); /* after any change of it */
extern bool server_has_free(const Server *server);
/* The best member with a free slot, but for the position "without"; NONE: there is none. */
extern uint32_t target_pick(const FleetPlacer *placer, const Target *target, FleetPolicy policy,
                            uint32_t without);
/* That member gets a ticket: the policies with a memory note whose turn it was. */
extern void target_picked(FleetPlacer *placer, Target *target, FleetPolicy policy,
                          uint32_t position);

/* ---- queue.c ---- */
extern uint32_t member_position(const FleetPlacer *placer, uint32_t server, uint32_t target);
extern Ticket *placer_ticket_make(FleetPlacer *placer, uint32_t number);
extern void placer_enqueue(FleetPlacer *placer, uint32_t number, const FleetTicket *spec,
                           uint32_t flow);
extern void placer_dequeue(FleetPlacer *placer, uint32_t number);
extern uint32_t queue_top(const FleetPlacer *placer, const Queue *queue);
extern int queue_top_list(const Queue *queue);
extern int queue_key_list(const FleetPlacer *placer, const Queue *queue);
/* The first list that is not empty at or below this one; -1: none. */
extern int queue_list_below(const Queue *queue, int list);
extern uint32_t queue_list_first(const Queue *queue, int list);
extern int placer_list_of(float path);

/* ---- heap.c ---- */
/* To be called after any change of a target's work or free slots … */
extern void target_touch(FleetPlacer *placer, uint32_t number);
/* … and if that could make something possible that was tried in vain. */
extern void target_wake(FleetPlacer *placer, uint32_t number);
/* Puts a ticket into the heap of what runs on the server, at this place or where it belongs. */
extern void running_sift(FleetPlacer *placer, Server *server, uint32_t place, uint32_t number);

/* ---- look.c ---- */
extern void view_refresh(FleetPlacer *placer, Target *target, FleetTime now);
/* When all the work that waits for the target could be through at best: microseconds from now. */
extern double level_from(const Target *target, FleetTime now);
/* look->now is set; "server" is the free one. */
extern void look_begin(Target *target, Look *look, const Server *server);
/* The first ticket of the queue that does not lose by starting there; NONE: all are held back. */
extern uint32_t queue_not_held(const FleetPlacer *placer, const Queue *queue, Look *look,
                               uint32_t without);

/* ---- choose.c ---- */
extern bool target_is_urgent(const FleetPlacer *placer, const Target *target);
/* Number of its first queue that was not tried in vain; nqueues: none. */
extern uint32_t target_first_queue(const FleetPlacer *placer, const Target *target);
/* After target_choose() failed: go on with the rest. */
extern void target_fall(const FleetPlacer *placer, Target *target);
extern bool target_choose(FleetPlacer *placer, Target *target, FleetTime now, uint32_t *ticket,
                          uint32_t *position, bool *forced);

#endif
