"""The competitors, each used the way its own users would, and set as fast as it can be set."""
import json
import os
import random
import subprocess
import threading
import time

from pq import PgError

# What a child does in every throughput line.
COMMAND = "SELECT 1"
WITNESS = "INSERT INTO public.witness (tag, id) VALUES ('{tag}', {id})"


def wait_until(condition, seconds):
    """True as soon as the condition holds; False when the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


class BareLoop:
    """bare_loop.c: the limit.  Its tables are made from the text of pg_fleet's own."""

    def __init__(self, farm, program, tables):
        self.farm, self.program, self.runs = farm, program, 0
        conn = farm.parent.connect()
        conn.execute("CREATE SCHEMA bare")
        for statement in tables:
            conn.execute(statement)
        conn.close()

    def run(self, children, slots, service=False):
        """service: with what a job of anybody is owed besides the guarantees."""
        self.runs += 1
        options = ["-s"] if service else []
        out = subprocess.run([self.program, *options, str(self.runs), str(children), str(slots), COMMAND,
                              self.farm.parent.conninfo()] + [s.conninfo() for s in self.farm.servers],
                             check=True, capture_output=True, text=True).stdout
        return json.loads(out)["rate"]


class Cron:
    """pg_cron, in a cluster of its own.  Jobs are '@reboot': they are due when the scheduler starts,
    all at once, so that the wait for the next minute is not in its throughput."""

    def __init__(self, farm):
        self.farm = farm
        self.cluster = farm.cron = farm.add("cron", {
            "shared_preload_libraries": "pg_cron", "cron.database_name": "bench", "cron.log_statement": "off",
            "cron.max_running_jobs": "32"})
        self.cluster.start("-c shared_preload_libraries=''")
        self.cluster.create_database("bench")
        self.cluster.stop()
        self.cluster.start()
        conn = self.cluster.connect()
        conn.execute("CREATE EXTENSION pg_cron")
        self.version = conn.value("SELECT extversion FROM pg_extension WHERE extname = 'pg_cron'")
        conn.close()
        self.cluster.stop()

    def _spread(self, conn):
        """Jobs go to the four servers in turn."""
        ports = ",".join(str(s.port) for s in self.farm.servers)
        conn.execute("UPDATE cron.job SET nodename = $1, username = 'postgres', database = 'bench', "
                     f"nodeport = (ARRAY[{ports}])[jobid % {len(self.farm.servers)} + 1]", self.farm.directory)

    def run(self, children, workers):
        """Runs a second, by its own table.  workers: background workers (here only) or connections
        (to the four servers)."""
        self.cluster.start(f"-c cron.use_background_workers={'on' if workers else 'off'}")
        conn = self.cluster.connect()
        conn.execute("TRUNCATE cron.job, cron.job_run_details")
        conn.execute(f"SELECT cron.schedule('@reboot', '{COMMAND}') FROM generate_series(1, {children})")
        if not workers:
            self._spread(conn)
        conn.close()
        self.cluster.stop()
        self.cluster.start(f"-c cron.use_background_workers={'on' if workers else 'off'}")
        conn = self.cluster.connect()
        done = "SELECT count(*) FROM cron.job_run_details WHERE status = 'succeeded'"
        wait_until(lambda: int(conn.value(done)) >= children, 60)
        count, seconds = conn.execute(
            "SELECT count(*), extract(epoch FROM max(end_time) - min(start_time)) "
            "FROM cron.job_run_details WHERE status = 'succeeded'")[0]
        conn.execute("TRUNCATE cron.job, cron.job_run_details")
        conn.close()
        self.cluster.stop()
        return int(count) / float(seconds), int(count)

    def latency(self, tag, samples, load):
        """Jobs are made at random moments of a minute and due at the next full one.  Returns
        (start, end) in milliseconds: from commit to the first statement, from the statement to the
        end in job_run_details."""
        self.cluster.start("-c cron.use_background_workers=off")
        conn = self.cluster.connect()
        conn.execute("TRUNCATE cron.job, cron.job_run_details")
        now = time.time()
        tick = (now // 60 + 1) * 60
        if tick - now < 20:
            tick += 60
        first = max(now, tick - 60)
        sent = {}
        for k, at in enumerate(sorted(random.uniform(first, tick - 3) for _ in range(samples))):
            time.sleep(max(0, at - time.time()))
            conn.execute("BEGIN")
            conn.execute("SELECT cron.schedule('* * * * *', $1)", WITNESS.format(tag=tag, id=k))
            self._spread(conn)
            sent[k] = time.time()
            conn.execute("COMMIT")
        if load:
            conn.execute("BEGIN")
            conn.execute("SELECT cron.schedule('* * * * *', 'SELECT pg_sleep(0.01)') "
                         f"FROM generate_series(1, {load})")
            self._spread(conn)
            conn.execute("COMMIT")
        time.sleep(max(0, tick + 1 - time.time()))
        done = "SELECT count(*) FROM cron.job_run_details WHERE status = 'succeeded'"
        wait_until(lambda: int(conn.value(done)) >= samples + load, 45)
        conn.execute("DELETE FROM cron.job")
        ends = {int(k): float(e) for k, e in conn.execute(
            "SELECT split_part(rtrim(command, ')'), ', ', 3), min(extract(epoch FROM end_time)) "
            "FROM cron.job_run_details WHERE command LIKE 'INSERT%' GROUP BY 1")}
        conn.close()
        self.cluster.stop()
        return _witnessed(self.farm, tag, sent, ends)


def _witnessed(farm, tag, sent, ends):
    starts, tails = [], []
    for server in farm.servers:
        conn = server.connect()
        for k, at in conn.execute("SELECT id, extract(epoch FROM min(at)) FROM public.witness "
                                  "WHERE tag = $1 GROUP BY id", tag):
            if int(k) in sent:
                starts.append((float(at) - sent[int(k)]) * 1000)
            if int(k) in ends:
                tails.append((ends[int(k)] - float(at)) * 1000)
        conn.close()
    return starts, tails


class PgAgent:
    """pgAgent, polling each second, the fastest it can (its default is each 10 s)."""

    def __init__(self, farm):
        self.farm = farm
        farm.parent.create_database("pgagent")
        conn = farm.parent.connect("pgagent")
        conn.execute("CREATE EXTENSION pgagent")
        self.version = conn.value("SELECT extversion FROM pg_extension WHERE extname = 'pgagent'")
        conn.close()
        self.process = None

    def _start(self):
        self.process = subprocess.Popen(
            ["pgagent", "-f", "-t", "1", "-l", "0", self.farm.parent.conninfo("pgagent")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.farm.processes.append(self.process)

    def _stop(self):
        self.process.terminate()
        self.process.wait()

    def _add(self, conn, first, last, command):
        """Jobs first … last, one step each, due now; in the caller's transaction."""
        n = len(self.farm.servers)
        strings = ",".join("'" + s.conninfo() + "'" for s in self.farm.servers)
        conn.execute("INSERT INTO pgagent.pga_job (jobid, jobjclid, jobname, jobenabled) "
                     f"SELECT g, 1, 'job ' || g, false FROM generate_series({first}, {last}) g")
        conn.execute("INSERT INTO pgagent.pga_jobstep (jstjobid, jstname, jstkind, jstcode, jstconnstr) "
                     f"SELECT g, 'step', 's', $1, (ARRAY[{strings}])[g % {n} + 1] "
                     f"FROM generate_series({first}, {last}) g", command)
        conn.execute("UPDATE pgagent.pga_job SET jobenabled = true, jobnextrun = now() "
                     f"WHERE jobid BETWEEN {first} AND {last}")

    def run(self, children):
        """Runs a second by its own log, and how many of the jobs it took."""
        conn = self.farm.parent.connect("pgagent")
        conn.execute("DELETE FROM pgagent.pga_job")
        conn.execute("BEGIN")
        self._add(conn, 1, children, COMMAND)
        conn.execute("COMMIT")
        self._start()
        # It starts some jobs twice, and notices ('i'); only a success counts.
        done = "SELECT count(*) FROM pgagent.pga_joblog WHERE jlgstatus = 's'"
        wait_until(lambda: int(conn.value(done)) >= children, 20)
        self._stop()
        count, seconds = conn.execute(
            "SELECT count(*), extract(epoch FROM max(jlgstart + jlgduration) - min(jlgstart)) "
            "FROM pgagent.pga_joblog WHERE jlgstatus = 's'")[0]
        conn.execute("DELETE FROM pgagent.pga_job")
        conn.close()
        return (int(count) / float(seconds) if seconds else 0.0), int(count)

    def latency(self, tag, samples, load, seconds=50):
        conn = self.farm.parent.connect("pgagent")
        conn.execute("DELETE FROM pgagent.pga_job")
        self._start()
        start = time.time()
        sent, extra = {}, 100000
        for k, at in enumerate(sorted(random.uniform(start + 1, start + seconds) for _ in range(samples))):
            time.sleep(max(0, at - time.time()))
            conn.execute("BEGIN")
            self._add(conn, k + 1, k + 1, WITNESS.format(tag=tag, id=k))
            if load:
                self._add(conn, extra, extra + load - 1, "SELECT pg_sleep(0.01)")
                extra += load
            sent[k] = time.time()
            conn.execute("COMMIT")
        done = "SELECT count(*) FROM pgagent.pga_joblog WHERE jlgstatus = 's' AND jlgjobid < 100000"
        wait_until(lambda: int(conn.value(done)) >= samples, 20)
        self._stop()
        ends = {int(k) - 1: float(e) for k, e in conn.execute(
            "SELECT jlgjobid, extract(epoch FROM jlgstart + jlgduration) FROM pgagent.pga_joblog "
            "WHERE jlgjobid < 100000 AND jlgstatus = 's'")}
        conn.execute("DELETE FROM pgagent.pga_job")
        conn.close()
        return _witnessed(self.farm, tag, sent, ends)


class Dblink:
    """The best loop that one writes by hand with dblink: connections kept, asynchronous queries, the
    next child sent as soon as a connection's answer is read.  Nothing is written down."""

    def __init__(self, farm):
        self.farm = farm
        self.conn = farm.parent.connect()
        self.conn.execute("CREATE EXTENSION dblink")
        self.conn.execute("""
            CREATE FUNCTION public.by_hand(links text[], command text, children int) RETURNS int LANGUAGE plpgsql AS $$
            DECLARE
                n int := cardinality(links);
                sent int := 0;
                done int := 0;
                k int;
            BEGIN
                FOR i IN 1 .. least(n, children) LOOP
                    PERFORM public.dblink_send_query(links[i], command);
                    sent := sent + 1;
                END LOOP;
                WHILE done < children LOOP
                    k := done % n + 1;
                    PERFORM * FROM public.dblink_get_result(links[k]) AS t (x text);
                    PERFORM * FROM public.dblink_get_result(links[k]) AS t (x text);
                    done := done + 1;
                    IF sent < children THEN
                        PERFORM public.dblink_send_query(links[k], command);
                        sent := sent + 1;
                    END IF;
                END LOOP;
                RETURN done;
            END $$""")
        self.slots = 0

    def connect(self, slots):
        if self.slots == slots:
            return
        if self.slots:
            self.conn.execute("SELECT dblink_disconnect(c) FROM unnest(dblink_get_connections()) c")
        self.links = []
        for i in range(slots):
            for j, server in enumerate(self.farm.servers):
                self.links.append(f"c{i}_{j}")
                self.conn.execute("SELECT dblink_connect($1, $2)", self.links[-1], server.conninfo())
        self.slots = slots

    def run(self, children, slots):
        self.connect(slots)
        start = time.monotonic()
        done = int(self.conn.value("SELECT by_hand($1, $2, $3)", "{" + ",".join(self.links) + "}", COMMAND, children))
        return done / (time.monotonic() - start)

    def latency(self, tag, first, samples, slots):
        self.connect(slots)
        sent, ends = {}, {}
        for k in range(first, first + samples):
            link = self.links[k % len(self.links)]
            sent[k] = time.time()
            self.conn.execute("SELECT dblink_exec($1, $2)", link, WITNESS.format(tag=tag, id=k))
            ends[k] = time.time()
        return sent, ends


class Xargs:
    """One psql a child, started by xargs -P."""

    def __init__(self, farm):
        self.farm = farm
        self.psql = os.path.join(farm.bin, "psql")

    def run(self, children, at_once):
        ports = "".join(f"{self.farm.servers[i % len(self.farm.servers)].port}\n" for i in range(children))
        start = time.monotonic()
        subprocess.run(["xargs", "-P", str(at_once), "-I", "{}", self.psql, "-X", "-q", "-h", self.farm.directory,
                        "-U", "postgres", "-d", "bench", "-p", "{}", "-c", COMMAND],
                       input=ports, text=True, check=True, stdout=subprocess.DEVNULL)
        return children / (time.monotonic() - start)

    def latency(self, tag, first, samples):
        sent, ends = {}, {}
        for k in range(first, first + samples):
            server = self.farm.servers[k % len(self.farm.servers)]
            sent[k] = time.time()
            subprocess.run([self.psql, "-X", "-q", "-d", server.conninfo(), "-c", WITNESS.format(tag=tag, id=k)], check=True)
            ends[k] = time.time()
        return sent, ends


class Pool:
    """Plain sessions in threads: lists by hand, serial execution, and work without a scheduler."""

    def __init__(self, conninfos):
        from pq import Connection
        self.conns = [Connection(c) for c in conninfos]

    def run(self, queues, owner):
        """queues: lists of commands; session i takes from queues[owner[i]].  Returns seconds."""
        positions, lock, errors = [0] * len(queues), threading.Lock(), []

        def work(conn, q):
            while not errors:
                with lock:
                    at = positions[q]
                    positions[q] += 1
                if at >= len(queues[q]):
                    return
                try:
                    conn.execute(queues[q][at])
                except PgError as error:
                    errors.append(error)

        threads = [threading.Thread(target=work, args=(c, owner[i])) for i, c in enumerate(self.conns)]
        start = time.monotonic()
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if errors:
            raise errors[0]
        return time.monotonic() - start

    def close(self):
        for conn in self.conns:
            conn.close()
