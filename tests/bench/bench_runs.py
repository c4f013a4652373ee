"""Runs over generated texts with a leaf whose labels are known: accuracy, seconds, memory, calls, what the root saw.

    python3 -m tests.bench.bench_runs [MEGABYTES …]     default: 1 10 100

A scripted root writes the code that a good one would; leaves label lines, and err on so many of them. One row for each
task and size without errors, then a table of what errors and votes do to the exact counts.
"""
from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import sys
import tempfile
import time
from typing import Any

from tests.models import Conversation, ModelServer
from tests.support import forked, rlm

LABELS = ("location", "number", "person", "entity", "description", "abbreviation")
PART_CHARS = 200_000
LABEL = "Label each line with its kind, one `ID label` a line."
READ = f"""```repl
import collections, re
users = dict(re.findall(r"(?m)^(\\d+) (\\w+):", context))
answers = llm_query_batched(["{LABEL}\\n" + part for part in split({PART_CHARS})], votes=VOTES)
labels = dict(line.split() for answer in answers for line in answer.split("\\n") if line.count(" ") == 1)
print(len(users), len(labels), [answer[:60] for answer in answers if answer.startswith("ERROR")][:3])
```"""
ENDS = {
    "counting": "found = sorted(collections.Counter(labels.values()).items())",
    "pairing": """kinds = collections.defaultdict(set)
for number, label in labels.items():
    kinds[users[number]].add(label)
has = sorted(user for user, all in kinds.items() if {"person", "location"} <= all)
found = (len(has) * (len(has) - 1) // 2, has[:3])""",
    "classification": """most = collections.defaultdict(collections.Counter)
for number, label in labels.items():
    most[users[number]][label] += 1
found = sorted((user, min(c, key=lambda label: (-c[label], label))) for user, c in most.items())[:20]""",
    "needle": "found = grep('launch code')",
}


def made_text(path: str, n_bytes: int, seed: int) -> None:
    """Lines `ID user: question`, and one needle. A line's kind is known from its ID, see kind_of."""
    rng, written, n = random.Random(seed), 0, 0
    words = [f"w{i:x}" for i in range(4000)]
    needle = rng.randrange(n_bytes // 90)
    with open(path, "w", encoding="ascii") as file:
        while written < n_bytes:
            said = "the launch code is 7741" if n == needle else " ".join(rng.choices(words, k=12))
            written += file.write(f"{n} user{rng.randrange(300)}: {said}?\n")
            n += 1


def kind_of(number: int) -> str:
    return LABELS[number * 2654435761 % 4294967296 * len(LABELS) >> 32]


def reader(error_rate: float, votes: int) -> Any:
    """What the server answers: as root, the next reply; as leaf, labels, of which so many are wrong."""
    rng = random.Random(7)

    def model(said: Conversation) -> str:
        if "You answer a question over texts" in said[0][1]:
            task = next(name for name in ENDS if name in said[1][1])
            n = sum(role == "assistant" for role, _ in said)
            if task == "needle":
                return ["```repl\nprint(len(context))\n```", f"```repl\n{ENDS[task]}\nprint(found)\n```",
                        "```repl\nFINAL(found)\n```"][n]
            return [READ.replace("VOTES", str(votes)), f"```repl\n{ENDS[task]}\nprint(found)\n```",
                    "```repl\nFINAL(found)\n```"][n]
        numbers = [int(line.split(" ", 1)[0]) for line in said[1][1].split("\n")[1:] if line[:1].isdigit()]
        return "\n".join(f"{n} {rng.choice(LABELS) if rng.random() < error_rate else kind_of(n)}" for n in numbers)

    return model


def gold(path: str, task: str) -> str:
    """The right answer, computed with the same code from the right labels."""
    with open(path, encoding="ascii") as file:
        text = file.read()
    users = dict(re.findall(r"(?m)^(\d+) (\w+):", text))
    names: dict[str, Any] = {"users": users, "labels": {n: kind_of(int(n)) for n in users},
                             "collections": __import__("collections"), "found": None,
                             "grep": lambda word: [f"{i}: {line}" for i, line in enumerate(text.split("\n"), 1) if word in line]}
    exec(ENDS[task], names)
    return str(names["found"])


def measured(path: str, task: str, error_rate: float, votes: int) -> dict[str, Any]:
    """One run in a process of its own; what came of it."""
    told, tell = os.pipe()

    def job() -> None:
        server = ModelServer(reader(error_rate, votes))
        home = tempfile.mkdtemp()
        os.environ.update(HOME=home, RLM_HOME="", RLM_CONTEXT_DIR="", RLM_PROJECT="bench")
        ready, say = os.pipe()

        def run() -> None:
            places = rlm.Places()
            rlm.write_config(places, {"provider": "openai", "openai.url": server.url + "/v1", "model": "scripted",
                                      "window_tokens": 200_000})
            store = rlm.Store(places)
            call = rlm.Call(store)
            name = rlm.run_tool(call, "rlm_load", {"path": path}).data["name"]
            began_s = time.monotonic()
            answer = rlm.run_tool(call, "rlm_run", {"question": f"{task}?", "refs": name, "wait_s": 600,
                                                    "mode": "thorough", "max_calls": 20_000})
            run = next(iter(store.runs.values()))
            os.write(say, json.dumps({
                "answer": answer.data.get("answer") or answer.text, "seconds": time.monotonic() - began_s,
                "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "calls": sum(e["kind"] == "call" for e in run.calls.trace.events) * votes,
                "root_chars": sum(len(text) for _, text in run.messages),
                "leaf_chars": sum(e["n_chars"] for e in run.calls.trace.events if e["kind"] == "call")}).encode())

        child = forked(run)  # the server and its memory stay here
        os.close(say)
        data = b"".join(iter(lambda: os.read(ready, 1 << 16), b""))
        os.waitpid(child, 0)
        shutil.rmtree(home, ignore_errors=True)
        os.write(tell, data)

    child = forked(job)
    os.close(tell)
    data = b"".join(iter(lambda: os.read(told, 1 << 16), b""))
    os.close(told)
    os.waitpid(child, 0)
    return dict(json.loads(data))


def main() -> None:
    sizes = [float(word) for word in sys.argv[1:]] or [1, 10, 100]
    folder = tempfile.mkdtemp()
    print(f"{'MB':>5} {'task':<15} {'exact':<6} {'s':>6} {'peak MB':>8} {'calls':>6} {'root chars':>11} {'leaf chars':>12}")
    for size in sizes:
        path = os.path.join(folder, f"text-{size:g}.txt")
        made_text(path, int(size * 1e6), seed=int(size))
        for task in ENDS:
            row = measured(path, task, 0.0, 1)
            print(f"{size:>5g} {task:<15} {'yes' if row['answer'] == gold(path, task) else 'NO':<6} {row['seconds']:>6.1f} "
                  f"{row['rss_mb']:>8.0f} {row['calls']:>6} {row['root_chars']:>11,} {row['leaf_chars']:>12,}", flush=True)
    print("\nerrors of leaves at the smallest size: lines labelled right, by votes")
    path = os.path.join(folder, f"text-{sizes[0]:g}.txt")
    right = dict(eval(gold(path, "counting")))
    for rate in (0.0, 0.02, 0.1):
        for votes in (1, 3):
            row = measured(path, "counting", rate, votes)
            found = dict(eval(row["answer"]))
            off = sum(abs(found.get(label, 0) - n) for label, n in right.items())
            print(f"errors {rate:>4.0%}, votes {votes}: counts off by {off:,} of {sum(right.values()):,} lines, "
                  f"{row['calls']} calls, {row['seconds']:.1f} s", flush=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
