/*
 * runner/port.h
 *     A connection that is none, for code that looks at the session's.  In a
 *     runner's process.
 */
#ifndef FLEET_RUNNER_PORT_H
#define FLEET_RUNNER_PORT_H

/* Once, after the login. */
extern void fleet_runner_port_make(void);

#endif
