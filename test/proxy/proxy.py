#!/usr/bin/python3
"""TCP proxy for fault tests: forwards routes to servers and breaks them on command.

    proxy.py serve CONTROL ROUTE=LISTEN:HOST:PORT …    runs until stdin closes or "quit"
    proxy.py ctl CONTROL COMMAND …                     one command, prints the answer

It knows the frames of PostgreSQL's protocol (without encryption), so that a connection can be cut
exactly before or exactly after one message.  DIR is c2s (client to server) or s2c.

    status [ROUTE]              JSON: connections, bytes, what is set, how often a rule fired
    allow ROUTE                 forget everything below; held data flows on
    delay ROUTE MS              each message later by MS
    kill ROUTE                  reset every connection of the route
    refuse ROUTE                reset new connections as well (until allow)
    target ROUTE HOST PORT      new connections go to another server (the old ones stay where they are)
    hole ROUTE                  black hole: keep connections open, accept new ones, forward nothing
    half-close ROUTE DIR        end one direction of every connection, keep the other
    drop-after ROUTE DIR N      reset a connection once N more bytes passed in that direction
    on ROUTE DIR WHEN PATTERN [ACTION [COUNT [SKIP]]]
                                WHEN: before | after forwarding the first message that PATTERN (a
                                Python regular expression on its bytes, type byte included) matches.
                                ACTION: kill (default; this connection), kill-all (of the route),
                                hole, refuse (kill-all and refuse), strand (the client loses the
                                connection, its server keeps it: the message arrives at "allow").
                                COUNT times (default 1), after letting SKIP matches pass.
    wait ROUTE SECONDS          answers when a rule has fired (since the last "allow" or "wait")
    quit

A backslash in PATTERN reaches Python as it is; write blanks as \\s.
"""

import asyncio
import json
import re
import socket
import struct
import sys

SSL_REQUEST = 80877103
GSS_REQUEST = 80877104


class Rule:
    """One "on" command."""

    def __init__(self, direction, when, pattern, action, count, skip):
        self.direction = direction
        self.when = when
        self.pattern = re.compile(pattern.encode("utf-8", "surrogateescape"), re.S)
        self.action = action
        self.left = count
        self.skip = skip

    def matches(self, direction, message):
        if direction != self.direction or self.left == 0 or not self.pattern.search(message):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.left -= 1
        return True


class Framer:
    """Cuts a byte stream into protocol messages; gives up framing where it is none."""

    def __init__(self, connection, client):
        self.connection = connection
        self.client = client
        self.buffer = bytearray()
        self.started = not client  # a client begins with a message that has no type byte

    def feed(self, data):
        self.buffer += data
        out = []
        while self.buffer:
            message = self._one()
            if message is None:
                break
            out.append(message)
        return out

    def _take(self, n):
        message = bytes(self.buffer[:n])
        del self.buffer[:n]
        return message

    def _one(self):
        if not self.client and self.connection.single_byte:
            self.connection.single_byte -= 1
            return self._take(1)
        if not self.started:
            if len(self.buffer) < 8:
                return None
            length, code = struct.unpack("!II", self.buffer[:8])
            if not 8 <= length <= 100000:
                return self._take(len(self.buffer))
            if len(self.buffer) < length:
                return None
            if code in (SSL_REQUEST, GSS_REQUEST):
                self.connection.single_byte += 1
            else:
                self.started = True
            return self._take(length)
        if len(self.buffer) < 5:
            return None
        length = struct.unpack("!I", self.buffer[1:5])[0]
        if length < 4 or length > 1 << 30:
            return self._take(len(self.buffer))
        if len(self.buffer) < length + 1:
            return None
        return self._take(length + 1)


class Connection:
    def __init__(self, route, client):
        self.route = route
        self.client = client  # (reader, writer)
        self.server = None
        self.single_byte = 0
        self.dead = False

    def reset(self):
        """Both sides get a TCP reset, not an orderly end."""
        self.dead = True
        for pair in (self.client, self.server):
            if pair is None:
                continue
            transport = pair[1].transport
            sock = transport.get_extra_info("socket")
            if sock is not None:
                try:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                except OSError:
                    pass
            transport.abort()
        self.route.connections.discard(self)

    async def run(self):
        route = self.route
        try:
            await route.open_gate.wait()
            if self.dead:
                return
            self.server = await asyncio.open_connection(route.host, route.port)
            for pair in (self.client, self.server):
                sock = pair[1].transport.get_extra_info("socket")
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.gather(
                self._pump("c2s", self.client[0], self.server[1]),
                self._pump("s2c", self.server[0], self.client[1]),
            )
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            if not self.dead:
                self.reset_quietly()

    def strand(self):
        """The client loses it; towards the server it stays, with what is on its way."""
        self.route.landing.clear()
        self.client[1].transport.abort()

    def reset_quietly(self):
        for pair in (self.client, self.server):
            if pair is not None:
                pair[1].close()
        self.dead = True
        self.route.connections.discard(self)

    async def _pump(self, direction, reader, writer):
        route = self.route
        framer = Framer(self, direction == "c2s")
        left = None
        while True:
            data = await reader.read(1 << 16)
            if not data:
                await route.open_gate.wait()
                if not self.dead and not getattr(writer, "half_closed", False):
                    writer.write_eof()
                return
            for message in framer.feed(data):
                await route.open_gate.wait()
                if self.dead:
                    return
                if route.delay:
                    await asyncio.sleep(route.delay)
                rule = route.match(direction, message)
                if rule is not None and rule.when == "before":
                    route.fire(self, rule)
                    # a hole holds the message back; a kill drops it
                    await route.landing.wait()
                    await route.open_gate.wait()
                    if self.dead:
                        return
                if route.drop_after.get(direction) is not None:
                    left = route.drop_after[direction] if left is None else left
                    if len(message) >= left:
                        writer.write(message[:left])
                        await self._flushed(writer)
                        route.fired()
                        self.reset()
                        return
                    left -= len(message)
                else:
                    left = None
                if writer.transport.is_closing() or getattr(writer, "half_closed", False):
                    return  # nothing flows in a direction that was half-closed
                writer.write(message)
                route.bytes[direction] += len(message)
                await writer.drain()
                if rule is not None and rule.when == "after":
                    await self._flushed(writer)
                    route.fire(self, rule)
                if self.dead:
                    return

    @staticmethod
    async def _flushed(writer):
        """Until the kernel has all of it: a reset right after must not swallow the message."""
        transport = writer.transport
        while transport.get_write_buffer_size() > 0:
            await asyncio.sleep(0.001)
        sock = transport.get_extra_info("socket")
        try:
            import fcntl  # SIOCOUTQ: bytes that the peer has not acknowledged yet

            for _ in range(1000):
                pending = struct.unpack("i", fcntl.ioctl(sock.fileno(), 0x5411, b"\0" * 4))[0]
                if pending == 0:
                    return
                await asyncio.sleep(0.001)
        except (OSError, ImportError, AttributeError):
            await asyncio.sleep(0.01)


class Route:
    def __init__(self, name, listen, host, port):
        self.name, self.listen, self.host, self.port = name, listen, host, port
        self.connections = set()
        self.bytes = {"c2s": 0, "s2c": 0}
        self.accepted = 0
        self.fired_count = 0
        self.fired_event = asyncio.Event()
        self.open_gate = asyncio.Event()
        self.landing = asyncio.Event()
        self.allow()

    def allow(self):
        self.rules = []
        self.delay = 0.0
        self.refusing = False
        self.drop_after = {}
        self.fired_event.clear()
        self.open_gate.set()
        self.landing.set()

    def match(self, direction, message):
        for rule in self.rules:
            if rule.matches(direction, message):
                return rule
        return None

    def fired(self):
        self.fired_count += 1
        self.fired_event.set()

    def fire(self, connection, rule):
        if rule.action == "kill":
            connection.reset()
        elif rule.action in ("kill-all", "refuse"):
            self.refusing = self.refusing or rule.action == "refuse"
            self.kill()
        elif rule.action == "hole":
            self.open_gate.clear()
        elif rule.action == "strand":
            connection.strand()
        self.fired()

    def kill(self):
        for connection in list(self.connections):
            connection.reset()

    async def accept(self, reader, writer):
        connection = Connection(self, (reader, writer))
        self.accepted += 1
        if self.refusing:
            connection.reset()
            return
        self.connections.add(connection)
        await connection.run()

    def status(self):
        return {
            "route": self.name,
            "listen": self.listen,
            "connections": len(self.connections),
            "accepted": self.accepted,
            "bytes": self.bytes,
            "delay_ms": self.delay * 1000,
            "refusing": self.refusing,
            "hole": not self.open_gate.is_set(),
            "rules": sum(1 for r in self.rules if r.left),
            "fired": self.fired_count,
        }


class Proxy:
    def __init__(self, control, routes):
        self.control = control
        self.routes = {r.name: r for r in routes}
        self.done = asyncio.Event()

    async def command(self, words):
        name = words[0]
        if name == "quit":
            self.done.set()
            return "ok"
        if name == "status":
            chosen = [self.routes[words[1]]] if len(words) > 1 else self.routes.values()
            return json.dumps([r.status() for r in chosen])
        route = self.routes[words[1]]
        rest = words[2:]
        if name == "allow":
            route.allow()
        elif name == "delay":
            route.delay = float(rest[0]) / 1000
        elif name == "kill":
            route.kill()
        elif name == "refuse":
            route.refusing = True
            route.kill()
        elif name == "target":
            route.host, route.port = rest[0], int(rest[1])
        elif name == "hole":
            route.open_gate.clear()
        elif name == "half-close":
            for connection in route.connections:
                pair = connection.server if rest[0] == "c2s" else connection.client
                if pair is not None and pair[1].can_write_eof():
                    pair[1].half_closed = True
                    pair[1].write_eof()
        elif name == "drop-after":
            route.drop_after[self.direction(rest[0])] = int(rest[1])
        elif name == "on":
            if rest[1] not in ("before", "after"):
                raise ValueError("before or after")
            action = rest[3] if len(rest) > 3 else "kill"
            if action not in ("kill", "kill-all", "hole", "refuse", "strand"):
                raise ValueError("unknown action " + action)
            route.rules.append(
                Rule(
                    self.direction(rest[0]),
                    rest[1],
                    rest[2],
                    action,
                    int(rest[4]) if len(rest) > 4 else 1,
                    int(rest[5]) if len(rest) > 5 else 0,
                )
            )
        elif name == "wait":
            try:
                await asyncio.wait_for(route.fired_event.wait(), float(rest[0]))
            except asyncio.TimeoutError:
                return "error: no rule fired"
            route.fired_event.clear()
        else:
            raise ValueError("unknown command " + name)
        return "ok"

    @staticmethod
    def direction(word):
        if word not in ("c2s", "s2c"):
            raise ValueError("c2s or s2c")
        return word

    async def serve_control(self, reader, writer):
        try:
            while line := await reader.readline():
                words = line.decode("utf-8", "surrogateescape").split()
                if not words:
                    continue
                try:
                    answer = await self.command(words)
                except (KeyError, ValueError, IndexError, re.error) as error:
                    answer = f"error: {type(error).__name__} {error}"
                writer.write(answer.encode() + b"\n")
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def run(self):
        for route in self.routes.values():
            server = await asyncio.start_server(route.accept, "127.0.0.1", route.listen)
            route.listen = server.sockets[0].getsockname()[1]
        control = await asyncio.start_server(self.serve_control, "127.0.0.1", self.control)
        ports = " ".join(f"{r.name}={r.listen}" for r in self.routes.values())
        print(f"control={control.sockets[0].getsockname()[1]} {ports}", flush=True)
        loop = asyncio.get_running_loop()
        # whoever started us is gone when stdin ends
        loop.add_reader(sys.stdin.fileno(), self._stdin)
        await self.done.wait()
        for route in self.routes.values():
            route.kill()

    def _stdin(self):
        if not sys.stdin.buffer.raw.read(4096):
            self.done.set()


async def serve(argv):
    routes = []
    for word in argv[1:]:
        name, _, target = word.partition("=")
        listen, host, port = target.split(":")
        routes.append(Route(name, int(listen), host, int(port)))
    await Proxy(int(argv[0]), routes).run()


def ctl(argv):
    with socket.create_connection(("127.0.0.1", int(argv[0]))) as sock:
        sock.sendall(" ".join(argv[1:]).encode() + b"\n")
        answer = sock.makefile().readline().rstrip("\n")
    print(answer)
    return 1 if answer.startswith("error") else 0


def main(argv):
    if len(argv) > 2 and argv[1] == "serve":
        asyncio.run(serve(argv[2:]))
        return 0
    if len(argv) > 3 and argv[1] == "ctl":
        return ctl(argv[2:])
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))
