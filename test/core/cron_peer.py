#!/usr/bin/python3
"""Random schedules: core/cron.c and croniter (Debian's python3-croniter) must find the same times.

usage: cron_peer.py [schedules [seed]], beside the program cron_lines

Why this one: DateTime::Event::Cron and Schedule::Cron::Events (Debian's Perl packages) err where cron(8) does
not.  The former leaves out "Fri 2 July 2027" of "55 13 26 8,7 5-6", the latter takes day */14 for 14 and
28.  What croniter 1.3.5 does otherwise than cron is left out here, and has its lines in test_cron.c:
a list of all seven days of the week is a star to it; it looks for a day of the month only in months that have it,
also where the day of the week is enough; */n in a day field restricts it; and from the end of February it
goes past 1 March, where the set has a later day that February has not (*/10; 1,18,30).
"""
import os
import random
import subprocess
import sys

try:
    from croniter import croniter
except ImportError:
    sys.exit("cron_peer: python3-croniter is missing: run test/setup.sh")

BEGIN, SPAN = 1577836800, 3000 * 86400  # from 2020 on
MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
DAYS = "sun mon tue wed thu fri sat".split()


def listed(low, high, names=None):
    parts, start = [], low
    while True:
        first = random.randint(start, high)
        last = random.choice([first, random.randint(first, high)])
        word = (lambda n: names[n - low]) if names and random.random() < 0.3 else str
        part = word(first) if first == last else f"{word(first)}-{word(last)}"
        if first < last and random.random() < 0.4:
            part += f"/{random.randint(1, high - low)}"
        parts.append(part)
        start = last + 1
        if start > high or len(parts) == 3 or random.random() < 0.6:
            return ",".join(parts)


def starred(low, high):
    return random.choice(["*", f"*/{random.randint(1, (high - low) // 2 + 1)}"])


def schedule():
    minute, hour, month = (starred(*r) if random.random() < 0.5 else listed(*r, *n)
                           for r, n in (((0, 59), ()), ((0, 23), ()), ((1, 12), (MONTHS,))))
    kind = random.randrange(4)
    if kind == 0:
        day, weekday = random.choice(["*", "*/8", "*/9", "*/11", "*/12", "*/13", "*/16"]), "*"
    elif kind == 1:
        day, weekday = random.choice([listed(1, 28), listed(29, 31)]), "*"
    else:
        low = random.choice([0, 1])
        weekday = listed(low, low + 5, DAYS[low:])
        day = "*" if kind == 2 else listed(1, 28)
    return " ".join((minute, hour, day, month, weekday))


def theirs(text, after):
    times = croniter(text, float(after))
    return [int(times.get_next(float)) for _ in range(3)]


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100000
    random.seed(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    cases = [(schedule(), BEGIN + random.randrange(SPAN)) for _ in range(count)]
    program = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "cron_lines")
    lines = subprocess.run([program], input="".join(f"{c}\t{t}\n" for c, t in cases), text=True, check=True,
                           stdout=subprocess.PIPE).stdout.splitlines()
    assert len(lines) == count
    refused = wrong = 0
    for (text, after), line in zip(cases, lines):
        if line == "refused":
            refused += 1  # never due: it finds nothing
            try:
                theirs(text, after)
            except Exception:  # pylint: disable=broad-except
                continue
        elif list(map(int, line.split())) == theirs(text, after):
            continue
        wrong += 1
        print(f"cron: {text} after {after}: {line}, croniter: {theirs(text, after)}")
    print(f"cron: {count} random schedules, {refused} never due, {wrong} otherwise than croniter")
    return wrong > 0 or refused > count // 10


if __name__ == "__main__":
    sys.exit(main())
