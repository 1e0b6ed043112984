/*
 * runner/port.c
 *     What stands for the connection of a runner's session, which has none.
 *     In a runner's process; called by runner/main.c.
 *
 * Functions of libraries read MyProcPort without asking whether it is there:
 * one call of sslinfo's ssl_is_used() in a step would crash the server.  So it
 * is there, and reads as a connection over a local socket, without encryption.
 * Nothing is ever sent or received over it: the output of a background worker
 * does not go there, and its socket is none.
 *
 * The headers of GSSAPI and OpenSSL need not be installed where this is
 * compiled.  Without them the members that have their types are a plain pointer
 * or, at the end of the structure, missing: hence the room behind it.
 */
#include "postgres.h"

#undef ENABLE_GSS
#undef ENABLE_SSPI
#undef USE_OPENSSL
#undef USE_SSL

#include <sys/socket.h>
#include <sys/un.h>

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "runner/port.h"
#include "utils/memutils.h"

#define ROOM_BEHIND 256

void
fleet_runner_port_make(void)
{
    Port *port = MemoryContextAllocZero(TopMemoryContext, sizeof(Port) + ROOM_BEHIND);

    StartTransactionCommand();
    port->user_name = MemoryContextStrdup(TopMemoryContext, GetUserNameFromId(GetUserId(), false));
    port->database_name = MemoryContextStrdup(TopMemoryContext, get_database_name(MyDatabaseId));
    CommitTransactionCommand();
    port->remote_host = MemoryContextStrdup(TopMemoryContext, "[local]");
    port->remote_port = MemoryContextStrdup(TopMemoryContext, "");
    port->sock = PGINVALID_SOCKET;
    port->proto = PG_PROTOCOL_LATEST;
    port->laddr.addr.ss_family = port->raddr.addr.ss_family = AF_UNIX;
    port->laddr.salen = port->raddr.salen = sizeof(struct sockaddr_un);
    MyProcPort = port;
}
