"""Runs learn how to go about a kind of question; `rlm eval` shows whether recursion is worth it, on tasks with gold."""
from __future__ import annotations

import os
import unittest

from tests.support import rlm
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
                         "peek(60), then llm_query_batched, then split(20000), then sum.")
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


if __name__ == "__main__":
    unittest.main()
