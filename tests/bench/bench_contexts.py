"""Seconds and peak memory of contexts at 40 MB, 100 MB and 1 GB, beside plain open().read().

    python3 -m tests.bench.bench_contexts [MEGABYTES…]

Each row is a process of its own on a file in the page's cache; "slice" is the mean of 2,000 at random, in microseconds.
The searches after the first say how long the fastest of five took, without the start of the process; over 200 MB there is
no index, and they read all of the text. A quarter of the words are drawn, frequent ones more often.
"""
from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LINES = {
    "ASCII": "2026-11-28 09:12:44,120 INFO worker-12 request done in 123 ms path=/api/v1/items/42 status=200\n",
    "French": "Le déploiement a échoué à cause d'une clé périmée ; l'équipe a été prévenue hier après-midi.\n",
    "Japanese": "配備は期限切れの鍵のために失敗しました。担当者には昨日の午後に連絡済みです。\n"}
LETTERS = {"ASCII": "abcdefghijklmnopqrstuvwxyz", "French": "abcdefghijklmnopqrstuvwxyzéèàç",
           "Japanese": "".join(map(chr, [*range(0x4E00, 0x5200), *range(0x3041, 0x3090)]))}
SEARCH = "times = []\nfor _ in range(5):\n    at_s = time.perf_counter()\n    run('rlm_search', query='{}', context='t')\n" \
         "    times.append(time.perf_counter() - at_s)\nextra = f'{{min(times) * 1000:.1f}} ms'"
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
    "first search": "run('rlm_search', query='xylophone', context='t')",
    "search, rare word": SEARCH.format("xylophone"),
    "search, common": SEARCH.format("status équipe 担当"),
    "search, two words": SEARCH.format("xylophone status"),
    "search, absent": SEARCH.format("aardvark"),
    "search, misspelt": SEARCH.format("xylofone statis"),
    "search, sentence": SEARCH.format("why did the deployment fail; pourquoi le déploiement a échoué; 配備は失敗しました"),
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
                rng, path = random.Random(1), os.path.join(home, "text.txt")
                words = ["".join(rng.choices(LETTERS[language], k=rng.randrange(2, 9))) for _ in range(30_000)]
                weights = [1 / (n + 2) for n in range(len(words))]
                block = "".join(f"{' '.join(rng.choices(words, weights, k=5))} {line}" for _ in range(2000)).encode()
                n_blocks = megabytes * 1_000_000 // len(block)
                with open(path, "wb") as file:
                    for n in range(n_blocks):
                        file.write(block if n != n_blocks // 2 else block.replace(b"\n", b" xylophone\n", 1))
                for what, job in JOBS.items():
                    kind = "plain" if what.startswith("open") else "rlm"
                    told = subprocess.run([sys.executable, "-S", "-c", PROCESS % job, path, str(n_blocks * 2000), kind],
                                          env=environ, capture_output=True, text=True, check=False)
                    print(f"{megabytes:5} MB {language:9} {what:18} {told.stdout.rstrip() or told.stderr[-200:]}", flush=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
