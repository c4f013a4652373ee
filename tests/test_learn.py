"""What the store learns: episodes and their errors, ratings once a session, what spreads, what fades, what it moves."""
from __future__ import annotations

import itertools
import json
import math
import os
import random
import tempfile
import unittest
from typing import Any
from unittest import mock

from tests.support import HARD, TempHome, days_ago, rlm

SAID = "The login test waits for the redirect before it looks at the session cookie"


def in_session(name: str) -> Any:
    """A patch under which a call comes from that session."""
    return mock.patch.dict(os.environ, CLAUDE_CODE_SESSION_ID=name)


def remember(test: TempHome, text: str) -> str:
    return str(test.call("rlm_remember", content=text).data["id"])


class FormulaTest(unittest.TestCase):
    def test_utility_is_a_half_where_nobody_said_and_moves_with_each_rating(self) -> None:
        for helpful, rated, wanted in ((0, 0, .5), (1, 1, .6), (3, 3, 5 / 7), (0, 1, .4), (0.5, 1, .5), (5, 5, 7 / 9)):
            self.assertAlmostEqual(rlm.utility(helpful, rated), wanted)
        self.assertAlmostEqual(rlm.utility(0, 0, .072), .572)
        self.assertAlmostEqual(rlm.utility(1, 1, .1), (1 + 4 * .6) / 5)

    def test_utility_rises_with_helpful_ratings_falls_with_others_and_stays_between_0_and_1(self) -> None:
        for rated, learnt in itertools.product(range(30), (-.5, -.1, 0.0, .3, .5)):
            values = [rlm.utility(halves / 2, rated, learnt) for halves in range(2 * rated + 1)]
            self.assertEqual(values, sorted(values))
            self.assertTrue(all(0 <= value <= 1 for value in values))
            self.assertGreaterEqual(rlm.utility(rated + 1, rated + 1, learnt), values[-1])
            self.assertLessEqual(rlm.utility(0, rated + 1, learnt), values[0])

    def test_wilson_is_the_table_of_the_field(self) -> None:
        for helpful, rated, wanted in ((1, 1, .207), (2, 2, .342), (3, 3, .439), (4, 4, .510), (5, 5, .566),
                                       (10, 10, .723), (0, 1, 0.0), (1, 2, .095), (5, 10, .237), (0, 0, 0.0)):
            self.assertAlmostEqual(rlm.wilson(helpful, rated), wanted, delta=.001)
        self.assertEqual(rlm.wilson(3, 2), rlm.wilson(2, 2))  # no NaN where more helped than were rated

    def test_the_one_factor_is_1_for_a_medium_memory_of_which_nobody_said_anything(self) -> None:
        self.assertEqual(rlm.memory_factor("medium", rlm.utility_of(rlm.Life()), 0), 1.0)
        self.assertEqual(rlm.memory_factor("medium", .5, 1000), 1.0)
        self.assertAlmostEqual(rlm.memory_factor("medium", .6, 10), 1 + rlm.UTILITY_WEIGHT * .1 * .9043820750088044)
        self.assertAlmostEqual(rlm.memory_factor("high", .4, 0), 1.05 * (1 - rlm.UTILITY_WEIGHT * .1))

    def test_the_one_factor_never_leaves_its_bounds_rises_with_utility_and_fades(self) -> None:
        for importance in rlm.IMPORTANCES:
            for days in (0, 1, 100, 10_000, -5):
                factors = [rlm.memory_factor(importance, worth / 50, days) for worth in range(51)]
                self.assertEqual(factors, sorted(factors))
                self.assertTrue(.8 <= factors[0] <= factors[-1] <= 1.25)
        fading = [rlm.memory_factor("medium", .9, days) for days in range(0, 2000, 7)]
        self.assertEqual(fading, sorted(fading, reverse=True))
        self.assertTrue(1 <= fading[-1] < 1.0001)

    def test_confidence_halves_in_two_weeks_unread_and_slower_the_more_it_was_read(self) -> None:
        self.assertAlmostEqual(rlm.confidence_kept(10, 0), .95 ** 10)
        self.assertAlmostEqual(rlm.confidence_kept(10, 1), .598737, places=6)
        self.assertAlmostEqual(rlm.confidence_kept(10, 10), .95 ** (10 / (10 / (1 + math.log(10)))))
        kept = [rlm.confidence_kept(30, n) for n in range(1, 60)]
        self.assertEqual(kept[2:], sorted(kept[2:]))

    def test_what_was_given_counts_once_a_session_and_as_read_within_hours(self) -> None:
        given = [(100.0, "s1", "a"), (200.0, "s1", "a"), (100.0, "s2", "a"), (100.0, "s1", "b"), (100.0, "s1", "c")]
        uses = {"a": [150.0], "b": [98.0], "c": [100.0 + 7 * 3600]}
        self.assertEqual(rlm.touched(given, uses), {"a": (2, 2), "b": (0, 1), "c": (0, 1)})
        self.assertEqual(rlm.touched(reversed(given), uses), rlm.touched(given, uses))

    def test_spread_is_worked_out_by_hand(self) -> None:
        self.assertEqual(rlm.spread_of([]), 0.0)
        self.assertAlmostEqual(rlm.spread_of([(.5, .7)]), .5 * .5 * .2 / 1.5)
        self.assertAlmostEqual(rlm.spread_of([(.5, .7), (.2, .4)]), .5 * (.5 * .2 - .2 * .1) / 1.7)
        self.assertEqual(rlm.spread_of([(.09, 1.0)]), 0.0)  # too unlike
        self.assertEqual(rlm.spread_of([(.9, .8)] * 10 + [(.2, 0.0)]), rlm.spread_of([(.9, .8)] * 10))  # the nearest ten

    def test_spread_depends_on_no_order_is_bounded_and_rises_with_the_neighbours(self) -> None:
        rng = random.Random(5)
        for _ in range(200):
            near = [(rng.random(), rng.random()) for _ in range(rng.randint(0, 20))]
            found = rlm.spread_of(near)
            self.assertEqual(found, rlm.spread_of(rng.sample(near, len(near))))
            self.assertLessEqual(abs(found), .25)
            better = [(like, min(1.0, worth + .1)) for like, worth in near]
            self.assertGreaterEqual(rlm.spread_of(better) + 1e-12, found)

    def test_credit_goes_back_four_steps_within_the_hour_of_a_project(self) -> None:
        rows = [(60.0 * n, f"e{n}", "shop", "partial") for n in range(6)] + [(360.0, "good", "shop", "success")]
        credits = rlm.credits_of(rows)
        self.assertEqual(credits, {"e5": .072, "e4": .054, "e3": .036, "e2": .018})
        random.Random(1).shuffle(rows)
        self.assertEqual(rlm.credits_of(rows), credits)
        self.assertEqual(rlm.credits_of([(0.0, "a", "shop", "partial"), (3601.0, "b", "shop", "success")]), {})
        self.assertEqual(rlm.credits_of([(0.0, "a", "shop", "partial"), (60.0, "b", "blog", "success")]), {})
        many = [(float(n), f"e{n}", "shop", "success") for n in range(50)]
        self.assertLessEqual(max(rlm.credits_of(many).values()), rlm.MOST_CREDIT)

    def test_an_error_is_known_by_its_signature_whatever_its_paths_and_numbers(self) -> None:
        one = rlm.error_signature("TypeError at /home/a/x.py:12: 0x7f3a is no list (3 of 4)")
        self.assertEqual(one, rlm.error_signature("TypeError  at C:\\work\\y.py:99: 0xBEEF is no list (10 of 77)"))
        self.assertNotEqual(one, rlm.error_signature("KeyError at /home/a/x.py:12: 0x7f3a is no list (3 of 4)"))
        began = rlm.time.perf_counter()
        rlm.error_signature("a-~." * 20_000 + "/" * 20_000)
        self.assertLess(rlm.time.perf_counter() - began, 2)


class EpisodeTest(TempHome):
    def capture(self, summary: str = SAID, task_type: str = "bugfix", outcome: str = "success", **more: Any) -> Any:
        return self.call("rlm_capture", summary=summary, task_type=task_type, outcome=outcome, **more)

    def test_an_episode_is_found_by_every_verb_that_finds_memories(self) -> None:
        made = self.capture(SAID + HARD, files="src/login.py, tests/a.py", tags="auth", errors_resolved="E1 => F1").data["id"]
        self.assertRegex(made, r"^e-[0-9a-f]{8}$")
        self.assertIn(made, self.call("rlm_search", query="login cookie").text)
        self.assertIn(made, self.call("rlm_search", query="login", kind="episode").text)
        self.assertNotIn(made, self.call("rlm_search", query="login", kind="chunk").text)
        self.assertNotIn(made, self.call("rlm_recall").text)
        row = self.call("rlm_recall", kind="episode").data["episodes"][0]
        self.assertEqual((row["id"], row["task_type"], row["outcome"], row["files"], row["resolved"]),
                         (made, "bugfix", "success", ["src/login.py", "tests/a.py"], [["E1", "F1"]]))
        self.assertEqual((row["utility"], row["n_rated"], row["wilson"]), (.5, 0, 0.0))
        self.assertIn("episode, bugfix, success", self.call("rlm_recall", query=made, kind="episode").text)
        self.assertIn("src/login.py", self.call("rlm_peek", chunk_id=made).verbatim)
        self.assertIn(made, self.call("rlm_recall", query="src/login.py", kind="episode", category="success").text)
        self.assertNotIn(made, self.call("rlm_recall", query="login", kind="episode", category="failure").text)
        self.call("rlm_forget", insight_id=made)
        self.assertNotIn(made, self.call("rlm_search", query="login cookie").text)

    def test_bad_arguments_store_nothing(self) -> None:
        for bad in ({"summary": " \n"}, {"task_type": "dance"}, {"outcome": "maybe"}, {"merge": "e-00000000"},
                    {"summary": "x" * (65 << 10)}, {"merge": self.chunk("a chunk")}):
            with self.assertRaises(rlm.RlmError):
                self.capture(**{"summary": SAID, **bad})
        self.assertEqual(self.call("rlm_recall", kind="episode").data["total"], 0)

    def test_what_is_of_another_kind_is_said_to_be_there(self) -> None:
        self.capture("Mended the zebra import")
        hint = self.call("rlm_recall", query="zebra").data["hint"]
        self.assertEqual(hint, "Nothing matches 'zebra'; without filters `rlm_search` finds some of it.")
        self.assertNotIn("without filters", self.call("rlm_recall", query="giraffe").data["hint"])

    def test_the_same_words_with_another_outcome_are_another_episode(self) -> None:
        first, failed = self.capture(), self.capture(outcome="failure")
        self.assertEqual((failed.data["new"], [row["id"] for row in failed.data["like"]]), (True, [first.data["id"]]))
        self.assertEqual(self.capture(outcome="failure").data, {"id": failed.data["id"], "new": False, "like": []})
        outcomes = [row["outcome"] for row in self.call("rlm_recall", kind="episode").data["episodes"]]
        self.assertEqual(sorted(outcomes), ["failure", "success"])
        self.capture(outcome="failure", merge=first.data["id"])
        rows = self.call("rlm_recall", kind="episode").data["episodes"]
        self.assertEqual([(row["id"], row["outcome"]) for row in rows], [(first.data["id"], "failure")])

    def test_a_near_duplicate_of_the_project_is_proposed_and_merged_with_the_old_text_kept(self) -> None:
        first = self.capture(files="a.py", tags="one").data["id"]
        self.assertEqual(self.capture(SAID, project="other").data["like"], [])
        self.call("rlm_feedback", ids=first, rating="helpful")
        second = self.capture(SAID + " now", outcome="partial", files="b.py", tags="two", errors_resolved="E => F")
        self.assertEqual([row["id"] for row in second.data["like"]], [first])
        self.assertIn(first, second.text)
        merged = self.capture(SAID + " now", outcome="partial", files="b.py", tags="two", errors_resolved="E => F",
                              merge=first)
        self.assertEqual((merged.data["id"], merged.data["new"]), (first, False))
        rows = self.call("rlm_recall", kind="episode", project="test").data["episodes"]
        self.assertEqual([row["id"] for row in rows], [first])  # the second capture went into it
        row = rows[0]
        self.assertEqual((row["outcome"], row["files"], row["tags"], row["n_rated"]),
                         ("partial", ["b.py", "a.py"], ["two", "one"], 1))
        shown = self.call("rlm_peek", chunk_id=first).verbatim
        self.assertIn(SAID + " now", shown)
        self.assertIn("Before (", shown)
        self.assertIn("Files: a.py", shown)
        rlm.rewrite(self.view())
        self.assertEqual(self.call("rlm_peek", chunk_id=first).verbatim, shown)

    def test_an_error_that_comes_back_is_met_with_what_fixed_it(self) -> None:
        for n, fix in enumerate(("", "raised the limit", "")):
            arrow = f" => {fix}" if fix else ""
            self.capture(f"task {n} of another kind", errors_resolved=f"OSError: /tmp/{n} has {n} links too many{arrow}")
        for answer in (self.call("rlm_search", query="OSError: /var/x has 77 links too many"),
                       self.call("rlm_recall", query="OSError: /var/x has 77 links too many", kind="episode"),
                       self.capture("once more", errors_resolved="OSError: /a/b has 9 links too many => gave up")):
            self.assertIn("seen 3 times, fixed by: raised the limit", answer.text)
        self.assertNotIn("was seen", self.call("rlm_search", query="links").text)

    def test_errors_are_read_line_by_line_or_between_semicolons_before_arrows(self) -> None:
        self.assertEqual(rlm.resolved_field("A: b; c -> d\nE => f; G -> h\nI\n\n"),
                         [["A: b; c", "d"], ["E", "f"], ["G", "h"], ["I", ""]])
        self.assertEqual(rlm.resolved_field("fn x -> y is no z → renamed"), [["fn x -> y is no z", "renamed"]])
        self.assertEqual(rlm.resolved_field(""), [])

    def test_recall_shows_first_what_differs(self) -> None:
        same = [self.capture(f"deploy failed on the staging server with token {n}").data["id"] for n in range(4)]
        other = self.capture("deploy docs rewritten for new people").data["id"]
        rows = self.call("rlm_recall", query="deploy", kind="episode", limit=2).data["episodes"]
        self.assertIn(rows[0]["id"], same)
        self.assertEqual(rows[1]["id"], other)

    def test_episodes_and_ratings_come_through_export_and_import(self) -> None:
        made = self.capture(SAID, files="a.py", errors_resolved="E 1 => F").data["id"]
        self.call("rlm_feedback", ids=made, rating="mixed", note="so so")
        lines = list(rlm.exported_lines(self.view(), ""))
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        with mock.patch.dict(os.environ, HOME=folder.name):
            view = rlm.View(rlm.Places()).refresh()
        items = [rlm.item_of_line(line) for line in lines]
        self.assertEqual(rlm.import_items(view, items, "test", lambda *_: None).n_new, 1)
        rows = [[{**json.loads(line), "c": ""} for line in each] for each in (lines, rlm.exported_lines(view, ""))]
        self.assertEqual(*rows)
        rlm.import_items(view, items, "test", lambda *_: None)
        self.assertEqual(view.doc(view.ordinal_of(made)).life.rated, 1)

    def test_secrets_in_episodes_and_notes_reach_no_disk(self) -> None:
        key = "sk-ant-" + "api03-" + "Zq7" * 31
        made = self.capture(f"used {key}", files=f"{key}.py", errors_resolved=f"bad {key} => {key}").data["id"]
        self.call("rlm_feedback", ids=made, rating="not", note=key)
        self.assertNotIn(key.encode(), self.log_bytes())


class FeedbackTest(TempHome):
    def rated(self, doc_id: str) -> tuple[int, int]:
        life = self.view().life(self.view().ordinal_of(doc_id))
        return life.helped, life.rated

    def test_a_session_rates_a_memory_once_and_its_last_word_counts(self) -> None:
        one, two = remember(self, "we use pnpm"), self.chunk("a long log")
        with in_session("s1"):
            self.call("rlm_feedback", ids=f"{one},{two}", rating="helpful")
            self.call("rlm_feedback", ids=one, rating="helpful")
            self.assertEqual((self.rated(one), self.rated(two)), ((2, 1), (2, 1)))
            self.assertIn("helpful before", self.call("rlm_feedback", ids=one, rating="not").text)
            self.assertEqual(self.rated(one), (0, 1))
        with in_session("s2"):
            self.call("rlm_feedback", ids=one, rating="mixed")
        self.assertEqual(self.rated(one), (1, 2))

    def test_who_rated_what_and_why_outlives_compaction_and_the_index(self) -> None:
        one = remember(self, "we use pnpm")
        with in_session("s1"):
            self.call("rlm_feedback", ids=one, rating="helpful", note="saved an hour")
        self.call("rlm_remember", content="we use pnpm", tags="more")  # its record is replaced
        rlm.rewrite(self.view())
        self.assertIn(b"saved an hour", self.log_bytes())
        self.assertEqual(self.rated(one), (2, 1))
        with in_session("s1"):
            self.call("rlm_feedback", ids=one, rating="not")
        self.assertEqual(self.rated(one), (0, 1))
        view = self.view()
        rlm.catch_up(view)
        self.assertEqual(self.rated(one), (0, 1))
        rlm.rewrite(self.view())
        self.assertEqual(self.rated(one), (0, 1))

    def test_last_is_what_was_shown_last(self) -> None:
        one = remember(self, "we use pnpm for packages")
        with self.assertRaisesRegex(rlm.UsageError, "nothing was shown"):
            self.call("rlm_feedback", ids="last", rating="helpful")
        rlm.note_injected(self.places, session="", project="test", ids=[one], n_bytes=9, score=1.0, reason="x")
        self.call("rlm_feedback", ids="last", rating="not")
        self.assertEqual(self.rated(one), (0, 1))
        store = rlm.Store(self.places)
        call = rlm.Call(store)
        other = remember(self, "npm is not used for packages here")
        rlm.run_tool(call, "rlm_search", {"query": "npm packages here", "limit": 1})
        rlm.run_tool(call, "rlm_feedback", {"ids": "last", "rating": "helpful"})
        self.assertEqual(self.rated(other), (2, 1))

    def test_the_status_tells_what_was_read_of_what_hooks_gave(self) -> None:
        one, two = remember(self, "we use pnpm"), remember(self, "we use uv")
        rlm.note_injected(self.places, session="s", project="test", ids=[one, two], n_bytes=9, score=1.0, reason="x")
        self.call("rlm_peek", chunk_id=one)
        status = self.call("rlm_status")
        self.assertEqual(status.data["injected"], {"read": 1, "given": 2})
        self.assertIn("1 of 2 memories were read", status.text)

    def test_bad_ratings_change_nothing(self) -> None:
        one = remember(self, "we use pnpm")
        before = self.log_bytes()
        for bad in ({"rating": "great"}, {"ids": "i-00000000"}, {"ids": f"{one},i-00000000"}, {"note": "x" * 2001}, {"ids": ""}):
            with self.assertRaises(rlm.RlmError):
                self.call("rlm_feedback", **{"ids": one, "rating": "helpful", **bad})
        self.assertEqual(self.log_bytes(), before)

    def test_malformed_ratings_in_a_log_count_nothing(self) -> None:
        one, life = remember(self, "we use pnpm"), rlm.Life()
        for wrong in ({}, {"rating": 7}, {"rating": ["helpful"]}, {"rating": "great", "was": "helpful"}):
            rlm.fold_event(life, {"k": "rate", "id": one, **wrong}, 0)
        for wrong in ({}, {"spread": "x", "credit": 1.5}, {"spread": True}):
            rlm.fold_event(life, {"k": "learn", "id": one, **wrong}, 0)
        self.assertEqual([getattr(life, name) for name in rlm.KEPT_STATE], [0] * len(rlm.KEPT_STATE))
        for _ in range(300):
            rlm.fold_event(life, {"k": "rate", "id": one, "rating": "helpful"}, 0)
        rlm.fold_event(life, {"k": "learn", "id": one, "spread": 1 << 40, "credit": -(1 << 40)}, 0)
        rlm.state_file(rlm.Snapshot(), {}, [])
        self.assertEqual((life.rated, life.helped, life.spread, life.credit), (255, 510, 5000, -5000))


class ReviewTest(TempHome):
    def test_a_review_names_what_wants_a_hand_and_changes_nothing(self) -> None:
        self.assertEqual(self.call("rlm_review").text, "Nothing wants a hand.")
        with days_ago(100):
            old = remember(self, "the printer on floor two eats paper")
        ask = str(self.call("rlm_remember", content="who owns the staging cluster?", category="question").data["id"])
        one, two = remember(self, "we deploy the shop with helm charts"), remember(self, "we deploy the shop with helm charts.")
        link = self.call("rlm_link", members=f"{old},{ask}", label="contradicts").data["id"]
        self.call("rlm_feedback", ids=one, rating="not")
        self.call("rlm_feedback", ids=two, rating="mixed")
        with mock.patch.dict(os.environ, CLAUDE_CODE_SESSION_ID="s2"):
            self.call("rlm_feedback", ids=one, rating="not")
        before = self.log_bytes()
        found = self.call("rlm_review").data
        self.assertEqual(self.log_bytes(), before)
        self.assertEqual(found["doubles"], [f"{two}, {one} (100% alike)"])
        self.assertEqual(found["contradictions"], [f"{old}, {ask}"])
        self.assertEqual(found["did not help"], [f"{one} (0 of 2)"])
        self.assertEqual(found["open questions"], [ask])
        self.assertEqual(found["long unread and unrated"], [f"{old} (100 days)"])
        self.call("rlm_link", members=f"{one} new,{ask} old", label="supersedes")
        self.call("rlm_forget", insight_id=link)
        found = self.call("rlm_review").data
        self.assertEqual((found["open questions"], found["contradictions"]), ([], []))


class RankingTest(TempHome):
    def test_ratings_order_what_is_equally_relevant_and_explain_says_so(self) -> None:
        ids = [remember(self, f"the deploy of service {name} needs a token") for name in ("alpha", "beta", "gamma")]
        query = {"query": "deploy service token", "limit": 3}
        self.assertNotIn("utility", self.call("rlm_search", explain=True, **query).text)
        self.call("rlm_feedback", ids=ids[0], rating="helpful")
        self.call("rlm_feedback", ids=ids[2], rating="not")
        for _ in range(2):  # in the tail, then indexed
            hits = self.call("rlm_search", **query).data["hits"]
            self.assertEqual([hit["id"] for hit in hits], [ids[0], ids[1], ids[2]])
            shown = self.call("rlm_search", explain=True, **query).text
            self.assertRegex(shown, r"utility x1\.0[5-7][\s\S]*utility x0\.9[3-5]")
            rlm.catch_up(self.view())
        with days_ago(-700):  # nothing was overwritten: it only fades
            self.assertNotIn("utility x1.0", self.call("rlm_search", explain=True, **query).text)
        self.assertIn("utility x1.0", self.call("rlm_search", explain=True, **query).text)

    def test_no_rating_lifts_an_irrelevant_memory_over_a_relevant_one(self) -> None:
        wrong = remember(self, "the canteen opens at noon, and coffee is free")
        right = remember(self, "releases are signed with the key of the release manager")
        for n in range(12):
            with in_session(f"s{n}"):
                self.call("rlm_feedback", ids=wrong, rating="helpful")
                self.call("rlm_feedback", ids=right, rating="not")
        hits = self.call("rlm_search", query="who signs releases with the key").data["hits"]
        self.assertEqual(hits[0]["id"], right)

    def test_five_ratings_move_the_unrated_of_their_cluster_and_twice_is_once(self) -> None:
        cluster = [remember(self, f"the migration of table {name} locks the orders database for minutes")
                   for name in ("users", "carts", "prices", "stock", "bills", "refunds", "events")]
        far = remember(self, "coffee is free at noon")
        self.call("rlm_feedback", ids=",".join(cluster[:5]), rating="helpful")
        view = self.view()  # the command learnt at its end
        lives = [view.life(view.ordinal_of(doc_id)) for doc_id in (*cluster[5:], far)]
        self.assertTrue(all(rlm.utility_of(life) >= .52 for life in lives[:2]), [life.spread for life in lives])
        self.assertEqual((lives[2].spread, lives[0].rated), (0, 0))
        before = self.log_bytes()
        self.assertEqual(rlm.learn(self.view()), 0)
        self.assertEqual(self.log_bytes(), before)
        rlm.rewrite(self.view())
        view = self.view()
        self.assertEqual(view.life(view.ordinal_of(cluster[5])).spread, lives[0].spread)
        self.assertEqual(rlm.learn(view), 0)
        for doc_id in cluster[:5]:
            self.call("rlm_forget", insight_id=doc_id)
        rlm.learn(self.view())
        view = self.view()
        self.assertEqual(view.life(view.ordinal_of(cluster[5])).spread, 0)

    def test_a_success_credits_the_episodes_before_it(self) -> None:
        ids = [self.call("rlm_capture", summary=f"{name} tried for the import", task_type="debug", outcome=outcome).data["id"]
               for name, outcome in (("profiling", "partial"), ("caching", "partial"), ("batching", "success"))]
        rlm.learn(self.view())
        view = self.view()
        self.assertEqual([view.life(view.ordinal_of(doc_id)).credit for doc_id in ids], [540, 720, 0])

    def test_the_shell_and_a_server_learn_by_themselves(self) -> None:
        first, second = remember(self, "the cache of images is purged by hand"), remember(self, "the cache of images is large")
        self.assertEqual(self.cli("feedback", first, "helpful", "--note", "yes").returncode, 0)
        view = self.view()
        self.assertGreater(view.life(view.ordinal_of(second)).spread, 0)


if __name__ == "__main__":
    unittest.main()
