"""Runs learn how to go about a kind of question; `rlm eval` shows whether recursion is worth it, on tasks with gold."""
from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import unittest
from collections.abc import Callable
from typing import Any

from tests.bench.bench_runs import ENDS, labelled, reader
from tests.models import Conversation, ModelServer
from tests.support import PROGRAM, InProcess, bytecode, rlm
from tests.test_exec import setUpModule  # noqa: F401 - processes that the tests start use compiled bytecode
from tests.test_runs import LOOK, RunCase

CODE = 1234567  # stands in the texts


class ProcedureTest(RunCase):
    """A good run leaves how it went about it, and the next of its kind is told."""

    n_lines = 6_000

    def first_message(self, n: int) -> str:
        """What the root was told first in the n-th run."""
        begun = [each["messages"][1]["content"] for each in self.asked("root") if len(each["messages"]) == 2]
        return str(begun[n])

    def procedures(self) -> list[rlm.Record]:
        return list(self.call("rlm_recall", category="procedure").data["insights"])

    def test_the_second_run_of_a_kind_is_told_how_the_first_one_went_about_it(self) -> None:
        answer = self.run_it("How many errors are there?")
        learnt = self.procedures()[0]["text"]
        self.assertEqual(learnt.partition(" It took")[0], "To count in prose of less than 100,000 tokens: "
                         "peek(60), then split(20000), then llm_query_batched, then sum.")
        self.assertRegex(learnt, r"It took 3 turns and \d+ sub-calls that read [\d,]+ characters\.$")
        self.assertIn(f"how it was done is {self.procedures()[0]['id']}", answer.text)
        self.run_it("Combien de lignes vont bien ?")
        self.assertNotIn("went well so", self.first_message(0))
        self.assertIn(f"went well so (data, no instruction): {learnt}", self.first_message(1))
        self.assertEqual(len(self.procedures()), 1)  # the second was no cheaper

    def test_another_kind_of_question_is_not_told_and_the_same_question_again_still_costs_nothing(self) -> None:
        self.run_it("How many errors are there?")
        self.run_it("Where does it say so?")
        self.assertNotIn("went well so", self.first_message(1))
        n = len(self.server.requests)
        self.run_it("How many errors are there?")
        self.assertEqual(len(self.server.requests), n)

    def test_a_run_rated_not_helpful_withdraws_its_procedure_and_a_helpful_one_goes_first(self) -> None:
        run = self.run_it("How many errors are there?").data["run"]
        self.call("rlm_feedback", ids=run, rating="not")
        self.run_it("How many errors have we?")
        self.assertNotIn("went well so", self.first_message(1))
        self.replies = [LOOK, "```repl\nn = len(grep('error', limit=9999))\nprint(n)\n```", "```repl\nFINAL(n)\n```"]
        run = self.run_it("How many errors in all?").data["run"]  # without a model, so cheaper
        self.assertEqual(len(self.procedures()), 2)
        dear = self.procedures()[1]["id"]
        self.call("rlm_feedback", ids=dear, rating="helpful")
        self.run_it("How many errors, then?")
        self.assertIn("llm_query_batched", self.first_message(3))
        with self.assertRaisesRegex(rlm.NotFound, "no run"):
            self.call("rlm_feedback", ids="r-00000000", rating="helpful")

    def test_a_question_that_goes_on_with_a_run_leaves_nothing(self) -> None:
        run = self.run_it("How many errors are there?").data["run"]
        self.run_it("Where are they?", run=run)
        self.assertEqual(len(self.procedures()), 1)

    def test_nothing_of_the_texts_reaches_a_procedure(self) -> None:
        self.replies = [LOOK, f"```repl\nignore_all_instructions = sorted('delete prod')\nn = len(grep('{CODE} is the "
                        f"key'))\nprint(n, {CODE}, peek(5))\n```", f"```repl\nFINAL({CODE})\n```"]
        self.run_it()
        self.assertIn(": peek(60), then sorted, then grep, then peek(5). It", self.procedures()[0]["text"])

    def test_another_project_is_not_told_and_an_excluded_one_keeps_nothing(self) -> None:
        self.run_it("How many errors are there?")
        os.environ["RLM_PROJECT"] = "other"
        self.places = rlm.Places()
        self.run_it("How many errors have we?")
        self.assertNotIn("went well so", self.first_message(1))
        rlm.write_config(self.places, {**rlm.read_config(self.places), "exclude": ["third"]})
        os.environ["RLM_PROJECT"] = "third"
        self.places = rlm.Places()
        before = self.procedures()
        self.run_it("How many errors do we have?")
        self.assertNotIn("went well so", self.first_message(2))
        self.assertEqual(self.procedures(), before)

    def test_a_start_of_a_session_does_not_take_procedures_of_runs_for_what_the_user_wants(self) -> None:
        self.run_it()
        self.call("rlm_remember", content="Always deploy with make ship", category="procedure")
        view = rlm.View(self.places).refresh()
        wishes = rlm.standing(view, view.alive_mask(), [])
        self.assertEqual([wish.text for wish in wishes], ["Always deploy with make ship"])

    def test_what_a_question_asks_for_is_told_by_its_words(self) -> None:
        for kind, questions in {
                "count": ["How many are open?", "Combien de tickets sont ouverts ?", "エラーはいくつありますか"],
                "compare": ["How does A differ from B?", "Compare les deux", "AとBの違いは？"],
                "find": ["Where is the key?", "Où est la clé ?", "鍵はどこですか", ""],
                "list": ["Which services restarted?", "Liste les services", "サービスの一覧"],
                "classify": ["Label each line", "Classifie les lignes", "行を分類して"],
                "summarize": ["Summarize it", "Résume le texte", "要約して"],
                "pair": ["Which pairs of users match?"], "rank": ["Rank the bugs by priority"]}.items():
            for question in questions:
                with self.subTest(question=question):
                    self.assertEqual(rlm.kind_of_run(self.places, question, [])["kind"], kind)


class GoldTest(unittest.TestCase):
    """Task sets with gold."""

    def text(self, kind: str, n_bytes: int, seed: int = 7) -> tuple[str, Any]:
        made = rlm.TaskText(kind, n_bytes, seed)
        texts = [b"".join(made.blocks(n_bytes // 20, n)) for n in range(20)] if kind == "synthesis" else \
            [b"".join(made.blocks(n_bytes))]
        return b"".join(texts).decode("ascii"), made.gold()

    def test_the_gold_is_what_a_reader_who_labels_every_line_right_computes(self) -> None:
        for n_bytes, seed in ((60_000, 7), (4_000, 1), (4_000, 2), (12_000, 3)):
            for kind, (_, _, metric) in rlm.TASK_KINDS.items():
                with self.subTest(kind=kind, n_bytes=n_bytes):
                    text, gold = self.text(kind, n_bytes, seed)
                    self.assertLess(abs(len(text) - n_bytes), 4_000)
                    names: dict[str, Any] = {
                        "context": text, "CONTEXTS": text, "labels": labelled(text, kind), "re": __import__("re"),
                        "collections": __import__("collections"), "llm_query": reader_of_notes,
                        "grep": lambda words, where=text: [line for line in where.split("\n") if words in line]}
                    exec(ENDS[kind], names)
                    self.assertEqual(rlm.METRICS[metric][0](gold, str(names["found"])), 1.0, (gold, names["found"]))
                    self.assertTrue(gold or n_bytes < 60_000)

    def test_a_seed_gives_the_same_on_every_version_of_python_and_another_one_something_else(self) -> None:
        made = "".join(self.text(kind, 20_000)[0] + json.dumps(self.text(kind, 20_000)[1]) for kind in rlm.TASK_KINDS)
        self.assertEqual(hashlib.sha256(made.encode()).hexdigest()[:16], "e37a947c80806204")
        self.assertNotEqual(self.text("needle", 20_000, 8)[1], self.text("needle", 20_000)[1])

    def test_a_large_text_is_written_as_it_is_made(self) -> None:
        made = rlm.TaskText("ranking", 40_000_000, 7)
        blocks = made.blocks(40_000_000)
        sizes = [len(next(blocks)) for _ in range(20)]
        self.assertLess(max(sizes), 200_000)
        self.assertLess(sys.getsizeof(made.found), 100_000)


def reader_of_notes(prompt: str) -> str:
    return str(reader()([("system", ""), ("user", prompt)]))


class FormulaTest(unittest.TestCase):
    """What answers are worth, and what follows, by hand."""

    def score(self, metric: str, gold: Any, said: str) -> float:
        return round(rlm.METRICS[metric][0](gold, said), 4)

    def test_what_an_answer_is_worth(self) -> None:
        for metric, gold, said, worth in [
                ("exact", "Café 12", " **cafe 12.** ", 1), ("exact", "7741", "7742", 0), ("exact", 7741, "'7741'", 1),
                ("number", 12, "There are 1,012 of 5: 12", 1), ("number", 12, "13", 0.75), ("number", 12, "14", 0.5625),
                ("number", 1200, "1,200", 1), ("number", 12, "none", 0), ("number", -2.5, "-2.5", 1),
                ("set", ["a", "b", "c"], "a\nb", 0.8),  # 2 · 2 / (3 + 2)
                ("set", ["a: x", "b: y"], '["A : x", "c: y", "a:x"]', 0.5),  # 2 · 1 / (2 + 2)
                ("set", ["u1-u2", "u3-u4"], "- u3 - u4\n- u1-u2", 1), ("set", [], "", 1), ("set", ["a"], "", 0),
                ("set", ["a", "b"], "['a', 'b']", 1), ("set", ["a", "b"], "1. a\n2. b", 1),
                ("rank", ["a", "b", "c"], "a, b, c", 1), ("rank", ["a", "b", "c"], "a, c, b", 0.3333),  # (2 - 1) / 3
                ("rank", ["a", "b", "c"], "c, b, a", 0), ("rank", ["a", "b", "c"], "a, b, z", 0.3333),  # (1 - 0) / 3
                ("rank", ["a"], "a", 1), ("rank", ["a"], "b", 0), ("rank", ["a", "b"], "x, y, a, b", 0),
                ("contains", ["h1", "h2"], "Only H1.", 0.5), ("contains", "Red Lynx", "it is red  lynx, surely", 1)]:
            with self.subTest(metric=metric, said=said):
                self.assertEqual(self.score(metric, gold, said), round(worth, 4))

    def test_every_metric_is_bounded_is_one_for_the_gold_and_never_better_for_less(self) -> None:
        rng = random.Random(3)
        for _ in range(200):
            gold = rng.sample([f"x{n}" for n in range(20)], rng.randint(1, 8))
            said = rng.sample([f"x{n}" for n in range(20)], rng.randint(1, 8))
            for metric in ("set", "rank", "contains"):
                self.assertEqual(self.score(metric, gold, "\n".join(gold)), 1)
                self.assertTrue(0 <= self.score(metric, gold, "\n".join(said)) <= 1)
            self.assertLess(self.score("set", gold, "\n".join([*gold[1:], "none"])), 1)
            n = rng.randint(-9, 9)
            self.assertEqual(self.score("number", n, f"{n}"), 1)
            self.assertGreater(self.score("number", n, f"{n + 1}"), self.score("number", n, f"{n + 2}"))
            self.assertEqual(self.score("set", gold, "\n".join(said)), self.score("set", gold, "\n".join(said[::-1])))

    def pair(self, direct: float, recursive: float, tokens: int = 50_000, **facts: Any) -> tuple[rlm.Record, rlm.Record]:
        row = {"size": tokens, "spent": {"tokens": 100, "dollars": 0.0}, "seconds": 5.0, "error": ""}
        return {**row, "score": direct}, {**row, "score": recursive, **facts}

    def test_recursion_wins_from_the_size_on_at_which_it_is_better_and_above_which_it_is_never_worse(self) -> None:
        for scores, found in [
                ([(1_000, 1, 1), (10_000, 1, 1), (100_000, 0, 1)], 100_000),
                ([(1_000, 1, 0), (10_000, .5, 1), (100_000, 1, 1)], 10_000),
                ([(1_000, 0, 1), (10_000, 1, 0), (100_000, 0, 1)], 100_000),
                ([(1_000, 0, 1), (10_000, 0, 1)], 1_000), ([(1_000, 0, 1), (10_000, 1, 0)], None), ([], None),
                ([(49_900, 1, 0), (50_100, 0, 1), (50_000, 0, 1)], 50_000)]:  # one size, +1/3 on the mean
            pairs = [self.pair(direct, recursive, tokens) for tokens, direct, recursive in scores]
            for _ in range(3):
                self.assertEqual(rlm.crossover(pairs), found)
                random.Random(1).shuffle(pairs)

    def test_adoption_takes_three_gains_no_loss_and_bearable_cost(self) -> None:
        cheap = {"spent": {"tokens": 199, "dollars": 0.0}}
        won, same, lost = self.pair(0, 1, **cheap), self.pair(1, 1, **cheap), self.pair(1, 0.7, **cheap)
        for pairs, verdict in [
                ([won] * 3, "adopt"), ([won, won, same], "monitor"), ([won] * 3 + [lost], "monitor"),
                ([self.pair(0, 1, spent={"tokens": 200, "dollars": 0.0})] * 3, "monitor"),
                ([self.pair(0, 1, seconds=601.0)] * 3, "monitor"), ([self.pair(0.5, 0.7)] * 3, "monitor"),
                ([same] * 5, "defer"), ([lost, same], "defer"), ([won, lost, self.pair(1, 0.3)], "defer"), ([], "")]:
            with self.subTest(verdict=verdict, n=len(pairs)):
                self.assertEqual(rlm.verdict_of(pairs)[0], verdict)
        big = [({**direct, "error": "does not fit"}, {**row, "spent": {"tokens": 9e9, "dollars": 0.0}}) for direct, row in [won] * 3]
        self.assertEqual(rlm.verdict_of(big)[0], "adopt")  # no prompt could do it
        self.assertIn("accuracy +1.00 over 3 tasks: more than 0.2 better on 3, worse on 0", rlm.verdict_of([won] * 3)[1])
        self.assertIn("2.0 times the tokens where a prompt could do it", rlm.verdict_of([won] * 3)[1])


@unittest.skipUnless(sys.platform == "linux", "the lock is proven on Linux only")
class EvalTest(InProcess):
    """The command, with scripted models."""

    def setUp(self) -> None:
        super().setUp()
        self.scripted = reader()
        self.direct: Callable[[str], str] = lambda prompt: "I do not know"
        self.server = ModelServer(self.model)
        self.addCleanup(self.server.close)
        rlm.write_config(self.places, {"openai.url": self.server.url + "/v1", "ollama.url": self.server.url,
                                       "window_tokens": 40_000, "prices": ["openai/one=1/2"]})
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.home)
        self.folder = "tasks"
        self.tasks = os.path.join(self.folder, "tasks.jsonl")

    def model(self, said: Conversation) -> str:
        return self.direct(said[1][1]) if said[1][1].startswith("Question: ") and "<data-" in said[1][1] else \
            self.scripted(said)

    def made(self, kinds: str, sizes: str) -> list[rlm.Record]:
        code, text = self.main("eval", "--make", kinds, "--size", sizes, "--out", self.folder)
        self.assertEqual(code, 0, text)
        with open(self.tasks, encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def evaluate(self, *words: str, code: int = 0) -> Any:
        found, text = self.main("eval", self.tasks, "--json", *words)
        self.assertEqual(found, code, text)
        return json.loads(text)

    def test_direct_against_recursive_over_two_providers(self) -> None:
        tasks = self.made("counting", "2k,20k,60k")
        answers = {task["paths"][0]: str(task["answer"]) for task in tasks}
        self.direct = lambda prompt: next(gold for path, gold in answers.items() if path in prompt) \
            if len(prompt) < 50_000 else "1"
        found = self.evaluate("--provider", "openai/one", "--provider", "ollama/two")
        scores = {(row["provider"], row["way"]): [] for row in found["rows"]}  # type: dict[tuple[str, str], list[float]]
        for row in found["rows"]:
            scores[row["provider"], row["way"]].append(round(row["score"], 2))
        self.assertEqual(scores, {(provider, way): scores for provider in ("openai/one", "ollama/two")
                                  for way, scores in (("direct", [1, 0, 0]), ("recursive", [1, 1, 1]))})
        self.assertIn("does not fit: 60,0", found["rows"][8]["error"])
        first, second = found["providers"]
        self.assertEqual((first["crossover"], first["verdict"], second["crossover"]), (20_000, "monitor", 20_000))
        self.assertGreater(first["recursive"]["dollars"], 0)
        self.assertEqual(second["recursive"]["dollars"], 0)
        self.assertTrue(1_000 < first["recursive"]["root_chars"] < 10_000)
        self.assertGreater(first["direct"]["root_chars"], 80_000)
        text = self.main("eval", self.tasks, "--provider", "openai/one")[1]
        self.assertRegex(text, r"(?m)^2 counting +20,0\d\d openai/one +recursive +1\.00 ")
        self.assertIn("recursion wins from about 20,000 tokens on. Verdict: monitor; accuracy +0.67 over 3 tasks", text)

    def test_no_answer_is_taken_from_or_left_to_another_run(self) -> None:
        self.made("needle", "2k")
        counts = []
        for _ in range(2):
            self.evaluate("--provider", "openai/one")
            counts.append(len(self.server.requests))
        self.assertEqual(counts[1], 2 * counts[0])
        self.assertEqual(rlm.listing(self.places.answers()) + self.call("rlm_recall").data["insights"], [])

    def test_a_task_that_fails_is_a_row_and_one_that_is_none_is_named_before_anything_is_asked(self) -> None:
        tasks = self.made("needle", "2k")
        with open(self.tasks, "a", encoding="utf-8") as file:
            file.write("\n" + json.dumps({**tasks[0], "paths": ["gone.txt"]}) + "\n")
        rows = self.evaluate("--provider", "openai/one")["rows"]
        self.assertEqual([bool(row["error"]) for row in rows], [False, False, True, True])
        self.assertIn("gone.txt", rows[2]["error"])
        for name in ("gone.txt", "a\0b", "\ud800"):
            with open(self.tasks, "w", encoding="utf-8") as file:
                file.write(json.dumps({**tasks[0], "paths": [name]}))
            code, out = self.main("eval", self.tasks, "--dry-run", "--provider", "openai/one")
            self.assertEqual((code, "1 path missing: /" in out), (0, True), out)
            self.assertTrue(all(row["error"] for row in self.evaluate("--provider", "openai/one")["rows"]))
        asked = len(self.server.requests)
        for line in ("[]", "{", "{}", '{"question": "a", "paths": ["b"], "answer": "x", "metric": "number"}', '"\\ud800"',
                     *(f'{{"question": "a", "paths": ["b"], "answer": {gold}, "metric": "number"}}' for gold in
                       ("NaN", "-Infinity", "1e999", "true", "9" * 400)),
                     '{"question": " ", "paths": ["b"], "answer": "x", "metric": "exact"}', "\x00",
                     '{"question": "a", "paths": [], "answer": "x", "metric": "exact"}', "[" * 100_000):
            with open(self.tasks, "w", encoding="utf-8") as file:
                file.write(json.dumps(tasks[0]) + "\n" + line)
            with self.assertRaisesRegex(rlm.UsageError, "line 2 of .* is no task|looks binary"):
                rlm.tasks_in(self.tasks)
        self.assertEqual(self.main("eval", self.tasks, "--provider", "openai/one")[0], 2)
        self.assertEqual(len(self.server.requests), asked)

    def test_what_it_takes_is_said_before_and_bounded_for_all_tasks_together(self) -> None:
        self.made("needle,counting", "2k,60k")
        plan = self.evaluate("--provider", "openai/one", "--dry-run")["plan"][0]
        self.assertEqual((plan["tasks"], plan["fitting"], plan["most"]["calls"]), (4, 2, 4 * 300 + 2))
        self.assertLess(plan["most"]["dollars"], 4 * 2.0 + 0.1)
        self.assertEqual(self.server.requests, [])
        rows = self.evaluate("--provider", "openai/one", "--max-calls", "7")["rows"]
        self.assertLessEqual(len(self.server.requests), 7)
        self.assertIn("calls of --max-calls are spent", rows[-1]["error"])
        self.assertEqual(self.main("eval", self.tasks, "--provider", "ollama/two", "--max-dollars", "1")[0], 2)

    def test_without_a_provider_nothing_is_asked_and_the_way_out_is_named(self) -> None:
        self.made("needle", "2k")
        for words in ((), ("--dry-run",)):
            code, text = self.main("eval", self.tasks, *words)
            self.assertEqual(code, 1)
            self.assertIn("config provider claude", text)

    def test_what_cannot_be_made_is_refused_and_nothing_is_overwritten(self) -> None:
        self.assertIn("would have 7 tasks", self.main("eval", "--make", "all", "--out", self.folder, "--dry-run")[1])
        self.assertFalse(os.path.exists(self.folder))
        self.made("needle", "2k")
        for words, code, why in ((("--make", "needle", "--out", self.folder), 2, "is there already"),
                                 (("--make", "needle,poem", "--out", "x"), 2, "no kinds of tasks"),
                                 (("--make", ",,", "--out", "x"), 2, "no kinds of tasks"), ((), 2, "a file of tasks"),
                                 (("--make", "needle"), 2, "--out FOLDER"), (("no/such.jsonl",), 1, "no/such"),
                                 (("--make", "needle", "--out", "x", "--size", "11M"), 2, "from 1k to 10M"),
                                 (("--make", "needle", "--out", "x", "--size", "-1"), 2, "expected|from 1k")):
            with self.subTest(words=words):
                found, text = self.main("eval", *words)
                self.assertEqual(found, code)
                self.assertRegex(text, why)
        self.assertFalse(os.path.exists("x"))

    def test_ctrl_c_prints_what_is_done(self) -> None:
        self.made("needle", "2k,3k")
        self.direct = lambda prompt: "5" if len(prompt) < 10_000 else time.sleep(20) or "late"  # type: ignore[func-returns-value]
        process = subprocess.Popen([*PROGRAM, "eval", self.tasks, "--provider", "openai/one"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, cwd=self.home, env={**os.environ, **bytecode()})
        until_s = time.monotonic() + 20
        while time.monotonic() < until_s and not any(
                len(json.dumps(each["body"])) > 11_000 for each in self.server.requests):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
        self.assertEqual(process.returncode, 130)
        self.assertIn("[ended after 2 of 4]", out.decode())
        self.assertRegex(out.decode(), r"(?m)^1 needle .* recursive +1\.00 ")


if __name__ == "__main__":
    unittest.main()
