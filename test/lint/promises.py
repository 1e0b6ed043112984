#!/usr/bin/env python3
"""Checks test/promises.md against the tests and the mutants: see 13_promises.sh.

usage: promises.py            prints each breach; exit 1 if there is one
       promises.py --fill     writes the mutants of each row, from test/mutants/*.mutants, into the table

A row is | id | sentence | tests | mutants |.  Tests, with commas or semicolons between them:
    t/NAME "piece of a title", "another one"     test/t/NAME.pl
    report/NAME "piece of a title"                test/report/NAME.pl
    regress/NAME                                 sql/NAME.sql with expected/NAME.out; pieces are of the SQL
    isolation/NAME                               test/isolation/specs/NAME.spec
    core/FILE "name of a test"                   test/core/FILE.c
    runner "piece of a title"                    test/runner/*.pl
    lint/NAME                                    test/lint/NAME.sh
A cell that begins with a dash (–) says in words that, and why, there is none.
"""
import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
MAP = TOP / "test/promises.md"
CELL = re.compile(r"(?<!\\)\|")
TEST = re.compile(r'\s*[;,]?\s*(?:(t|report|regress|isolation|core|lint)/([\w.-]+)|(runner)(?=\s*")|"((?:[^"\\]|\\.)+)")')

breaches = []


def breach(line, text):
    breaches.append(f"test/promises.md:{line}: {text}")


def plain(text):
    """White space and the escapes of quotes do not matter."""
    return re.sub(r"\s+", " ", text.replace('\\"', '"').replace("\\'", "'").replace("\\|", "|"))


def code(path):
    """A file without its comment lines: a comment is not a test."""
    mark = {".pl": "#", ".sql": "--", ".spec": "#"}.get(path.suffix, "//")
    return plain("\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith(mark)))


def files_of(kind, name):
    if kind == "t":
        return [TOP / "test/t" / f"{name}.pl"]
    if kind == "report":
        return [TOP / "test/report" / f"{name}.pl"]
    if kind == "regress":
        return [TOP / "sql" / f"{name}.sql", TOP / "expected" / f"{name}.out"]
    if kind == "isolation":
        return [TOP / "test/isolation/specs" / f"{name}.spec", TOP / "test/isolation/expected" / f"{name}.out"]
    if kind == "core":
        return [TOP / "test/core" / (name if name.endswith(".c") else f"{name}.c")]
    if kind == "lint":
        return [TOP / "test/lint" / f"{name}.sh"]
    return sorted((TOP / "test/runner").glob("*.pl")) or [TOP / "test/runner/runner.pl"]


def check_tests(line, row, cell):
    """How many tests a cell names."""
    at, count, paths, pieces, named = 0, 0, None, 0, ""

    def close():
        if paths is not None and pieces == 0 and named.split("/")[0] in ("t", "report", "core", "runner"):
            breach(line, f"{row}: {named} without a piece of a test's title in quotes")

    text = cell.replace("`", "")
    while at < len(text) and text[at:].strip(" ;,"):
        match = TEST.match(text, at)
        if not match:
            breach(line, f"{row}: not understood: {text[at:].strip()[:60]}")
            return count
        at = match.end()
        kind, name, runner, piece = match.groups()
        if piece is None:
            close()
            named, pieces, count = f"{kind}/{name}" if kind else runner, 0, count + 1
            paths = files_of(kind or runner, name)
            for path in paths:
                if not path.is_file():
                    breach(line, f"{row}: {named}: there is no {path.relative_to(TOP)}")
        elif paths is None:
            breach(line, f'{row}: "{piece}" is of no file')
        else:
            pieces += 1
            if not any(plain(piece) in code(path) for path in paths if path.is_file()):
                breach(line, f'{row}: no test of {named} has "{piece}" in its title')
    close()
    return count


def read_mutants():
    """name → promise"""
    mutants = {}
    for path in sorted((TOP / "test/mutants").glob("*.mutants")):
        name = None
        inside = False
        for line in path.read_text().splitlines():
            if line == "<<<<":
                inside = True
            elif line == ">>>>":
                inside = False
            elif not inside and line.startswith("mutant:"):
                name = line.partition(":")[2].strip()
                mutants[name] = None
            elif not inside and line.startswith("promise:") and name:
                mutants[name] = line.partition(":")[2].strip()
    return mutants


def rows():
    """(line number, id, cells) of each row of the tables"""
    for n, line in enumerate(MAP.read_text().splitlines(), 1):
        if not line.startswith("|"):
            continue
        cells = [cell.strip() for cell in CELL.split(line.strip())[1:-1]]
        if cells and cells[0] != "id" and not re.fullmatch(r":?-+:?", cells[0]):
            yield n, cells[0], cells


def check():
    mutants = read_mutants()
    listed, ids = {}, {}
    if not MAP.is_file():
        print("there is no test/promises.md")
        return 1
    for n, row, cells in rows():
        if len(cells) != 4:
            breach(n, f"{row}: {len(cells)} cells instead of 4")
            continue
        if row in ids:
            breach(n, f"{row} is there twice")
        ids[row] = n
        tests, planted = cells[2], cells[3]
        if not tests:
            breach(n, f"{row}: no test, and no word why")
        elif tests[0] not in "–-" and check_tests(n, row, tests) == 0:
            breach(n, f"{row}: no test")
        if not planted:
            breach(n, f"{row}: no mutant, and no word why")
        for name in [] if planted[:1] in ("–", "-") else re.split(r"[\s,;]+", planted.replace("`", "")):
            if name and name not in mutants:
                breach(n, f"{row}: there is no mutant {name}")
            elif name:
                listed.setdefault(name, set()).add(row)
    for name, promise in mutants.items():
        if promise not in ids:
            breaches.append(f"test/mutants: mutant {name} is aimed at {promise}, which is no promise of the table")
        elif promise not in listed.get(name, ()):
            breach(ids[promise], f"{promise}: its mutant {name} is not listed")
    check_documents()
    print("\n".join(breaches), end="\n" if breaches else "")
    return 1 if breaches else 0


def check_documents():
    """Numbers of TAP files in the tables of faults and attacks."""
    there = {path.name[:3] for path in (TOP / "test/t").glob("*.pl")}
    for name, heading in (("guarantees", "Faults that are tried"), ("security", "Attacks that are tried")):
        table = (TOP / f"doc/{name}.md").read_text().split(f"## {heading}", 1)[1]
        for line in table.splitlines():
            cells = [cell.strip() for cell in CELL.split(line)[1:-1]]
            for number in re.findall(r"\b\d{3}\b", cells[1]) if len(cells) == 3 else ():
                if number not in there:
                    breaches.append(f"doc/{name}.md: there is no test/t/{number}_*.pl")


def fill():
    by_row = {}
    for name, promise in read_mutants().items():
        by_row.setdefault(promise, []).append(name)
    lines = MAP.read_text().splitlines()
    for n, row, cells in rows():
        if row in by_row and len(cells) == 4:
            cells[3] = ", ".join(sorted(by_row[row]))
            lines[n - 1] = "| " + " | ".join(cells) + " |"
    MAP.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(fill() if sys.argv[1:] == ["--fill"] else check())
