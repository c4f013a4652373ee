"""Searches that also go by vectors, where the user put a model of model2vec on the disk.

What needs that package is skipped without it: `python3 -m venv v && v/bin/pip install model2vec`, then
`v/bin/python -m unittest tests.test_vectors`.
"""
from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
import unittest
from typing import Any

from tests.support import RLM, InProcess, McpClient, TempHome, days_ago, rlm

HAS_PACKAGE = importlib.util.find_spec("model2vec") is not None
# A package by that name that tells when it is imported.
DECOY = "import os\nopen({marker!r}, 'w').write(os.environ.get('HF_HUB_OFFLINE', ''))\nraise ImportError('a decoy')\n"


class FusionTest(InProcess):
    def test_ranks_are_fused_as_computed_by_hand(self) -> None:
        ids = [self.chunk(text) for text in ("alpha alpha beta", "alpha gamma delta epsilon", "nothing of the kind", "as little",
                                             "nor this")]
        view = self.view()
        query, (_, second, third, fourth, _) = rlm.Query(view, "alpha beta"), map(view.ordinal_of, ids)
        allowed = view.alive_mask()
        words = rlm.best_hits(query, allowed, 10)
        self.assertEqual([hit.doc.id for hit in words], ids[:2])
        # 1/6 = 0.167; 1/7 + 0.2/6 = 0.176; 0.2/7 = 0.029; 0.2/8 = 0.025.
        hits = rlm.best_hits(query, allowed, 10, [(0.9, second), (0.5, third), (0.4, fourth)])
        self.assertEqual([hit.doc.id for hit in hits], [ids[1], ids[0], ids[2], ids[3]])
        last = words[1].score
        scores = [words[0].score, last, min(0.5 * query.full, last), min(0.4 * query.full, last)]
        self.assertEqual([hit.score for hit in hits], scores)
        self.assertEqual(hits[0].places, f"2 by words ({words[1].score:.2f}), 1 by vectors (cosine 0.90)")
        self.assertEqual(hits[2].places, "none by words, 2 by vectors (cosine 0.50)")
        # 1/7 + 0.2/8 = 0.1679 is more than 1/6, 1/7 + 0.2/9 = 0.1651 is less.
        for near, wanted in (([third, fourth, second], ids[1]), ([third, fourth, 4, second], ids[0])):
            ranks = [(0.9, ordinal) for ordinal in near]
            self.assertEqual([hit.doc.id for hit in rlm.best_hits(query, allowed, 1, ranks)], [wanted])
        guess = rlm.Query(view, "alpba")
        self.assertTrue(guess.is_guess)
        self.assertEqual([hit.doc.id for hit in rlm.best_hits(guess, allowed, 10, [(0.9, third)])], [ids[2]])


class WithoutModelTest(TempHome):
    def decoy(self) -> tuple[str, dict[str, str]]:
        """A marker that is there once model2vec was imported, and an environment in which that would be the decoy."""
        marker = os.path.join(self.home, "imported")
        os.makedirs(os.path.join(self.home, "packages", "model2vec"))
        with open(os.path.join(self.home, "packages", "model2vec", "__init__.py"), "w") as file:
            file.write(DECOY.format(marker=marker))
        os.makedirs(self.home + "/model")
        with open(self.places.install_record(), "w") as file:
            json.dump({"semantic": {"model": self.home + "/model", "packages": self.home + "/packages"}}, file)
        return marker, {}

    def test_what_is_no_folder_is_a_clear_problem_and_nothing_is_imported(self) -> None:
        self.chunk("the car is red")
        marker, _ = self.decoy()
        env = {"RLM_EMBEDDING_MODEL": "minishlab/potion-base-8M"}
        told = self.cli("status", env=env)
        self.assertIn(b"/minishlab/potion-base-8M is no folder; nothing is downloaded", told.stdout)
        self.assertEqual(json.loads(self.cli("status", "--json", env=env).stdout)["semantic"]["model"],
                         os.path.join(self.home, "minishlab/potion-base-8M"))
        made = self.cli("embed", env=env)
        self.assertEqual((made.returncode, b"is no folder" in made.stderr), (1, True))
        self.assertIn(b"car is red", self.cli("search", "red car", env=env).stdout)
        self.assertFalse(os.path.exists(marker))
        off = self.cli("status", env={"RLM_EMBEDDING_MODEL": "off"})
        self.assertIn(b"semantic provider: none", off.stdout)
        self.assertEqual(self.cli("embed", env={"RLM_EMBEDDING_MODEL": "off"}).returncode, 1)
        self.assertFalse(os.path.exists(marker))

    def test_a_package_that_fails_is_told_not_to_use_the_network_and_stops_nothing(self) -> None:
        self.chunk("the car is red")
        marker, _ = self.decoy()
        told = self.cli("status")
        self.assertIn(b"no model of model2vec in " + self.home.encode() + b"/model (ImportError: a decoy)", told.stdout)
        with open(marker) as file:
            self.assertEqual(file.read(), "1")
        os.makedirs(self.places.index)
        with open(self.places.vectors(1), "wb") as raw:
            raw.write(b"rubbish")
        self.assertIn(b"car is red", self.cli("search", "red car").stdout)

    def test_searches_without_vectors_and_hooks_with_them_import_nothing(self) -> None:
        self.chunk("## User\nwhy does the connector drop packets on the staging gateway")
        marker, _ = self.decoy()
        self.assertEqual(self.cli("search", "connector gateway").returncode, 0)
        self.assertEqual(self.cli("recall", "connector gateway").returncode, 1)
        os.makedirs(self.places.index)
        with open(self.places.vectors(1), "wb") as file:
            file.write(b"rubbish")
        event = json.dumps({"session_id": "s", "cwd": self.home, "hook_event_name": "UserPromptSubmit",
                            "prompt": "why does the connector drop packets on the staging gateway?"}).encode()
        told = subprocess.run([sys.executable, "-S", "-c", "import rlm; rlm.run_hook('UserPromptSubmit')"], input=event,
                              env={**os.environ, "PYTHONPATH": os.path.dirname(RLM)}, capture_output=True, check=True)
        self.assertIn(b"staging gateway", told.stdout)
        self.assertFalse(os.path.exists(marker))


@unittest.skipUnless(HAS_PACKAGE, "needs model2vec")
class VectorsTest(InProcess):
    """With a tiny model: of the words of a row the vectors are the same, of two rows they have nothing in common."""

    ROWS = ("car automobile vehicle", "ship boat vessel", "doctor physician medic", "happy glad")

    def setUp(self) -> None:
        super().setUp()
        os.environ["RLM_EMBEDDING_MODEL"] = self.model("model", self.ROWS)

    def model(self, name: str, rows: tuple[str, ...]) -> str:
        """The folder of a model in which each row is a direction."""
        import model2vec
        import numpy as np
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

        words = ["[UNK]", *(word for row in rows for word in row.split())]
        vectors = np.zeros((len(words), len(rows)), "f4")
        for n, row in enumerate(rows):
            for word in row.split():
                vectors[words.index(word), n] = 1.0
        tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
        path = os.path.join(self.home, name)
        model2vec.StaticModel(vectors, tokenizer, normalize=True).save_pretrained(path)
        return path

    def ids(self, query: str, tool: str = "rlm_search", **more: Any) -> list[str]:
        """What a search finds."""
        data = self.call(tool, query=query, **more).data
        return [hit["id"] for hit in data["hits" if tool == "rlm_search" else "insights"]]

    def semantic(self) -> dict[str, Any]:
        return dict(self.call("rlm_status").data["semantic"])

    def file(self) -> bytes:
        return rlm.read_file(self.places.vectors(self.view().log.generation()))[rlm.VECTORS_HEAD_BYTES :]

    def test_what_has_none_of_the_words_is_found_within_the_scope(self) -> None:
        car = self.chunk("he sold the old car", project="shop")
        boat = self.chunk("she bought a new boat", project="harbour")
        insight = self.call("rlm_remember", content="our physician retires").data["id"]
        self.assertEqual(self.ids("automobile"), [])
        self.assertEqual(self.semantic(), {"model": self.home + "/model", "dimensions": 4, "n": 0, "n_missing": 3})
        code, out = self.main("embed")
        self.assertEqual((code, "3 vectors of 4 numbers, 0 missing" in out), (0, True))
        self.assertEqual((self.ids("automobile"), self.ids("vessel"), self.ids("medic")), ([car], [boat], [insight]))
        self.assertEqual((self.ids("automobile", project="harbour"), self.ids("automobile", kind="insight")), ([], []))
        self.assertEqual(self.ids("automobile", date_from="2031"), [])
        self.assertEqual((self.ids("medic", "rlm_recall"), self.ids("automobile", "rlm_recall")), ([insight], []))
        self.assertIn("none by words, 1 by vectors (cosine 1.00)", self.call("rlm_search", query="medic", explain=True).text)
        self.assertEqual(self.ids("zzz"), [])
        self.assertEqual(self.ids("automobile \ud800 \0"), [car])
        with days_ago(-400):
            self.assertEqual(self.ids("automobile"), [car])

    def test_cosines_are_those_computed_by_hand_and_the_memorys_factor_counts(self) -> None:
        for text, importance in (("car ship", "medium"), ("car", "low"), ("vehicle", "critical"), ("nothing known", "medium")):
            self.call("rlm_remember", content=text, importance=importance)
        self.main("embed")
        view, vectors = self.view(), rlm.Vectors(self.places)
        found = vectors.nearest(rlm.Query(view, "automobile"), view.alive_mask(), 10)
        self.assertEqual([ordinal for _, ordinal in found], [2, 1, 0])  # 1 x 1.1, 1 x 0.95, 0.71
        for (cosine, _), wanted in zip(found, (1.0, 1.0, 0.5**0.5)):
            self.assertAlmostEqual(cosine, wanted, 2)
        self.assertEqual(len(vectors.nearest(rlm.Query(view, "automobile"), view.alive_mask(), 1)), 1)
        self.assertNotIn("HF_HUB_OFFLINE", os.environ)

    def test_of_what_is_forgotten_or_erased_no_vector_is_left(self) -> None:
        ids = [self.chunk(f"the {word} number {n}") for n, word in enumerate(("car", "boat", "doctor"))]
        self.main("embed")
        row = len(self.file()) // 3
        self.call("rlm_forget", insight_id=ids[1])
        self.assertEqual(self.ids("vessel"), [])
        self.assertNotEqual(self.file()[row + 8 : 2 * row], bytes(4))
        self.main("embed")
        self.assertEqual((self.file()[row : row + 4], self.file()[row + 8 : 2 * row]), (bytes(4), bytes(4)))
        self.main("forget", "--undo", ids[1])
        self.main("embed")
        self.assertEqual(self.ids("vessel"), [ids[1]])
        older = self.places.vectors(self.view().log.generation())
        self.assertEqual(self.main("forget", ids[1], "--erase", "--yes")[0], 0)
        self.assertFalse(os.path.exists(older))
        self.assertEqual((self.ids("vessel"), self.semantic()["n"]), ([], 0))
        self.main("embed")
        self.assertEqual((self.ids("vessel"), self.ids("automobile"), self.semantic()["n"]), ([], [ids[0]], 2))

    def test_compaction_another_model_and_a_log_that_was_put_back_have_them_made_anew(self) -> None:
        car = self.chunk("the car")
        aside = self.home + "/aside"
        shutil.copytree(self.places.memory, aside)
        boat = self.chunk("the boat")
        self.main("embed")
        shutil.copytree(self.places.memory, self.home + "/later")
        self.main("compact")
        self.assertEqual(self.semantic()["n_missing"], 2)
        self.main("embed")
        self.assertEqual(self.ids("vessel"), [boat])
        os.environ["RLM_EMBEDDING_MODEL"] = self.model("other", ("boat car", "x", "y"))
        self.assertEqual((self.semantic()["n"], self.semantic()["dimensions"]), (0, 3))
        self.main("embed")
        self.assertEqual(len(self.ids("boat")), 2)
        shutil.rmtree(self.places.memory)
        shutil.copytree(aside, self.places.memory)
        os.environ["RLM_EMBEDDING_MODEL"] = self.home + "/model"
        doctor = self.chunk("the doctor")
        os.makedirs(self.places.index)
        shutil.copy(self.home + "/later/index/vectors-000001.bin", self.places.vectors(1))
        self.assertEqual((self.ids("vessel"), self.semantic()["n"]), ([], 0))
        self.main("embed")
        self.assertEqual((self.ids("vessel"), self.ids("medic"), self.ids("vehicle")), ([], [doctor], [car]))

    def test_a_damaged_file_is_made_anew_and_a_torn_one_goes_on(self) -> None:
        ids = [self.chunk(f"the {word} number {n}") for n, word in enumerate(("car", "boat", "doctor"))]
        self.main("embed")
        path = self.places.vectors(1)
        whole = rlm.read_file(path)
        for damaged in (b"", b"rubbish", whole[:-3], whole[: rlm.VECTORS_HEAD_BYTES], whole + b"x", whole + whole[-12:]):
            with open(path, "wb") as file:
                file.write(damaged)
            self.assertEqual(self.ids("number"), self.ids("number"))
            self.assertEqual(self.main("embed")[0], 0)
            self.assertEqual((self.ids("physician"), rlm.read_file(path)[: len(whole)]), ([ids[2]], whole), damaged[-20:])

    def test_the_installed_server_makes_them_when_idle_and_finds_by_them(self) -> None:
        car = self.chunk("he sold the old car")
        done = subprocess.run([sys.executable, RLM, "install", "--no-import"], env=os.environ, cwd=self.home,
                              capture_output=True, check=False)
        self.assertIn(f"embedding model; model2vec is in {os.path.dirname(importlib.util.find_spec('model2vec').origin)[:-10]}"
                      .encode(), done.stdout)  # type: ignore[union-attr]
        del os.environ["RLM_EMBEDDING_MODEL"]
        with open(self.home + "/.claude.json") as file:
            entry = json.load(file)["mcpServers"]["rlm"]
        self.assertIn("-S", entry["args"])
        client = McpClient(self.home, [entry["command"], *entry["args"]], entry["env"])
        self.addCleanup(client.close)
        client.initialize()
        for _ in range(200):
            if "1 vectors of 4 numbers, 0 missing" in client.text("rlm_status"):
                break
            time.sleep(0.05)
        self.assertIn(f"[{car}]", client.text("rlm_search", query="automobile"))
        later = client.text("rlm_remember", content="a vessel left the harbour").split()[0]
        for _ in range(200):
            if later in client.text("rlm_recall", query="boat"):
                break
            time.sleep(0.05)
        self.assertIn(later, client.text("rlm_recall", query="boat"))
        shell = subprocess.run([self.home + "/.local/bin/rlm", "search", "automobile"], env=os.environ, capture_output=True)
        self.assertIn(car.encode(), shell.stdout)
        checks = subprocess.run([self.home + "/.local/bin/rlm", "doctor"], env=os.environ, capture_output=True).stdout
        self.assertRegex(checks.decode(), r"ok +semantic: .*2 vectors of 4 numbers, 0 missing")


if __name__ == "__main__":
    unittest.main()
