# SPDX-License-Identifier: MIT
"""The report as pages of text, tables and plots, and these as Markdown and as HTML."""
import html as escape_html
import math
import re
import subprocess

INSTRUMENTS = {
    "counts": "instructions of the whole system per request (client, block layer, driver, server)",
    "clock": "requests per second, median of the rounds",
}
GROUPS = {
    "null": "Nothing stored: one queue, one job",
    "null-jobs": "Nothing stored: two queues, more jobs",
    "four-cpus": "Nothing stored: four queues on four CPUs",
    "memory": "Memory and files on tmpfs: one queue, one job",
    "file": "A file on tmpfs: one queue, one job",
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
    """By name, points (x, Spread) and the line through them; x by powers of 2. `styles` has how
    each name looks, the same in all plots."""

    def __init__(self, title, axis, y_label, series, styles):
        self.title, self.axis, self.y_label, self.series = title, axis, y_label, series
        self.styles = styles


class Page:
    def __init__(self, title):
        self.title, self.parts = title, []

    def add(self, part):
        self.parts.append(Text(part) if isinstance(part, str) else part)


def cell_title(cell):
    words = [SIZES.get(cell.bytes, f"{cell.bytes} B"), cell.way, f"depth {cell.depth}"]
    if cell.jobs > 1:
        words.append(f"{cell.jobs} jobs")
    if cell.client != "load":
        words.append(cell.client)
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


GREYS = ["#000000", "#666666", "#999999", "#bbbbbb"]
REDS = ["#b2182b", "#e08214", "#d6604d", "#f1a340", "#8c510a"]
BLUES = ["#08519c", "#1b9e77", "#4393c3", "#762a83", "#66a61e", "#2166ac", "#01665e", "#9970ab",
         "#35978f", "#80b1d3"]
LINES_MAX = 7


def palette(name):
    """The kernel's own devices are grey, kublk's red, ours blue and green."""
    return BLUES if "/" in name else REDS if name.startswith("kublk") else GREYS


def styles_of(names):
    """(colour, dash, point) by name."""
    styles, used = {}, {}
    for name in names:
        colours = palette(name)
        number = used[id(colours)] = used.get(id(colours), -1) + 1
        styles[name] = (colours[number % len(colours)], 1 + number // len(colours),
                        (7, 5, 9, 11, 13, 4, 6, 8, 10, 12)[number % 10])
    return styles


def split(names):
    """So few a plot that each line can be told from the others; one of the kernel's own devices, by
    which all are measured, is in every one."""
    names = sorted(names, key=lambda name: (palette(name) is not GREYS, palette(name) is BLUES))
    base, others = names[:1], names[1:]
    count = -(-len(others) // (LINES_MAX - 1)) or 1
    return [base + others[part::count] for part in range(count)]


def axis_plots(figures, group, instrument, axis, styles, **fixed):
    """How the figure changes along one axis, others as `fixed`; none where it has one point."""
    series = {}
    ask = figures.per_request if instrument == "counts" else figures.rate
    for cell in figures.cells(group=group, instrument=instrument, client="load", **fixed):
        for name in figures.rounds[cell]:
            series.setdefault(name, []).append((getattr(cell, axis), ask(cell, name)))
    if not series or max(len(points) for points in series.values()) < 2:
        return
    unit = "instructions a request" if instrument == "counts" else "requests a second"
    parts = split(list(series))
    for number, names in enumerate(parts, 1):
        title = f"{GROUPS.get(group, group)}: {unit} by {AXIS_NAMES[axis]}"
        title += f" ({number} of {len(parts)})" if len(parts) > 1 else ""
        yield Plot(title, axis, unit, {name: sorted(series[name]) for name in names}, styles)


AXIS_NAMES = {"depth": "depth", "bytes": "size of a request", "jobs": "jobs"}
AXES = {"depth": {"way": "read", "bytes": 4096, "jobs": 1},
        "bytes": {"way": "read", "depth": 64, "jobs": 1},
        "jobs": {"way": "read", "bytes": 4096, "depth": 64}}


def group_pages(figures, group, styles):
    page = Page(GROUPS.get(group, group))
    for instrument, unit in INSTRUMENTS.items():
        if not figures.cells(group=group, instrument=instrument):
            continue
        page.add(f"**{instrument}**: {unit}.")
        page.add(results_table(figures, group, instrument))
        if group != "matrix":
            for axis, fixed in AXES.items():
                for plot in axis_plots(figures, group, instrument, axis, styles, **fixed):
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
    if figures.cells(group="ram-disk"):
        pages.append(goals.ram_disk_table(figures))
    styles = styles_of(figures.contenders())
    pages += [group_pages(figures, group, styles) for group in GROUPS if figures.cells(group=group)]
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


def tick(axis, value):
    if axis == "bytes":
        return SIZES.get(value, f"{value} B")
    return f"{value}"


def short(value):
    """"1.5k", "20k", "3M"."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def y_ticks(least, most):
    """Round values of a logarithmic axis, from below the least to above the most."""
    steps = [1, 2, 5] if most / least > 20 else [1, 1.5, 2, 3, 5, 7] if most / least > 3 else [
        1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9]
    power = 10 ** math.floor(math.log10(least))
    ticks = [step * power * 10 ** more for more in range(12) for step in steps]
    first = max((each for each in ticks if each <= least), default=ticks[0])
    last = min(each for each in ticks if each >= most and each > first)
    return [each for each in ticks if first <= each <= last]


def plot_data(plot):
    lines = []
    for number, points in enumerate(plot.series.values()):
        rows = [f"{x} {y.median:.1f} {y.least:.1f} {y.most:.1f}" for x, y in points]
        lines += [f"$s{number} << END", *rows, "END"]
    return lines


def plot_lines(plot):
    drawn = []
    for number, name in enumerate(plot.series):
        colour, dash, point = plot.styles[name]
        drawn.append(f"$s{number} using 1:2:3:4 with yerrorlines lw 1.5 lc rgb '{colour}' "
                     f"dt {dash} pt {point} ps 0.7 title \"{name}\"")
    return "plot " + ", ".join(drawn)


def gnuplot(plot):
    """The plot as SVG; bars from the least to the most, where there are several rounds."""
    spreads = [y for points in plot.series.values() for _, y in points]
    x_values = sorted({x for points in plot.series.values() for x, _ in points})
    y_values = y_ticks(min(each.least for each in spreads), max(each.most for each in spreads))
    x_tics = ", ".join(f'"{tick(plot.axis, x)}" {x}' for x in x_values)
    y_tics = ", ".join(f'"{short(y)}" {y:g}' for y in y_values)
    lines = ["set terminal svg size 860,560 dynamic noenhanced font 'sans-serif,12' "
             "background '#ffffff'",
             f'set title "{plot.title}"', f'set xlabel "{AXIS_NAMES[plot.axis]}"',
             f'set ylabel "{plot.y_label}"', "set logscale x 2", "set logscale y",
             f"set xrange [{x_values[0] / 1.3:g}:{x_values[-1] * 1.3:g}]",
             f"set yrange [{y_values[0]:g}:{y_values[-1]:g}]",
             f"set xtics ({x_tics})", f"set ytics ({y_tics})",
             "set lmargin 10", "set rmargin 4", "set border 3", "set tics nomirror out",
             "set key below maxcols 2 samplen 3", "set grid ytics lc rgb '#dddddd'"]
    lines += plot_data(plot) + [plot_lines(plot)]
    done = subprocess.run(["gnuplot"], input="\n".join(lines) + "\n", capture_output=True,
                          text=True, timeout=60, check=False)
    if done.returncode != 0 or "<svg" not in done.stdout:
        raise RuntimeError(f"gnuplot: {done.stderr.strip()}")
    # Within HTML a drawing needs no name of its format, and blanks are only blanks. Its parts have
    # names, which must not be those of another drawing on the page.
    drawing = re.sub(r"\s+xmlns(:xlink)?=\"[^\"]*\"", "", done.stdout[done.stdout.index("<svg"):])
    own = re.sub(r"\W", "", plot.title)
    drawing = re.sub(r"(id=['\"]|url\(#|href=['\"]#)gp", rf"\g<1>{own}gp", drawing)
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
