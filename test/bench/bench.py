#!/usr/bin/env python3
"""The benchmark: see README.md beside this file.  Called by run.sh.

usage: bench.py OUTPUT_DIRECTORY BARE_LOOP_PROGRAM TABLES_SQL
environment: BENCH (sections), ROUNDS, CHILDREN, SLOTS, KEEP, and those of CONFIG below
"""
import os
import platform
import pwd
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import traceback

import fleet as fleet_module
import peers
from clusters import SETTINGS, Farm
from pq import Connection, PgError
from report import Report, percentile

SECTIONS = ["throughput", "latency", "makespan", "scale", "rest", "overhead"]


def number(name, default):
    return int(os.environ.get(name, default))


CONFIG = {
    "ROUNDS": number("ROUNDS", 5),
    "CHILDREN": number("CHILDREN", 20000),       # a round of ours, bare loop, dblink
    "SLOTS": number("SLOTS", 8),                 # a server: ours, bare loop, dblink
    "CRON_RUNS": number("CRON_RUNS", 1000),      # what pg_cron gets a round
    "PGAGENT_JOBS": number("PGAGENT_JOBS", 200),  # what pgAgent gets a round
    "XARGS_RUNS": number("XARGS_RUNS", 500),
    "SAMPLES": number("SAMPLES", 1000),          # of latency, ours and dblink
    "PEER_SAMPLES": number("PEER_SAMPLES", 50),  # of latency, peers that wait for a clock
    "SLEEP_MS": number("SLEEP_MS", 200),         # mean of makespan's children
    "REST_SECONDS": number("REST_SECONDS", 30),
    "HISTORY": number("HISTORY", 10_000_000),    # rows
    "LARGEST": number("LARGEST", 100_000),       # children of the largest run
}
SLOT_CHOICES = [2, 4, 8, 16]


class Bench:
    def __init__(self, farm, report, program, tables):
        self.farm, self.report = farm, report
        self.rounds, self.slots, self.children = CONFIG["ROUNDS"], CONFIG["SLOTS"], CONFIG["CHILDREN"]
        self.bare = peers.BareLoop(farm, program, tables)
        self.dblink, self.xargs = peers.Dblink(farm), peers.Xargs(farm)
        self.cron = self.optional("pg_cron", peers.Cron)
        self.pgagent = self.optional("pgAgent", peers.PgAgent)
        self.fleet = None
        if fleet_module.Fleet.available(farm):
            self.fleet = self.optional("pg_fleet", lambda f: fleet_module.Fleet(f, self.slots))
        self.groups = ["direct", "agent"] if self.fleet else []
        for name, peer in (("pg_fleet", self.fleet), ("pg_cron", self.cron), ("pgAgent", self.pgagent)):
            report.facts[name] = peer.version if peer else "not here"

    def optional(self, name, make):
        """A competitor that cannot be set up is left out, with the reason."""
        try:
            return make(self.farm)
        except (PgError, OSError, RuntimeError, subprocess.CalledProcessError) as error:
            traceback.print_exc()
            self.report.facts[f"{name}: not measured"] = str(error).splitlines()[0]
            return None

    def attempt(self, values, what, function):
        """One measurement of a round; a failure is told and costs only itself."""
        try:
            values.setdefault(what, []).append(function())
        except (PgError, OSError, RuntimeError, ZeroDivisionError, TypeError, subprocess.CalledProcessError) as error:
            print(f"  {what}: {error}", flush=True)
            values.setdefault(what, []).append(None)

    def fleet_rate(self, group, children, job="noop"):
        start = time.monotonic()
        self.fleet.wait(self.fleet.start(f"{job}_{group}", n=children))
        return children / (time.monotonic() - start)

    # ---- 1. throughput ----

    def throughput(self):
        values, took, section = {}, {}, "throughput"

        def counted(name, pair):
            rate, count = pair
            took.setdefault(name, []).append(count)
            return rate

        n = CONFIG["CRON_RUNS"]
        for group in self.groups:  # the bare loop's clock starts when it is connected: so does ours
            self.fleet_rate(group, 1000)
        for _ in range(self.rounds):
            self.attempt(values, "bare", lambda: self.bare.run(self.children, self.slots))
            for group in self.groups:
                self.attempt(values, group, lambda g=group: self.fleet_rate(g, self.children))
            if self.fleet:
                self.attempt(values, "direct clean", lambda: self.fleet_rate("direct", self.children, "clean"))
            self.attempt(values, "service", lambda: self.bare.run(self.children, self.slots, service=True))
            self.attempt(values, "dblink", lambda: self.dblink.run(self.children, self.slots))
            self.attempt(values, "xargs", lambda: self.xargs.run(CONFIG["XARGS_RUNS"], 8))
            if self.cron:
                self.attempt(values, "cron", lambda: counted("cron", self.cron.run(n, workers=False)))
                self.attempt(values, "cronbgw", lambda: counted("cronbgw", self.cron.run(n // 2, workers=True)))
            if self.pgagent:
                self.attempt(values, "pgagent", lambda: counted("pgagent", self.pgagent.run(CONFIG["PGAGENT_JOBS"])))
        self.report.add(section, "bare loop (the limit)", "children/s", values["bare"], f"{self.slots} sessions a server")
        self.report.add(section, "bare loop with a job's service", "children/s", values["service"],
                        "it also resets the session, hands over parameters, and sends the command as text")
        ours = [(g, f"pg_fleet {g}") for g in self.groups]
        if self.fleet:
            ours.insert(1, ("direct clean", "pg_fleet direct, leaves_clean"))
        for which, ours_name in ours:
            self.report.add(section, ours_name, "children/s", values[which], f"{self.slots} slots a server")
            for key, name in (("bare", "bare loop"), ("service", "bare loop with a job's service")):
                pairs = [a / b for a, b in zip(values[which], values[key]) if a and b]
                self.report.add(section, f"{ours_name} / {name}", "", pairs, "round by round")
        self.report.add(section, "dblink by hand", "children/s", values["dblink"], "nothing durable")
        self.report.add(section, "psql, xargs -P 8", "children/s", values["xargs"], f"{CONFIG['XARGS_RUNS']} children, nothing durable")
        for key, name, given in (("cron", "pg_cron, connections to 4 servers", n),
                                 ("cronbgw", "pg_cron, background workers, 1 server", n // 2),
                                 ("pgagent", "pgAgent", CONFIG["PGAGENT_JOBS"])):
            if key in values:
                self.report.add(section, name, "children/s", values[key],
                                f"took {min(took.get(key, [0]))} of {given} given at once")
        best = [b for b in (statistics.median([v for v in values[k] if v] or [0]) for k in ("cron", "cronbgw", "pgagent") if k in values) if b]
        for which, ours_name in ours:
            good = [v for v in values[which] if v]
            if best and good:
                self.report.add(section, f"{ours_name} over the faster of pg_cron, pgAgent", "times", [v / max(best) for v in good])

    def slot_table(self):
        """Not part of the default run: which number of sessions is best for the bare loop, for ours."""
        for slots in SLOT_CHOICES:
            self.report.add("slots", f"bare loop, {slots} a server", "children/s",
                            [self.bare.run(self.children, slots) for _ in range(self.rounds)])
            if self.fleet:
                for group in self.groups:
                    for i in range(1, len(self.farm.servers) + 1):
                        self.fleet.conn.execute("SELECT fleet.alter_server($1, slots => $2)", f"{group}{i}", slots)
                    self.report.add("slots", f"pg_fleet {group}, {slots} a server", "children/s",
                                    [self.fleet_rate(group, self.children) for _ in range(self.rounds)])

    # ---- 2. latency ----

    def one_by_one(self, group, tag, first, samples):
        """Our child, one at a time: (before COMMIT was sent, after wait_for_run returned)."""
        sent, ends = {}, {}
        for k in range(first, first + samples):
            self.fleet.conn.execute("BEGIN")
            run = self.fleet.start(f"witness_{group}", tag=tag, id=k)
            sent[k] = time.time()
            self.fleet.conn.execute("COMMIT")
            self.fleet.wait(run)
            ends[k] = time.time()
        return sent, ends

    def latency_lines(self, name, blocks, note=""):
        """blocks: (starts, tails) in ms, one a round."""
        for what, column in (("commit to first statement", 0), ("last statement to final state", 1)):
            for share in (0.5, 0.99):
                self.report.add("latency", f"{name}: {what}, p{int(share * 100)}", "ms",
                                [percentile(b[column], share) for b in blocks if b[column]],
                                f"{sum(len(b[column]) for b in blocks)} samples{note}")

    def latency_blocks(self, suffix, load):
        """Our two modes and the two hand-made ways, in turns."""
        ways = {}
        for group in self.groups:
            ways[f"pg_fleet {group}"] = lambda tag, first, n, g=group: self.one_by_one(g, tag, first, n)
        ways["dblink by hand"] = lambda tag, first, n: self.dblink.latency(tag, first, n, self.slots)
        ways["psql a child"] = lambda tag, first, n: self.xargs.latency(tag, first, max(10, n // 10))
        per_block = max(1, CONFIG["SAMPLES"] // self.rounds)
        blocks = {name: [] for name in ways}
        for r in range(self.rounds):
            for name, way in ways.items():
                tag = f"{name}{suffix}"
                runs = []
                try:
                    if load and self.fleet:
                        group = "agent" if name.endswith("agent") else "direct"
                        runs.append(self.fleet.start(f"load_{group}", n=20_000, s=0.01))
                        time.sleep(0.3)  # the load is running, whatever it is doing
                    sent, ends = way(tag, r * per_block, per_block)
                    starts, tails = peers._witnessed(self.farm, tag, sent, ends)
                    blocks[name].append((starts, tails))
                except (PgError, RuntimeError, OSError) as error:
                    print(f"  {name}: {error}", flush=True)
                finally:
                    for run in runs:
                        self.fleet.cancel(run)
                self.clear_witness()
        for name in ways:
            self.latency_lines(name + suffix, blocks[name])

    def clear_witness(self):
        for server in self.farm.servers:
            conn = server.connect()
            conn.execute("TRUNCATE public.witness")
            conn.close()

    def latency_peers(self, suffix, load):
        """pg_cron and pgAgent wait for clocks, so both share the minute."""
        results = {}

        def measure(name, peer, extra):
            try:
                results[name] = peer.latency(name + suffix, CONFIG["PEER_SAMPLES"], extra)
            except (PgError, RuntimeError, OSError, subprocess.CalledProcessError) as error:
                print(f"  {name}: {error}", flush=True)

        threads = []
        if self.cron:
            threads.append(threading.Thread(target=measure, args=("pg_cron", self.cron, 300 if load else 0)))
        if self.pgagent:
            threads.append(threading.Thread(target=measure, args=("pgAgent", self.pgagent, 20 if load else 0)))
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for name, pair in sorted(results.items()):
            self.latency_lines(name + suffix, [pair])
        self.clear_witness()

    def latency(self):
        for suffix, load in (("", False), (" (under load)", True)):
            if not load or self.fleet:
                self.latency_blocks(suffix, load)
            self.latency_peers(suffix, load)

    # ---- 3. makespan ----

    @staticmethod
    def lower_bound(durations, slots):
        """No schedule is shorter: all slots full, the longest child, the (slots+1) longest on slots."""
        longest = sorted(durations, reverse=True)
        bound = max(sum(durations) / slots, longest[0])
        if len(longest) > slots:
            bound = max(bound, longest[slots - 1] + longest[slots])
        return bound

    def sleep_run(self, package, durations):
        items = [{"s": d} for d in durations]
        start = time.monotonic()
        self.fleet.wait(self.fleet.start(package, n=len(items), items=items))
        return time.monotonic() - start

    def makespan(self):
        section, count, slots = "makespan", 60, 2 * len(self.farm.servers)
        mean = CONFIG["SLEEP_MS"] / 1000
        lists = []
        for r in range(self.rounds):
            dice = random.Random(1000 + r)
            raw = [dice.lognormvariate(0, 1) for _ in range(count)]
            lists.append([round(max(0.001, d * mean * count / sum(raw)), 4) for d in raw])
        bounds = [self.lower_bound(d, slots) for d in lists]
        values = {}
        pool = peers.Pool([s.conninfo() for s in self.farm.servers for _ in range(2)])
        owner = [i // 2 for i in range(slots)]
        n = len(self.farm.servers)
        for r, durations in enumerate(lists):
            commands = [f"SELECT pg_sleep({d})" for d in durations]
            self.attempt(values, "lists", lambda: pool.run([commands[i::n] for i in range(n)], owner) / bounds[r])
            self.attempt(values, "fixed", lambda: pool.run([commands[i::slots] for i in range(slots)], range(slots)) / bounds[r])
            self.attempt(values, "first free", lambda: pool.run([commands], [0] * slots) / bounds[r])
            if not self.fleet:
                continue
            package = f"sleep_{r}"
            self.fleet.package(package, "sleep", "pair4")
            self.attempt(values, "first", lambda: self.sleep_run(package, durations) / bounds[r])
            for _ in range(4):
                self.attempt({}, "learning", lambda: self.sleep_run(package, durations))
            self.attempt(values, "learned", lambda: self.sleep_run(package, durations) / bounds[r])
        pool.close()
        self.serial(values, lists, bounds)
        for key, name, note in (("first", "pg_fleet direct, first run", "nothing known"),
                                ("learned", "pg_fleet direct, after 5 runs", ""),
                                ("lists", "a list a server by hand", "dealt in turn, 2 sessions a server"),
                                ("fixed", "a list a session by hand", "dealt in turn, as balancing by hand does"),
                                ("first free", "one queue by hand, first free session", ""),
                                ("serial", "one after the other", "as pg_timetable's chains")):
            if key in values:
                self.report.add(section, name, "of lower bound", values[key], note)
        if self.fleet:
            self.linear()

    def serial(self, values, lists, bounds):
        """Sleeping costs no processor, so the rounds run side by side, each on a session of its own."""
        results = [None] * len(lists)

        def one(r):
            pool = peers.Pool([self.farm.servers[r % len(self.farm.servers)].conninfo()])
            results[r] = pool.run([[f"SELECT pg_sleep({d})" for d in lists[r]]], [0]) / bounds[r]
            pool.close()

        threads = [threading.Thread(target=one, args=(r,)) for r in range(len(lists))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        values["serial"] = results

    def linear(self):
        """160 equal children, servers of 2 slots: 1, 2, 4, 8 of them (two a cluster)."""
        for size in (1, 2, 4, 8):
            for i in range(size):
                self.fleet.add_server(f"linear{size}_{i}", self.farm.servers[i % len(self.farm.servers)], "direct", 2, f"linear{size}")
            self.fleet.package(f"linear{size}", "sleep", f"linear{size}")
            self.sleep_run(f"linear{size}", [0.001] * size * 4)  # connections are open
        times = {}
        for _ in range(self.rounds):
            for size in (1, 2, 4, 8):
                self.attempt(times, size, lambda s=size: self.sleep_run(f"linear{s}", [0.1] * 160))
        for size in (2, 4, 8):
            self.report.add("makespan", f"{size} servers: share of linear", "", [
                a / (size * b) for a, b in zip(times[1], times[size]) if a and b], "160 equal children, 2 slots a server")

    # ---- 4. scale ----

    def watched_run(self, pid, start):
        """Runs it; returns (seconds, seconds of the start itself, WAL bytes, most private KiB over before)."""
        before, peak, over = fleet_module.private_kib(pid), [0], threading.Event()

        def watch():
            while not over.wait(0.05):
                peak[0] = max(peak[0], fleet_module.private_kib(pid))

        thread = threading.Thread(target=watch)
        thread.start()
        wal, begin = self.fleet.wal(), time.monotonic()
        try:
            runs = start()
            started = time.monotonic() - begin
            for run in runs:
                self.fleet.wait(run)
            seconds = time.monotonic() - begin
        finally:
            over.set()
            thread.join()
        return seconds, started, self.fleet.wal() - wal, max(0, peak[0] - before)

    def measured_runs(self, label, children, start, rounds):
        results = []
        for _ in range(rounds):
            try:
                results.append(self.watched_run(self.fleet.agent_pid(), start))
            except (PgError, RuntimeError, OSError) as error:
                print(f"  {label}: {error}", flush=True)
        add = lambda what, unit, f: self.report.add("scale", f"{label}: {what}", unit, [f(r) for r in results])
        add("throughput", "children/s", lambda r: children / r[0])
        add("run_parent_package", "ms", lambda r: r[1] * 1000)
        add("WAL at the parent", "bytes/child", lambda r: r[2] / children)
        add("agent's memory over before", "MiB", lambda r: r[3] / 1024)

    def scale(self):
        if not self.fleet:
            return self.report.skip("scale", "pg_fleet", "not installed")
        for group in self.groups:
            for children in (1000, 10_000, CONFIG["LARGEST"]):
                if group == "agent" and children > 10_000:
                    continue
                self.measured_runs(f"{children:,} children, {group}", children,
                                   lambda g=group, n=children: [self.fleet.start(f"noop_{g}", n=n)],
                                   1 if children > 10_000 else self.rounds)
        for size in (10, 100, 500):
            self.many_servers(size)
            self.report.add("scale", f"{size} servers of 1 slot, first run (opens the connections)", "children/s",
                            [self.package_rate(f"many{size}", 5000)])
            self.measured_runs(f"{size} servers of 1 slot", 5000,
                               lambda s=size: [self.fleet.start(f"many{s}", n=5000)], self.rounds)
        for packages in (1, 10, 100):
            self.measured_runs(f"{packages} packages at once", 10_000, lambda p=packages: self.together(p, 10_000 // p),
                               self.rounds)

    def package_rate(self, package, children):
        start = time.monotonic()
        self.fleet.wait(self.fleet.start(package, n=children))
        return children / (time.monotonic() - start)

    def many_servers(self, size):
        """Servers in name: many registrations of the four databases, each with connections of its own."""
        self.fleet.conn.execute("BEGIN")
        for i in range(size):
            self.fleet.add_server(f"many{size}_{i}", self.farm.servers[i % len(self.farm.servers)], "direct", 1, f"many{size}")
        self.fleet.package(f"many{size}", "noop", f"many{size}")
        self.fleet.conn.execute("COMMIT")

    def together(self, packages, children):
        self.fleet.conn.execute("BEGIN")
        runs = [self.fleet.start("noop_direct", n=children) for _ in range(packages)]
        self.fleet.conn.execute("COMMIT")
        return runs

    # ---- 5. rest ----

    def rest(self):
        if not self.fleet:
            return self.report.skip("rest", "pg_fleet", "not installed")
        if "many500_0" not in self.fleet.registered:
            self.many_servers(500)
        self.fleet_rate("direct", 100)
        self.fleet_rate("agent", 100)
        time.sleep(2)  # what is due after a run is done
        pids = {"parent's agent, 500 more servers": self.fleet.agent_pid(),
                "an agent of a server": self.fleet.agent_pid(self.farm.servers[0])}
        before = {name: fleet_module.process_cost(pid) for name, pid in pids.items() if pid}
        time.sleep(CONFIG["REST_SECONDS"])
        for name, (cpu, switches) in before.items():
            cpu2, switches2 = fleet_module.process_cost(pids[name])
            self.report.add("rest", f"{name}: wake-ups", "/s", [(switches2 - switches) / CONFIG["REST_SECONDS"]],
                            f"{CONFIG['REST_SECONDS']} s, nothing due")
            self.report.add("rest", f"{name}: processor", "ms/s", [(cpu2 - cpu) * 1000 / CONFIG["REST_SECONDS"]])
        self.history()

    def history_round(self, values):
        children = self.children // 2
        self.attempt(values, "bare", lambda: self.bare.run(children, self.slots))
        for group in self.groups:
            self.attempt(values, group, lambda g=group: self.fleet_rate(g, children))
            tag = f"history {group}"
            self.attempt(values, f"latency {group}", lambda g=group: percentile(peers._witnessed(
                self.farm, tag, *self.one_by_one(g, tag, len(values[g]) * 1000, 100))[0], 0.5))
            self.clear_witness()

    def history(self):
        old, new = {}, {}
        for _ in range(self.rounds):
            self.history_round(old)
        begin = time.monotonic()
        rows = self.fleet.fill_history(CONFIG["HISTORY"])
        note = f"{rows:,} rows of history, made in {time.monotonic() - begin:.0f} s"
        for _ in range(self.rounds):
            self.history_round(new)
        for group in self.groups:
            self.report.add("rest", f"{group}: before the history", "children/s", old[group])
            self.report.add("rest", f"{group}: with history", "children/s", new[group], note)
            self.report.add("rest", f"{group}: latency p50 before the history", "ms", old[f"latency {group}"])
            self.report.add("rest", f"{group}: latency p50 with history", "ms", new[f"latency {group}"])
        self.report.add("rest", "bare loop before the history", "children/s", old["bare"], "what the machine itself changed meanwhile")
        self.report.add("rest", "bare loop with history", "children/s", new["bare"])

    # ---- 6. overhead ----

    def overhead(self):
        """Children that really work: each 500 of pgbench's transactions in one call.  The same calls
        over plain sessions, as many as we have slots, are the work without us."""
        count, each = 200, 500
        # The same role as ours: a superuser's statements skip the checks of privileges.
        role = f"{fleet_module.LINK_ROLE} password=bench" if self.fleet else "postgres"
        pool = peers.Pool([s.conninfo(user=role) for s in self.farm.servers for _ in range(self.slots)])
        calls = [f"SELECT public.work({i}, {each})" for i in range(1, count + 1)]
        owner = [0] * (len(self.farm.servers) * self.slots)
        values = {}
        pool.run([calls], owner)
        for _ in range(self.rounds):
            self.clear_work()
            self.attempt(values, "alone", lambda: pool.run([calls], owner))
            for group in self.groups:
                self.clear_work()
                self.attempt(values, group, lambda g=group: self.work_run(f"work_{g}", count, each))
            if self.fleet:
                self.clear_work()
                self.attempt(values, "direct, leaves_clean", lambda: self.work_run("clean_work_direct", count, each))
        pool.close()
        self.report.add("overhead", "the work alone", "ms/child", [v * 1000 / count for v in values["alone"] if v],
                        f"{count} children of {each} TPC-B-like transactions")
        for which in [w for w in values if w != "alone"]:
            self.report.add("overhead", f"pg_fleet {which}: share of time that is ours", "%", [
                100 * (a - b) / a for a, b in zip(values[which], values["alone"]) if a and b])

    def clear_work(self):
        """Else whoever comes later works on rows with more dead versions."""
        for server in self.farm.servers:
            conn = server.connect()
            conn.execute("TRUNCATE public.history")
            for table in ("branches", "tellers", "accounts"):
                conn.execute(f"VACUUM public.{table}")
            conn.close()

    def work_run(self, package, count, each):
        start = time.monotonic()
        self.fleet.wait(self.fleet.start(package, n=count, items=[{"n": each}] * count))
        return time.monotonic() - start


WORK = """
CREATE TABLE public.witness (tag text, id int, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE public.branches (bid int PRIMARY KEY, balance int DEFAULT 0, filler text DEFAULT repeat('x', 80)) WITH (fillfactor = 50);
CREATE TABLE public.tellers (tid int PRIMARY KEY, balance int DEFAULT 0, filler text DEFAULT repeat('x', 80)) WITH (fillfactor = 50);
CREATE TABLE public.accounts (aid int PRIMARY KEY, balance int DEFAULT 0, filler text DEFAULT repeat('x', 80)) WITH (fillfactor = 90);
CREATE TABLE public.history (tid int, bid int, aid int, delta int, at timestamptz DEFAULT now());
INSERT INTO public.branches SELECT g FROM generate_series(0, 511) g;
INSERT INTO public.tellers SELECT g FROM generate_series(0, 5119) g;
INSERT INTO public.accounts SELECT g FROM generate_series(0, 102399) g;
-- Children that run at the same time have branches of their own: this measures us, not row locks.
CREATE FUNCTION public.work(child int, n int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    b int := child % 512;
    a int;
BEGIN
    FOR k IN 1 .. n LOOP
        a := b * 200 + (k * 37 + child) % 200;
        UPDATE public.accounts SET balance = balance + k WHERE aid = a;
        PERFORM balance FROM public.accounts WHERE aid = a;
        UPDATE public.tellers SET balance = balance + k WHERE tid = b * 10 + k % 10;
        UPDATE public.branches SET balance = balance + k WHERE bid = b;
        INSERT INTO public.history (tid, bid, aid, delta) VALUES (b * 10 + k % 10, b, a, k);
    END LOOP;
    RETURN n;
END $$;
"""


def tables_of(path):
    """The bare loop's tables: ours, from the install script, in a schema of its own."""
    text = open(path).read()
    names = "task_run|step_run"
    found = re.findall(rf"CREATE TABLE fleet_catalog\.(?:{names}) \(.*?\n\)[^;]*;", text, re.S)
    found += re.findall(rf"CREATE (?:UNIQUE )?INDEX \w+ ON fleet_catalog\.(?:{names}) [^;]*;", text)
    return [statement.replace("fleet_catalog.", "bare.") for statement in found]


def facts(report, farm):
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = next(int(line.split()[1]) // 1024 for line in open("/proc/meminfo") if line.startswith("MemTotal"))
    conn = farm.parent.connect()
    report.facts.update({
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} × {cpu}, {memory:,} MiB, {platform.system()} {platform.release()}",
        "PostgreSQL": conn.value("SHOW server_version"),
        "settings of every cluster": ", ".join(f"{k}={v}" for k, v in SETTINGS.items()),
        "flushes a second of 8 kB, one after the other": f"{flush_rate(farm.directory):,.0f}",
        "sizes": ", ".join(f"{k}={v}" for k, v in CONFIG.items()),
    })
    conn.close()


def flush_rate(directory):
    path = os.path.join(directory, "flush")
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    block, count = b"x" * 8192, 0
    os.pwrite(fd, bytes(16 * 1024 * 1024), 0)
    os.fsync(fd)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        os.pwrite(fd, block, count % 2000 * 8192)
        os.fdatasync(fd)
        count += 1
    os.close(fd)
    os.unlink(path)
    return count / 0.5


def run(output, program, tables):
    report, begin = Report(), time.monotonic()
    wanted = os.environ.get("BENCH", " ".join(SECTIONS)).split()
    unknown = set(wanted) - set(SECTIONS + ["slots"])
    if unknown:
        sys.exit(f"bench: no section {' '.join(unknown)}; there are: {' '.join(SECTIONS)} slots")
    farm = Farm()
    try:
        farm.start()
        facts(report, farm)
        for cluster in farm.servers:
            conn = cluster.connect()
            conn.execute(WORK)
            conn.execute("VACUUM ANALYZE")
            conn.execute("CHECKPOINT")
            conn.close()
        bench = Bench(farm, report, program, tables)
        bench.clear_witness()
        for section in wanted:
            print(f"{section} ({time.monotonic() - begin:.0f} s)", flush=True)
            try:
                (bench.slot_table if section == "slots" else getattr(bench, section))()
            except (PgError, RuntimeError, OSError, subprocess.CalledProcessError) as error:
                traceback.print_exc()
                report.skip(section, "the rest of this section", f"failed: {str(error).splitlines()[0]}")
        report.facts["time of the whole benchmark"] = f"{time.monotonic() - begin:.0f} s"
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        farm.close()
    text = report.markdown()
    print(text)
    output["md"].write(text)
    output["json"].write(report.json())


def main():
    directory, program, tables_file = sys.argv[1:4]
    os.makedirs(directory, exist_ok=True)
    output = {kind: open(os.path.join(directory, f"result.{kind}"), "w") for kind in ("md", "json")}
    tables = tables_of(tables_file)
    # The unprivileged user may not be able to see the build directory.
    copy = f"/tmp/fleetbench_bare_loop.{os.getpid()}"
    shutil.copy(program, copy)
    os.chmod(copy, 0o755)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.chdir("/")
    try:
        if os.geteuid() == 0:  # the server refuses to be run by root; so does this
            user = pwd.getpwnam(os.environ.get("BENCH_USER", "postgres"))
            os.chown(copy, user.pw_uid, user.pw_gid)
            os.initgroups(user.pw_name, user.pw_gid)
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            os.environ["HOME"] = user.pw_dir
        for name in [n for n in os.environ if n.startswith("PG")]:
            del os.environ[name]
        run(output, copy, tables)
    finally:
        try:
            os.unlink(copy)
        except OSError:
            pass


if __name__ == "__main__":
    main()
