/*
 * core/placement/look.c
 *     The placer's look ahead: would a ticket lose by starting on the slow
 *     server that is free now, rather than waiting for a faster one?  Called
 *     by choose.c only, and only where servers differ in speed; the
 *     structures are explained in internal.h.
 *
 * Two questions, the cheap one first.  If the ticket would be through before
 * all the work that waits could be (the level), nothing is lost.  Otherwise
 * the tickets are placed in order, each where it would end first, on the busy
 * slots of the faster servers and on the free one; the first that comes to lie
 * on the free one starts.
 */
#include "core/placement/internal.h"

#include <math.h>

/*
 * In how many microseconds will a slot be free whose work was predicted to
 * end then?  An overrun is guessed to last once more as long as it did so far.
 */
static double
time_until_free(FleetTime end, FleetTime now)
{
    return end >= now ? (double) (end - now) : (double) (now - end);
}

static void
view_server(FleetPlacer *placer, Target *target, uint32_t number, FleetTime now)
{
    const Server *server = &placer->servers[number];
    uint32_t busy = server->nheap < server->spec.slots ? server->nheap : server->spec.slots;

    target->speed_sum += server->spec.speed * (server->spec.slots - busy);
    placer_grow(placer, &target->view, &target->view_capacity, target->nview + busy,
                sizeof(SlotView));
    for (uint32_t i = 0; i < busy; i++)
    {
        FleetTime end = ticket_at(placer, server->heap[i])->run.end;
        SlotView *slot = &target->view[target->nview++];

        *slot = (SlotView){.free = time_until_free(end, now),
                           .speed = server->spec.speed,
                           .end = end,
                           .server = number,
                           .rank = server->rank};
        target->speed_sum += slot->speed;
        target->offset_sum += slot->speed * slot->free;
    }
}

static double
target_level(const Target *target)
{
    return target->speed_sum > 0 ? (target->work + target->offset_sum) / target->speed_sum : 0;
}

/*
 * The level is when all the work would be through if it could be poured over
 * the slots like water.  Slots that are free only later take no part in it.
 */
static void
view_level(Target *target)
{
    uint32_t n = target->nview;
    bool again = true;

    while (again)
    {
        double level = target_level(target);

        again = false;
        for (uint32_t i = 0; i < n;)
        {
            SlotView slot = target->view[i];

            if (slot.free <= level)
            {
                i++;
                continue;
            }
            target->speed_sum -= slot.speed;
            target->offset_sum -= slot.speed * slot.free;
            target->view[i] = target->view[--n];
            target->view[n] = slot;
            again = true;
        }
    }
}

/* Keeps the LOOKAHEAD slots that are free first: a heap of them, the last one at the top. */
static void
view_sift(SlotView *view, uint32_t at, SlotView slot)
{
    for (;;)
    {
        uint32_t child = 2 * at + 1;

        if (child >= LOOKAHEAD)
            break;
        if (child + 1 < LOOKAHEAD && view[child + 1].free > view[child].free)
            child++;
        if (view[child].free <= slot.free)
            break;
        view[at] = view[child];
        at = child;
    }
    view[at] = slot;
}

static void
view_cut(Target *target)
{
    if (target->nview <= LOOKAHEAD)
        return;
    for (uint32_t at = LOOKAHEAD / 2; at-- > 0;)
        view_sift(target->view, at, target->view[at]);
    for (uint32_t i = LOOKAHEAD; i < target->nview; i++)
        if (target->view[i].free < target->view[0].free)
            view_sift(target->view, 0, target->view[i]);
    target->nview = LOOKAHEAD;
}

/*
 * Looks at all the slots of a target.  A small target is looked at each time,
 * a large one only after a sixteenth of its slots changed, so that a decision
 * costs about the same; what was seen is corrected for the time that passed.
 */
void
view_refresh(FleetPlacer *placer, Target *target, FleetTime now)
{
    if (target->slots > LOOKAHEAD && target->changes < target->slots / 16)
        return;
    target->changes = 0;
    target->viewed_at = now;
    target->nview = 0;
    target->speed_sum = target->offset_sum = 0;
    target->top_rank = INT16_MIN;
    for (uint32_t i = 0; i < target->nservers; i++)
    {
        const Server *server = &placer->servers[target->servers[i]];

        if (!server->takes)
            continue;
        if (server->rank > target->top_rank)
            target->top_rank = server->rank;
        view_server(placer, target, target->servers[i], now);
    }
    view_level(target);
}

double
level_from(const Target *target, FleetTime now)
{
    return target_level(target) - (double) (now - target->viewed_at);
}

void
look_begin(Target *target, Look *look, const Server *server)
{
    FleetTime now = look->now;

    view_cut(target);
    look->level = level_from(target, now);
    look->speed = server->spec.speed;
    look->nslots = 0;
    look->examined = 0;
    for (uint32_t i = 0; i < target->nview; i++)
        if (target->view[i].rank > server->rank)
        {
            SlotView *slot = &look->slots[look->nslots++];

            *slot = target->view[i];
            slot->free = time_until_free(slot->end, now);
        }
}

/* Would this ticket lose by starting on the free server now?  Then it takes its place elsewhere. */
static bool
look_holds(Look *look, const Ticket *ticket, uint32_t without)
{
    double length = ticket->duration; /* unknown ones are negative: never held back */
    double here = length / look->speed, best = here;
    SlotView *slot = NULL;
    FleetTime wake;

    look->examined++;
    if (here + ticket->tail / look->speed <= look->level)
        return false;
    for (uint32_t i = 0; i < look->nslots; i++)
    {
        double end = look->slots[i].free + length / look->slots[i].speed;

        if (end < best && look->slots[i].server != without)
        {
            best = end;
            slot = &look->slots[i];
        }
    }
    if (slot == NULL)
        return false;
    /* this is when the overrun of what runs there will have eaten up the gain */
    wake = slot->end + (FleetTime) (here - length / slot->speed) + 1;
    if (wake < look->wake)
        look->wake = wake > look->now ? wake : look->now + 1;
    slot->free = best;
    return true;
}

/* The next tickets of one list of a queue, in exact order; moves *next on. */
static uint32_t
list_sorted(const FleetPlacer *placer, uint32_t *next, uint32_t *sorted)
{
    uint32_t n = 0, number = *next;

    for (; number != NONE && n < EXACTLY; n++)
    {
        const Ticket *ticket = ticket_at(placer, number);
        uint32_t place = n;

        while (place > 0 && ticket_before(ticket, ticket_at(placer, sorted[place - 1])))
        {
            sorted[place] = sorted[place - 1];
            place--;
        }
        sorted[place] = number;
        number = ticket->wait.next;
    }
    *next = number;
    return n;
}

/* Behind the tickets looked at one by one: the first list short enough to lose nothing for sure. */
static uint32_t
look_beyond(const Look *look, const Queue *queue, int list)
{
    double gains = INFINITY, most = look->level * look->speed;
    int below;

    for (uint32_t i = 0; i < look->nslots; i++)
    {
        double length = look->slots[i].free / (1 / look->speed - 1 / look->slots[i].speed);

        if (length < gains)
            gains = length;
    }
    if (gains > most)
        most = gains;
    below = placer_list_of((float) most) - 1;
    list = queue_list_below(queue, below < list ? below : list - 1);
    return list < 0 ? NONE : queue_list_first(queue, list);
}

/* The first ticket of the queue that does not lose by starting on the free server. */
uint32_t
queue_not_held(const FleetPlacer *placer, const Queue *queue, Look *look, uint32_t without)
{
    uint32_t sorted[EXACTLY];
    int list;

    for (list = queue_top_list(queue); list >= 0; list = queue_list_below(queue, list - 1))
    {
        uint32_t next = queue_list_first(queue, list);

        while (next != NONE)
        {
            uint32_t n;

            if (look->examined >= LOOKAHEAD)
                return look_beyond(look, queue, list);
            n = list_sorted(placer, &next, sorted);
            for (uint32_t i = 0; i < n; i++)
                if (!look_holds(look, ticket_at(placer, sorted[i]), without))
                    return sorted[i];
        }
    }
    return NONE;
}
