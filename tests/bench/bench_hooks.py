"""What hooks, imports of transcripts and redaction cost on this machine: python3 -m tests.bench.bench_hooks [N_CHUNKS]."""
from __future__ import annotations

import json
import os
import py_compile
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from tests.bench.bench_memory import fill, head, row
from tests.bench.corpus import Talk, write_transcript
from tests.support import ROOT, rlm

SESSION = "bd4796a7-bf6c-4c3a-80c6-da8e56d81c23"
PROMPT = "please translate the customer letter into polite Japanese tomorrow"
PYTHON = getattr(sys, "_base_executable", "") or sys.executable
QUIET_EVENTS = {
    "SessionStart": {"source": "startup"}, "PreCompact": {"trigger": "auto"}, "SessionEnd": {"reason": "other"},
    "UserPromptSubmit": {"prompt": PROMPT}, "PostCompact": {"compact_summary": ""},
}


def program(folder: str) -> None:
    """The program and its hooks, compiled, as `install` leaves them."""
    shutil.copy(rlm.__file__, os.path.join(folder, "rlm.py"))
    shutil.copytree(os.path.join(ROOT, "hooks"), os.path.join(folder, "hooks"))
    py_compile.compile(os.path.join(folder, "rlm.py"), doraise=True)


def hook(folder: str, event: str) -> list[str]:
    """The command of a hook."""
    return [PYTHON, "-I", "-S", os.path.join(folder, "hooks", rlm.HOOKS[event].file)]


def payload(event: str, path: str, **more: object) -> bytes:
    """What the client sends."""
    return json.dumps({"session_id": SESSION, "transcript_path": path, "cwd": os.path.dirname(path),
                       "hook_event_name": event, **more}).encode()


def run_ms(command: list[str], stdin: bytes, env: dict[str, str]) -> float:
    """How long a process takes."""
    started_s = time.perf_counter()
    done = subprocess.run(command, input=stdin, env=env, capture_output=True, check=True)
    assert done.stderr == b"", done.stderr
    return (time.perf_counter() - started_s) * 1000


def medians(cases: dict[str, Callable[[], float]], n_runs: int = 21) -> dict[str, float]:
    """The median of each case, all measured in turn so that what disturbs disturbs all."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(n_runs):
        for name, run in cases.items():
            found[name].append(run())
    return {name: sorted(values)[n_runs // 2] for name, values in found.items()}


def bench_quiet(folder: str, memory: str, project: str, label: str) -> None:
    """Hooks that have nothing to save or to say."""
    env = {"HOME": folder, "PATH": "/usr/bin:/bin", "RLM_CONTEXT_DIR": memory, "RLM_PROJECT": project}
    path = os.path.join(folder, SESSION + ".jsonl")

    def case(event: str, more: dict[str, str]) -> Callable[[], float]:
        return lambda: run_ms(hook(folder, event), payload(event, path, **more), env)

    cases = {event: case(event, more) for event, more in QUIET_EVENTS.items()}
    cases["pass"] = lambda: run_ms([PYTHON, "-I", "-S", "-c", "pass"], b"", env)
    found = medians(cases)
    for event in QUIET_EVENTS:
        row(f"{event}, {label}", f"{found[event]:.1f} ms", f"{found[event] / found['pass']:.2f} x pass")


def bench_growth(folder: str) -> None:
    """PreCompact on a transcript that grows, and on one of 50 MB that nobody has read."""
    env = {"HOME": folder, "PATH": "/usr/bin:/bin", "RLM_PROJECT": "bench"}
    talk = Talk(5)
    path = os.path.join(folder, SESSION + ".jsonl")
    for n_bytes in (20_000, 200_000, 1_000_000, 50_000_000):
        with open(path, "ab") as file:
            file.writelines(talk.lines(n_bytes))
        first = run_ms(hook(folder, "PreCompact"), payload("PreCompact", path), env)
        again = run_ms(hook(folder, "PreCompact"), payload("PreCompact", path), env)
        row(f"PreCompact, {n_bytes / 1e6:g} MB more", f"{first:.0f} ms", f"then without change {again:.1f} ms")
    home = os.path.join(folder, ".claude", "rlm")
    row("spooled then", len(rlm.spooled_files(rlm.Places(home))), "transcripts")


def bench_import(folder: str, n_megabytes: int = 60) -> None:
    """`rlm.py import` of transcripts."""
    projects = os.path.join(folder, "history", ".claude", "projects", "-home-dev-project")
    os.makedirs(projects)
    for seed in range(6):
        path = write_transcript(projects, n_megabytes * 1_000_000 // 6, seed)
        os.utime(path, (time.time() - 9000,) * 2)
    size = sum(os.path.getsize(os.path.join(projects, name)) for name in os.listdir(projects))
    env = {**os.environ, "HOME": os.path.join(folder, "history")}
    for label in ("first", "again"):
        taken = run_ms([sys.executable, rlm.__file__, "import"], b"", env)
        row(f"import, {label}", f"{size / 1e6:.0f} MB in {taken / 1000:.2f} s", f"{size / 1000 / taken:.1f} MB/s")
    with open(os.path.join(projects, sorted(os.listdir(projects))[0]), "rb") as file:
        lines = file.readlines()
    started_s = time.perf_counter()
    for line in lines:
        rlm.redacted_line(line)
    taken_s = time.perf_counter() - started_s
    row("redaction, with parsing", f"{sum(map(len, lines)) / 1e6:.0f} MB", f"{sum(map(len, lines)) / 1e6 / taken_s:.0f} MB/s")


def main(n_chunks: int) -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as folder:
        program(folder)
        head("what", "time", "")
        bench_quiet(folder, os.path.join(folder, "none"), "any", "no store")
        store = os.path.join(folder, "store")
        os.mkdir(store)
        fill(store, n_chunks)
        memory = os.path.join(store, ".claude", "rlm", "memory")
        bench_quiet(folder, memory, "elsewhere", f"{n_chunks:,} chunks, none of this project")
        bench_quiet(folder, memory, "project3", f"{n_chunks:,} chunks, {n_chunks // 20:,} of this project")
        bench_growth(folder)
        bench_import(folder)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
