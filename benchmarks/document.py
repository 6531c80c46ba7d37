# SPDX-License-Identifier: MIT
"""The report as pages of text, tables and plots, and these as Markdown and as HTML."""
import html as escape_html
import re
import subprocess

INSTRUMENTS = {
    "counts": "instructions of the whole system per request (client, block layer, driver, server)",
    "clock": "requests per second, median of the rounds",
}
GROUPS = {
    "null": "Nothing stored: one queue, one job",
    "null-jobs": "Nothing stored: two queues, more jobs",
    "memory": "Memory and files on tmpfs: one queue, one job",
    "matrix": "Every disk of the matrix",
    "compare": "Two commits",
}
SIZES = {4096: "4 KiB", 65536: "64 KiB", 1048576: "1 MiB"}


class Text:
    def __init__(self, text):
        self.text = text


class Table:
    """`align` has a letter a column, l or r; the last one goes on."""

    def __init__(self, header, rows, align="lr"):
        self.header, self.rows = header, rows
        self.align = align + align[-1] * (len(header) - len(align))


class Plot:
    """Lines through points (x, y) by name; x by powers of 2."""

    def __init__(self, title, x_label, y_label, series):
        self.title, self.x_label, self.y_label, self.series = title, x_label, y_label, series


class Page:
    def __init__(self, title):
        self.title, self.parts = title, []

    def add(self, part):
        self.parts.append(Text(part) if isinstance(part, str) else part)


def cell_title(cell):
    words = [SIZES.get(cell.bytes, f"{cell.bytes} B"), cell.way, f"depth {cell.depth}"]
    if cell.jobs > 1:
        words.append(f"{cell.jobs} jobs")
    if cell.client == "fio":
        words.append("fio")
    return ", ".join(words)


def show(value, spread_too):
    if value is None:
        return "–"
    if spread_too and value.count > 1:
        return f"{value.median:,.0f} ({value.least:,.0f}–{value.most:,.0f})"
    return f"{value.median:,.0f}"


def results_table(figures, group, instrument):
    """A row for each contender, a column for each cell."""
    cells = figures.cells(group=group, instrument=instrument)
    ask = figures.per_request if instrument == "counts" else figures.rate
    rows = []
    for name in figures.contenders(group=group, instrument=instrument):
        rows.append([name] + [show(ask(cell, name), instrument == "clock") for cell in cells])
    return Table(["device"] + [cell_title(cell) for cell in cells], rows)


def decimal(value, digits):
    return "–" if value is None else f"{value:,.{digits}f}"


def costs_table(figures, group, instrument):
    """CPU time, switches, system calls and latencies of the cells of one group."""
    header = ["device", "requests", "p50 µs", "p99 µs", "p99.9 µs", "server CPU ns",
              "client CPU ns", "server's voluntary switches", "switches of the machine",
              "server's io_uring_enter", "client's io_uring_enter"]
    rows = []
    for cell in figures.cells(group=group, instrument=instrument, client="load"):
        for name in figures.rounds[cell]:
            get = lambda key, name=name, cell=cell: figures.value(cell, name, key)
            times = [get(key) for key in ("p50", "p99", "p999")]
            rows.append([name, cell_title(cell)]
                        + [decimal(each and each / 1000, 1) for each in times]
                        + [decimal(get("server_cpu_ns"), 0), decimal(get("client_cpu_ns"), 0)]
                        + [decimal(get(key), 4) for key in
                           ("server_switches", "machine_switches", "server_enters",
                            "client_enters")])
    return Table(header, rows, "llr")


def axis_plot(figures, group, instrument, axis, **fixed):
    """How the figure changes along one axis, others as `fixed`; None where it has one point."""
    series = {}
    ask = figures.per_request if instrument == "counts" else figures.rate
    for cell in figures.cells(group=group, instrument=instrument, client="load", **fixed):
        for name in figures.rounds[cell]:
            value = ask(cell, name)
            series.setdefault(name, []).append((getattr(cell, axis), value.median))
    if not series or max(len(points) for points in series.values()) < 2:
        return None
    unit = "instructions a request" if instrument == "counts" else "requests a second"
    return Plot(f"{GROUPS.get(group, group)}: {unit}", {"bytes": "bytes"}.get(axis, axis), unit,
                {name: sorted(points) for name, points in series.items()})


AXES = {"depth": {"way": "read", "bytes": 4096, "jobs": 1},
        "bytes": {"way": "read", "depth": 64, "jobs": 1},
        "jobs": {"way": "read", "bytes": 4096, "depth": 64}}


def group_pages(figures, group):
    page = Page(GROUPS.get(group, group))
    for instrument, unit in INSTRUMENTS.items():
        if not figures.cells(group=group, instrument=instrument):
            continue
        page.add(f"**{instrument}**: {unit}.")
        page.add(results_table(figures, group, instrument))
        if group != "matrix":
            for axis, fixed in AXES.items():
                plot = axis_plot(figures, group, instrument, axis, **fixed)
                if plot:
                    page.add(plot)
    return page


def costs_pages(figures):
    page = Page("Latency, CPU time, switches and system calls")
    page.add("Per request. With counts a nanosecond is an instruction, and the switches and system "
             "calls repeat; latencies mean something by the clock only. io_uring_enter is counted "
             "in a run of its own, since counting slows every system call.")
    for group in ("null", "null-jobs", "memory"):
        for instrument in INSTRUMENTS:
            if figures.cells(group=group, instrument=instrument, client="load"):
                page.add(f"**{GROUPS[group]}, {instrument}**")
                page.add(costs_table(figures, group, instrument))
    return page


def about_page(results):
    about = results["about"]
    page = Page("ublk: benchmarks")
    guests = sorted(set(about["guests"].values()))
    page.add(Table(["", ""], [
        ["command", f"`{about['command']}`"], ["commit", about["commit"]],
        ["compiler", about["compiler"]], ["machine", about["machine"]],
        *[["measured in a guest", each] for each in guests], ["date", about["date"]]], "ll"))
    page.add("**Counts** are instructions of the whole guest per request, with one emulated CPU at "
             "a time: they repeat to 1–3 %, but are not time, and a copy within the kernel looks "
             "dearer than one by a program. **Clock** is time in the guest: where its CPUs are "
             "emulated (TCG), only the ratios between neighbours in one table say anything, and "
             "these swing as well.")
    return page


def own_page(results):
    page = Page("The library's own instructions")
    page.add("What the loop of a queue thread executes in user mode for a request of 4 KiB, from "
             "the events in the completion queue to the commands in the submission queue, the "
             "backend included; callgrind's, exact. Loop, port and rings are the real ones, with a "
             "pretended kernel behind them. `libraries` are those of memcpy, memset and the like.")
    page.add(Table(["backend.path", "read", "libraries", "write", "libraries"],
                   [[each["case"]] + [f"{each[key]:,.0f}" for key in (
                       "read", "read_libraries", "write", "write_libraries")]
                    for each in results["own"]]))
    return page


def user_page(results):
    page = Page("The loop of every combination")
    page.add("The same for the whole matrix, on a port that answers at once and that makes the "
             "next request itself, which is in the figures. `moving` are those within memcpy, "
             "memmove and memset (where callgrind counts each byte of a `rep stosb` as one); ns "
             "are the least of five runs on the machine above, where user_copy and the system "
             "calls of `file` are in.")
    names = list(dict.fromkeys(each["name"] for each in results["user"]))
    by_way = {(each["name"], each["way"]): each for each in results["user"]}
    rows = [[name] + [f"{by_way[name, way][key]:,}" for way in ("read", "write")
                      for key in ("instructions", "moving", "ns")] for name in names]
    page.add(Table(["backend/threads/batches/path", "read", "moving", "ns", "write", "moving",
                    "ns"], rows))
    return page


def memory_page(results):
    page = Page("Memory of the servers")
    page.add("KiB, just started; tag buffers are queues x depth x 256 KiB where the data path is a "
             "copy and the buffers are touched at start.")
    names = ["VmRSS", "RssAnon", "RssFile", "RssShmem"]
    rows = [[each["contender"], str(each["queues"]), str(each["depth"])]
            + [f"{each['memory'].get(name, 0):,}" for name in names] for each in results["memory"]]
    page.add(Table(["server", "queues", "depth", *names], rows))
    return page


def ratio(speed, digits):
    return (f"{speed.median:.{digits}f} ({speed.least:.{digits}f}–{speed.most:.{digits}f}, "
            f"{speed.count} pair{'s' if speed.count > 1 else ''})")


def compare_page(figures):
    """A row for each disk and cell: what contender "B:disk" takes beside "A:disk"."""
    page = Page("B beside A: how many times as fast")
    page.add("A and B: instructions of the whole system per request. The ratios are the median of "
             "the pairs, with the least and the most.")
    rows = {}
    for cell in figures.cells(group="compare"):
        for name in figures.rounds[cell]:
            which, _, disk = name.partition(":")
            if which != "B":
                continue
            row = rows.setdefault((disk, cell_title(cell)), ["–"] * 4)
            speed = figures.speed(cell, name, "A:" + disk)
            if speed is None:
                continue
            if cell.instrument == "counts":
                row[:3] = [show(figures.per_request(cell, "A:" + disk), False),
                           show(figures.per_request(cell, name), False), ratio(speed, 3)]
            else:
                row[3] = ratio(speed, 2)
    page.add(Table(["disk", "cell", "A", "B", "B / A, counts", "B / A, clock"],
                   [[*key, *row] for key, row in rows.items()], "llr"))
    return page


def report(results, figures, goals):
    pages = [about_page(results)]
    judged = Page("Goals")
    judged.add(goals.table(results, figures))
    pages.append(judged)
    if figures.cells(group="seed"):
        pages.append(goals.seed_table(figures))
    pages += [group_pages(figures, group) for group in GROUPS if figures.cells(group=group)]
    if any(figures.cells(group=group) for group in ("null", "null-jobs", "memory")):
        pages.append(costs_pages(figures))
    if results["own"]:
        pages.append(own_page(results))
    if results["user"]:
        pages.append(user_page(results))
    if results["memory"]:
        pages.append(memory_page(results))
    return pages


def markdown(pages):
    lines = ["<!-- SPDX-License-Identifier: MIT -->", ""] if len(pages) > 1 else []
    for number, page in enumerate(pages):
        lines += [("# " if number == 0 else "## ") + page.title, ""]
        for part in page.parts:
            if isinstance(part, Text):
                lines += [part.text, ""]
            elif isinstance(part, Table):
                lines.append("| " + " | ".join(part.header) + " |")
                lines.append("|" + "|".join({"l": "---", "r": "---:"}[a] for a in part.align) + "|")
                lines += ["| " + " | ".join(row) + " |" for row in part.rows] + [""]
    return "\n".join(lines).rstrip() + "\n"


def inline(text):
    """The little Markdown that texts and cells have."""
    text = escape_html.escape(text, quote=False)
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", text)
    return re.sub(r"`(.+?)`", r"<code>\1</code>", text)


def html_table(table):
    def cells(tag, words):
        return "".join(f'<{tag} class="{align}">{inline(word)}</{tag}>'
                       for word, align in zip(words, table.align))
    head = f"<tr>{cells('th', table.header)}</tr>" if any(table.header) else ""
    body = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in table.rows)
    return f'<div class="wide"><table>{head}\n{body}</table></div>'


def gnuplot(plot):
    """The plot as SVG."""
    quote = lambda text: '"' + text.replace('"', "'").replace("_", r"\\_") + '"'
    lines = ["set terminal svg size 860,500 dynamic font 'sans-serif,12' background '#ffffff'",
             f"set title {quote(plot.title)}", f"set xlabel {quote(plot.x_label)}",
             f"set ylabel {quote(plot.y_label)}", "set logscale x 2", "set yrange [0:*]",
             "set key below maxcols 3", "set grid ytics lc rgb '#dddddd'", "set format y '%.0f'"]
    for number, points in enumerate(plot.series.values()):
        lines += [f"$s{number} << END", *(f"{x} {y:.1f}" for x, y in points), "END"]
    lines.append("plot " + ", ".join(
        f"$s{number} with linespoints lw 2 ps 0.5 dt {1 + number // 8} title {quote(name)}"
        for number, name in enumerate(plot.series)))
    done = subprocess.run(["gnuplot"], input="\n".join(lines) + "\n", capture_output=True,
                          text=True, timeout=60, check=False)
    if done.returncode != 0 or "<svg" not in done.stdout:
        raise RuntimeError(f"gnuplot: {done.stderr.strip()}")
    # Within HTML a drawing needs no name of its format, and blanks are only blanks.
    drawing = re.sub(r"\s+xmlns(:xlink)?=\"[^\"]*\"", "", done.stdout[done.stdout.index("<svg"):])
    return re.sub(r"\s+", " ", drawing)


STYLE = """body { font: 15px/1.45 sans-serif; margin: 2em auto; max-width: 1100px; padding: 0 1em }
table { border-collapse: collapse; font-size: 13px; margin: 0.6em 0 }
th, td { border-bottom: 1px solid #ddd; padding: 3px 8px; text-align: left; vertical-align: top }
.r { text-align: right; font-variant-numeric: tabular-nums }
th { background: #f4f4f4 } .wide { overflow-x: auto } svg { max-width: 100%; height: auto }"""


def html(pages):
    parts = ['<!DOCTYPE html>', '<!-- SPDX-License-Identifier: MIT -->',
             '<html lang="en"><head><meta charset="utf-8">',
             f"<title>{pages[0].title}</title>", f"<style>{STYLE}</style></head><body>"]
    for number, page in enumerate(pages):
        level = 1 if number == 0 else 2
        parts.append(f"<h{level}>{inline(page.title)}</h{level}>")
        for part in page.parts:
            if isinstance(part, Text):
                parts.append(f"<p>{inline(part.text)}</p>")
            elif isinstance(part, Table):
                parts.append(html_table(part))
            else:
                parts.append(gnuplot(part))
    return "\n".join(parts + ["</body></html>"]) + "\n"
