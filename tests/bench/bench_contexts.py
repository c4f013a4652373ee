"""Seconds and peak memory of contexts at 40 MB, 100 MB and 1 GB, beside plain open().read().

    python3 -m tests.bench.bench_contexts [MEGABYTES…]

Each row is a process of its own on a file in the page's cache; "slice" is the mean of 2,000 at random, in microseconds.
"""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LINES = {
    "ASCII": "2026-11-28 09:12:44,120 INFO worker-12 request done in 123 ms path=/api/v1/items/42 status=200\n",
    "French": "Le déploiement a échoué à cause d'une clé périmée ; l'équipe a été prévenue hier après-midi.\n",
    "Japanese": "配備は期限切れの鍵のために失敗しました。担当者には昨日の午後に連絡済みです。\n"}
JOBS = {
    "open().read()": "text = open(path, encoding='utf-8').read()\nassert text[len(text) // 2]",
    "rlm load": "run('rlm_load', path=path, name='t')",
    "grep, no hit": "run('rlm_grep', pattern='no such thing', context='t')",
    "filter, all match": "run('rlm_filter', name='t', pattern='STATUS=200|hier|昨日', output='v')",
    "split, lines": "run('rlm_split', name='t', strategy='lines', size=2000)",
    "peek at the end": "run('rlm_peek', chunk_id=f't:{n_lines - 3}-')",
    "slice": "with rlm.open_context(places, 't') as opened:\n    text = opened.text\n    n = len(text) - 100\n"
             "    began_s = time.perf_counter()\n    for _ in range(2000):\n        i = random.randrange(n)\n        text[i:i + 100]\n"
             "    extra = f'{(time.perf_counter() - began_s) * 500:.0f} us'",
}
PROCESS = """
import random, resource, sys, time
path, n_lines, extra = sys.argv[1], int(sys.argv[2]), ''
if sys.argv[3] != 'plain':
    import rlm
    places = rlm.Places()
    def run(tool, **arguments):
        return rlm.run_tool(rlm.Call(rlm.Store(places), 20_000), tool, arguments)
began_s = time.perf_counter()
%s
seconds = time.perf_counter() - began_s
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1 << 20 if sys.platform == 'darwin' else 1024)
print(f'{seconds:8.2f} s {peak:6,} MB  {extra}')
"""


def main() -> None:
    home = tempfile.mkdtemp(prefix="rlm bench ")
    environ = {**os.environ, "RLM_HOME": home, "RLM_CONTEXT_DIR": "", "PYTHONPATH": ROOT,
               "PYTHONPYCACHEPREFIX": home + "/bytecode", "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run([sys.executable, "-S", "-c", "import rlm"], env=environ, check=True)  # compiling takes memory
    try:
        for megabytes in map(int, sys.argv[1:] or (40, 100, 1000)):
            for language, line in LINES.items():
                path, block = os.path.join(home, "text.txt"), (line * 2000).encode()
                n_blocks = megabytes * 1_000_000 // len(block)
                with open(path, "wb") as file:
                    for _ in range(n_blocks):
                        file.write(block)
                for what, job in JOBS.items():
                    kind = "plain" if what.startswith("open") else "rlm"
                    told = subprocess.run([sys.executable, "-S", "-c", PROCESS % job, path, str(n_blocks * 2000), kind],
                                          env=environ, capture_output=True, text=True, check=False)
                    print(f"{megabytes:5} MB {language:9} {what:18} {told.stdout.rstrip() or told.stderr[-200:]}", flush=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
