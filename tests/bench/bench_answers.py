"""What can be read in a search's answer, and how long it is, for one program or an old and a new one side by side.

    python3 -m tests.bench.bench_answers DATA [--new RLM_PY] [--old RLM_PY] [--sets a,b] [--queries N]

DATA has a folder for each set: docs.jsonl.gz (id, text, coll, meta) and queries.dev.jsonl.gz (id, text, coll, rel).
A set of single turns beside one of whole sessions (NAME-turn, NAME-session) says which turn of a session answers.
Passages of other sets are joined to texts of several, so that there, too, a part of a text is the answer.

found: a text with the answer is among those shown; readable: a stretch of the answer itself is in what the search
prints; first: it is in the first hit. Dated questions are those with a year or a month in them.
"""
from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from tests.bench.bench_memory import head, row
from tests.support import RLM, McpClient

JOINED = 8  # passages in a text
STRETCH, WIDE_STRETCH = 40, 16  # characters of an answer that must be readable, and of one in Japanese or Chinese
DATED = re.compile(r"\b(?:January|February|March|April|May|June|July|August|September|October|November|December|20\d\d)\b")
HEAD = re.compile(r"(?m)^\d+\. \[([^\]]+)\]")


def rows_of(*parts: str) -> list[Any]:
    """The objects of a set's file."""
    with gzip.open(os.path.join(*parts), "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def said_at(meta: Any) -> str:
    """When a turn was said, as a stamp; "" when that is not known."""
    if "date" not in meta:
        return ""
    return datetime.strptime(meta["date"], "%I:%M %p on %d %B, %Y").isoformat()


class Case:
    """A set: the texts to store, and the questions with the texts and the stretches of text that answer them."""

    def __init__(self, data: str, name: str, n_queries: int) -> None:
        docs, queries = rows_of(data, name, "docs.jsonl.gz"), rows_of(data, name, "queries.dev.jsonl.gz")[:n_queries]
        self.name, self.texts = name, []
        holder: dict[tuple[str, str], str] = {}  # (collection, id) -> id of the text that holds it
        parts = {(doc["coll"], doc["id"]): doc["text"] for doc in docs}
        step = 1 if name.endswith("-session") else JOINED
        for n in range(0, len(docs), step):
            some = docs[n : n + step]
            key, coll = f"{some[0]['coll']}-{some[0]['id']}", some[0]["coll"]
            holder.update(((doc["coll"], doc["id"]), key) for doc in some)
            self.texts.append({"id": key, "text": "\n\n".join(doc["text"] for doc in some), "project": coll or "all",
                               "created_at": said_at(some[0]["meta"])})
        self.questions = [(q["text"], q["coll"] or "all", {holder[q["coll"], each] for each in q["rel"]},
                           [parts[q["coll"], each] for each in q["rel"]]) for q in queries]
        if step == 1:
            turns = name[: -len("session")] + "turn"
            told = {q["id"]: q["rel"] for q in rows_of(data, turns, "queries.dev.jsonl.gz")}
            said = {(doc["coll"], doc["id"]): doc["text"] for doc in rows_of(data, turns, "docs.jsonl.gz")}
            self.questions = [
                (text, coll, texts, [said[coll, each] for each in told[q["id"]]])
                for q, (text, coll, texts, _) in zip(queries, self.questions) if q["id"] in told]


def stretches(text: str) -> set[str]:
    """The parts of a text by which it is known again; all of a short one. Blanks do not count."""
    text = re.sub(r"\s+", "", re.sub(r"^\w+: ", "", text))
    size = WIDE_STRETCH if re.search("[\u3040-\u9fff]", text) else STRETCH * 5 // 6
    return {text[n : n + size] for n in range(max(1, len(text) - size + 1))}


def measure(case: Case, answers: Sequence[str], only_dated: bool = False) -> list[float]:
    """Percent found first, found, readable in the first hit, readable; bytes and hits of an answer."""
    rows = []
    for (question, _, texts, parts), answer in zip(case.questions, answers):
        if only_dated and not DATED.search(question):
            continue
        ids, plain = HEAD.findall(answer), re.sub(r"\s+", "", answer)
        first = re.sub(r"\s+", "", re.split(r"(?m)^2\. \[", answer)[0])
        wanted = set().union(*map(stretches, parts))
        rows.append([100 * (ids[:1] != [] and ids[0] in texts), 100 * (not texts.isdisjoint(ids)),
                     100 * any(each in first for each in wanted), 100 * any(each in plain for each in wanted),
                     len(answer.encode()), len(ids)])
    return [statistics.fmean(column) for column in zip(*rows)] if rows else []


def asked(program: str, case: Case, folder: str) -> tuple[list[str], float]:
    """The program's answers to the questions, and the median time of one in milliseconds."""
    os.makedirs(folder)
    source = os.path.join(folder, "texts.jsonl")
    with open(source, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(text) + "\n" for text in case.texts)
    env = {"HOME": folder, "PATH": os.environ["PATH"], "RLM_PROJECT": "all"}
    subprocess.run([sys.executable, program, "import", source], env=env, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    client = McpClient(folder, [sys.executable, program, "serve"], env)
    client.initialize()
    answers, times = [], []
    for question, project, _, _ in case.questions:
        started = time.perf_counter()
        result = client.call("rlm_search", query=question, project=project)
        times.append(time.perf_counter() - started)
        answers.append(result["content"][0]["text"])
    client.process.kill()
    client.process.communicate()
    return answers, statistics.median(times) * 1e3


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--new", default=RLM)
    parser.add_argument("--old", default="")
    parser.add_argument("--sets", default="")
    parser.add_argument("--queries", type=int, default=1 << 30)
    parser.add_argument("--answers", default="", help="a file to write the answers to, as JSON lines")
    options = parser.parse_args()
    names = options.sets.split(",") if options.sets else sorted(
        name for name in os.listdir(options.data) if not name.endswith("-turn"))
    head("set", "program", "questions", "found first", "found", "readable in the first", "readable", "bytes", "hits", "ms")
    for name in names:
        case = Case(options.data, name, options.queries)
        for label, program in (("old", options.old), ("new", options.new)):
            if not program:
                continue
            folder = tempfile.mkdtemp()
            answers, spent_ms = asked(os.path.abspath(program), case, os.path.join(folder, label))
            shutil.rmtree(folder)
            row(name, label, len(answers), *(round(each, 1) for each in measure(case, answers)), spent_ms)
            n_dated = sum(bool(DATED.search(question)) for question, *_ in case.questions)
            if n_dated > 20:
                row(f"{name}, dated", label, n_dated, *(round(each, 1) for each in measure(case, answers, True)), "")
            if options.answers:
                with open(f"{options.answers}.{name}.{label}", "w", encoding="utf-8") as file:
                    file.writelines(json.dumps([*question[:2], sorted(question[2]), question[3], answer]) + "\n"
                                    for question, answer in zip(case.questions, answers))


if __name__ == "__main__":
    main()
