#!/usr/bin/env python3
"""Plants bugs one after the other, and tells which test catches each: see README.md here.

usage: run.py [--only REGEX] [--random N --seed S] [--jobs N] [--quick] [--resume] [--shuffle S] [--list]
Exit 0: every mutant was caught (or is marked equivalent).
"""
import argparse
import hashlib
import json
import os
import pathlib
import queue
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
HERE = TOP / "test" / "mutants"
PATIENCE = "30"  # FLEET_TEST_TIMEOUT of the tests: with a bug in it, many things never come
LONGEST = 900  # seconds that one part of the tests may take before it counts as hung
# Parts that reach much, for a random mutant in a file of which the named ones say too little.
BROAD = ["regress", "t/003_modes", "t/019_forgotten", "t/026_placement", "t/017_once", "t/012_adopt"]
# What no test can tell: these say something to a developer, or give memory back early.
UNTOLD = re.compile(
    r"^\s*(Assert|StaticAssert\w*|FLEET_POINT|pfree|list_free|pgstat_report_\w+|elog\(DEBUG|ereport\((DEBUG|LOG)"
    r"|MemoryContextSwitchTo\(old|CHECK_FOR_INTERRUPTS|\(void\)\s*\w+;|PG_RETURN_VOID|break;|continue;)"
)


class Mutant:
    def __init__(self, name, fields, old, new):
        self.name, self.old, self.new = name, old, new
        self.where = fields.get("in", "")
        self.promise = fields.get("promise", "")
        self.tests = fields.get("tests", "").split()
        self.why = fields.get("why", "")
        self.equivalent = fields.get("equivalent")
        self.edit = None  # (path, text with the bug), relative to the tree
        self.error = None

    def key(self):
        return hashlib.sha256("\0".join([self.name, self.where, self.old, self.new]).encode()).hexdigest()[:16]


def read_mutants():
    mutants = []
    for path in sorted(HERE.glob("*.mutants")):
        fields, part, old, new = {}, None, [], []
        for n, line in enumerate(path.read_text().splitlines(), 1):
            if line == "<<<<":
                part, old, new = "old", [], []
            elif line == "====" and part == "old":
                part = "new"
            elif line == ">>>>" and part == "new":
                mutants.append(Mutant(fields.get("mutant", f"{path.name}:{n}"), fields, "\n".join(old), "\n".join(new)))
                fields, part = {}, None
            elif part == "old":
                old.append(line)
            elif part == "new":
                new.append(line)
            elif line.strip() and not line.startswith("#"):
                field, colon, value = line.partition(":")
                if not colon:
                    sys.exit(f"{path.name}:{n}: not understood: {line}")
                fields[field.strip()] = value.strip()
        if part or fields:
            sys.exit(f"{path.name}: the last mutant is not complete")
    names = [m.name for m in mutants]
    for name in sorted(set(names)):
        if names.count(name) > 1:
            sys.exit(f"two mutants are called {name}")
    return mutants


# ---- where a mutant stands ---------------------------------------------------------------------


def sources():
    return sorted((TOP / "src").rglob("*.[ch]"))


def c_spans(text, name):
    """Where the definition of a C function, object or macro begins and ends."""
    spans = []
    name = re.escape(name)
    for match in re.finditer(rf"^(?:{name}\(|#define {name}\b|[a-z].*\b{name}(?:\[.*\])? = )", text, re.M):
        begin = match.start()
        if match.group().startswith("#"):
            end = re.compile(r"[^\\]\n").search(text, begin)
        elif match.group().endswith("("):
            end = re.compile(r"^\}\n", re.M).search(text, begin)
            if ";" in text[begin : text.find("{", begin)]:
                continue  # a prototype
        else:
            end = re.compile(r"^\};\n|;\n", re.M).search(text, begin)
        if end:
            spans.append((begin, end.end()))
    return spans


def sql_spans(text, name):
    """The same for an object of the install script: to the end of its statement."""
    kinds = "FUNCTION|PROCEDURE|VIEW|TABLE|TRIGGER|TYPE|INDEX|SEQUENCE|DOMAIN|CAST|AGGREGATE"
    spans = []
    for match in re.finditer(rf"^CREATE (?:\w+ )*?(?:{kinds}) {re.escape(name)}(?![\w.])", text, re.M):
        end = text.find(";\n", match.end())
        body = text.find(" AS $$", match.end())
        if 0 <= body < end:
            end = text.find("\n$$", body)
        spans.append((match.start(), end))
    return spans


def find_spans(where):
    if "/" in where or where in ("Makefile",):
        path = TOP / where
        return [(path, (0, len(path.read_text())))] if path.exists() else []
    scripts = sorted((TOP / "src" / "sql").glob("*.sql"))
    if where == "sql":
        return [(path, (0, len(path.read_text()))) for path in scripts]
    found = [(path, span) for path in sources() for span in c_spans(path.read_text(), where)]
    return found or [(path, span) for path in scripts for span in sql_spans(path.read_text(), where)]


def locate(mutant):
    """Fills mutant.edit, or mutant.error."""
    pattern = re.compile(r"\s+".join(re.escape(word) for word in mutant.old.split()))
    spans = find_spans(mutant.where)
    if not spans:
        mutant.error = f"there is no {mutant.where}"
        return
    hits = []
    for path, (begin, end) in spans:
        text = path.read_text()
        hits += [(path, m.start(), m.end()) for m in pattern.finditer(text, begin, end)]
    if len(hits) != 1:
        mutant.error = f"its text occurs {len(hits)} times in {mutant.where}"
        return
    path, begin, end = hits[0]
    text = path.read_text()
    mutant.edit = (path.relative_to(TOP), text[:begin] + mutant.new.strip() + text[end:])


# ---- random mutants ----------------------------------------------------------------------------


def balanced_end(text, begin):
    """The index behind the parenthesis that closes the one at begin."""
    depth, i, quote = 0, begin, None
    while i < len(text):
        c = text[i]
        if quote:
            if c == "\\":
                i += 1
            elif c == quote:
                quote = None
        elif c in "\"'":
            quote = c
        elif c == "(":
            depth += 1
        elif c == ")":
            depth -= 1
            if depth == 0:
                return i + 1
        i += 1
    return -1


def random_places():
    places = []
    for path in sources():
        name = path.relative_to(TOP).as_posix()
        if path.suffix != ".c" or name.startswith("src/core/") or path.name == "points.c":
            continue
        text = path.read_text()
        bodies = [(m.start(), m.end()) for m in re.finditer(r"^\{\n(?:.*\n)*?^\}\n", text, re.M)]
        for begin, end in bodies:
            for m in re.compile(r"^ +(?:if|while) (\()", re.M).finditer(text, begin, end):
                close = balanced_end(text, m.start(1))
                if close > 0:
                    condition = text[m.start(1):close]
                    places.append((path, m.start(1), close, f"(!{condition})", "negated: " + condition))
            for m in re.compile(r"^ +[A-Za-z_*(][^;{}]*;\n", re.M).finditer(text, begin, end):
                statement = m.group().strip()
                if UNTOLD.match(statement) or re.match(r"(if|for|while|else|return|case|default|switch|goto)\b", statement):
                    continue
                if re.match(r"(static |const |volatile )*[A-Z]?\w+ \**\w+(\[\w*\])?( =|;|,)", statement) and not re.match(r"\w+ =", statement):
                    continue  # a declaration
                if statement.count("(") != statement.count(")"):
                    continue
                places.append((path, m.start(), m.end(), "    ;\n", "deleted: " + statement))
    return places


def random_mutants(count, seed, named):
    """An endless supply of them; the caller takes as many as compile."""
    by_file = {}
    for mutant in named:
        if mutant.edit:
            tests = by_file.setdefault(mutant.edit[0], {})
            for i, test in enumerate(mutant.tests):
                tests[test] = tests.get(test, 0) + 1 / (1 + i)
    places = random_places()
    random.Random(seed).shuffle(places)
    for n, (path, begin, end, new, what) in enumerate(places, 1):
        text = path.read_text()
        relative = path.relative_to(TOP)
        line = text.count("\n", 0, begin) + 1
        what = re.sub(r"\s+", " ", what)
        mutant = Mutant(f"random-{seed}-{n}", {"why": f"{relative}:{line} {what}"}, text[begin:end], new)
        tests = by_file.get(relative, {})
        mutant.tests = sorted(tests, key=lambda t: -tests[t])[:6]
        mutant.tests += [t for t in BROAD if t not in mutant.tests][: 6 - len(mutant.tests)]
        mutant.edit = (relative, text[:begin] + new + text[end:])
        yield mutant


# ---- one worker: a tree of its own -------------------------------------------------------------


class Worker:
    def __init__(self, folder):
        self.tree = folder / "tree"
        self.tmp = folder / "tmp"
        self.tmp.mkdir(parents=True)
        os.chmod(folder, 0o755)
        os.chmod(self.tmp, 0o755)
        templates = folder / "templates"  # clusters that all runs of the tests copy
        templates.mkdir()
        os.chmod(templates, 0o777)
        files = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=TOP, check=True,
                               capture_output=True).stdout.decode().split("\0")
        for name in filter(None, files):
            if (TOP / name).is_file():
                (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(TOP / name, self.tree / name)
        self.env = dict(os.environ, TMPDIR=str(self.tmp), FLEET_BAIL="1", JOBS="1",
                        FLEET_TEMPLATES=str(templates))
        self.env.setdefault("FLEET_TEST_TIMEOUT", PATIENCE)
        self.log = folder / "log"

    def build(self):
        command = ["make", "-s", "BUILD=build/test/obj", "shlib=build/test/pg_fleet.so", "COPT=-DFLEET_TEST_POINTS", "all"]
        (self.tree / "build/test").mkdir(parents=True, exist_ok=True)
        return subprocess.run(command, cwd=self.tree, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def run(self, test):
        """(passed, seconds, why not)"""
        env = dict(self.env)
        part = test
        if test.startswith("t/"):
            part, env["TESTS"] = "tap", f"test/{test}.pl"
        elif test == "torture":
            part, env["TESTS"] = "tap", "test/torture/torture.pl"
        elif test == "core":
            env["CASES"] = "20000"
        began = time.time()
        with open(self.log, "w") as log:
            process = subprocess.Popen(["test/run.sh", part], cwd=self.tree, env=env, stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=subprocess.STDOUT, start_new_session=True)
            try:
                code = process.wait(LONGEST)
                why = None
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                code, why = 1, "hangs"
        self.end_servers()
        if code != 0 and why is None:
            text = self.log.read_text(errors="replace")
            failed = re.findall(r"Failed test '(.*)'", text) or re.findall(r"^test (\S+) +\.\.\. FAILED|^not ok \d+ +(.*)$", text, re.M)
            failed = [f if isinstance(f, str) else next(filter(None, f), "") for f in failed]
            why = failed[0] if failed else (text.strip().splitlines() or ["?"])[-1]
        return code == 0, time.time() - began, why

    def end_servers(self):
        """Servers that a hung or failed test left; only those of this worker's own folder."""
        for pidfile in self.tmp.rglob("postmaster.pid"):
            try:
                os.kill(int(pidfile.read_text().split("\n")[0]), signal.SIGQUIT)
            except (OSError, ValueError):
                pass
        for leftover in self.tmp.iterdir():
            if leftover.name != "pg_fleet_ports":
                for _ in range(20):
                    shutil.rmtree(leftover, ignore_errors=True)
                    if not leftover.exists():
                        break
                    time.sleep(0.1)

    def plant(self, mutant):
        path, text = mutant.edit
        self.original = (self.tree / path).read_bytes()
        (self.tree / path).write_text(text)

    def take_out(self, mutant):
        path = self.tree / mutant.edit[0]
        path.write_bytes(self.original)


def everything():
    tests = ["regress", "isolation"]
    if (TOP / "test/runner/run.sh").exists():
        tests.append("runner")
    tests += ["t/" + path.stem for path in sorted((TOP / "test/t").glob("*.pl"))]
    return tests


class Campaign:
    def __init__(self, options):
        self.options = options
        self.results = {}
        self.lock = threading.Lock()
        self.seconds = {}
        self.file = TOP / "build/mutants/results.jsonl"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if options.resume and self.file.exists():
            for line in self.file.read_text().splitlines():
                row = json.loads(line)
                self.results[row["key"]] = row
        elif self.file.exists():
            self.file.unlink()

    def say(self, mutant, verdict, by="", seconds=0.0):
        row = {"key": mutant.key(), "name": mutant.name, "promise": mutant.promise, "verdict": verdict, "by": by,
               "why": mutant.why, "seconds": round(seconds, 1)}
        with self.lock:
            self.results[mutant.key()] = row
            with open(self.file, "a") as out:
                out.write(json.dumps(row) + "\n")
        print(f"{verdict:14} {mutant.name:40} {by}  [{mutant.why}] {seconds:.0f} s", flush=True)
        return row

    def judge(self, worker, mutant):
        began = time.time()
        worker.plant(mutant)
        try:
            built = worker.build()
            if built.returncode != 0:
                errors = [line for line in built.stderr.splitlines() if "error" in line] or [built.stderr[-200:]]
                return self.say(mutant, "does not build", errors[0], time.time() - began)
            tried = []
            rest = [] if self.options.quick else [t for t in sorted(everything(), key=lambda t: self.seconds.get(t, 60)) if t not in mutant.tests]
            for test in [self.options.part] if self.options.part else mutant.tests + rest:
                passed, seconds, why = worker.run(test)
                tried.append(test)
                if passed:
                    with self.lock:
                        self.seconds[test] = seconds
                    continue
                return self.say(mutant, "caught", f"{test}: {why}", time.time() - began)
            return self.say(mutant, "SURVIVED", " ".join(tried) if self.options.quick or self.options.part else "everything", time.time() - began)
        finally:
            worker.take_out(mutant)

    def work(self, folder, todo):
        worker = Worker(folder)
        built = worker.build()
        if built.returncode != 0:
            sys.exit("the tree itself does not build: " + built.stderr)
        while True:
            try:
                mutant = todo.get_nowait()
            except queue.Empty:
                return
            self.judge(worker, mutant)


class Supply:
    """A queue of the random mutants, until enough of them have compiled."""

    def __init__(self, campaign, source, count):
        self.campaign, self.source, self.count, self.lock = campaign, source, count, threading.Lock()
        self.out = []

    def get_nowait(self):
        with self.lock:
            rows = self.campaign.results
            verdicts = [rows[m.key()]["verdict"] if m.key() in rows else "open" for m in self.out]
            if sum(v != "does not build" for v in verdicts) >= self.count:
                raise queue.Empty
            mutant = next(self.source, None)
            if mutant is None:
                raise queue.Empty
            self.out.append(mutant)
        if mutant.key() in self.campaign.results:  # resumed
            return self.get_nowait()
        return mutant


def table(title, mutants, campaign):
    caught = survived = broken = equal = 0
    print(f"\n## {title}\n\n| mutant | promise | verdict | by |\n|---|---|---|---|")
    for mutant in mutants:
        if mutant.equivalent:
            row = {"verdict": "equivalent", "by": mutant.equivalent}
        elif mutant.error:
            row = {"verdict": "does not fit", "by": mutant.error}
        else:
            row = campaign.results.get(mutant.key(), {"verdict": "not tried", "by": ""})
        verdict = row["verdict"]
        if mutant.name.startswith("random-") and verdict in ("does not build", "not tried"):
            continue
        caught += verdict == "caught"
        survived += verdict == "SURVIVED"
        equal += verdict == "equivalent"
        broken += verdict not in ("caught", "SURVIVED", "equivalent")
        what = mutant.why if mutant.name.startswith("random-") else mutant.promise
        cell = lambda s: str(s).replace("|", "\\|")
        print(f"| {mutant.name} | {cell(what)} | {verdict} | {cell(row['by'])} |")
    tried = caught + survived
    print(f"\n{title}: {caught} of {tried} caught ({100.0 * caught / max(tried, 1):.1f} %), {survived} survived, "
          f"{equal} equivalent, {broken} not tried")
    return caught, survived + broken


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="")
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--part", help="only this test, whatever a mutant says: core, regress, ..., t/NAME; torture (SEED=, MINUTES=)")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--shuffle", type=int, help="the named ones in a random order: what has been judged is a fair sample")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    began = time.time()
    mutants = read_mutants()
    for mutant in mutants:
        locate(mutant)
    chosen = [m for m in mutants if not options.only or re.fullmatch(options.only, m.name)]
    if options.list:
        for m in chosen:
            print(f"{m.name:44} {m.promise:6} {m.edit[0] if m.edit else 'ERROR: ' + m.error}")
        return 1 if any(m.error for m in chosen) else 0
    campaign = Campaign(options)
    todo = queue.Queue()
    if options.shuffle is not None:
        random.Random(options.shuffle).shuffle(chosen)
    for mutant in chosen:
        if not (mutant.equivalent or mutant.error or mutant.key() in campaign.results):
            todo.put(mutant)
    supply = Supply(campaign, random_mutants(options.random, options.seed, mutants), options.random)
    with tempfile.TemporaryDirectory(prefix="pg_fleet_mutants.") as folder:
        os.chmod(folder, 0o755)

        def worker(n):
            home = pathlib.Path(folder) / str(n)
            if not todo.empty():
                campaign.work(home / "named", todo)
            if options.random:
                campaign.work(home / "random", supply)

        threads = [threading.Thread(target=worker, args=(n,)) for n in range(options.jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    passed, failed = table("Mutants", chosen, campaign) if chosen else (0, 0)
    if options.random:
        more = table(f"Random, seed {options.seed}", supply.out, campaign)
        passed, failed = passed + more[0], failed + more[1]
    print(f"whole time: {time.time() - began:.0f} s\n{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
