# SPDX-License-Identifier: MIT
"""What the library is to reach, and whether it does; and our RAM disk beside loop."""
from collections import namedtuple

from document import Page, Table
from figures import Spread

PER_WAKEUP = "null/per_cpu/per_wakeup/copy"
BATCHES = "null/per_cpu/batch_io/copy"
RAM_DISK = "memory/per_cpu/per_wakeup/copy"
FILE = "file/per_cpu/per_wakeup/copy"
KUBLK = ["kublk", "kublk-u", "kublk-b", "kublk-auto_zc", "kublk-auto_zc-b"]
BASE = {"way": "read", "bytes": 4096, "jobs": 1}
RAM_DISK_CELLS = [("read", 1), ("read", 4), ("write", 4)]
CLIENTS = {"load": "all that is free a system call", "single": "one request a system call",
           "fio": "fio"}

# `spread` is None for what was not measured, `text` what to show for it.
Goal = namedtuple("Goal", "what text spread sense limit")


def is_ours(contender):
    return "/" in contender


def verdict(goal):
    """A range that has the limit within it decides nothing."""
    if goal.spread is None or goal.limit is None:
        return "–" if goal.limit is None else "not measured"
    reached = [value >= goal.limit if goal.sense == ">=" else value <= goal.limit
               for value in (goal.spread.least, goal.spread.most)]
    return "met" if all(reached) else "not decided" if any(reached) else "missed"


def number(value, digits=0):
    return f"{value:,.{digits}f}"


def ranged(spread, digits=0, unit=""):
    """"5", or "5 (4–6, 3 times)"."""
    text = number(spread.median, digits)
    if spread.count > 1:
        text += (f" ({number(spread.least, digits)}–{number(spread.most, digits)}, "
                 f"{spread.count} times)")
    return text + unit


def goal(what, spread, sense, limit, digits=0, unit="", note=""):
    text = "–" if spread is None else ranged(spread, digits, unit) + note
    return Goal(f"{what} {sense} {number(limit, digits)}{unit}" if limit is not None else what,
                text, spread, sense, limit)


def exactly(value):
    return None if value is None else Spread(value, value, value, 1)


def cell_of(figures, group, client, depth=64, instrument="counts", **other):
    return figures.cell(group=group, instrument=instrument, client=client, depth=depth,
                        **{**BASE, **other})


def counted(figures, contender, group, client, **cell):
    return figures.per_request(cell_of(figures, group, client, **cell), contender)


def best_kublk(figures, group, client, **cell):
    """" (kublk 9,000, kublk-b 8,000)" of what was measured beside it."""
    at = cell_of(figures, group, client, **cell)
    known = [(each, figures.per_request(at, each)) for each in KUBLK]
    told = ", ".join(f"{name} {number(spread.median)}" for name, spread in known if spread)
    return f" ({told})" if told else ""


def above_null_blk(figures, contender, limit):
    mine = counted(figures, contender, "null", "load")
    base = counted(figures, "null_blk", "null", "load")
    more = mine and base and Spread(mine.median - base.median, mine.least - base.most,
                                    mine.most - base.least, mine.count)
    return goal(f"null, depth 64: instructions above null_blk, {contender}", more, "<=", limit)


def at_depth_1(figures, contender, limit):
    return goal(f"null, depth 1: instructions, {contender}",
                counted(figures, contender, "null", "load", depth=1), "<=", limit,
                note=best_kublk(figures, "null", "load", depth=1))


def on_four_cpus(figures, jobs, limit):
    return goal(f"null, 4 queues on 4 CPUs, {CLIENTS['single']}, {jobs} job"
                f"{'s' if jobs > 1 else ''}: instructions, {PER_WAKEUP}",
                counted(figures, PER_WAKEUP, "four-cpus", "single", jobs=jobs), "<=", limit,
                note=best_kublk(figures, "four-cpus", "single", jobs=jobs))


def ram_disk_speed(figures, instrument, client, way, jobs, contender):
    cell = cell_of(figures, "ram-disk", client, instrument=instrument, way=way, jobs=jobs)
    return percent(figures.speed(cell, contender, "loop"))


def percent(speed):
    return speed and Spread(100 * speed.median, 100 * speed.least, 100 * speed.most, speed.count)


def ram_disk_goals(figures):
    counts = {("read", 1): 116, ("read", 4): 165, ("write", 4): 135}
    for way, jobs in RAM_DISK_CELLS:
        for instrument, client, limit in (("counts", "single", counts[way, jobs]),
                                          ("counts", "load", 100), ("clock", "load", 100)):
            yield goal(f"{RAM_DISK}, {instrument}, {CLIENTS[client]}, {way}, {jobs} job"
                       f"{'s' if jobs > 1 else ''}: of loop on tmpfs",
                       ram_disk_speed(figures, instrument, client, way, jobs, RAM_DISK),
                       ">=", limit, unit=" %")


def file_goal(figures, client, depth, limit):
    cell = cell_of(figures, "file", client, depth=depth)
    return goal(f"{FILE} on tmpfs, {CLIENTS[client]}, depth {depth}: of loop",
                percent(figures.speed(cell, FILE, "loop")), ">=", limit, unit=" %")


def beside_kublk(figures, jobs):
    """Our best that reads as zeroes beside kublk's best, by the clock."""
    cell = cell_of(figures, "null-jobs", "load", instrument="clock", jobs=jobs)
    measured = figures.rounds.get(cell, {})
    ours = figures.best(cell, [each for each in measured if each.startswith("null/")])
    theirs = figures.best(cell, KUBLK)
    speed = figures.speed(cell, ours, theirs) if ours and theirs else None
    return goal(f"clock: null, {jobs} job{'s' if jobs > 1 else ''}: speed beside kublk's best",
                speed, ">=", 1, digits=2, note=f": {ours} / {theirs}" if speed else "")


def enters(figures, depth, limit):
    cell = cell_of(figures, "null", "load", depth=depth)
    return goal(f"null, depth {depth}: io_uring_enter per request",
                exactly(figures.value(cell, PER_WAKEUP, "server_enters")), "<=", limit, digits=4)


def own_instructions(results, case):
    """Of the library for a read, in user mode; None where they were not counted."""
    return next((each["read"] for each in results["own"] if each["case"] == case), None)


def own_goals(results):
    null, batches, memory = (own_instructions(results, case)
                             for case in ("null.copy", "null.copy_batches", "memory.copy"))
    yield goal("user mode: instructions per null read", exactly(null), "<=", 60,
               note=", and the clearing")
    yield goal("user mode: the same in driver batches", exactly(batches), "<=", 40,
               note=", and the clearing")
    beyond = None if None in (memory, null) else memory - null
    yield goal("user mode: memory beyond null and the copy", exactly(beyond), "<=", 30)


def server_memory(results):
    """Beyond the tag buffers, in KiB: what is its own, without the program's text."""
    for line in results["memory"]:
        own = line["memory"]["RssAnon"] - 4 * line["depth"] * 256
        if line["contender"] == PER_WAKEUP and line["queues"] == 4 and own >= 0:
            return own  # else fewer queues were granted: on a guest with fewer CPUs
    return None


def evaluate(results, figures):
    return [above_null_blk(figures, PER_WAKEUP, 2083),
            above_null_blk(figures, BATCHES, 1450),
            at_depth_1(figures, PER_WAKEUP, 22650),
            at_depth_1(figures, BATCHES, 23400),
            on_four_cpus(figures, 1, 7900),
            on_four_cpus(figures, 4, 8000),
            *ram_disk_goals(figures),
            file_goal(figures, "single", 64, 105),
            file_goal(figures, "load", 1, 120),
            *[beside_kublk(figures, jobs) for jobs in (1, 2, 4)],
            enters(figures, 1, 1.001),
            enters(figures, 64, 1 / 16),
            *own_goals(results),
            goal("server memory, depth 128, 4 queues, null: KiB beyond the tag buffers",
                 exactly(server_memory(results)), "<=", 1024)]


def table(results, figures):
    rows = [[each.what, each.text, verdict(each)] for each in evaluate(results, figures)]
    return Table(["goal", "figure", ""], rows, "ll")


def summary(results, figures):
    for each in evaluate(results, figures):
        yield f"{verdict(each):13}{each.what}: {each.text}"


def ram_disk_table(figures):
    """Ours in percent of loop on tmpfs, a row for each way of measuring."""
    measured = sorted({(cell.instrument, cell.client) for cell in figures.cells(group="ram-disk")})
    ours = [each for each in figures.contenders(group="ram-disk") if is_ours(each)]
    rows = []
    for name in ours:
        for instrument, client in measured:
            speeds = [ram_disk_speed(figures, instrument, client, way, jobs, name)
                      for way, jobs in RAM_DISK_CELLS]
            rows.append([name, instrument, CLIENTS[client]]
                        + ["–" if each is None else ranged(each, unit=" %") for each in speeds])
    page = Page("Our RAM disk in percent of loop on tmpfs")
    page.add("4 KiB, depth 64. Counts compare instructions of the whole system, the clock requests "
             "per second: the median of the pairs, with the least and the most. Servers have two "
             "queues of depth 128; loop is buffered.")
    page.add(Table(["disk", "instrument", "client"]
                   + [f"{way}, {jobs} job{'s' if jobs > 1 else ''}" for way, jobs in RAM_DISK_CELLS],
                   rows, "lll"))
    return page
