# SPDX-License-Identifier: MIT
"""What the library is to reach, and whether it does; and the seed's table."""
from document import Page, Table

PER_WAKEUP = "null/per_cpu/per_wakeup/copy"
BATCHES = "null/per_cpu/batch_io/copy"
GET_DATA = "null/per_cpu/per_wakeup/get_data"
KUBLK = ["kublk", "kublk-u", "kublk-b", "kublk-auto_zc", "kublk-auto_zc-b"]
BASE = {"way": "read", "bytes": 4096, "jobs": 1}
SEED_SAID = {("read", 1): 39, ("read", 4): 85, ("write", 4): 91}
NOT_MEASURED = ("not measured", None)


def is_ours(contender):
    return "/" in contender


def reads_zeroes(contender):
    return contender.startswith("null/")


def moves_nothing(contender):
    """As the null target of kublk: it hands over what the memory held before."""
    return contender.startswith("hollow/")


def above_null_blk(figures, contenders, most):
    """Instructions of the best more than null_blk, with fio as the client: that is what the goal
    is about."""
    cell = figures.cell(group="null", instrument="counts", client="fio", depth=64, **BASE)
    base = figures.per_request(cell, "null_blk")
    counted = {each: figures.per_request(cell, each) for each in contenders}
    counted = {name: each.median for name, each in counted.items() if each}
    if not counted or not base:
        return NOT_MEASURED
    best = min(counted, key=counted.get)
    more = counted[best] - base.median
    return f"{more:,.0f} ({counted[best]:,.0f} - {base.median:,.0f}): {best}", more <= most


def beside_kublk(figures, jobs, which):
    """Our best of those beside kublk's best."""
    cell = figures.cell(group="null-jobs", instrument="clock", client="load", depth=64,
                        **{**BASE, "jobs": jobs})
    if cell is None:
        return NOT_MEASURED
    ours = figures.best(cell, filter(which, figures.rounds[cell]))
    theirs = figures.best(cell, KUBLK)
    if not ours or not theirs:
        return NOT_MEASURED
    speed = figures.speed(cell, ours, theirs)
    return (f"{speed.median:.2f} ({speed.least:.2f}–{speed.most:.2f}, {speed.count} pairs): "
            f"{ours} / {theirs}", speed.median >= 1)


def at_depth_1(figures):
    cell = figures.cell(group="null", instrument="counts", client="load", depth=1, **BASE)
    mine, theirs = figures.per_request(cell, PER_WAKEUP), figures.per_request(cell, "kublk")
    if not mine or not theirs:
        return NOT_MEASURED
    return f"{mine.median:,.0f} (kublk {theirs.median:,.0f})", mine.median <= theirs.median


def enters(figures, depth, most):
    cell = figures.cell(group="null", instrument="counts", client="load", depth=depth, **BASE)
    count = figures.value(cell, PER_WAKEUP, "server_enters")
    if count is None:
        return NOT_MEASURED
    return f"{count:.4f}", count <= most


def own_instructions(results, case):
    """Of the library for a read, in user mode; None where they were not counted."""
    for each in results["own"]:
        if each["case"] == case:
            return each["read"]
    return None


def own(results, case, most):
    count = own_instructions(results, case)
    return (f"{count:.0f}, and the clearing", count <= most) if count is not None else NOT_MEASURED


def beyond_the_copy(results):
    memory, null = (own_instructions(results, case) for case in ("memory.copy", "null.copy"))
    if memory is None or null is None:
        return NOT_MEASURED
    return f"{memory - null:.0f} ({memory:.0f} - {null:.0f})", memory - null <= 30


def server_memory(results):
    """Beyond the tag buffers, in KiB: what is its own, without the program's text."""
    for line in results["memory"]:
        if line["contender"] == PER_WAKEUP and line["queues"] == 4:
            buffers = 4 * line["depth"] * 256
            more = line["memory"]["VmRSS"] - buffers
            own = line["memory"]["RssAnon"] - buffers
            if own < 0:
                break  # fewer queues were granted: on a guest with fewer CPUs
            return (f"{own:,} KiB; {more:,} KiB with the text of program and libraries",
                    own <= 1024)
    return NOT_MEASURED


def seed_cell(figures, instrument, client, way, jobs):
    return figures.cell(group="seed", instrument=instrument, client=client, way=way, jobs=jobs,
                        bytes=4096, depth=64)


def seed_speed(figures, instrument, client, way, jobs):
    """The best of ours, and its speed beside loop."""
    cell = seed_cell(figures, instrument, client, way, jobs)
    if cell is None:
        return None, None
    best = figures.best(cell, filter(is_ours, figures.rounds[cell]))
    return best, figures.speed(cell, best, "loop") if best else None


def seed_goal(figures, instrument, client, way, jobs):
    best, speed = seed_speed(figures, instrument, client, way, jobs)
    if not speed:
        return NOT_MEASURED
    return f"{percent(speed)}: {best}", speed.median >= 1


def percent(speed):
    if speed.count == 1:
        return f"{100 * speed.median:.0f} %"
    return (f"{100 * speed.median:.0f} % ({100 * speed.least:.0f}–{100 * speed.most:.0f}, "
            f"{speed.count} pairs)")


def instruments(figures, group):
    """(instrument, client) pairs that a group was measured with."""
    found = {}
    for cell in figures.cells(group=group):
        found[(cell.instrument, cell.client)] = None
    return sorted(found, reverse=True)


def evaluate(results, figures):
    """[(goal, figure, met)], where met is None for what was not measured."""
    rows = [
        ("null, 4 KiB random read, depth 64, fio: instructions above null_blk, per_wakeup <= 2,250",
         *above_null_blk(figures, [PER_WAKEUP, GET_DATA], 2250)),
        ("the same, batch_io <= 1,500", *above_null_blk(figures, [BATCHES], 1500)),
    ]
    for jobs in (1, 2, 4):
        what = f"{jobs} job{'s' if jobs > 1 else ''}: speed beside kublk's best mode >= 1"
        rows.append((f"clock: null, {what}", *beside_kublk(figures, jobs, reads_zeroes)))
        # kublk's null target gives no zeroes, so this says what those cost.
        figure, _ = beside_kublk(figures, jobs, moves_nothing)
        rows.append((f"for comparison, without zeroes, as kublk: {what}", figure, None))
    rows += [
        ("null, depth 1: instructions <= kublk's", *at_depth_1(figures)),
        ("null, depth 1: io_uring_enter per request <= 1", *enters(figures, 1, 1.001)),
        ("null, depth 64, per_wakeup: io_uring_enter per request <= 1/16",
         *enters(figures, 64, 1 / 16)),
    ]
    for instrument, client in instruments(figures, "seed"):
        for way, jobs in SEED_SAID:
            rows.append((f"seed's table, {instrument}, {client}: {way}, {jobs} "
                         f"job{'s' if jobs > 1 else ''}: >= 100 % of loop",
                         *seed_goal(figures, instrument, client, way, jobs)))
    rows += [
        ("user mode: instructions per null read <= 60", *own(results, "null.copy", 60)),
        ("user mode: the same in driver batches <= 40",
         *own(results, "null.copy_batches", 40)),
        ("user mode: memory beyond null and the copy <= 30", *beyond_the_copy(results)),
        ("server memory, depth 128, 4 queues, null: tag buffers and <= 1,024 KiB",
         *server_memory(results)),
    ]
    return rows


def word(met):
    return {True: "met", False: "missed", None: "–"}[met]


def table(results, figures):
    rows = [[goal, figure, word(met)] for goal, figure, met in evaluate(results, figures)]
    return Table(["goal", "figure", ""], rows, "ll")


def summary(results, figures):
    for goal, figure, met in evaluate(results, figures):
        yield f"{word(met):8}{goal}: {figure}"


def seed_table(figures):
    """Our RAM disk in percent of loop on tmpfs."""
    columns = instruments(figures, "seed")
    ours = [each for each in figures.contenders(group="seed") if is_ours(each)]
    header = ["4 KiB, depth 64", "the seed's README"]
    header += [f"{name}: {instrument}, {client}" for instrument, client in columns for name in ours]
    rows = []
    for (way, jobs), said in SEED_SAID.items():
        row = [f"{way}, {jobs} job{'s' if jobs > 1 else ''}", f"{said} %"]
        for instrument, client in columns:
            cell = seed_cell(figures, instrument, client, way, jobs)
            speeds = [figures.speed(cell, name, "loop") for name in ours]
            row += [percent(each) if each else "–" for each in speeds]
        rows.append(row)
    page = Page("The seed's table: our RAM disk in percent of loop on tmpfs")
    page.add("Counts compare instructions of the whole system, the clock requests per second: the "
             "median of the pairs, with the least and the most. Servers have two queues of depth "
             "128; loop is buffered.")
    # One row for each of ours reads better than a column.
    turned = [list(each) for each in zip(*([header] + rows))]
    page.add(Table(turned[0], turned[1:], "l"))
    return page
