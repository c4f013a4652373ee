"""What the memory costs: import, search, grep, hook, start, memory, disk and writes, beside SQLite's FTS5 and bare Python.

    python3 -m tests.bench.bench_memory [N_CHUNKS] [--against OTHER_RLM_PY]

By default 10,000 chunks. Of two programs each has a store of its own, and what is timed is timed in turn. Times are
medians of one run on this machine: compare within a table, not between runs. Searches go over MCP; the row "ping" is
what the pipe alone takes.
"""
from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from tests.bench.corpus import mixed_chunks, write_jsonl
from tests.support import RLM, McpClient

QUERIES = {
    "absent word": "zzqqxx",
    "typo": "exeption",
    "rare word": "ConnectionResetError",
    "French": "problème de connexion au serveur",
    "two words": "memory leak",
    "common word": "error",
    "five common words": "error file string value function",
    "question, nine words": "how to close a socket connection after timeout in python handler",
    "stop words": "the of and to in is it",
}
PATTERNS = {  # with the number of runs
    "grep, first ten of a common word": ("import", 15),
    "grep, absent word": ("qqzzxxyy", 15),
    "grep, no literal in the regex": (r"\b\d{4}-\d{2}-\d{2}\b", 3),
}
PROMPTS = {"finds something": "why does the socket connection close after the timeout in the handler",
           "finds nothing": "please zzqqxx the vvbbnn letter into qqwwrr tomorrow"}
PYTHON = getattr(sys, "_base_executable", "") or sys.executable  # not a venv's, which takes longer to start
N_RUNS = 15
SMALL_STORE = 1000
DISK = os.environ.get("TMPDIR", "/tmp")  # not in memory, where fsync costs nothing
PROJECT = "project0"  # of write_jsonl's items when there is but one project


class Program:
    """A version of rlm.py with its hooks, as `install` would leave them, and its stores by name."""

    def __init__(self, path: str, folder: str) -> None:
        self.path, self.folder = path, os.path.join(folder, "program")
        os.makedirs(self.folder)
        shutil.copy(path, os.path.join(self.folder, "rlm.py"))
        hooks = os.path.join(os.path.dirname(os.path.abspath(path)), "hooks")
        self.hook = os.path.join(self.folder, "hooks", "user_prompt_submit.py")
        shutil.copytree(hooks if os.path.isdir(hooks) else os.path.join(os.path.dirname(RLM), "hooks"),
                        os.path.dirname(self.hook))
        subprocess.run([PYTHON, "-m", "py_compile", os.path.join(self.folder, "rlm.py")], check=True)
        self.homes = os.path.join(folder, "homes")

    def env(self, store: str) -> dict[str, str]:
        """The environment in which the program works on that store."""
        home = os.path.join(self.homes, store)
        os.makedirs(home, exist_ok=True)
        return {"HOME": home, "PATH": os.environ["PATH"], "RLM_PROJECT": PROJECT, "PYTHONPATH": self.folder}

    def run(self, *arguments: str) -> list[str]:
        """A command that starts the program from cached bytecode."""
        return [PYTHON, "-S", "-m", "rlm", *arguments]

    def server(self, store: str) -> McpClient:
        """A server on that store, ready for calls."""
        env = self.env(store)
        client = McpClient(env["HOME"], self.run("serve"), {"PYTHONDONTWRITEBYTECODE": "", **env})
        client.initialize()
        return client


def medians_ms(cases: Sequence[Callable[[], object]], n_runs: int = N_RUNS) -> list[float]:
    """The median times of several cases in milliseconds, run in turn after one warm-up so that all meet the same noise."""
    spent: list[list[float]] = [[] for _ in cases]
    for n in range(n_runs + 1):
        for case, times in zip(cases, spent):
            started = time.perf_counter()
            case()
            if n:
                times.append(time.perf_counter() - started)
    return [statistics.median(times) * 1e3 for times in spent]


def process(command: list[str], env: dict[str, str], stdin: Callable[[], bytes] = lambda: b"") -> Callable[[], object]:
    """A case that is a whole process."""
    return lambda: subprocess.run(command, env=env, cwd=env.get("HOME"), input=stdin(), stdout=subprocess.DEVNULL, check=True)


def row(*cells: object) -> None:
    """Prints a row of a table."""
    print("| " + " | ".join(f"{c:.2f}" if isinstance(c, float) else str(c) for c in cells) + " |", flush=True)


def head(*cells: str) -> None:
    """Prints the head of a table."""
    print()
    row(*cells)
    print("|" + "---|" * len(cells))


# -- memory of processes (Linux; elsewhere only the largest process is known) ----


def kept_by(pid: int, field: str) -> int:
    """A number of bytes that /proc tells of a process: Pss (its share of what it shares), Anonymous; 0 when it does not."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            return sum(int(line.split()[1]) << 10 for line in file if line.startswith(field + ":"))
    except OSError:
        return 0


def family(pid: int) -> list[int]:
    """The process and its descendants."""
    found = [pid]
    for parent in found:
        try:
            with open(f"/proc/{parent}/task/{parent}/children", encoding="ascii") as file:
                found.extend(map(int, file.read().split()))
        except OSError:
            continue
    return found


def imported(program: Program, store: str, source: str) -> tuple[float, float, float]:
    """Imports and indexes the source: seconds, peak MB of the largest process, peak MB of all together (0 = not known)."""
    started = time.perf_counter()
    env = program.env(store)  # -m looks in the current folder first
    child = subprocess.Popen(program.run("import", source), env=env, cwd=env["HOME"], stdout=subprocess.DEVNULL)
    together = 0
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            break
        together = max(together, sum(kept_by(pid, "Pss") for pid in family(child.pid)))
        time.sleep(0.05)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, "the import failed"
    unit = 1 if sys.platform == "darwin" else 1 << 10
    return time.perf_counter() - started, usage.ru_maxrss * unit / 1e6, together / 1e6


def fill(folder: str, n_chunks: int) -> None:
    """A store in *folder* with that many chunks of twenty projects; prints what filling it took."""
    os.environ.update(HOME=folder, RLM_PROJECT="bench")
    source = os.path.join(folder, "corpus.jsonl")
    write_jsonl(source, n_chunks)
    started = time.perf_counter()
    subprocess.run([sys.executable, RLM, "import", source], check=True)
    print(f"import: {time.perf_counter() - started:.1f} s for {os.path.getsize(source) / 1e6:.0f} MB")


# -- the peer ----------------------------------------------------------------


def fts5(texts: Iterable[str]) -> sqlite3.Connection:
    """The texts in SQLite's full-text index."""
    database = sqlite3.connect(":memory:")
    database.execute("create virtual table t using fts5(x)")
    database.executemany("insert into t(x) values (?)", ((text,) for text in texts))
    return database


def fts5_search(database: sqlite3.Connection, query: str) -> object:
    """The ten best for any of the words, with their text: what a tool would show."""
    words = " OR ".join(f'"{w}"' for w in dict.fromkeys(re.findall(r"\w+", query)))
    return database.execute("select rowid, x from t where t match ? order by rank limit 10", (words,)).fetchall()


# -- the tables ---------------------------------------------------------------


def bench_import(programs: Sequence[Program], source: str, n_chunks: int, n_text: int) -> sqlite3.Connection:
    """Bulk import and index, then what the stores take on the disk; the peer's index of the same texts."""
    head("import and index", *(program.path for program in programs), "FTS5 in memory")
    done = [imported(program, "large", source) for program in programs]
    started = time.perf_counter()
    database = fts5(mixed_chunks(n_chunks))
    row("MB of text a second", *(n_text / 1e6 / seconds for seconds, _, _ in done),
        n_text / 1e6 / (time.perf_counter() - started))
    row("peak RSS, largest process, MB", *(largest for _, largest, _ in done), "")
    row("peak of all processes, shared pages once, MB", *(together for _, _, together in done), "")
    for what, part in (("store on disk per MB of text, MB", ""), ("index in it", "index")):
        row(what, *(folder_bytes(os.path.join(program.env("large")["HOME"], ".claude", "rlm", "memory", part)) / n_text
                    for program in programs), "")
    return database


def folder_bytes(folder: str) -> int:
    """The bytes of all files in the folder and below."""
    return sum(os.path.getsize(os.path.join(where, name)) for where, _, names in os.walk(folder) for name in names)


def calls(clients: Sequence[McpClient], name: str, **arguments: object) -> list[Callable[[], Any]]:
    """A case for each server: a call of a tool."""
    return [partial(client.call, name, 60, **arguments) for client in clients]


def bench_warm(programs: Sequence[Program], database: sqlite3.Connection) -> None:
    """Searches and greps that a warm server answers, and the memory that it keeps afterwards."""
    clients = [program.server("large") for program in programs]
    head("warm, ms", *(program.path for program in programs), "FTS5 in process")
    row("ping", *medians_ms([partial(client.request, "ping") for client in clients]), "")
    for name, query in QUERIES.items():
        row(f"search: {name}", *medians_ms([*calls(clients, "rlm_search", query=query, limit=10),
                                            partial(fts5_search, database, query)]))
    cases = calls(clients, "rlm_search", query="error", entity="ssl.py")
    row("search: common word, entity in few chunks", *medians_ms(cases), "")
    for name, (pattern, n_runs) in PATTERNS.items():
        cases = calls(clients, "rlm_grep", pattern=pattern, limit=10)
        answers = [case() for case in cases]
        row(name, *(f"{spent:.2f}, stopped" if answer.get("isError") else spent
                    for answer, spent in zip(answers, medians_ms(cases, n_runs))), "")
    row("anonymous RSS of the server then, MB", *(kept_by(client.process.pid, "Anonymous") / 1e6 for client in clients), "")
    for client in clients:
        client.close()


def bench_processes(programs: Sequence[Program]) -> None:
    """Whole processes as multiples of bare Python."""
    bare = process([PYTHON, "-I", "-S", "-c", "pass"], {})
    head("process, x `python3 -I -S -c pass`", *(program.path for program in programs))

    def multiples(name: str, cases: list[Callable[[], object]]) -> None:
        bare_ms, *spent = medians_ms([bare, *cases])
        row(name, *(ms / bare_ms for ms in spent))

    def payload(prompt: str) -> bytes:
        session = str(uuid.uuid4())  # a session is told the same only once
        return json.dumps({"session_id": session, "transcript_path": f"/nonexistent/{session}.jsonl", "prompt": prompt,
                           "cwd": DISK, "hook_event_name": "UserPromptSubmit"}).encode()

    for name, prompt in PROMPTS.items():
        multiples(f"prompt hook, all chunks in one project, {name}", [
            process([PYTHON, "-I", "-S", program.hook], program.env("large"), partial(payload, prompt))
            for program in programs])
    for name in ("rare word", "question, nine words"):
        multiples(f"python3 -S -m rlm search, {name}", [
            process(program.run("search", QUERIES[name]), program.env("large")) for program in programs])
    multiples("python3 rlm.py grep, common word", [
        process([PYTHON, os.path.join(program.folder, "rlm.py"), "grep", "import"], program.env("large"))
        for program in programs])


def bench_writes(programs: Sequence[Program], stores: dict[str, int], folder: str) -> None:
    """One durable chunk as a multiple of writing and syncing as many bytes to a file of the same disk."""
    text = "a line of ordinary text that says something\n" * 45
    fd = os.open(os.path.join(folder, "bare"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def bare() -> None:
        os.write(fd, text.encode())
        os.fsync(fd)

    def save(client: McpClient) -> None:
        client.call("rlm_chunk", 60, content=f"{uuid.uuid4()} {text}")

    head("one durable chunk of 2 KB, x write and fsync", *(program.path for program in programs))
    for store, n_chunks in stores.items():
        clients = [program.server(store) for program in programs]
        for client in clients:  # the first call of a server opens the store
            client.call("rlm_list_chunks", 60)
        bare_ms, *spent = medians_ms([bare, *(partial(save, client) for client in clients)], 60)
        row(f"at {n_chunks:,} chunks (write and fsync: {bare_ms:.2f} ms)", *(ms / bare_ms for ms in spent))
        for client in clients:
            client.close()
    os.close(fd)


def main(n_chunks: int, paths: Sequence[str]) -> None:
    """Prints the tables."""
    folder = tempfile.mkdtemp(prefix="rlm-bench-", dir=DISK)
    try:
        print(f"{n_chunks:,} chunks, Python {sys.version.split()[0]}")
        programs = [Program(path, os.path.join(folder, str(n))) for n, path in enumerate(paths)]
        source, small = os.path.join(folder, "corpus.jsonl"), os.path.join(folder, "small.jsonl")
        write_jsonl(source, n_chunks, n_projects=1)
        write_jsonl(small, SMALL_STORE, n_projects=1)
        n_text = sum(len(text.encode()) for text in mixed_chunks(n_chunks))
        bench_warm(programs, bench_import(programs, source, n_chunks, n_text))
        bench_processes(programs)
        for program in programs:
            imported(program, "small", small)
        bench_writes(programs, {"small": SMALL_STORE, "large": n_chunks}, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measures the memory.")
    parser.add_argument("n_chunks", nargs="?", type=int, default=10_000)
    parser.add_argument("--against", metavar="OTHER_RLM_PY", help="a second program, side by side in the same run")
    options = parser.parse_args()
    main(options.n_chunks, [RLM, *([options.against] if options.against else [])])
