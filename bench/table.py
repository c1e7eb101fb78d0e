"""Figures as text: for the terminal, and as bench/RESULTS.md."""

import datetime
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure: its rows, and whether its target is reached; `met` is None where it could not be measured."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    target: str
    met: bool | None
    notes: Sequence[str] = field(default=())

    @property
    def verdict(self) -> str:
        return {True: "met", False: "MISSED", None: "not measured"}[self.met]


def skipped(title: str, target: str, why: str) -> Figure:
    """A figure that this machine or this version cannot give."""
    return Figure(title=title, columns=(), rows=(), target=target, met=None, notes=(why,))


def as_text(figure: Figure) -> str:
    """For a terminal: columns aligned, the first to the left, numbers to the right."""
    lines = [f"-- {figure.title}"]
    if figure.rows:
        table = [figure.columns, *figure.rows]
        widths = [max(len(row[index]) for row in table) for index in range(len(figure.columns))]
        for row in table:
            first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join(["   " + first.strip().ljust(widths[0]), *rest]).rstrip())
    lines += [f"   {note}" for note in figure.notes]
    return "\n".join([*lines, f"   target: {figure.target}: {figure.verdict}"])


def as_markdown(figures: Sequence[Figure], facts: Mapping[str, str]) -> str:
    """The whole of RESULTS.md."""
    lines = ["# Figures of the data plane", "", "Written by `make bench`; each is about the machine below.", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", "| figure | target | |", "|---|---|---|"]
    lines += [f"| {item.title} | {item.target} | {item.verdict} |" for item in figures]
    for item in figures:
        lines += ["", f"## {item.title}", ""]
        if item.rows:
            lines += ["| " + " | ".join(item.columns) + " |", "|---" + "|--:" * (len(item.columns) - 1) + "|"]
            lines += ["| " + " | ".join(row) + " |" for row in item.rows]
            lines.append("")
        lines += [f"{note}" for note in item.notes]
        lines.append(f"Target: {item.target}: **{item.verdict}**.")
    return "\n".join(lines) + "\n"


_VERSIONS = {
    "nginx": (["nginx", "-v"], r"nginx/([\d.]+)"),
    "HAProxy": (["haproxy", "-v"], r"version ([\d.]+)"),
    "Go": (["go", "version"], r"go([\d.]+) "),
    "wrk": (["wrk", "-v"], r"wrk (?:debian/)?([\w.-]+)"),
    "h2load": (["h2load", "--version"], r"nghttp2/([\d.]+)"),
}


def machine_facts() -> dict[str, str]:
    """What the figures depend on: no names of hosts, no paths."""
    model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    facts = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": f"{model[1] if model is not None else platform.machine()}, {os.cpu_count()} cores",
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "Python": f"{sys.version.split()[0]} ({platform.python_compiler()})",
    }
    for name, (command, pattern) in _VERSIONS.items():
        try:
            ended = subprocess.run(command, check=False, capture_output=True, text=True)
        except FileNotFoundError:
            facts[name] = "none"
            continue
        found = re.search(pattern, ended.stdout + ended.stderr)
        facts[name] = found[1] if found is not None else "unknown"
    return facts
