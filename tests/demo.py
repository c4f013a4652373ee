"""A store to look at, the same in every run, and the pictures of README made of it.

    python3 -m tests.demo            makes tests/pictures/*.png again; needs Chromium
    python3 -m tests.demo FOLDER     makes the store there: RLM_HOME=FOLDER rlm view
"""
from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

from tests.support import RLM, SEALED, rlm

NOW_S = rlm.epoch_of("2026-11-27T17:30:00Z")
PICTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pictures")
# Project: what its sessions are about, each as what was asked, what was run, what came of it.
WORK = {
    "shop": [
        ("Checkout fails with ConnectionResetError after each deploy. Find out why, and mend it.",
         ("pytest tests/test_checkout.py -q", "2 failed, 41 passed"),
         "The load balancer closes idle connections after 60 s; the pool kept them for 300 s. I set pool_recycle=50 in "
         "src/db/pool.py.\n\n```python\nengine = create_engine(URL, pool_recycle=50, pool_pre_ping=True)\n```\n\n"
         "All 43 tests pass now. The runbook still has to say it."),
        ("Move the price rules out of the template and into a table.",
         ("python manage.py makemigrations pricing", "Migrations for 'pricing': 0007_price_rule"),
         "The rules live in `pricing_rule` now, one row each, and the template only prints. Old prices were carried over "
         "by migration 0007, and a test compares all 1,204 products."),
        ("The nightly export takes four hours. Why?", ("python -m cProfile -s tottime export.py | head -20", "3.9 h in get_stock"),
         "It asked the warehouse once for each product. One request for 500 at a time: 6 minutes."),
        ("Write the runbook for database failover.", ("ls docs/runbooks", "backup.md deploy.md"),
         "docs/runbooks/failover.md has the eleven steps, each with the command and what must be seen before the next."),
    ],
    "atlas-api": [
        ("Rate limits: 429 for customers who do nothing wrong. Look into it.",
         ("grep -rn 'X-Forwarded-For' src | head", "src/limits.py:31"),
         "The limiter took the proxy's address for the customer's, so all of one office shared a bucket. It reads the last "
         "untrusted hop now."),
        ("Add cursors to /v2/places; offsets are slow beyond page 50.", ("pytest -q tests/places", "88 passed"),
         "Cursors are signed and hold the last key, so a page costs the same wherever it is. Offsets still work, up to "
         "page 50."),
        ("Why does the importer lose rows with a quote in the name?", ("python -m atlas.importer --dry-run sample.csv", "3 rows skipped"),
         "The dialect was guessed from the first 1,024 bytes. It is fixed to excel now, and skipped rows fail the import."),
    ],
    "carnet": [
        ("Le tri des recettes met « Éclair » après « Zeste ». Corrige-le.", ("npm test -- tri", "12 passed"),
         "Le tri comparait des points de code. Il utilise maintenant Intl.Collator('fr'), et « œuf » vient avant « oignon »."),
        ("Prépare l'export PDF des recettes pour l'imprimante de la cuisine.", ("npm run export -- --format=a5", "42 pages"),
         "Chaque recette tient sur une page A5, avec les quantités dans la marge. Les photos restent facultatives."),
    ],
    "予約サイト": [
        ("予約の二重登録を直してください。同じ時間に二件入ることがあります。", ("pytest tests/test_booking.py", "1 failed, 27 passed"),
         "原因は確認と登録の間の競合でした。部屋と時間に一意制約を付け、衝突したら別の時間を提案します。"),
        ("カレンダーの祝日を来年の分まで追加してください。", ("python scripts/holidays.py 2027", "17 holidays"),
         "内閣府の一覧から2027年の祝日を取り込みました。振替休日も含みます。"),
    ],
}
NEXT = ("Good. Anything else that could break?", "Nothing that the tests reach. I would watch the logs for a day.")
INSIGHTS = [  # days ago, project, category, importance, text
    (39, "shop", "decision", "medium", "Prices are rounded half up to 5 rappen, at the end of the calculation only"),
    (31, "shop", "decision", "high", "We deploy on any day before noon, when two people are there"),
    (18, "atlas-api", "decision", "high", "Cursors, not offsets, for every list of the API from v2 on"),
    (16, "shop", "finding", "medium", "The warehouse answers 500 products in one request; more than 500 is silently cut"),
    (12, "atlas-api", "procedure", "medium", "A release: tag, wait for the smoke test on staging, then promote the same image"),
    (9, "carnet", "preference", "medium", "Toujours des messages de commit en français, à l'impératif"),
    (8, "予約サイト", "decision", "high", "予約の時刻はすべてUTCで保存し、表示するときだけ日本時間に直す"),
    (0, "shop", "decision", "critical", "Never deploy on Fridays: nobody is there to roll back"),
    (1, "shop", "todo", "medium", "The failover runbook was never tried out: do it with the replica in December"),
    (1, "atlas-api", "correction", "high", "Limits count requests per key, not per address: an office shares one address"),
]
EPISODES = [  # days ago, project, type, outcome, what happened, errors => what fixed them
    (27, "shop", "bugfix", "failure", "Raised the pool's timeout to stop the connection resets; they came back with the next deploy", ""),
    (14, "shop", "bugfix", "success", "Found the idle timeout of the load balancer and set pool_recycle below it",
     "ConnectionResetError after deploy => pool_recycle=50"),
    (11, "atlas-api", "feature", "success", "Signed cursors for /v2/places; a page costs 4 ms wherever it is", ""),
    (6, "予約サイト", "bugfix", "partial", "二重登録は止まったが、古い重複データの整理が残っている", ""),
    (0, "atlas-api", "debug", "failure", "Could not reproduce the slow start on the build machine", "")]


def transcript(session: str, project: str, at_s: float, work: list[tuple[str, tuple[str, str], str]]) -> Iterator[bytes]:
    """The lines of a conversation as Claude Code writes them."""
    for n, (prompt, (command, output), said) in enumerate(work):
        told: list[tuple[str, Any]] = [
            ("user", prompt),
            ("assistant", [{"type": "text", "text": "I look at it first."}]),
            ("assistant", [{"type": "tool_use", "id": f"t{n}", "name": "Bash", "input": {"command": command}}]),
            ("user", [{"type": "tool_result", "tool_use_id": f"t{n}", "content": output}]),
            ("assistant", [{"type": "text", "text": said}]),
            ("user", NEXT[0]), ("assistant", [{"type": "text", "text": NEXT[1]}])]
        for role, content in told:
            at_s += 95
            yield json.dumps({
                "type": role, "uuid": f"{session}-{at_s:.0f}", "sessionId": session, "cwd": f"/home/dev/{project}",
                "timestamp": rlm.stamp(at_s), "gitBranch": "main", "version": "2.1.329",
                "message": {"role": role, "content": content}}, ensure_ascii=False).encode() + b"\n"


def put_sessions(folder: str, chance: random.Random) -> None:
    """Seven weeks of conversations as transcripts below the folder."""
    for days in range(48, -1, -1):
        at_s = NOW_S - days * rlm.DAY_S
        is_weekend = rlm.local_day(at_s) in {rlm.local_day(NOW_S - n * rlm.DAY_S) for n in range(5, 60, 7)} | {
            rlm.local_day(NOW_S - n * rlm.DAY_S) for n in range(6, 60, 7)}
        for project, weight in (("shop", .8), ("atlas-api", .55), ("carnet", .25), ("予約サイト", .35)):
            for hour in range(chance.randint(1, 4)):
                if chance.random() > weight * (.15 if is_weekend else .8):
                    continue
                session = "-".join(chance.randbytes(n).hex() for n in (4, 2, 2, 2, 6))
                start_s = at_s - (hour * 2 + chance.uniform(.2, 1.6)) * 3600
                work = chance.sample(WORK[project], chance.randint(1, len(WORK[project])))
                path = os.path.join(folder, project, session + ".jsonl")
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as file:
                    file.writelines(transcript(session, project, start_s, work))
                os.utime(path, (start_s, start_s))


def put_run(places: rlm.Places) -> None:
    """A question over texts, as it is told by its events."""
    spent = {"turns": 2, "calls": 3, "tokens": 61_840, "seconds": 41.5, "dollars": 0.21}
    call = {"models": ["small"], "n_chars": 19_996, "seconds": 3.1, "prompt": "Label each ticket: billing, bug, question"}
    told: list[tuple[int, str, dict[str, Any]]] = [
        (0, "run", {"question": "How many tickets are about billing, and what do they complain about most?", "names": ["tickets.txt"]}),
        (1, "turn", {"text": "I look at the first lines before I cut the text.", "spent": spent}),
        (2, "cell", {"code": "print(peek(400))", "out": "#1 I was charged twice in May", "value": "", "trouble": "", "stopped": ""}),
        (1, "turn", {"text": "One ticket a line: a label for each, then count.", "spent": spent}),
        (4, "cell", {"code": "kinds = llm_query_batched(prompts)\nFINAL(report)", "out": "", "value": "", "trouble": "", "stopped": ""}),
        (5, "call", {**call, "answer": "billing, billing, bug, question, billing …"}),
        (5, "call", {**call, "answer": "question, billing, bug, bug, question …"}),
        (5, "call", {**call, "answer": "bug, billing, billing, question, bug …"}),
        (1, "end", {"status": "answered", "answer": "412 of 1,240 tickets are about billing (33%); most often a double "
                    "charge after a failed payment (96).", "reason": "", "notes": ["models read 3 of 3 samples of the texts"],
                    "spent": spent})]
    rlm.ensure_folder(places.runs())
    trace = rlm.Trace(places.run("r-5d0e71aa"))
    for up, kind, facts in told:
        trace.add(up, kind, **facts)


def fill(home: str) -> None:
    """Puts the demo into a store, all of it at the time at which it would have happened."""
    places, chance = rlm.Places(home), random.Random(20261127)
    clock = mock.Mock(return_value=NOW_S)
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(rlm, "now", clock), \
            mock.patch.object(os, "urandom", random.Random(1127).randbytes), mock.patch.dict(os.environ, RLM_HOME=home):

        def tool(project: str, days: float, name: str, **arguments: Any) -> Any:
            os.environ["CLAUDE_PROJECT_DIR"] = f"/home/dev/{project}"
            clock.return_value = NOW_S - days * rlm.DAY_S - 5_000
            return rlm.run_tool(rlm.Call(rlm.Store(places)), name, arguments).data

        put_sessions(folder, chance)
        with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())):
            rlm.main(["import", folder])
        ids = {text: tool(project, days, "rlm_remember", content=text, category=category, importance=importance)["id"]
               for days, project, category, importance, text in INSIGHTS}
        for days, project, task_type, outcome, text, errors in EPISODES:
            ids[text] = tool(project, days, "rlm_capture", summary=text, task_type=task_type, outcome=outcome,
                             errors_resolved=errors)["id"]
        old, new = (next(i for text, i in ids.items() if words in text) for words in ("before noon", "Never deploy"))
        tool("shop", 0, "rlm_link", members=f"{new} new, {old} old", label="supersedes")
        tool("shop", 0, "rlm_feedback", ids=f"{new}, {ids[EPISODES[1][4]]}", rating="helpful")
        for days, session in ((.03, "a"), (.01, "b")):
            clock.return_value = NOW_S - days * rlm.DAY_S
            rlm.note_injected(places, session=session, project="shop", ids=[new], n_bytes=412, score=0.82,
                              reason="prompt: the words deploy, friday")
        put_run(places)


@contextlib.contextmanager
def sealed() -> Iterator[None]:
    """The environment without what would change the store or its page, in UTC."""
    try:
        with mock.patch.dict(os.environ, TZ="UTC"):
            for name in SEALED:
                if name != "HOME":
                    os.environ.pop(name, None)
            time.tzset()
            yield
    finally:
        time.tzset()


def page_of(home: str, path: str, *options: str) -> str:
    """The page of that store as it is on the demo's day; its path."""
    with mock.patch.object(rlm, "now", return_value=NOW_S), mock.patch.dict(os.environ, RLM_HOME=home), \
            contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())):
        assert rlm.main(["view", path, *options]) == 0
    return path


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HEADLESS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb"]

DARK = "--blink-settings=preferredColorScheme=0"


def browser(*options: str, timeout_s: float = 120) -> str:
    """Runs Chromium without a window and with a profile of its own; what it prints."""
    assert CHROMIUM
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run([CHROMIUM, *HEADLESS, f"--user-data-dir={profile}", *options], capture_output=True,
                              timeout=timeout_s, check=False, env={**os.environ, "TZ": "UTC", "HOME": profile})
    return done.stdout.decode("utf-8", "replace")


def picture(page: str, where: str, path: str, width: int, height: int, *options: str) -> None:
    """What a browser shows of the page at that address, as a PNG."""
    browser(f"--window-size={width},{height}", "--virtual-time-budget=3000", f"--screenshot={path}", *options, f"file://{page}#{where}")


def main() -> int:
    """Makes the store, or the pictures."""
    with sealed(), tempfile.TemporaryDirectory() as folder:
        home = os.path.abspath(sys.argv[1]) if sys.argv[1:] else os.path.join(folder, "rlm")
        fill(home)
        if sys.argv[1:]:
            print(f"RLM_HOME={home} {sys.executable} {RLM} view")
            return 0
        page = page_of(home, os.path.join(folder, "page.html"))
        with open(page, encoding="utf-8") as file:
            data = json.loads(file.read().partition('id="data">')[2].partition("</script>")[0])
        session = max(data["sessions"], key=lambda row: row["n_bytes"])["session"]
        os.makedirs(PICTURES, exist_ok=True)
        picture(page, "", os.path.join(PICTURES, "timeline.png"), 1200, 760)
        picture(page, f"id={session}", os.path.join(PICTURES, "session.png"), 1300, 760, DARK)
    return 0


if __name__ == "__main__":
    sys.exit(main())
