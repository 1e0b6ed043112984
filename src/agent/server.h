/*
 * agent/server.h
 *     Servers, targets and links.  In the agent's process.
 */
#ifndef FLEET_AGENT_SERVER_H
#define FLEET_AGENT_SERVER_H

#include "agent/state.h"

/* What server.c asks of those who use links. */
typedef struct AgentServerHooks
{
    bool (*in_use)(AgentLink *link);  /* something unfinished runs, or ran, over it */
    void (*retired)(AgentLink *link); /* it gets nothing new: place again what never started */
    /* It is closed, and a session waits for what comes of its login. */
    void (*unasked)(AgentLink *link);
} AgentServerHooks;

extern void agent_servers_init(const AgentServerHooks *hooks);
extern void agent_settings_changed(void);
/* What is paused was read again: nothing new is placed on servers of the groups that are. */
extern void agent_servers_pause(void);
extern void agent_servers_load(void); /* inside a transaction; again whenever they changed */
/* Once a turn: links that were retired and have nothing left to do are closed. */
extern void agent_servers_tidy(void);
/* Once a turn: if a right, a role or an option has changed anywhere, every link is looked at.
 * Returns when to look again. */
extern FleetTime agent_links_check(FleetTime now);
extern AgentServer *agent_server_by_id(int server_id);
extern AgentServer *agent_server_by_number(uint32 number); /* NULL: here, nowhere, unknown */
/* The link of this role to the server, made if needed; NULL with *sqlstate, *error (palloc'd).
 * Inside a transaction. */
extern AgentLink *agent_link_get(AgentServer *server, Oid role, const char **sqlstate,
                                 char **error);
/* For what has begun there, whatever holds now: a link without ground gets some, or not, until
 * fleet.lost_after. */
extern AgentLink *agent_link_again(AgentServer *server, Oid role);
/* Links that nothing uses, of this role (InvalidOid: of any), are closed: the next one logs in anew.
 * Not those that knock at a server that is away, or that a session waits for. */
extern void agent_links_forget_idle(AgentServer *server, Oid role);
/* It is up, or down.  What is on it is for others to look at (events.c); once they have, after it
 * went down, the server may be suspect. */
extern void agent_link_up(AgentLink *link, const FleetLinkIdentity *identity);
extern void agent_link_down(AgentLink *link, const char *sqlstate, const char *reason,
                            bool permanent);
extern void agent_link_suspect(AgentLink *link, bool permanent);
/* Links that a server has refused for fleet.lost_after: each to give_up, once.  Returns when to look again. */
extern FleetTime agent_links_refused(FleetTime now, void (*give_up)(AgentLink *link));
/* It has said something. */
extern void agent_server_heard(AgentServer *server);
/* Numbers of servers are below. */
extern uint32 agent_servers_count(void);
/* What a run taught of speeds; tonight: fleet_speed_learn(). */
extern void agent_servers_learn(const FleetSpeedSample *samples, uint32 n, double *tonight);
extern bool agent_servers_dirty(void);
extern void agent_servers_flush(void); /* health and speeds that are due; inside the transaction */

#endif
