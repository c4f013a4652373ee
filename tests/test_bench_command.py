"""`rlm bench`: how well one's own memory is found."""
from __future__ import annotations

import json
import os
import random
from typing import Any
from unittest import mock

from tests.support import InProcess, rlm

TOPICS = ("invoices are rendered by WeasyPrint inside a worker", "avatars larger than eight megabytes are refused by nginx",
          "webhooks arriving twice are dropped by their event number", "customers deleted softly vanish after ninety days",
          "le certificat du serveur expire chaque trimestre", "支払いのウェブフックは二重に届くことがある")


class BenchTest(InProcess):
    def fill(self) -> None:
        for n, topic in enumerate(TOPICS):
            self.chunk(f"## User · 2026-11-2{n} 10:00\nremind me how {topic}, and why we chose that\n\n## Claude\nbecause of {topic}.")

    def files(self) -> dict[str, bytes]:
        return {path: rlm.read_file(path) for folder, _, names in os.walk(self.places.memory)
                for path in (os.path.join(folder, name) for name in names)}

    def bench(self, *arguments: str) -> dict[str, Any]:
        code, out = self.main("bench", "--json", *arguments)
        self.assertEqual(code, 0, out)
        return json.loads(out)  # type: ignore[no-any-return]

    def test_hits_and_mean_reciprocal_rank_are_those_computed_by_hand(self) -> None:
        found = rlm.found_well([1, 2, 0, 6], [0.04, 0.01, 0.03, 0.02])
        self.assertEqual((found["n"], found["hit_1"], found["hit_5"], found["p50_ms"], found["p95_ms"]), (4, 0.25, 0.5, 20, 40))
        self.assertAlmostEqual(found["mrr"], (1 + 1 / 2 + 1 / 6) / 4)

    def test_queries_are_words_of_one_line_a_slip_in_the_longest_and_the_day(self) -> None:
        doc = rlm.Doc()
        doc.at_s = rlm.epoch_of("2026-11-21T12:00:00Z")
        for seed in range(20):
            found = rlm.own_queries(doc, "# heading of it\n\nthe alpha beta gamma delta epsilons\n日本\n", random.Random(seed))
            words, typos = found["words"].split(), found["typos"].split()
            self.assertEqual(words, sorted(words, key=["alpha", "beta", "gamma", "delta", "epsilons"].index))
            self.assertEqual(found["dates"], f"{words[0]} {words[1]} 2026-11-21")
            (wrong, right), = [pair for pair in zip(typos, words) if pair[0] != pair[1]] or [("", "")]
            self.assertEqual(sorted(wrong), sorted(right))
            self.assertIn(right, ("", max(words, key=len)))
        for text in ("", "\0\ud800", "the of and", "# only a heading"):
            self.assertEqual(rlm.own_queries(doc, text, random.Random(1)), {}, text)

    def test_it_measures_is_the_same_for_a_seed_and_changes_no_byte_of_the_store(self) -> None:
        self.fill()
        self.main("search", "invoices")
        before = self.files()
        found, again = self.bench("--seed", "3"), self.bench("--seed", "3")
        self.assertEqual(self.files(), before)
        self.assertEqual((found["n_memories"], found["n_asked"], found["hook"]["n_own"]), (6, 6, 6))
        self.assertEqual((found["searches"]["words"]["n"], found["searches"]["words"]["mrr"]), (6, 1.0))
        self.assertGreater(found["hook"]["n_answered"], 3)
        self.assertEqual(found["hook"]["n_silent"], found["hook"]["n_everyday"])
        for each in (found, again):
            each.pop("seconds")
            for row in each["searches"].values():
                del row["p50_ms"], row["p95_ms"]
        self.assertEqual(found, again)
        code, out = self.main("bench", "--n", "2")
        self.assertEqual(code, 0)
        self.assertIn("2 memories of 6 sampled (seed 1)", out)
        self.assertIn("upper bound", out)

    def test_when_time_is_up_it_says_how_many_were_asked_for(self) -> None:
        self.fill()
        with mock.patch.object(rlm, "BENCH_SEARCHES_S", -1.0), mock.patch.object(rlm, "BENCH_S", -1.0):
            code, out = self.main("bench")
        self.assertEqual(code, 0)
        self.assertIn("time was up after 0", out)
        self.assertIn("0 of 0 everyday prompts", out)

    def test_where_nothing_is_to_ask_for_or_the_number_is_none_it_says_so(self) -> None:
        code, out = self.main("bench")
        self.assertEqual((code, "nothing in the memory to ask for yet" in out), (1, True))
        self.chunk("one text about invoices")
        code, out = self.main("bench", "--project", "nobody\x1b[31m")
        self.assertEqual((code, "\x1b" in out), (1, False))
        self.assertIn("nothing of project nobody", out)
        for n in ("0", "-5", "many", "1000000"):
            self.assertEqual(self.main("bench", "--n", n)[0] if n != "many" else 2, 2)
