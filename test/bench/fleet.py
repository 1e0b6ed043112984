"""pg_fleet, used through its SQL surface only (plus its agent's row, for the process id, and its
history tables, to fill them)."""
import json
import os
import threading
import time

from pq import PgError

LINK_ROLE = "fleet_link"  # the role of the links: no superuser, logs in with a password


class Fleet:
    def __init__(self, farm, slots):
        self.farm, self.slots = farm, slots
        for cluster in [farm.parent] + farm.servers:
            conn = cluster.connect()
            conn.execute("CREATE EXTENSION pg_fleet CASCADE")
            conn.execute(f"CREATE ROLE {LINK_ROLE} LOGIN PASSWORD 'bench'")
            conn.execute(f"GRANT CREATE, USAGE ON SCHEMA public TO {LINK_ROLE}")
            conn.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {LINK_ROLE}")
            conn.close()
        self.conn = farm.parent.connect()
        self.version = self.conn.value("SELECT extversion FROM pg_extension WHERE extname = 'pg_fleet'")
        self.registered = set()
        for i, server in enumerate(farm.servers, 1):
            self.add_server(f"direct{i}", server, "direct", slots, "direct")
            self.add_server(f"agent{i}", server, "agent", slots, "agent")
            self.add_server(f"pair{i}", server, "direct", 2, "pair4")
        self.jobs()

    @staticmethod
    def available(farm):
        conn = farm.parent.connect()
        found = conn.value("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_fleet'")
        conn.close()
        return found == "1"

    def add_server(self, name, cluster, mode, slots, *groups):
        if name in self.registered:
            return
        self.conn.execute("SELECT fleet.add_server($1, $2, username => $3, password => 'bench', mode => $4, "
                          "slots => $5, groups => $6)", name,
                          f"host={self.farm.directory} port={cluster.port} dbname=bench", LINK_ROLE, mode, slots,
                          "{" + ",".join(groups) + "}")
        self.registered.add(name)

    def jobs(self):
        param = "(pg_catalog.current_setting('fleet.params')::jsonb ->> '{}')"
        self.job("noop", "SELECT 1")
        self.job("clean", "SELECT 1", leaves_clean=True)
        self.job("sleep", f"SELECT pg_sleep({param.format('s')}::float8)")
        self.job("witness", f"INSERT INTO public.witness (tag, id) VALUES ({param.format('tag')}, {param.format('id')}::int)")
        self.job("work", f"SELECT public.work({param.format('i')}::int, {param.format('n')}::int)")
        self.job("clean_work", f"SELECT public.work({param.format('i')}::int, {param.format('n')}::int)", leaves_clean=True)
        self.await_deployment()
        self.package("clean_direct", "clean", "direct")
        self.package("clean_work_direct", "clean_work", "direct")
        for group in ("direct", "agent"):
            self.package(f"noop_{group}", "noop", group)
            self.package(f"load_{group}", "sleep", group, throttle=len(self.farm.servers) * self.slots // 2)
            self.package(f"work_{group}", "work", group)
            self.conn.execute(f"SELECT fleet.create_package('witness_{group}', params => '{{\"tag\": null, \"id\": 0}}')")
            self.conn.execute(f"SELECT fleet.add_task('witness_{group}', 'child', job => 'witness', on_group => '{group}')")

    def job(self, name, command, leaves_clean=False):
        self.conn.execute("SELECT fleet.create_job($1, leaves_clean => $2)", name, leaves_clean)
        self.conn.execute("SELECT fleet.add_step($1, 'run', sql => $2)", name, command)
        self.conn.execute("SELECT * FROM fleet.deploy_job($1, on_group => 'agent')", name)

    def await_deployment(self):
        """Deployments happen in the agent's own time; nothing says when but their list."""
        end = time.monotonic() + 60
        while True:
            rows = self.conn.execute("SELECT state, count(*), max(message) FROM fleet.deployment GROUP BY 1")
            if all(state == "deployed" for state, _, _ in rows):
                return
            if time.monotonic() > end or any(state == "failed" for state, _, _ in rows):
                raise RuntimeError(f"jobs were not deployed: {rows}")
            time.sleep(0.05)

    def package(self, name, job, group, throttle=0):
        """One for_each task over the group.  The run's parameter n says how many children; "items"
        is a list of their parameters, which the no-op does without."""
        self.conn.execute("SELECT fleet.create_package($1, params => '{\"n\": 0, \"items\": [], \"s\": 0}')", name)
        given = "pg_catalog.current_setting('fleet.params')::jsonb"
        if job in ("noop", "clean"):
            items = f"SELECT jsonb_build_object('i', g) FROM generate_series(1, ({given} ->> 'n')::int) AS g"
        else:
            items = f"""
                WITH p AS MATERIALIZED (SELECT {given} AS p)
                SELECT jsonb_build_object('i', g) || coalesce(p.p #> ARRAY['items', (g - 1)::text],
                                                              jsonb_build_object('s', p.p -> 's'))
                  FROM p, generate_series(1, (p.p ->> 'n')::int) AS g"""
        self.conn.execute(
            "SELECT fleet.add_task($1, 'children', job => $2, on_group => $3, throttle => $4, for_each => $5)",
            name, job, group, throttle, items)

    def start(self, package, **params):
        return int(self.conn.value("SELECT fleet.run_parent_package($1, params => $2)", package, json.dumps(params)))

    def wait(self, run, state="succeeded"):
        got = self.conn.value("SELECT fleet.wait_for_run($1, timeout => '10min')", run)
        if state and got != state:
            message = self.conn.value("SELECT string_agg(DISTINCT message, '; ') FROM fleet.task_run WHERE run_id = $1", run)
            raise RuntimeError(f"run {run} ended as {got}: {message}")
        return got

    def cancel(self, run):
        self.conn.execute("SELECT fleet.cancel_run($1)", run)
        self.wait(run, state=None)

    def agent_pid(self, cluster=None):
        conn = (cluster or self.farm.parent).connect()
        pid = conn.value("SELECT pid FROM fleet_catalog.agent")
        conn.close()
        return int(pid or 0)

    def wal(self):
        return int(self.conn.value("SELECT pg_current_wal_insert_lsn() - '0/0'").split(".")[0])

    def fill_history(self, rows):
        """Copies of a finished run, as many as make so many rows.  Every column is copied but the
        keys, so that this follows the catalog.  Two tables at a time."""
        run = self.start("noop_direct", n=1000)
        self.wait(run)
        have = int(self.conn.value("SELECT 1 + (SELECT count(*) FROM fleet_catalog.task_run WHERE run_id = $1) + "
                                   "(SELECT count(*) FROM fleet_catalog.step_run WHERE run_id = $1)", run))
        copies = max(1, -(-rows // have))
        sequence = "pg_get_serial_sequence('fleet_catalog.run', 'run_id')"
        base = int(self.conn.value(f"SELECT nextval({sequence})"))
        self.conn.execute(f"SELECT setval({sequence}, $1)", base + copies + 1)
        errors = []

        def copy(*tables):
            conn = self.farm.parent.connect()
            try:
                for table in tables:
                    self._copy(conn, table, run, base, copies)
                    conn.execute(f"VACUUM (ANALYZE) fleet_catalog.{table}")
            except PgError as error:
                errors.append(error)
            conn.close()

        threads = [threading.Thread(target=copy, args=tables) for tables in (("run", "task_run"), ("step_run",))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if errors:
            raise errors[0]
        self.conn.execute("CHECKPOINT")
        return copies * have

    @staticmethod
    def _copy(conn, table, run, base, copies):
        columns = [c for (c,) in conn.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped "
            "AND attgenerated = '' ORDER BY attnum", f"fleet_catalog.{table}")]
        special = {"run_id": f"{base} + g", "run_uuid": "gen_random_uuid()", "token": "gen_random_uuid()", "run_key": "NULL"}
        chosen = ", ".join(special.get(c, "t." + c) for c in columns)
        conn.execute(f"INSERT INTO fleet_catalog.{table} ({', '.join(columns)}) OVERRIDING SYSTEM VALUE "
                     f"SELECT {chosen} FROM generate_series(1, {copies}) g, fleet_catalog.{table} t WHERE t.run_id = {run}")


def process_cost(pid):
    """CPU seconds and context switches (voluntary: times that it went to sleep, which is what woke
    up before) of a process so far."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    status = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status"))
    return cpu, int(status["voluntary_ctxt_switches"])


def private_kib(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    return 0
