#!/usr/bin/env python3
"""Who needs whose symbols, from nm of the objects.

usage: objects.py layers DIR              symbols of a layer above that a file below needs
       objects.py circles DIR EXCEPTIONS  files that need one another, round in a circle
       objects.py externs DIR             symbols that are not declared in exactly one header, which
                                          the file that defines them includes
DIR has the objects, in the folders of src/.  Prints each breach; exit 1 if there is one.

EXCEPTIONS has one circle a line: its files (without .c; * stands for any name), a colon, and the
reason.  A circle whose files are all of one exception is no breach, and an exception without a
circle is one.
"""
import fnmatch
import pathlib
import re
import subprocess
import sys

# files of the folders on the left need no symbol of the folders on the right
LAYERS = [
    (("link/", "runner/", "store/", "mailbox/"), ("agent/",)),
    (("core/",), ("",)),  # of nothing but itself
]


def symbols(folder):
    """file → (symbols it defines, symbols it needs)"""
    found = {}
    for path in sorted(folder.rglob("*.o")):
        out = subprocess.run(["nm", "-g", "-P", path], capture_output=True, text=True, check=True).stdout
        defined, needed = set(), set()
        for line in out.splitlines():
            name, kind = line.split()[:2]
            (needed if kind in "Uvw" else defined).add(name)
        found[str(path.relative_to(folder))[: -len(".o")]] = (defined, needed)
    return found


def edges(found):
    """file → {file that it needs: symbols}"""
    home = {name: file for file, (defined, _) in found.items() for name in defined}
    needs = {}
    for file, (_, needed) in found.items():
        of = needs.setdefault(file, {})
        for name in sorted(needed):
            if home.get(name, file) != file:
                of.setdefault(home[name], []).append(name)
    return needs


def layers(needs):
    for below, above in LAYERS:
        for file, of in needs.items():
            if not file.startswith(below):
                continue
            for other, names in sorted(of.items()):
                if other.startswith(above) and not other.startswith(below if "" in above else ()):
                    yield f"src/{file}.c: needs {', '.join(names)} of src/{other}.c"


def circles(needs):
    """Strongly connected components of more than one file (Tarjan)."""
    number, low, stack, found = {}, {}, [], []

    def visit(file):
        number[file] = low[file] = len(number)
        stack.append(file)
        for other in needs[file]:
            if other not in number:
                visit(other)
                low[file] = min(low[file], low[other])
            elif other in stack:
                low[file] = min(low[file], number[other])
        if low[file] == number[file]:
            at = stack.index(file)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for file in sorted(needs):
        if file not in number:
            visit(file)
    return sorted(found)


def read_exceptions(path):
    for n, line in enumerate(path.read_text().splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            files, _, reason = line.partition(":")
            yield n, set(files.split()), reason.strip()


def circle_breaches(needs, path):
    found = circles(needs)
    used = set()
    exceptions = list(read_exceptions(path))
    for files in found:
        fits = [n for n, allowed, reason in exceptions if reason and all(any(fnmatch.fnmatch(f, a) for a in allowed) for f in files)]
        used.update(fits)
        if fits:
            continue
        yield f"a circle of {len(files)} files: {' '.join(files)}"
        for file in files:
            for other, names in sorted(needs[file].items()):
                if other in files:
                    yield f"    src/{file}.c: needs {', '.join(names)} of src/{other}.c"
    for n, allowed, reason in exceptions:
        if not reason:
            yield f"{path.name}:{n}: no reason"
        elif n not in used:
            yield f"{path.name}:{n}: an exception for a circle that there is not"


def plain(path):
    """C code without comments."""
    return re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)


def declared(text):
    """Names of functions and variables that are declared extern."""
    for line in re.findall(r"^[ \t]*extern\b([^;{]*)", text, flags=re.M):
        line = re.sub(r"pg_attribute_\w+(\s*\([^()]*\))?|__attribute__\s*\(\(.*?\)\)", "", line, flags=re.S)
        match = re.search(r"(\w+)\s*\(", line) or re.search(r"(\w+)\s*(?:\[[^]]*\]\s*)*$", line)
        if match:
            yield match.group(1)


def included(path, seen):
    """Every header of ours that a file includes, also through others."""
    for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), flags=re.M):
        for header in (path.parent / name, pathlib.Path("src") / name):
            if header.is_file() and header not in seen:
                seen.add(header)
                included(header, seen)
    return seen


def externs(found):
    src = pathlib.Path("src")
    homes = {}
    for path in sorted(src.rglob("*.h")):
        for name in declared(plain(path)):
            homes.setdefault(name, []).append(path)
    for path in sorted(src.rglob("*.c")):
        for name in declared(plain(path)):
            if name != "_PG_init":  # the server's name; its headers declare it since version 16 only
                yield f"{path}: declares {name}, which is for a header"
    for name, paths in sorted(homes.items()):
        if len(paths) > 1:
            yield f"{name}: declared in {', '.join(map(str, paths))}"
        owners = [file for file, (defined, _) in found.items() if name in defined]
        if not owners and name not in ("fleet_point", "fleet_point_of", "fleet_point_seconds"):  # in test builds only
            yield f"{paths[0]}: declares {name}, which no file defines"
        for owner in owners:
            file = src / f"{owner}.c"
            if not included(file, set()) & set(paths):
                yield f"{file}: defines {name} and does not include {paths[0]}"


def main():
    found = symbols(pathlib.Path(sys.argv[2]))
    needs = edges(found)
    if not needs:
        print(f"no object in {sys.argv[2]}")
        return 1
    if sys.argv[1] == "layers":
        breaches = list(layers(needs))
    elif sys.argv[1] == "externs":
        breaches = list(externs(found))
    else:
        breaches = list(circle_breaches(needs, pathlib.Path(sys.argv[3])))
    print("\n".join(breaches), end="\n" if breaches else "")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
