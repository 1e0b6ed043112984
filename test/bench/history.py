"""History that goes while packages run: the purge of millions of rows, how long it delays runs, and how big the tables
are afterwards.

usage: history.py       (`make bench-history`; as root it becomes the user BENCH_USER, postgres)
environment: LINES, log lines (10,000,000); there are a fifth as many task runs and step runs, and a fiftieth as many runs.
KEEP=1 leaves the clusters' files.

The history is 100 days old, and kept for 90: the agent of a parent with two servers of mode direct purges it while one client
keeps it busy with runs of 2,000 children, one after the other, and another one measures runs of one child: from before the
request until the run has ended.  Autovacuum is on, as by default, and no table is rewritten.
"""
import os
import pwd
import statistics
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import clusters  # noqa: E402
import fleet as fleet_module  # noqa: E402

LINES = int(os.environ.get("LINES", 10_000_000))
RUNS = max(LINES // 50, 1)
TABLES = ("run", "task_run", "step_run", "log_line")
BEFORE = 20  # seconds of load without a purge


def fill(conn, first, runs, days):
    """Runs of ten tasks, each with a step and five lines, so many days ago."""
    conn.execute("INSERT INTO fleet_catalog.definition (hash, kind, body, version) VALUES "
                 "('00000000-0000-0000-0000-000000000001', 'package', '{\"precedence\": []}', 1) ON CONFLICT DO NOTHING")
    conn.execute("INSERT INTO fleet_catalog.definition_task (hash, task_no, name, kind, job, for_each) "
                 "SELECT '00000000-0000-0000-0000-000000000001', t, 'task' || t, 'job', 'work', false FROM generate_series(0, 9) AS t ON CONFLICT DO NOTHING")
    last = first + runs - 1
    conn.execute(f"""
        INSERT INTO fleet_catalog.run (run_id, package, definition, owner, state, package_id, queued_at, started_at, finished_at)
        SELECT i, 'old', '00000000-0000-0000-0000-000000000001', 'postgres', CASE WHEN i % 100 = 1 THEN 12 ELSE 11 END, 1, t, t, t + interval '10 s'
          FROM (SELECT i, now() - interval '{days} days' + (i - {last}) * interval '1 s' AS t FROM generate_series({first}, {last}) AS i) AS x""")
    conn.execute(f"""
        INSERT INTO fleet_catalog.task_run (run_id, task_no, item, queued_at, state, attempt, server_id, started_at, finished_at)
        SELECT r.run_id, k, 0, r.queued_at, CASE WHEN k = 5 THEN r.state ELSE 11 END, 1, 1, r.started_at, r.finished_at
          FROM fleet_catalog.run AS r, generate_series(0, 9) AS k WHERE r.run_id BETWEEN {first} AND {last} ORDER BY 1, 2""")
    conn.execute(f"""
        INSERT INTO fleet_catalog.step_run (run_id, task_no, item, started_at, first_seq, server_id, step_no, attempt, step, state, phase, last_seq, finished_at)
        SELECT t.run_id, t.task_no, 0, t.started_at, 1, 1, 1, 1, 'one', t.state, 4, 7, t.finished_at
          FROM fleet_catalog.task_run AS t WHERE t.run_id BETWEEN {first} AND {last} ORDER BY 1, 2""")
    conn.execute(f"""
        INSERT INTO fleet_catalog.log_line (run_id, task_no, item, step_no, seq, logged_at, level, message)
        SELECT t.run_id, t.task_no, 0, 1, 1 + n, t.started_at, 'NOTICE', 'loaded ' || n || ' rows of the region north'
          FROM fleet_catalog.task_run AS t, generate_series(1, 5) AS n WHERE t.run_id BETWEEN {first} AND {last} ORDER BY 1, 2, n""")


class Load(threading.Thread):
    """A package of many children, again and again."""

    def __init__(self, bench):
        super().__init__(daemon=True)
        self.conn, self.children, self.over = bench.farm.parent.connect(), 0, False

    def run(self):
        while not self.over:
            run = self.conn.value("SELECT fleet.run_parent_package('noop_direct', params => '{\"n\": 2000}')")
            if self.conn.value("SELECT fleet.wait_for_run($1)", run) != "succeeded":
                raise RuntimeError(f"run {run} did not succeed")
            self.children += 2000


class Samples(threading.Thread):
    """Runs of one child; how long each takes, in milliseconds."""

    def __init__(self, bench):
        super().__init__(daemon=True)
        self.conn, self.took, self.over = bench.farm.parent.connect(), [], False

    def run(self):
        while not self.over:
            began = time.monotonic()
            run = self.conn.value("SELECT fleet.run_parent_package('noop_direct', params => '{\"n\": 1}', priority => 1000)")
            self.conn.value("SELECT fleet.wait_for_run($1)", run)
            self.took.append((time.monotonic() - began) * 1000)


class Bench:
    def __init__(self):
        self.farm = clusters.Farm(servers=2)
        self.farm.start()
        self.fleet = fleet_module.Fleet(self.farm, 8)
        self.conn = self.farm.parent.connect()

    def value(self, query):
        return self.conn.value(query)

    def sizes(self):
        """Of each table: bytes with its indexes, and rows."""
        return {t: (int(self.value(f"SELECT pg_total_relation_size('fleet_catalog.{t}')")), int(self.value(f"SELECT count(*) FROM fleet_catalog.{t}"))) for t in TABLES}

    def vacuumed(self):
        """Until autovacuum, which may be at work, has come by: then as it would leave the tables."""
        for table in TABLES:
            self.conn.execute(f"VACUUM fleet_catalog.{table}")

    def measure(self):
        first = 10_000_000
        fill(self.conn, first, RUNS, 100)
        self.conn.execute("VACUUM ANALYZE")
        self.conn.execute("CHECKPOINT")
        full = self.sizes()
        load, samples = Load(self), Samples(self)
        load.start()
        samples.start()
        time.sleep(BEFORE)
        calm, before = list(samples.took), load.children / BEFORE
        done = load.children
        began = time.monotonic()
        self.conn.execute("SELECT fleet.purge()")
        left = "SELECT (SELECT count(*) FROM fleet_catalog.purge_request) + (SELECT count(*) FROM (SELECT FROM fleet_catalog.purged LIMIT 1) AS p)"
        while self.value(left) != "0":
            time.sleep(0.5)
        took = time.monotonic() - began
        during, rate = samples.took[len(calm):], (load.children - done) / took
        load.over = samples.over = True
        load.join()
        samples.join()
        self.vacuumed()
        purged = self.sizes()
        fill(self.conn, first + RUNS, max(RUNS // 10, 1), 0)
        self.vacuumed()
        again = self.sizes()
        return full, calm, before, during, rate, took, purged, again

    def report(self):
        full, calm, before, during, rate, took, purged, again = self.measure()
        rows = RUNS * 71
        print(f"## History of {LINES:,} log lines, {RUNS * 10:,} task runs and step runs, {RUNS:,} runs\n")
        print(f"Purged in {took:.0f} s ({rows / took:,.0f} rows a second) beside {rate:,.0f} children a second ({before:,.0f} before it).\n")
        print("| a run of one child, beside that | median | p99 | longest |\n|---|---|---|---|")
        for name, values in (("before", calm), ("while it is purged", during)):
            values = sorted(values)
            print(f"| {name} ({len(values)} runs) | {statistics.median(values):.1f} ms | {values[int(len(values) * 0.99)]:.1f} ms | {values[-1]:.1f} ms |")
        print("\nWhat is there once it is purged is what the load has made meanwhile.\n")
        print("| table, with its indexes | full | purged, vacuumed | with a tenth of it new |\n|---|---|---|---|")
        for table in TABLES:
            print("| " + table + " | " + " | ".join(f"{s[table][0] / 2**20:,.0f} MB, {s[table][1]:,} rows" for s in (full, purged, again)) + " |")

    def close(self):
        self.farm.close()


def main():
    if os.geteuid() == 0:
        user = pwd.getpwnam(os.environ.get("BENCH_USER", "postgres"))
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        os.environ["HOME"] = user.pw_dir
    for name in [n for n in os.environ if n.startswith("PG")]:
        del os.environ[name]
    os.chdir("/")
    bench = Bench()
    try:
        bench.report()
    finally:
        bench.close()


main()
