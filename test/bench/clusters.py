"""Temporary clusters, all with the same settings, in one directory that vanishes at the end."""
import os
import shutil
import subprocess
import tempfile

from pq import Connection

# The durable settings are the server's defaults, written down so that nobody has to look; the
# rest keeps checkpoints out of a run of a few minutes.  The same for every competitor.
SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "autovacuum": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "max_connections": "400",
    "max_worker_processes": "64",
    "max_locks_per_transaction": "256",
    "max_files_per_process": "2500",
    "listen_addresses": "''",
    "log_min_messages": "warning",
    "logging_collector": "off",
}


def bindir():
    return subprocess.check_output(["pg_config", "--bindir"], text=True).strip()


class Cluster:
    def __init__(self, farm, name, port, extra=None):
        self.farm, self.name, self.port = farm, name, port
        self.data = os.path.join(farm.directory, name)
        self.running = False
        subprocess.run([os.path.join(farm.bin, "initdb"), "-D", self.data, "-U", "postgres", "-A", "trust",
                        "-E", "UTF8", "--locale=C", "--no-sync"], check=True, stdout=subprocess.DEVNULL)
        with open(os.path.join(self.data, "postgresql.conf"), "a") as conf:
            for key, value in {**SETTINGS, **(extra or {})}.items():
                conf.write(f"{key} = {value}\n")
            conf.write(f"port = {port}\nunix_socket_directories = '{farm.directory}'\n")
        # The roles of pg_fleet's links must send a password; peers and harness come in without.
        with open(os.path.join(self.data, "pg_hba.conf"), "w") as hba:
            hba.write("local all fleet_link scram-sha-256\nlocal all all trust\n")

    def start(self, *options):
        args = [os.path.join(self.farm.bin, "pg_ctl"), "-D", self.data, "-w", "-t", "60",
                "-l", os.path.join(self.farm.directory, self.name + ".log"), "start"]
        if options:
            args += ["-o", " ".join(options)]
        subprocess.run(args, check=True, stdout=subprocess.DEVNULL)
        self.running = True

    def stop(self, mode="fast"):
        if self.running:
            subprocess.run([os.path.join(self.farm.bin, "pg_ctl"), "-D", self.data, "-w", "-m", mode, "stop"],
                           stdout=subprocess.DEVNULL)
            self.running = False

    def conninfo(self, database="bench", user="postgres"):
        return f"host={self.farm.directory} port={self.port} dbname={database} user={user}"

    def connect(self, database="bench", user="postgres"):
        return Connection(self.conninfo(database, user))

    def create_database(self, name):
        conn = self.connect("postgres")
        conn.execute(f"CREATE DATABASE {name}")
        conn.close()


class Farm:
    """Parent, servers, and one more cluster for pg_cron (which wants to be preloaded)."""

    def __init__(self, servers=4, directory=None):
        self.bin = bindir()
        # Short: a socket's path must fit into 107 bytes.
        self.directory = tempfile.mkdtemp(prefix="fleetbench.", dir=directory)
        self.clusters = []
        self.processes = []
        self.parent = self.add("parent")
        self.servers = [self.add(f"server{i}") for i in range(1, servers + 1)]
        self.cron = None

    def add(self, name, extra=None):
        cluster = Cluster(self, name, 6201 + len(self.clusters), extra)
        self.clusters.append(cluster)
        return cluster

    def start(self):
        for cluster in [self.parent] + self.servers:
            cluster.start()
            cluster.create_database("bench")

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
                process.wait()
        for cluster in self.clusters:
            cluster.stop("immediate")
        if not os.environ.get("KEEP"):
            shutil.rmtree(self.directory, ignore_errors=True)
