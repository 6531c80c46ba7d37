# SPDX-License-Identifier: MIT
"""Makes functions of what profile_plugin.c has counted.

Usage: profile_report.py COUNTED RESULT REQUESTS [--top N] [--json FILE] [--elf NAME=FILE]...

  COUNTED   what the plugin wrote: a block for each contender
  RESULT    what guest.sh wrote: the contenders, memory maps, and the kernel's symbols
  --elf     where the host has a program whose symbols are wanted, by its name in the guest
"""
import argparse
import bisect
import collections
import json
import subprocess
import sys

KERNEL = 1 << 63
Mapping = collections.namedtuple("Mapping", "start end offset path who")


class Broken(Exception):
    """The input is not what it should be."""


class Symbols:
    """Functions by address: each reaches to the next one."""

    def __init__(self, rows):
        self.rows = sorted(rows)
        self.addresses = [address for address, _ in self.rows]

    def name_of(self, address):
        at = bisect.bisect_right(self.addresses, address) - 1
        return self.rows[at][1] if at >= 0 else None


def program_symbols(path):
    """Of functions, as far as it was not stripped."""
    done = subprocess.run(["nm", "-C", "--defined-only", path], capture_output=True, text=True,
                          timeout=120, check=False)
    rows = []
    for line in done.stdout.splitlines():
        address, kind, name = line.split(" ", 2)
        if kind in "tTwW":
            rows.append((int(address, 16), name))
    return Symbols(rows)


def read_blocks(path):
    """[{address: instructions}], one for each contender."""
    blocks = []
    with open(path, encoding="ascii") as file:
        for line in file:
            if line == "profile\n":
                blocks.append(collections.Counter())
                continue
            address, count = line.split()
            blocks[-1][int(address, 16)] += int(count)
    return blocks


def read_result(path):
    """([(name, measured, [Mapping])], kernel's Symbols)"""
    contenders, kernel = [], []
    with open(path, encoding="utf-8") as file:
        for line in file:
            word, _, rest = line.rstrip("\n").partition(" ")
            if word == "contender":
                name, _, measured = rest.partition(" ")
                contenders.append((name, json.loads(measured), []))
            elif word in ("client", "server"):
                fields = rest.split(None, 5)
                start, end = (int(each, 16) for each in fields[0].split("-"))
                contenders[-1][2].append(Mapping(start, end, int(fields[2], 16),
                                                 fields[5] if len(fields) > 5 else "", word))
            elif word == "symbol":
                address, _, name = rest.partition(" ")
                kernel.append((int(address, 16), name.strip()))
    return contenders, Symbols(kernel)


def short_name(name):
    """Without parameters and the library's own namespaces; of templates what they are made of
    stays away, since it fills lines."""
    depth, out = 0, []
    for at, letter in enumerate(name):
        if letter == "(" and depth == 0 and not name[:at].endswith("operator"):
            break
        depth += (letter == "<") - (letter == ">" and name[at - 1] != "-")
        if depth == 0 and letter != ">":
            out.append(letter)
    text = "".join(out).removeprefix("void ").replace("ublk::v0::detail::", "")
    return text.replace("ublk::v0::", "ublk::")


class Places:
    """Where the addresses of one contender belong."""

    def __init__(self, mappings, kernel, elves):
        self.mappings = sorted(mappings)
        self.starts = [each.start for each in self.mappings]
        self.kernel, self.elves = kernel, elves
        self.bases = {}
        for each in self.mappings:
            self.bases.setdefault((each.who, each.path), each.start - each.offset)

    def of(self, address):
        """(function, where)"""
        if address >= KERNEL:
            return self.kernel.name_of(address) or "?", "kernel"
        at = bisect.bisect_right(self.starts, address) - 1
        found = self.mappings[at] if at >= 0 and address < self.mappings[at].end else None
        if found is None:
            return "other programs", "user"
        file = found.path.rsplit("/", 1)[-1] or "anonymous memory"
        if file in self.elves and found.who == "server":
            name = self.elves[file].name_of(address - self.bases[found.who, found.path])
            return short_name(name) if name else file, "server"
        return file, found.who


def by_function(block, places, requests):
    counts = collections.Counter()
    for address, count in block.items():
        counts[places.of(address)] += count / requests
    return counts


def number(value):
    return f"{value:,.1f}"


def table(names, columns, top):
    """Lines of Markdown: the most expensive, or with two the most different, and a sum of all."""
    functions = set().union(*columns)
    if len(columns) == 2:
        key = lambda each: (-abs(columns[0][each] - columns[1][each]), each)
    else:
        key = lambda each: (-columns[0][each], each)
    chosen = sorted(functions, key=key)[:top]
    rest = [sum(column.values()) - sum(column[each] for each in chosen) for column in columns]
    rows = [(*each, [column[each] for column in columns]) for each in chosen]
    rows.append((f"{len(functions) - len(chosen)} others", "", rest))
    for where in ("kernel", "client", "server", "user"):
        sums = [sum(value for each, value in column.items() if each[1] == where)
                for column in columns]
        rows.append(("**all**", where, sums))
    rows.append(("**all**", "", [sum(column.values()) for column in columns]))
    header = ["function", "where", *names] + (["difference"] if len(columns) == 2 else ["share"])
    yield "| " + " | ".join(header) + " |"
    yield "|---|---|" + "---:|" * (len(header) - 2)
    for name, where, values in rows:
        if len(columns) == 2:
            last = f"{values[1] - values[0]:+,.1f}"
        else:
            last = f"{100 * values[0] / sum(columns[0].values()):.1f} %"
        yield "| " + " | ".join([name, where, *map(number, values), last]) + " |"


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("counted")
    parser.add_argument("result")
    parser.add_argument("requests", type=int)
    parser.add_argument("--top", type=int, default=20)
    parser.add_argument("--json")
    parser.add_argument("--elf", action="append", default=[])
    asked = parser.parse_args()
    try:
        blocks = read_blocks(asked.counted)
        contenders, kernel = read_result(asked.result)
        if len(blocks) != len(contenders) or not blocks:
            raise Broken(f"{len(blocks)} profiles of {len(contenders)} disks: the marks of load "
                         "were not seen")
    except (Broken, OSError, ValueError, IndexError) as wrong:
        sys.exit(f"profile_report.py: {wrong}")
    elves = {name: program_symbols(path)
             for name, path in (each.split("=", 1) for each in asked.elf)}
    columns = [by_function(block, Places(maps, kernel, elves), asked.requests)
               for block, (_, _, maps) in zip(blocks, contenders)]
    names = [name for name, _, _ in contenders]
    print("\n".join(table(names, columns, asked.top)))
    if asked.json:
        data = [{"disk": name, "functions": [{"function": f, "where": w, "instructions": n}
                                             for (f, w), n in column.most_common()]}
                for name, column in zip(names, columns)]
        with open(asked.json, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=1)


if __name__ == "__main__":
    main()
