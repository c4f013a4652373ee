"""Reviews: each action plans first and says why, does what it showed, and hides nothing."""
from __future__ import annotations

import os
import unittest
from typing import Any
from unittest import mock

from tests.support import HARD, InProcess, days_ago, rlm


def in_session(name: str) -> Any:
    return mock.patch.dict(os.environ, CLAUDE_CODE_SESSION_ID=name)


class ReviewTest(InProcess):
    def remember(self, text: str, **more: Any) -> str:
        return str(self.call("rlm_remember", content=text, **more).data["id"])

    def rate(self, doc_id: str, rating: str, *sessions: str) -> None:
        for session in sessions:
            with in_session(session):
                self.call("rlm_feedback", ids=doc_id, rating=rating)

    def review(self, action: str, **more: Any) -> Any:
        return self.call("rlm_review", action=action, **more)

    def planned(self, action: str) -> dict[str, str]:
        """What a review plans, by id, after having checked that planning changes nothing."""
        before = self.log_bytes()
        answer = self.review(action, limit=100)
        self.assertEqual(self.log_bytes(), before)
        self.assertTrue(all(row["why"] and row["why"] in answer.text for row in answer.data["changes"]))
        return {row["id"]: row["what"] for row in answer.data["changes"]}

    def life(self, doc_id: str) -> Any:
        view = self.view()
        return view.life(view.ordinal_of(doc_id))

    def test_what_was_used_and_helped_is_promoted_and_retention_leaves_it_alone(self) -> None:
        with days_ago(100):
            kept, debug, once = (self.chunk(f"{name} of the flaky build", chunk_type="debug") for name in "abc")
            for _ in range(2):
                self.call("rlm_peek", chunk_id=f"{kept},{debug}")
            self.call("rlm_peek", chunk_id=once)
            self.rate(kept, "helpful", "s1")
        self.assertEqual(self.planned("promote"), {kept: "move to longterm", debug: "move to session"})
        self.review("promote", apply=True)
        self.assertEqual([rlm.TIERS[self.life(each).tier] for each in (kept, debug, once)], ["longterm", "session", "task"])
        self.assertEqual(self.planned("promote"), {})
        self.assertEqual(self.call("rlm_retention_preview").data["immune"], {kept: "longterm"})
        rlm.catch_up(self.view())
        self.assertEqual(self.life(kept).tier, 2)

    def test_of_two_that_say_the_same_the_trusted_one_stays_and_the_other_says_so(self) -> None:
        with days_ago(9):
            good = self.remember("We deploy the shop with helm charts")
        bad = self.remember("we deploy the shop with helm charts.")
        self.rate(good, "helpful", "s1")
        self.assertEqual(self.planned("consolidate"), {bad: f"superseded by {good}"})
        self.review("consolidate", apply=True)
        self.assertEqual(self.planned("consolidate"), {})
        answer = self.call("rlm_search", query="deploy shop helm charts")
        self.assertEqual([hit["id"] for hit in answer.data["hits"]][:2], [good, bad])
        self.assertIn(f"superseded by {good}", answer.text)
        self.assertEqual(self.review("analyze").data["doubles"], [])

    def test_what_differs_in_a_number_a_name_or_a_no_is_named_and_not_joined(self) -> None:
        for one, other in (("the api server of the shop listens on port 8080", "the api server of the shop listens on port 8081"),
                           ("we use pnpm in the shop", "we do not use pnpm in the shop"),
                           ("本番環境には触る", "本番環境には触らない")):
            self.remember(one)
            self.remember(other)
        self.assertEqual(self.planned("consolidate"), {})

    def test_cleanup_archives_what_nobody_needs_and_it_comes_back(self) -> None:
        with days_ago(100):
            stale, dear = self.chunk("an old log of the build"), self.chunk("DECISION: keep the old build")
            useless, old = self.remember("the canteen opens at noon"), self.remember("the shop runs on port 80")
            fresh = self.remember("the shop runs on port 443 since the move")
            self.call("rlm_link", members=f"{fresh} new,{old} old", label="supersedes")
        self.rate(useless, "not", "s1", "s2")
        self.rate(fresh, "not", "s1")
        self.assertEqual(self.planned("cleanup"), dict.fromkeys((stale, useless, old), "archive"))
        self.review("cleanup", apply=True)
        self.assertEqual(self.planned("cleanup"), {})
        rlm.rewrite(self.view())
        for gone in (stale, useless, old):
            self.assertEqual(self.life(gone).tier, rlm.ARCHIVED)
            self.assertTrue(self.call("rlm_peek", chunk_id=gone).verbatim)
            self.assertTrue(self.call("rlm_restore", chunk_id=gone).data["restored"])
            self.assertNotEqual(self.life(gone).tier, rlm.ARCHIVED)
        self.assertEqual(self.life(dear).tier, 1)

    def test_propagate_plans_what_is_learnt_and_twice_is_once(self) -> None:
        ids = [self.remember(f"the migration of table {name} locks the orders database") for name in ("users", "carts", "stock")]
        with mock.patch.object(rlm, "learn"):  # which rlm does by itself
            self.rate(ids[0], "helpful", "s1", "s2")
        plan = self.planned("propagate")
        self.assertEqual(set(plan), {ids[1], ids[2]})
        self.assertRegex(plan[ids[1]], r"useful 0\.50 becomes 0\.5[1-9]")
        self.review("propagate", apply=True)
        self.assertGreater(self.life(ids[1]).spread, 0)
        self.assertEqual(self.planned("propagate"), {})

    def test_what_one_session_saves_every_later_one_finds_after_all_actions(self) -> None:
        with in_session("session-a"), days_ago(100):
            ids = [self.chunk("pelican of the chunk" + HARD, chunk_type="debug"), self.remember("pelican of the insight" + HARD),
                   self.remember("Pelican of the insight," + HARD), str(self.call(
                       "rlm_capture", summary="pelican of the episode" + HARD, task_type="debug", outcome="partial").data["id"])]
        with in_session("session-b"):
            for action in ("promote", "consolidate", "cleanup", "propagate", "drafts"):
                self.review(action, apply=True)
            found = self.call("rlm_search", query="pelican", limit=10)
        self.assertEqual({hit["id"] for hit in found.data["hits"]}, set(ids))

    def test_only_what_was_shown_is_done_and_a_dry_run_does_nothing(self) -> None:
        with days_ago(100):
            for n in range(7):
                self.chunk(f"log number {n}")
        self.assertEqual(self.review("cleanup").data["total"], 7)
        self.assertIn("2 more", self.review("cleanup", apply=True).text)
        self.assertEqual(self.review("cleanup").data["total"], 2)
        code, text = self.main("review", "--action", "cleanup", "--apply", "--dry-run")
        self.assertEqual((code, self.review("cleanup").data["total"]), (0, 2), text)
        code, text = self.main("review", "--action", "cleanup", "--apply")
        self.assertEqual((code, self.review("cleanup").data["total"]), (0, 0), text)
        self.assertIn("old and never used", text)

    def test_an_unknown_action_is_refused_with_the_actions_there_are(self) -> None:
        with self.assertRaisesRegex(rlm.UsageError, "analyze, drafts, promote, consolidate, cleanup, propagate"):
            self.review("destroy")
        for action in ("analyze", *rlm.REVIEWS):
            self.assertRegex(self.review(action, apply=True).text, "^Nothing")


if __name__ == "__main__":
    unittest.main()
