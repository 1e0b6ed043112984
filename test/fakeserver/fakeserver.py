#!/usr/bin/python3
"""A PostgreSQL server that is none: logs clients in, answers by a script, has no data.

    fakeserver.py serve        prints "port=N"; then reads commands from stdin until it closes,
                               one JSON object a line, and answers each with one line

    {"auth": "trust" | "cleartext" | "scram", "password": P, "iterations": N}
                               how clients log in from now on; SCRAM needs the password
    {"pieces": true}           the message of SCRAM with the iterations byte by byte; "early": its first
                               bytes before the client has said anything; false: in one piece
    {"tls": FILE}              certificate and key of connections that ask for TLS; "" for none
    {"rules": [RULE, …]}       replaces the rules, for all connections
    {"cut": true}              closes every connection
    {"stats": true}            answers {"connections": n, "fired": [n of rule 0, …], "seen": {…}},
                               where "seen" counts the events, shortened

A RULE is {"on": PATTERN, "send": [ACTION, …], "count": N, "then": "default"}.  PATTERN, a regular
expression, is looked for in an event's text:
    startup | password | login | sync | copyfail | copydone
    parse SQL | execute SQL | query SQL
"execute" of a call of fleet_link is followed by its parameters, as "/{…}/{…}".
The first rule that fits, and was used fewer than "count" times (no count: always), sends its
actions instead of the usual answer, or, with "then", before it.  ACTIONs:
    "copyin" "copyout" "copyboth" "copydone" "ready" "close" "nodata" "empty"
    "hang" (nothing more is answered on this connection)
    ["copydata", TEXT] ["complete", TAG] ["row", [VALUE or null, …]] ["columns", [NAME, …]]
    ["error" or "notice" or "fatal", SQLSTATE, MESSAGE] ["raw", HEX] ["times", N, ACTION]
    ["times", N, ["count", VALUES]]: rows whose last value counts from 1
    ["notify", PAYLOAD] (on the channel that was listened to last)
{password} in a message is what the client has sent as its password.  A VALUE is a text, or in binary
{"i1" | "i2" | "i4" | "i8": NUMBER}, {"hex": BYTES}, {"bytes": N}: so many, or {"job": true}: as int8 the digits in the name
of the first job that agent_start() was called for.

The usual answers are those of a server on which every statement succeeds and returns nothing;
only what pg_fleet has to know of it has rows: transaction ids, their status (aborted), the timeline,
how many sessions were told to end (0), agent_hello().
"""

import base64
import hashlib
import hmac
import json
import os
import re
import socket
import ssl
import struct
import sys
import threading
import time

SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102


class Script:
    """What the commands have set; shared by all connections."""

    def __init__(self):
        self.lock = threading.Lock()
        self.auth, self.password, self.iterations = "trust", "", 4096
        self.rules, self.fired, self.seen = [], [], {}
        self.pieces, self.tls = False, ""
        self.connections, self.sockets, self.xid = 0, set(), 1000

    def rule(self, event):
        with self.lock:
            key = event[:60]
            self.seen[key] = self.seen.get(key, 0) + 1
            for i, rule in enumerate(self.rules):
                if re.search(rule["on"], event, re.S) and self.fired[i] < rule.get("count", 1 << 60):
                    self.fired[i] += 1
                    return rule
        return None

    def command(self, command):
        with self.lock:
            if "rules" in command:
                self.rules, self.fired = command["rules"], [0] * len(command["rules"])
            self.auth = command.get("auth", self.auth)
            self.password = command.get("password", self.password)
            self.iterations = command.get("iterations", self.iterations)
            self.pieces = command.get("pieces", self.pieces)
            self.tls = command.get("tls", self.tls)
            if command.get("cut"):
                for sock in list(self.sockets):
                    try:
                        sock.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass  # the client has closed it already
            if command.get("stats"):
                return {"connections": self.connections, "fired": self.fired, "seen": self.seen}
        return "ok"

    def next_xid(self):
        with self.lock:
            self.xid += 1
            return self.xid


class Closed(Exception):
    """The connection is over."""


class Connection:
    """One client, in a thread of its own."""

    def __init__(self, sock, script):
        self.sock, self.script = sock, script
        self.statements, self.portal, self.params = {}, "", []
        self.status, self.skipping, self.sent_password = b"I", False, ""
        self.hanging, self.channel, self.gathered = False, "", None

    # -- messages --

    def read(self, n):
        data = b""
        while len(data) < n:
            more = self.sock.recv(n - len(data))
            if not more:
                raise Closed
            data += more
        return data

    def put(self, data):
        if self.gathered is None:
            self.sock.sendall(data)
            return
        self.gathered += data
        if len(self.gathered) > 1 << 16:
            self.sock.sendall(self.gathered)
            self.gathered = bytearray()

    def send(self, kind, body=b""):
        self.put(kind + struct.pack("!i", len(body) + 4) + body)

    def message(self):
        kind = self.read(1)
        (length,) = struct.unpack("!i", self.read(4))
        return kind, self.read(length - 4)

    def fields(self, kind, severity, sqlstate, text):
        text = text.replace("{password}", self.sent_password)
        body = b"".join(k + v.encode() + b"\0" for k, v in
                        ((b"S", severity), (b"V", severity), (b"C", sqlstate), (b"M", text)))
        self.send(kind, body + b"\0")

    def columns(self, names, binary=False):
        body = struct.pack("!h", len(names))
        for name in names:
            body += name.encode() + b"\0" + struct.pack("!ihihih", 0, 0, 25, -1, -1, int(binary))
        self.send(b"T", body)

    def value(self, value):
        if value is None or isinstance(value, bytes):
            return value
        if not isinstance(value, dict):
            return str(value).encode()
        ((kind, data),) = value.items()
        if kind == "hex":
            return bytes.fromhex(data)
        if kind == "bytes":
            return b"x" * data
        if kind == "job":
            return int(re.sub(rb"\D", b"", self.params[3].split(b",")[0])).to_bytes(8, "big")
        return int(data).to_bytes(int(kind[1:]), "big", signed=int(data) < 0)

    def row(self, values):
        parts = [struct.pack("!h", len(values))]
        for value in values:
            data = self.value(value)
            parts += [struct.pack("!i", -1)] if data is None else [struct.pack("!i", len(data)), data]
        self.send(b"D", b"".join(parts))

    def complete(self, tag):
        self.send(b"C", tag.encode() + b"\0")

    # -- actions --

    def act(self, action):
        name, *args = [action] if isinstance(action, str) else action
        if name in ("copyin", "copyout", "copyboth"):
            kind = {"copyin": b"G", "copyout": b"H", "copyboth": b"W"}[name]
            self.send(kind, struct.pack("!bh", 0, 1) + struct.pack("!h", 0))
        elif name == "copydata":
            self.send(b"d", args[0].encode())
        elif name == "copydone":
            self.send(b"c")
        elif name == "ready":
            self.send(b"Z", self.status)
        elif name == "nodata":
            self.send(b"n")
        elif name == "empty":
            self.send(b"I")
        elif name == "complete":
            self.complete(args[0])
        elif name == "columns":
            self.columns(args[0])
        elif name == "row":
            self.row(args[0])
        elif name in ("error", "fatal"):
            self.fields(b"E", name.upper(), args[0], args[1])
            self.skipping = True
        elif name == "notice":
            self.fields(b"N", "NOTICE", args[0], args[1])
        elif name == "raw":
            self.put(bytes.fromhex(args[0]))
        elif name == "times":
            self.gathered = bytearray()
            for i in range(args[0]):
                if args[1][0] == "count":
                    self.row(args[1][1][:-1] + [{"i4": i + 1}])
                else:
                    self.act(args[1])
            self.sock.sendall(self.gathered)
            self.gathered = None
        elif name == "notify":
            self.send(b"A", struct.pack("!i", 4242) + self.channel.encode() + b"\0" + args[0].encode() + b"\0")
        elif name == "hang":
            self.hanging = True
        elif name == "close":
            raise Closed
        else:
            raise ValueError(name)

    def scripted(self, event):
        """Sends what a rule says; true: that was all."""
        rule = self.script.rule(event)
        if rule is None:
            return False
        for action in rule["send"]:
            self.act(action)
        return rule.get("then") != "default"

    # -- login --

    def startup(self):
        while True:
            (length,) = struct.unpack("!i", self.read(4))
            body = self.read(length - 4)
            (code,) = struct.unpack("!i", body[:4])
            if code == SSL_REQUEST and self.script.tls:
                self.sock.sendall(b"S")
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(self.script.tls)
                with self.script.lock:
                    self.script.sockets.discard(self.sock)
                    self.sock = context.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)
                    self.script.sockets.add(self.sock)
                self.sock.do_handshake()
                continue
            if code in (SSL_REQUEST, GSS_REQUEST):
                self.sock.sendall(b"N")
                continue
            if code == CANCEL_REQUEST:
                raise Closed
            return

    def login(self):
        self.startup()
        if self.scripted("startup"):
            return
        if self.script.auth == "cleartext":
            self.send(b"R", struct.pack("!i", 3))
            self.sent_password = self.message()[1].rstrip(b"\0").decode("utf-8", "surrogateescape")
        elif self.script.auth == "scram":
            self.sent_password = self.script.password
            self.scram()
        if self.sent_password != "" and self.scripted("password"):
            return
        self.send(b"R", struct.pack("!i", 0))
        if self.scripted("login"):
            return
        for name, value in (("server_version", "15.99"), ("client_encoding", "UTF8"),
                            ("standard_conforming_strings", "on"), ("integer_datetimes", "on")):
            self.send(b"S", name.encode() + b"\0" + value.encode() + b"\0")
        self.send(b"K", struct.pack("!ii", 4242, 1))
        self.send(b"Z", self.status)

    def scram(self):
        request = struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0"
        early = self.script.pieces == "early"
        begin = b"R" + struct.pack("!i", 250) + struct.pack("!i", 11) + b"r="
        self.sock.sendall(b"R" + struct.pack("!i", len(request) + 4) + request + (begin if early else b""))
        first = self.message()[1].split(b"\0", 1)[1][4:].split(b",", 2)[2]  # client-first-bare
        nonce = dict(part.split(b"=", 1) for part in first.split(b","))[b"r"] + b"fake"
        salt = os.urandom(16)
        answer = b"r=" + nonce + b",s=" + base64.b64encode(salt) + b",i=%d" % self.script.iterations
        if early: # of the length that was announced
            answer = answer.replace(b"fake", b"fake" + b"x" * (250 - 8 - len(answer)))
            self.sock.sendall(answer[2:])
        elif self.script.pieces:
            for byte in b"R" + struct.pack("!ii", len(answer) + 8, 11) + answer:
                self.sock.sendall(bytes([byte]))
                time.sleep(0.001)
        else:
            self.send(b"R", struct.pack("!i", 11) + answer)
        final = self.message()[1].rsplit(b",p=", 1)[0]
        salted = hashlib.pbkdf2_hmac("sha256", self.script.password.encode(), salt, self.script.iterations)
        key = hmac.digest(salted, b"Server Key", "sha256")
        proof = hmac.digest(key, first + b"," + answer + b"," + final, "sha256")
        self.send(b"R", struct.pack("!i", 12) + b"v=" + base64.b64encode(proof))

    # -- statements --

    def result(self, sql):
        """Columns, rows and tag of the usual answer."""
        word = (re.match(r"\s*(\w+)", sql) or [None, "SELECT"])[1].upper()
        if word == "BEGIN":
            self.status = b"T"
        elif word in ("COMMIT", "ROLLBACK"):
            self.status = b"I"
        if "pg_current_xact_id" in sql:
            xid = [self.script.next_xid()]
            return (["params", "xid"], [["{}"] + xid], "SELECT 1") if "set_config" in sql else (["xid"], [xid], "SELECT 1")
        if "pg_xact_status" in sql:
            return ["status"], [["aborted"]], "SELECT 1"
        if "count(pg_catalog.pg_terminate_backend" in sql:
            return ["count"], [["0"]], "SELECT 1"
        if "pg_walfile_name" in sql:
            return ["timeline"], [["00000001"]], "SELECT 1"
        if "agent_hello" in sql:
            return (["protocol", "version", "instance", "system_identifier", "timeline"],
                    [[struct.pack("!i", int(self.params[0])), b"0.2.0", b"f" * 16, struct.pack("!q", 7), struct.pack("!i", 1)]],
                    "SELECT 1")
        return None, [], {"SELECT": "SELECT 0", "INSERT": "INSERT 0 0"}.get(word, word)

    def answer(self, sql, described):
        columns, rows, tag = self.result(sql)
        if columns and not described:
            self.columns(columns)
        for row in rows:
            self.row(row)
        self.complete(tag)

    def bind(self, body):
        _, name, rest = body.split(b"\0", 2)
        (formats,) = struct.unpack("!h", rest[:2])
        at = 2 + 2 * formats
        (count,) = struct.unpack("!h", rest[at:at + 2])
        at += 2
        self.params = []
        for _ in range(count):
            (length,) = struct.unpack("!i", rest[at:at + 4])
            at += 4
            self.params.append(None if length < 0 else rest[at:at + length])
            at += max(length, 0)
        self.portal = self.statements.get(name, "")
        self.send(b"2")

    def extended(self, kind, body):
        if kind == b"P":
            name, sql = body.split(b"\0")[:2]
            self.statements[name] = sql.decode("utf-8", "replace")
            if not self.scripted("parse " + self.statements[name]):
                self.send(b"1")
        elif kind == b"B":
            self.bind(body)
        elif kind == b"D":
            columns = self.result(self.portal)[0] if body[:1] == b"P" else None
            call = re.search(r"fleet_link\.agent_(start|resume|fetch)\(", self.portal)
            if call and body[:1] == b"P" and self.script.rules:
                self.columns(["c%d" % i for i in range({"start": 6, "resume": 4, "fetch": 20}[call[1]])], True)
            elif columns:
                self.columns(columns, "agent_hello" in self.portal)
            else:
                self.send(b"n")
        elif kind == b"E":
            if not self.scripted("execute " + self.portal + self.arguments()):
                self.answer(self.portal, True)

    def arguments(self):
        if self.portal.startswith("LISTEN "):
            self.channel = self.portal[7:].strip('"')
        if "fleet_link.agent_" not in self.portal:
            return ""
        return "".join("/" + p.decode("utf-8", "replace") for p in self.params if p is not None)

    def serve(self):
        self.login()
        while True:
            kind, body = self.message()
            if kind == b"X":
                return
            if self.hanging:
                continue
            if kind == b"S":
                self.skipping = False
                if not self.scripted("sync"):
                    self.send(b"Z", self.status)
            elif kind == b"Q":
                self.skipping = False
                sql = body.rstrip(b"\0").decode("utf-8", "replace")
                if not self.scripted("query " + sql):
                    self.answer(sql, False)
                    self.send(b"Z", self.status)
            elif kind in (b"f", b"c"):
                if not self.scripted("copyfail" if kind == b"f" else "copydone"):
                    self.fields(b"E", "ERROR", "57014", "COPY from stdin failed")
                    self.send(b"Z", self.status)
            elif kind in b"PBDE" and not self.skipping:
                self.extended(kind, body)


def client(sock, script):
    with script.lock:
        script.connections += 1
        script.sockets.add(sock)
    connection = Connection(sock, script)
    try:
        connection.serve()
    except (Closed, OSError, ssl.SSLError):
        pass
    finally:
        with script.lock:
            script.sockets.discard(connection.sock)
        connection.sock.close()


def accept(listener, script):
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=client, args=(sock, script), daemon=True).start()


def main():
    if sys.argv[1:] != ["serve"]:
        sys.exit(__doc__)
    script = Script()
    listener = socket.create_server(("127.0.0.1", 0))
    print("port=%d" % listener.getsockname()[1], flush=True)
    threading.Thread(target=accept, args=(listener, script), daemon=True).start()
    for line in sys.stdin:
        print(json.dumps(script.command(json.loads(line))), flush=True)


main()
