#!/usr/bin/python3
"""Stands between a client and a real PostgreSQL server, and changes what the server says.

    liar.py --seed N [--log FILE] HOST:PORT[,HOST:PORT …]

Listens on one port for each address, prints "ports=N,N,…", then reads commands from stdin until it
closes, one JSON object a line, and answers each with one line:

    {"lie": true | false}      from now on it lies, or tells the truth
    {"cut": true}              closes every connection
    {"stats": true}            answers {"cases": n, "connections": n, "kinds": {KIND: n, …}}
    {"last": N}                answers the descriptions of the last N cases

What a server says is passed on, message by message.  Every now and then one is changed, which is a
case: another message before or instead of it, any type; it is left out, doubled, sent many times, cut,
of another length or type; or one of its fields is changed: a column of a row (null, nothing, longer, the
ends of each range of numbers, odd bytes), the number and format of columns, a tag, an SQLSTATE, a level,
a text, a transaction's status, a parameter, a payload.  Before the login has come to its end that is so
in one connection of twenty.

All that is random about case K of connection C comes from the seed, C and K, and the log has one line
a case: so a case that finds something can be read, and made into a test with fakeserver.py.
"""

import argparse
import asyncio
import json
import random
import struct
import sys

TYPES = b"RSKZCDTEINAGHWcd123tnsvV"
NUMBERS = [0, 1, -1, 2, 127, 128, 255, 32767, 32768, -32768, 65535, (1 << 31) - 1, -(1 << 31), (1 << 32) - 1,
           (1 << 63) - 1, -(1 << 63), 10**9, 10**12]
TEXTS = [b"", b" ", b"x", b"\xff\xfe", b"\xc3", b"\xe2\x82\xac", b"'; DROP TABLE x; --", b"%s%n", b"\\", b"-1", b"NaN",
         b"infinity", b"99999999999999999999", b"{}", b"{", b"[1,2]", b'{"a": "\\u0000"}', b"0" * 300, b"y" * 70000,
         b"1970-01-01", b"t", b"f", b"in progress", b"committed", b"aborted"]
CODES = [b"00000", b"FE001", b"FE002", b"57014", b"57P01", b"40001", b"40P01", b"53300", b"0A000", b"xx", b"", b"TOO LONG FOR IT", b"\xff\xff"]


class Case:
    """One change: what is to be sent instead of a message, and what it is called."""

    def __init__(self, rng):
        self.rng = rng

    def number(self):
        rng = self.rng
        value = rng.choice(NUMBERS) if rng.random() < 0.8 else rng.getrandbits(64)
        width = rng.choice([1, 2, 4, 8])
        return (value & ((1 << 8 * width) - 1)).to_bytes(width, "big")

    def value(self, old):
        """Of a column; None is null."""
        rng = self.rng
        choice = rng.randrange(7)
        if choice == 0:
            return None
        if choice == 1 and old:
            return bytes(rng.getrandbits(8) for _ in old)
        if choice == 2 and old:
            at = rng.randrange(len(old))
            return old[:at] + bytes([old[at] ^ 1 << rng.randrange(8)]) + old[at + 1:]
        if choice == 3 and old and len(old) in (1, 2, 4, 8):
            value = rng.choice(NUMBERS) & ((1 << 8 * len(old)) - 1)
            return value.to_bytes(len(old), "big")
        if choice == 4:
            return self.number()
        return rng.choice(TEXTS)

    def a_row(self):
        values = [self.value(b"abcd") for _ in range(self.rng.choice([0, 1, 2, 5, 20, 21]))]
        return struct.pack("!h", len(values)) + b"".join(
            struct.pack("!i", -1) if v is None else struct.pack("!i", len(v)) + v for v in values)

    def a_description(self):
        n = self.rng.choice([0, 1, 3, 5, 20, 1600])
        return struct.pack("!h", n) + b"".join(
            b"c%d\0" % i + struct.pack("!ihihih", 0, 0, self.rng.choice([20, 23, 25, 2950]), -1, -1, self.rng.randrange(2)) for i in range(n))

    def diagnostics(self):
        rng = self.rng
        fields = [b"S" + rng.choice([b"ERROR", b"FATAL", b"NOTICE", b"WARNING", b"", b"STRANGE"]), b"C" + rng.choice(CODES),
                  b"M" + rng.choice(TEXTS)] + [bytes([rng.choice(b"VDHPpqWstcdnFLRxyz")]) + rng.choice(TEXTS) for _ in range(rng.randrange(4))]
        rng.shuffle(fields)
        return b"\0".join(fields[:rng.randrange(1, len(fields) + 1)]) + b"\0\0"

    def body(self, kind):
        """Of a message of this type, as it might be."""
        rng = self.rng
        if rng.random() < 0.1:
            return bytes(rng.getrandbits(8) for _ in range(rng.choice([0, 1, 3, 4, 7, 30, 3000])))
        if kind == "R":
            return struct.pack("!i", rng.choice([0, 3, 5, 7, 10, 11, 12, 99])) + rng.choice([b"", b"SCRAM-SHA-256\0\0", b"r=x,s=eA==,i=4096"])
        if kind == "S":
            name = rng.choice([b"client_encoding", b"server_encoding", b"server_version", b"standard_conforming_strings", b"in_hot_standby", b"x"])
            return name + b"\0" + rng.choice([b"UTF8", b"SQL_ASCII", b"LATIN1", b"EUC_JP", b"SJIS", b"off", b"7.1", b"99", b""]) + b"\0"
        if kind == "K":
            return self.number().rjust(8, b"\0")
        if kind == "Z":
            return rng.choice([b"I", b"T", b"E", b"x"])
        if kind == "C":
            return rng.choice([b"SELECT 1", b"INSERT 0 1", b"SELECT", b"SELECT 99999999999999999999", b"COMMIT", b"ROLLBACK", b"BEGIN", b"COPY -1", b"", b"LISTEN"]) + b"\0"
        if kind == "D":
            return self.a_row()
        if kind == "T":
            return self.a_description()
        if kind in "EN":
            return self.diagnostics()
        if kind == "A":
            return struct.pack("!i", 1) + rng.choice([b"fleet", b"fleet_run", b""]) + b"\0" + rng.choice(TEXTS)[:8000].replace(b"\0", b"") + b"\0"
        if kind in "GHW":
            n = rng.choice([0, 1, 20])
            return struct.pack("!bh", rng.randrange(2), n) + struct.pack("!h", 0) * n
        if kind == "d":
            return rng.choice(TEXTS)
        if kind == "t":
            return struct.pack("!h", 1) + struct.pack("!i", 25)
        return b"" if rng.random() < 0.9 else b"x"

    def a_message(self):
        kind = bytes([self.rng.choice(TYPES)])
        return kind + framed(self.body(kind.decode())), "type " + kind.decode()

    def field(self, kind, body):
        """One field of a message that the server really sent, changed."""
        rng = self.rng
        if kind == b"D" and len(body) > 2:
            values = columns(body)
            if values and rng.random() < 0.9:
                i = rng.randrange(len(values))
                old, values[i] = values[i], self.value(values[i])
                what = "column %d of %d: %s for %s" % (i, len(values), short(values[i]), short(old))
            elif rng.random() < 0.5:
                values.append(b"one more")
                what = "a column more"
            else:
                values = values[:-1]
                what = "a column less"
            return packed(values), what
        if kind in (b"E", b"N"):
            parts = [p for p in body.split(b"\0") if p]
            i = rng.randrange(len(parts)) if parts else 0
            if parts:
                letter = parts[i][:1]
                parts[i] = letter + rng.choice(CODES if letter == b"C" else TEXTS)
            return b"\0".join(parts) + b"\0\0", "field %s" % short(parts[i] if parts else b"")
        if kind == b"A":
            channel, payload = body[4:].split(b"\0")[:2]
            new = rng.choice([payload[:-1], payload + b"0", b"-1", b"99999999999999999999", b"", b"x", payload.swapcase(), b"-" + payload])
            return body[:4] + channel + b"\0" + new + b"\0", "payload %s for %s" % (short(new), short(payload))
        new = self.body(kind.decode("latin1"))
        return new, "body %s for %s" % (short(new), short(body))

    def change(self, kind, body):
        """(bytes to be sent, what is done after it, description)."""
        rng = self.rng
        message = kind + framed(body)
        name = kind.decode("latin1")
        what = rng.choices(["field", "insert", "replace", "drop", "double", "many", "kind", "length", "cut", "hang", "close", "bytes"],
                           [50, 10, 10, 6, 6, 1, 4, 3, 2, 0.3, 2, 1])[0]
        if what == "field":
            new, how = self.field(kind, body)
            return kind + framed(new), "", "field %s: %s" % (name, how)
        if what in ("insert", "replace"):
            new, how = self.a_message()
            return new + (message if what == "insert" else b""), "", "%s %s: %s %s" % (what, name, how, short(new[5:]))
        if what == "drop":
            return b"", "", "drop " + name
        if what == "double":
            return message * 2, "", "double " + name
        if what == "many":
            n = rng.choice([10, 1000, 20000])
            return message * max(1, min(n, (1 << 22) // len(message))), "", "many %s: %d" % (name, n)
        if what == "kind":
            new = bytes([rng.choice(TYPES)])
            return new + message[1:], "", "kind %s: %s" % (name, new.decode())
        if what == "length":
            length = rng.choice([0, 3, 4, len(body) + 3, len(body) + 5, 1 << 20, (1 << 31) - 1, -1])
            return kind + struct.pack("!i", length) + body, "", "length %s: %d for %d" % (name, length, len(body) + 4)
        if what == "bytes":
            return message, "bytes", "bytes " + name
        if what == "cut":
            return message[:rng.randrange(len(message))], "close", "cut " + name
        return b"", what, what + " " + name


def framed(body):
    return struct.pack("!i", len(body) + 4) + body


def columns(body):
    (n,) = struct.unpack("!h", body[:2])
    values, at = [], 2
    for _ in range(n):
        (length,) = struct.unpack("!i", body[at:at + 4])
        at += 4
        values.append(None if length < 0 else body[at:at + length])
        at += max(length, 0)
    return values


def packed(values):
    return struct.pack("!h", len(values)) + b"".join(
        struct.pack("!i", -1) if v is None else struct.pack("!i", len(v)) + v for v in values)


def short(value):
    if value is None:
        return "null"
    return repr(value[:24])[1:] + ("… (%d bytes)" % len(value) if len(value) > 24 else "")


class Liar:
    """What all connections share."""

    def __init__(self, seed, log):
        self.seed, self.log, self.lies = seed, log, False
        self.cases, self.connections, self.kinds, self.last = 0, 0, {}, []
        self.writers = set()

    def tell(self, connection, k, description):
        self.cases += 1
        kind = description.split()[0]
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        line = "connection %d case %d: %s" % (connection, k, description)
        self.last = self.last[-199:] + [line]
        if self.log:
            self.log.write(line + "\n")
            self.log.flush()

    def command(self, command):
        if "lie" in command:
            self.lies = command["lie"]
        if command.get("cut"):
            for writer in list(self.writers):
                writer.close()
        if command.get("stats"):
            return {"cases": self.cases, "connections": self.connections, "kinds": self.kinds}
        if command.get("last"):
            return self.last[-command["last"]:]
        return "ok"


async def from_client(reader, writer):
    """What the client says is passed on as it is."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def from_server(liar, number, reader, writer):
    """What the server says, changed now and then."""
    rng = random.Random(liar.seed * 1000003 + number)
    logged_in, k = False, 0
    wait = rng.randrange(6) if rng.random() < 0.05 else int(rng.expovariate(1 / 30))
    at_login = rng.random() < 0.05
    while True:
        kind = await reader.readexactly(1)
        (length,) = struct.unpack("!i", await reader.readexactly(4))
        body = await reader.readexactly(length - 4)
        message, after = kind + framed(body), ""
        if liar.lies and (logged_in or at_login):
            if wait > 0:
                wait -= 1
            else:
                k += 1
                case = Case(random.Random((liar.seed * 1000003 + number) * 10007 + k))
                message, after, description = case.change(kind, body)
                liar.tell(number, k, description)
                wait = int(rng.expovariate(1 / 30))
        logged_in = logged_in or kind == b"Z"
        if after == "bytes":
            for i in range(len(message)):
                writer.write(message[i:i + 1])
                await writer.drain()
            message = b""
        writer.write(message)
        await writer.drain()
        if after == "close":
            return
        if after == "hang":
            while await reader.read(65536):
                pass
            return


async def client(liar, target, reader, writer):
    liar.connections += 1
    number = liar.connections
    host, port = target.rsplit(":", 1)
    liar.writers.add(writer)
    try:
        server_reader, server_writer = await asyncio.open_connection(host, int(port), limit=1 << 26)
        task = asyncio.create_task(from_client(reader, server_writer))
        try:
            await from_server(liar, number, server_reader, writer)
        finally:
            task.cancel()
            server_writer.close()
    except (OSError, EOFError, asyncio.IncompleteReadError):
        pass
    finally:
        liar.writers.discard(writer)
        writer.close()


async def main():
    options = argparse.ArgumentParser()
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--log")
    options.add_argument("targets")
    options = options.parse_args()
    liar = Liar(options.seed, open(options.log, "w") if options.log else None)
    ports = []
    for target in options.targets.split(","):
        server = await asyncio.start_server(lambda r, w, t=target: client(liar, t, r, w), "127.0.0.1", 0, backlog=500)
        ports.append(str(server.sockets[0].getsockname()[1]))
    print("ports=" + ",".join(ports), flush=True)
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    while line := await stdin.readline():
        print(json.dumps(liar.command(json.loads(line))), flush=True)


asyncio.run(main())
