"""Real text to measure with: the sources of the running Python's standard library, cut at line ends to about 2 KB."""
from __future__ import annotations

import json
import os
import random
import sysconfig
from collections.abc import Iterator

CHUNK_CHARS = 2000


def source_texts() -> Iterator[str]:
    """The library's source files, in an order that mixes topics but is always the same."""
    paths = [os.path.join(folder, name) for folder, _, names in os.walk(sysconfig.get_paths()["stdlib"])
             for name in names if name.endswith((".py", ".txt", ".rst"))]
    random.Random(20261121).shuffle(paths)
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                yield file.read()
        except (OSError, ValueError):
            continue


def chunks(n_wanted: int) -> Iterator[str]:
    """That many different chunks. When the library is too small, its lines come again in another order."""
    seen: set[str] = set()
    for n_round in range(1000):
        rng = random.Random(n_round)
        for text in source_texts():
            lines = text.split("\n")
            if n_round:
                rng.shuffle(lines)
            part: list[str] = []
            for line in lines:
                part.append(line[:CHUNK_CHARS])
                if sum(map(len, part)) >= CHUNK_CHARS:
                    whole, part = "\n".join(part), []
                    if whole not in seen:
                        seen.add(whole)
                        yield whole
                        if len(seen) == n_wanted:
                            return


def write_jsonl(path: str, n_wanted: int, n_projects: int = 20) -> None:
    """A file for `rlm.py import` with that many chunks, spread over projects and the last 300 days."""
    rng = random.Random(1)
    with open(path, "w", encoding="utf-8") as file:
        for i, text in enumerate(chunks(n_wanted)):
            day = f"2026-{1 + i % 10:02d}-{1 + rng.randrange(28):02d}T12:00:00"
            file.write(json.dumps({"text": text, "project": f"project{i % n_projects}", "created_at": day}) + "\n")
