#!/usr/bin/python3
"""Tests of proxy.py itself, in TAP: a server that echoes, frames of PostgreSQL's form, no PostgreSQL."""

import json
import os
import socket
import struct
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
count = 0
bad = 0


def check(condition, name):
    global count, bad
    count += 1
    bad += 0 if condition else 1
    print(f"{'ok' if condition else 'not ok'} {count} - {name}", flush=True)


def startup(code=196608):
    return struct.pack("!II", 8, code)


def message(kind, text):
    return kind + struct.pack("!I", len(text) + 4) + text


class Server:
    """Echoes; remembers what it got and how each connection ended."""

    def __init__(self):
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.got = bytearray()
        self.ends = []
        self.changed = threading.Condition()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            conn, _ = self.sock.accept()
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        end = "eof"
        try:
            while data := conn.recv(65536):
                with self.changed:
                    self.got += data
                    self.changed.notify_all()
                if data[:8] == startup(80877103):
                    conn.sendall(b"N" + data[8:])
                else:
                    conn.sendall(data.removeprefix(startup()))
        except OSError as error:
            end = type(error).__name__
        with self.changed:
            self.ends.append(end)
            self.changed.notify_all()
        if end == "eof":
            conn.sendall(message(b"Z", b"after the end"))
        conn.close()

    def saw(self, text, seconds=5):
        with self.changed:
            return self.changed.wait_for(lambda: text in self.got, seconds)

    def ended(self, n, seconds=5):
        with self.changed:
            self.changed.wait_for(lambda: len(self.ends) >= n, seconds)
            return len(self.ends) >= n


def main():
    server = Server()
    proxy = subprocess.Popen(
        [sys.executable, os.path.join(HERE, "proxy.py"), "serve", "0", f"a=0:127.0.0.1:{server.port}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    ports = dict(word.split("=") for word in proxy.stdout.readline().split())
    control = socket.create_connection(("127.0.0.1", int(ports["control"])))
    answers = control.makefile()

    def ctl(*words):
        control.sendall(" ".join(words).encode() + b"\n")
        return answers.readline().strip()

    def status():
        return json.loads(ctl("status", "a"))[0]

    def connect():
        sock = socket.create_connection(("127.0.0.1", int(ports["a"])))
        sock.settimeout(5)
        sock.sendall(startup())
        return sock

    def receive(sock, n):
        data = b""
        while len(data) < n:
            piece = sock.recv(n - len(data))
            if not piece:
                break
            data += piece
        return data

    def is_reset(sock):
        try:
            sock.recv(1)
            return False
        except ConnectionResetError:
            return True

    # plain forwarding, in pieces
    s = connect()
    hello = message(b"Q", b"hello")
    s.sendall(hello[:3])
    s.sendall(hello[3:])
    check(receive(s, len(hello)) == hello, "a message sent in two pieces comes back")
    big = message(b"Q", b"x" * 300000)
    threading.Thread(target=s.sendall, args=(big,)).start()
    check(receive(s, len(big)) == big, "300 kB come back")
    check(status()["connections"] == 1 and status()["bytes"]["c2s"] > 300000, "status counts")

    # before
    ctl("on", "a", "c2s", "before", r"^QCOMMIT")
    s.sendall(message(b"Q", b"one") + message(b"Q", b"COMMIT") + message(b"Q", b"two"))
    check(ctl("wait", "a", "0.2") == "error: no rule fired", "an anchored pattern sees the type and length bytes")
    receive(s, len(message(b"Q", b"one") + message(b"Q", b"COMMIT") + message(b"Q", b"two")))
    ctl("allow", "a")
    server.got.clear()
    ctl("on", "a", "c2s", "before", r"^Q.{4}COMMIT")
    s.sendall(message(b"Q", b"one") + message(b"Q", b"COMMIT") + message(b"Q", b"two"))
    check(ctl("wait", "a", "5") == "ok", "the rule fired")
    receive_ok = True
    try:
        receive(s, len(message(b"Q", b"one")))
        receive_ok = is_reset(s)
    except ConnectionResetError:
        pass
    check(receive_ok, "killed before: the client is reset")
    server.ended(1)
    check(b"COMMIT" not in server.got and b"two" not in server.got, "killed before: it never arrived")

    # after
    ctl("allow", "a")
    server.got.clear()
    s = connect()
    ctl("on", "a", "c2s", "after", "COMMIT")
    s.sendall(message(b"Q", b"COMMIT") + message(b"Q", b"two"))
    check(ctl("wait", "a", "5") == "ok" and is_reset(s), "killed after: the client is reset")
    check(server.saw(b"COMMIT") and b"two" not in server.got, "killed after: just that message arrived")

    # the answer is cut off
    ctl("allow", "a")
    server.got.clear()
    s = connect()
    ctl("on", "a", "s2c", "before", "COMMIT")
    s.sendall(message(b"Q", b"COMMIT"))
    check(is_reset(s) and server.saw(b"COMMIT"), "answer cut: it arrived, the client heard nothing")

    # skip and count
    ctl("allow", "a")
    s = connect()
    ctl("on", "a", "c2s", "before", "x", "kill", "1", "2")
    for _ in range(2):
        s.sendall(message(b"Q", b"x"))
        receive(s, 6)
    check(status()["connections"] == 1, "two matches were let pass")
    s.sendall(message(b"Q", b"x"))
    check(is_reset(s), "the third was not")
    s = connect()
    s.sendall(message(b"Q", b"x"))
    check(receive(s, 6) == message(b"Q", b"x"), "and the rule is used up")

    # black hole and resume
    ctl("hole", "a")
    s.sendall(message(b"Q", b"held"))
    other = connect()
    check(not server.saw(b"held", 0.3), "black hole: nothing arrives")
    check(status()["hole"] and status()["connections"] == 2, "black hole: connections stay, new ones are accepted")
    ctl("allow", "a")
    check(server.saw(b"held") and receive(s, 9) == message(b"Q", b"held"), "resume: what was held arrives")
    other.close()

    # half-close
    ctl("half-close", "a", "c2s")
    check(receive(s, 18) == message(b"Z", b"after the end"), "half-close: the server saw an end and could still answer")
    s.close()

    # drop after N bytes
    ctl("allow", "a")
    s = connect()
    s.sendall(message(b"Q", b"abc"))
    receive(s, 8)
    server.got.clear()
    ended = len(server.ends)
    ctl("drop-after", "a", "c2s", "12")
    s.sendall(message(b"Q", b"def") + message(b"Q", b"ghi"))
    ctl("wait", "a", "5")
    try:
        receive(s, 8)
        was_reset = is_reset(s)
    except ConnectionResetError:
        was_reset = True
    server.ended(ended + 1)
    check(was_reset and len(server.got) == 12, "dropped after exactly 12 bytes")

    # refuse, kill, delay
    ctl("allow", "a")
    s = connect()
    s.sendall(message(b"Q", b"abc"))
    receive(s, 8)
    ctl("refuse", "a")
    check(is_reset(s), "refuse: the old connection is reset")
    refused = False
    try:
        s = connect()
        refused = is_reset(s)
    except (ConnectionResetError, BrokenPipeError):
        refused = True
    check(refused, "refuse: a new one too")
    ctl("allow", "a")
    ctl("delay", "a", "200")
    s = connect()
    s.sendall(message(b"Q", b"slow"))
    s.settimeout(0.1)
    early = True
    try:
        s.recv(1)
    except socket.timeout:
        early = False
    s.settimeout(5)
    check(not early and receive(s, 9) == message(b"Q", b"slow"), "delay: later, but there")
    ctl("kill", "a")
    check(is_reset(s), "kill")

    # another server behind the same address
    ctl("allow", "a")
    s = connect()
    s.sendall(message(b"Q", b"abc"))
    receive(s, 8)
    other_server = Server()
    check(ctl("target", "a", "127.0.0.1", str(other_server.port)) == "ok", "target")
    t = connect()
    t.sendall(message(b"Q", b"to the other"))
    check(other_server.saw(b"to the other"), "target: a new connection goes to the other server")
    s.sendall(message(b"Q", b"to the first"))
    check(server.saw(b"to the first") and b"to the first" not in other_server.got, "target: an old one stays where it is")
    ctl("target", "a", "127.0.0.1", str(server.port))
    ctl("kill", "a")

    # an SSL request and its one-byte answer do not upset the framing
    ctl("allow", "a")
    s = socket.create_connection(("127.0.0.1", int(ports["a"])))
    s.settimeout(5)
    s.sendall(startup(80877103))
    check(receive(s, 1) == b"N", "one-byte answer to an SSL request")
    s.sendall(startup())
    s.sendall(message(b"Q", b"hello"))
    check(receive(s, len(hello)) == hello, "frames are right after it")

    # misuse
    check(ctl("allow", "nobody").startswith("error"), "unknown route")
    check(ctl("on", "a", "c2s", "before", "(").startswith("error"), "bad pattern")
    check(ctl("nonsense", "a").startswith("error"), "unknown command")
    proxy.stdin.close()
    check(proxy.wait(5) == 0, "ends when its starter is gone")
    print(f"1..{count}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
