"""What the memory costs: cold and warm search, grep, writes, start, memory; side by side with SQLite FTS5 and `pass`.

    python3 -m tests.bench.bench_memory            10,000 chunks
    python3 -m tests.bench.bench_memory 1000 100000    two sizes, for what must not depend on size

Times are medians in ms of one run on this machine: compare within a table, not between runs.
"""
from __future__ import annotations

import os
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable

from tests.bench.corpus import chunks, write_jsonl
from tests.support import RLM, McpClient

QUERIES = {
    "rare word": "ConnectionResetError",
    "one word": "timeout",
    "two words": "memory leak",
    "question, 9 words": "how to close a socket connection after timeout in python handler",
    "common words": "error file string value function",
    "stop words": "the of and to in is it",
    "identifier": "test_case_insensitive",
    "unknown word": "zzqqxx nothing has this",
}
PATTERNS = {"common word": "import", "word": "timeout", "rare word": "ConnectionResetError", "two words": "memory leak",
            "regex with literal": r"def \w+_handler\(", "regex without": r"[A-Z]{3}-\d{4}", "absent": "qqzzxxyy"}


def median_ms(run: Callable[[], object], n_runs: int = 15) -> float:
    """The median time of a call in milliseconds, after one warm-up."""
    run()
    times = []
    for _ in range(n_runs):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


# How to run rlm with cached bytecode; without it, Python compiles the file at every start.
CACHED = {"PYTHONPATH": os.path.dirname(RLM), "PYTHONDONTWRITEBYTECODE": ""}


def process_ms(*commands: list[str], n_runs: int = 15) -> list[float]:
    """The medians of several commands as whole processes, run in turn so that all meet the same noise."""
    times: list[list[float]] = [[] for _ in commands]
    for _ in range(n_runs + 1):
        for command, spent in zip(commands, times):
            started = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env={**os.environ, **CACHED})
            spent.append(time.perf_counter() - started)
    return [statistics.median(spent[1:]) * 1e3 for spent in times]


def fts5(texts: Iterable[str]) -> sqlite3.Connection:
    """The same texts in SQLite's full-text index."""
    database = sqlite3.connect(":memory:")
    database.execute("create virtual table t using fts5(x)")
    database.executemany("insert into t(x) values (?)", ((text,) for text in texts))
    return database


def fts5_search(database: sqlite3.Connection, query: str) -> object:
    """The ten best for any of the words, with their text: what a tool would show."""
    words = " OR ".join(f'"{w}"' for w in dict.fromkeys(re.findall(r"\w+", query)))
    return database.execute("select rowid, x from t where t match ? order by rank limit 10", (words,)).fetchall()


def rss_mb(pid: int) -> float:
    """Resident memory of a process in MB, 0.0 where the system does not tell."""
    out = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return int(out) / 1000 if out.strip() else 0.0


def start_ms(folder: str, command: list[str], n_runs: int = 9) -> float:
    """The median time from spawning a server to its answer to `initialize`."""
    times = []
    for _ in range(n_runs):
        started = time.perf_counter()
        client = McpClient(folder, command, CACHED)
        client.initialize()
        times.append(time.perf_counter() - started)
        client.close()
    return statistics.median(times) * 1e3


def row(*cells: object) -> None:
    """Prints a row of a table."""
    print("| " + " | ".join(f"{c:.2f}" if isinstance(c, float) else str(c) for c in cells) + " |", flush=True)


def head(*cells: str) -> None:
    """Prints the head of a table."""
    print()
    row(*cells)
    print("|" + "---|" * len(cells))


def fill(folder: str, n_chunks: int) -> None:
    """A store in *folder* with that many chunks; prints what filling it took."""
    os.environ.update(HOME=folder, RLM_PROJECT="bench")
    source = os.path.join(folder, "corpus.jsonl")
    write_jsonl(source, n_chunks)
    started = time.perf_counter()
    subprocess.run([sys.executable, RLM, "import", source], check=True)
    print(f"import: {time.perf_counter() - started:.1f} s for {os.path.getsize(source) / 1e6:.0f} MB")


def bench_search(client: McpClient, n_chunks: int) -> None:
    """Warm search over MCP against FTS5 in this process."""
    database = fts5(chunks(n_chunks))
    head("warm search", "rlm over MCP", "FTS5 in process", "rlm / FTS5")
    for name, query in QUERIES.items():
        ours = median_ms(lambda q=query: client.call("rlm_search", query=q, limit=10))  # type: ignore[misc]
        theirs = median_ms(lambda q=query: fts5_search(database, q))  # type: ignore[misc]
        row(name, ours, theirs, ours / theirs)


def bench_grep(client: McpClient) -> None:
    """Warm grep over MCP."""
    head("warm grep", "rlm over MCP")
    for name, pattern in PATTERNS.items():
        row(name, median_ms(lambda p=pattern: client.call("rlm_grep", pattern=p), 7))  # type: ignore[misc]
    row("two typos", median_ms(lambda: client.call("rlm_grep", pattern="conection timout", fuzzy=True), 7))


def bench_processes(folder: str) -> None:
    """Whole processes against `python3 -c pass`."""
    python = sys.executable
    words = ["search", QUERIES["question, 9 words"]]
    bare, cold, cached, grep = process_ms(
        [python, "-c", "pass"], [python, RLM, *words], [python, "-m", "rlm", *words], [python, RLM, "grep", "timeout"])
    head("process", "ms", "x pass")
    row("python3 -c pass", bare, 1.0)
    row("python3 rlm.py search", cold, cold / bare)
    row("python3 -m rlm search", cached, cached / bare)
    row("python3 rlm.py grep", grep, grep / bare)
    for how in (["rlm.py"], ["-m", "rlm"]):
        started = start_ms(folder, [python, *(how if "-m" in how else [RLM]), "serve"])
        row(f"python3 {' '.join(how)} serve, spawn to initialize", started, started / bare)


def bench_writes(client: McpClient, n_chunks: int) -> None:
    """The cost of a chunk, an insight and a peek, which should not depend on the store's size."""
    n_calls = iter(range(10**9))
    text = "a line of ordinary text that says something\n" * 45
    times = {
        "rlm_chunk": median_ms(lambda: client.call("rlm_chunk", content=f"{next(n_calls)} {text}"), 100),
        "rlm_remember": median_ms(lambda: client.call("rlm_remember", content=f"number {next(n_calls)}"), 100),
        "rlm_peek": median_ms(lambda: client.call("rlm_peek", chunk_id="2026-01-"[:8] + known_day(client)), 100),
    }
    head(f"write and read at {n_chunks:,}", "ms")
    for name, spent in times.items():
        row(name, spent)


def known_day(client: McpClient) -> str:
    """The rest of an old chunk's id behind "2026-01-", found once per client."""
    if not hasattr(client, "known"):
        found = re.findall(r"\[2026-01-(\S+?)\]", client.text("rlm_grep", pattern="import", date_to="2026-01-31"))
        client.known = found[0]  # type: ignore[attr-defined]
    return str(client.known)  # type: ignore[attr-defined]


def bench_size(n_chunks: int, is_first: bool) -> None:
    """All tables for one size; those that compare with others only for the first."""
    folder = tempfile.mkdtemp(prefix="rlm-bench-")
    try:
        print(f"\n## {n_chunks:,} chunks, Python {sys.version.split()[0]}\n")
        fill(folder, n_chunks)
        client = McpClient(folder)
        client.initialize()
        if is_first:
            bench_search(client, n_chunks)
        bench_grep(client)
        print(f"\nserver memory after these: {rss_mb(client.process.pid):.1f} MB")
        bench_writes(client, n_chunks)
        client.close()
        bench_processes(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    for i, size in enumerate(map(int, sys.argv[1:] or ["10000"])):
        bench_size(size, i == 0)
