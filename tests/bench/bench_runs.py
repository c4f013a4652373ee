"""Runs over generated texts with a leaf whose labels are known: accuracy, seconds, memory, calls, what the root saw.

    python3 -m tests.bench.bench_runs [MEGABYTES …]     default: 0.2 4 40 (50k, 1M, 10M tokens)

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

PART_CHARS = 100_000
LABEL = "Label each line with its kind, one `ID label` a line."
READ = f"""```repl
import collections, re
parts = split({PART_CHARS})
answers = llm_query_batched(["{LABEL}\\n" + part for part in parts], votes=VOTES)
labels = dict(line.split() for answer in answers for line in answer.split("\\n") if line.count(" ") == 1)
print(len(parts), len(labels), [answer[:60] for answer in answers if answer.startswith("ERROR")][:3])
```"""
ENDS = {  # what a good root computes from the labels
    "needle": "found = re.search(r'probe is (\\d+)', grep('launch code')[0])[1]",
    "counting": "found = list(labels.values()).count('place')",
    "pairing": """users = dict(re.findall(r"(?m)^(\\d+) user(\\d+):", context))
asking = sorted({int(users[n]) for n, label in labels.items() if label == "abbreviation"})
found = "\\n".join(f"user{one}-user{two}" for one in asking for two in asking if one < two)""",
    "classification": """most = collections.defaultdict(collections.Counter)
for n, service in re.findall(r"(?m)^(\\d+) (service\\d+):", context):
    most[service][labels[n]] += 1
found = "\\n".join(f"{service}: {max(c, key=c.get)}" for service, c in most.items())""",
    "mapping": """found = "\\n".join(f"{rule}: {labels[n]}" for n, rule in re.findall(
    r"(?m)^(\\d+) (rule-\\d+) \\(in review\\)", context))""",
    "ranking": """rows = [(labels[n] == "internet", float(chance), name) for n, name, chance in re.findall(
    r"(?m)^(\\d+) (CVE-\\d+) \\(open\\).*p=([\\d.]+)$", context)]
found = "\\n".join(row[2] for row in sorted(rows, reverse=True)[:10])""",
    "synthesis": """texts = [CONTEXTS]
about = [line for text in texts for line in grep("Red Lynx", text)]
names = ["Red Lynx", llm_query("By which other name goes Red Lynx?\\n" + "\\n".join(about))]
found = "\\n".join(re.search(r"host-\\d+", line)[0] for text in texts for name in names
                  for line in grep(name + " was here", text))"""}


def labelled(text: str, kind: str) -> dict[str, str]:
    """The right label of each line, by its number, told by the ways to say it."""
    ways = [(label, re.escape(way).replace(r"\{\}", ".+")) for label, some in rlm.TASK_KINDS[kind][0].items() for way in some]
    line = re.compile(r"^(\d+) [^:\n]*: (?:" + "|".join(f"({way})" for _, way in ways) + r")(?:;.*)?$", re.M)
    return {found[1]: ways[(found.lastindex or 0) - 2][0] for found in line.finditer(text)}


def reader(error_rate: float = 0.0, votes: int = 1) -> Any:
    """What the server answers: as root, the next reply; as leaf, labels, of which so many are wrong."""
    rng = random.Random(7)
    kinds = {question: kind for kind, (_, question, _) in rlm.TASK_KINDS.items()}

    def model(said: Conversation) -> str:
        if "You answer a question over texts" in said[0][1]:
            kind = next(kind for question, kind in kinds.items() if question in said[1][1])
            texts = ", ".join(re.findall(r"^context_\d+", said[1][1], re.M))
            look = READ.replace("VOTES", str(votes)) if kind not in ("needle", "synthesis") else \
                "```repl\nprint(len(context))\n```"
            end = f"```repl\nimport re\n{ENDS[kind].replace('CONTEXTS', texts)}\nprint(str(found)[:500])\n```"
            return [look, end, "```repl\nFINAL(found)\n```"][sum(role == "assistant" for role, _ in said)]
        prompt = said[1][1]
        if "other name" in prompt:
            return next(iter(re.findall(r"name for Red Lynx is (.+)", prompt)), "none")
        first = prompt.split("\n")[1]
        kind = next(kind for kind in rlm.TASK_KINDS if labelled(first, kind))
        labels = [*rlm.TASK_KINDS[kind][0]]
        return "\n".join(f"{n} {rng.choice(labels) if rng.random() < error_rate else label}"
                         for n, label in labelled(prompt, kind).items())

    return model


def measured(task: dict[str, Any], folder: str, error_rate: float, votes: int) -> dict[str, Any]:
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
                                      "window_tokens": 60_000})
            store = rlm.Store(places)
            call = rlm.Call(store)
            names = [rlm.run_tool(call, "rlm_load", {"path": os.path.join(folder, path)}).data["name"] for path in task["paths"]]
            began_s = time.monotonic()
            answer = rlm.run_tool(call, "rlm_run", {"question": task["question"], "refs": ",".join(names), "wait_s": 600,
                                                    "mode": "thorough", "max_calls": 20_000})
            run = next(iter(store.runs.values()))
            os.write(say, json.dumps({
                "score": rlm.METRICS[task["metric"]][0](task["answer"], answer.data.get("answer") or ""),
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


def tasks_of(n_bytes: int, folder: str, kinds: str = "all") -> list[dict[str, Any]]:
    """Tasks whose texts have about so many bytes, written to the folder."""
    call = rlm.Call(rlm.Store(rlm.Places()))
    path = rlm.made_tasks(call, kinds, f"{max(1, n_bytes // 4000)}k", 7, folder).data["path"]
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def main() -> None:
    sizes = [float(word) for word in sys.argv[1:]] or [0.2, 4, 40]
    made = tempfile.mkdtemp()
    print(f"{'MB':>5} {'task':<15} {'score':>6} {'s':>6} {'peak MB':>8} {'calls':>6} {'root chars':>11} {'leaf chars':>12}")
    for size in sizes:
        folder = os.path.join(made, f"{size:g}")
        for task in tasks_of(int(size * 1e6), folder):
            row = measured(task, folder, 0.0, 1)
            print(f"{size:>5g} {task['kind']:<15} {row['score']:>6.2f} {row['seconds']:>6.1f} {row['rss_mb']:>8.0f} "
                  f"{row['calls']:>6} {row['root_chars']:>11,} {row['leaf_chars']:>12,}", flush=True)
    print("\nerrors of leaves: how far a count is off, by votes")
    folder = os.path.join(made, "errors")
    task = tasks_of(1_000_000, folder, "counting")[0]
    for rate in (0.0, 0.02, 0.1):
        for votes in (1, 3):
            row = measured(task, folder, rate, votes)
            print(f"errors {rate:>4.0%}, votes {votes}: off by {abs(int(row['answer']) - task['answer']):,} of "
                  f"{task['answer']:,}, {row['calls']} calls, {row['seconds']:.1f} s", flush=True)
    shutil.rmtree(made)


if __name__ == "__main__":
    main()
