"""Reviews: each action plans first and says why, does what it showed, and hides nothing."""
from __future__ import annotations

import os
import random
import unittest
from typing import Any
from unittest import mock

from tests.support import HARD, InProcess, days_ago, everything, rlm


def in_session(name: str) -> Any:
    return mock.patch.dict(os.environ, CLAUDE_CODE_SESSION_ID=name)


class ReviewCase(InProcess):
    def remember(self, text: str, **more: Any) -> str:
        return str(self.call("rlm_remember", content=text, **more).data["id"])

    def rate(self, doc_id: str, rating: str, *sessions: str) -> None:
        for session in sessions:
            with in_session(session):
                self.call("rlm_feedback", ids=doc_id, rating=rating)

    def life(self, doc_id: str) -> Any:
        view = self.view()
        return view.life(view.ordinal_of(doc_id))


class ReviewTest(ReviewCase):
    def review(self, action: str, **more: Any) -> Any:
        return self.call("rlm_review", action=action, **more)

    def planned(self, action: str) -> dict[str, str]:
        """What a review plans, by id, after having checked that planning changes nothing."""
        before = self.log_bytes()
        answer = self.review(action, limit=100)
        self.assertEqual(self.log_bytes(), before)
        self.assertTrue(all(row["why"] and row["why"] in answer.text for row in answer.data["changes"]))
        return {row["id"]: row["what"] for row in answer.data["changes"]}

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

    def test_what_proved_true_is_promoted_without_a_rating(self) -> None:
        one, two = self.chunk("the load test of May"), self.chunk("the load test of June")
        self.call("rlm_link", members=f"{one},{two}", label="relates")
        self.call("rlm_peek", chunk_id=f"{one},{two}")
        self.call("rlm_peek", chunk_id=f"{one},{two}")
        with rlm.Writer(self.view()) as writer:
            for doc_id, confidence in ((one, .8), (two, .79)):
                writer.add("believe", id=doc_id, at=rlm.stamp(rlm.now()), confidence=confidence)
        self.assertEqual(self.planned("promote"), {one: "move to longterm"})

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
        self.assertIn(f"superseded by [{good}]", answer.text)
        self.assertEqual(self.review("analyze").data["doubles"], [])
        self.assertNotIn("doubles", self.call("rlm_status").data["health"])

    def test_no_rating_has_what_is_critical_or_of_another_kind_replaced(self) -> None:
        dear = self.remember("Never touch the shop's database by hand", importance="critical")
        other = self.remember("never touch the shop's database by hand!")
        _, fact = (self.remember(text, category=category) for text, category in (
            ("the build takes an hour", "finding"), ("The build takes an hour.", "fact")))
        self.rate(f"{other},{fact}", "helpful", "s1", "s2")
        self.assertEqual(self.planned("consolidate"), {other: f"superseded by {dear}"})
        self.assertIn("of others `rlm_peek` both, then `rlm_forget` one or `rlm_link`", self.review("analyze").text)
        self.assertEqual(len(self.review("analyze").data["doubles"]), 2)

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
        marked = [self.remember("the printer eats paper", tags="keep"), self.chunk("DECISION: the printer stays"),
                  self.remember("the printer is loud", importance="critical")]
        self.rate(",".join([useless, *marked]), "not", "s1", "s2")
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
        self.assertEqual(self.planned("cleanup"), {})  # what somebody brought back a moment ago stays
        self.assertEqual(self.life(dear).tier, 1)

    def test_a_draft_that_nobody_confirmed_leaves_the_list(self) -> None:
        ids = []
        for days in (100, 1):
            with rlm.Writer(self.view()) as writer:
                ids.append(rlm.capture(writer, f"draft of {days} days ago", files=[], resolved=[], tags=[], draft="a guess",
                                       task_type="bugfix", outcome="success", at_s=rlm.now() - days * rlm.DAY_S,
                                       project="test")[0])
        self.assertEqual(self.call("rlm_review").data["unconfirmed"], ids[::-1])
        self.assertEqual(self.planned("cleanup"), {ids[0]: "archive"})
        self.review("cleanup", apply=True)
        for _ in range(2):
            self.assertEqual(self.planned("drafts").keys(), {ids[1]})
            self.assertEqual(self.call("rlm_status").data["health"], {"unconfirmed": 1})
            rlm.rewrite(self.view())
        self.review("drafts", apply=True)
        self.assertEqual(self.call("rlm_recall", kind="episode").data["total"], 1)

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


class HistoryTest(ReviewCase):
    def test_a_memorys_life_is_told_and_compaction_keeps_who_did_what_and_why(self) -> None:
        with in_session("s0"), days_ago(9):
            made = self.remember("the build needs the vpn" + HARD)
            self.call("rlm_remember", content="the build needs the vpn" + HARD, category="decision")
        with days_ago(8):
            self.call("rlm_peek", chunk_id=made)
            self.call("rlm_peek", chunk_id=made)
        with in_session("s1"), days_ago(7):
            self.call("rlm_feedback", ids=made, rating="not", note="is that so?")
            self.call("rlm_feedback", ids=made, rating="helpful", note="saved an hour")
        other = self.remember("the build needs the old vpn")
        self.call("rlm_link", members=f"{made} new,{other} old", label="supersedes")
        rlm.note_injected(self.places, session="s9", project="test", ids=[made], n_bytes=9, score=1.0, reason="a prompt")
        self.call("rlm_forget", insight_id=made)
        with rlm.Writer(self.view()) as writer:
            writer.add("sway", id=made, at=rlm.stamp(rlm.now()), to=0.6, why="a <b>success</b>")
            rlm.forget(writer, made, undo=True)
            writer.add("archive", id=made, at=rlm.stamp(rlm.now()), why="by hand")
        self.call("rlm_restore", chunk_id=made)
        before = self.call("rlm_peek", chunk_id=f"{made}:history")
        told = [(row["event"], row["told"]) for row in before.data["history"]]
        told.remove(("use", {"n": 1}))  # of the restore, in whole seconds
        around = [row for row in told if row[0] in ("linked", "given by a hook")]
        self.assertEqual([row[1].get("as", row[1].get("reason")) for row in around], ["new", "a prompt"])
        told = [row for row in told if row not in around]
        self.assertEqual([event for event, _ in told], [
            "saved", "revised", "use", "rate", "rate", "forget", "sway", "forget", "archive", "restore"])
        self.assertEqual((told[0][1]["by"], told[1][1], told[2][1]), ("s0", {"category": "decision"}, {"n": 2}))
        self.assertIn("rate: session s1, rating helpful, was not, note saved an hour", before.text)
        self.assertIn("sway: to 0.6, why a ‹b›success‹/b›", before.text)
        rlm.rewrite(self.view())
        after = [(row["event"], row["told"]) for row in self.call("rlm_peek", chunk_id=f"{made}:history").data["history"]]
        for row in [*told[3:], *around]:
            self.assertIn(row, after)
        self.assertIn("note saved an hour", self.main("peek", made, "--history")[1])
        rlm.rewrite(self.view())
        self.assertEqual(after, [(row["event"], row["told"]) for row in self.call(
            "rlm_peek", chunk_id=f"{made}:history").data["history"]])

    def test_the_state_is_the_same_after_a_compaction_whatever_happened(self) -> None:
        ids = [*(self.chunk(f"chunk {n}" + HARD) for n in range(4)), *(self.remember(f"insight {n}" + HARD) for n in range(4))]
        events = [("archive", {}), ("restore", {}), ("move", {"tier": "longterm"}), ("move", {"tier": "task"}),
                  ("forget", {}), ("forget", {"undo": True}), ("rate", {"rating": "not", "session": "s"})]
        dice = random.Random(12)
        for _ in range(6):
            with rlm.Writer(self.view()) as writer:
                for _ in range(12):
                    event, fields = dice.choice(events)
                    writer.add(event, id=dice.choice(ids), at=rlm.stamp(rlm.now() - dice.randrange(100)), **fields)
            self.call("rlm_remember", content="insight 1" + HARD, category=dice.choice(rlm.CATEGORIES))
            before = everything(self.places)
            rlm.rewrite(self.view())
            self.assertEqual(everything(self.places), before)

    def test_nothing_happened_before_it_was_saved(self) -> None:
        made = self.remember("the build needs the vpn")
        self.call("rlm_peek", chunk_id=made)  # uses are noted in whole seconds
        self.assertEqual(self.call("rlm_peek", chunk_id=f"{made}:history").data["history"][0]["event"], "saved")

    def test_what_has_no_history_says_so(self) -> None:
        with self.assertRaises(rlm.NotFound):
            self.call("rlm_peek", chunk_id="i-00000000:history")
        one, two = self.remember("one"), self.chunk("two" + HARD)
        rows = self.call("rlm_peek", chunk_id=f"{one}:history, {two}:history").data["memories"]
        self.assertEqual([row["id"] for row in rows], [one, two])


class LastTest(ReviewCase):
    def test_a_shell_rates_what_it_showed_last(self) -> None:
        one, two = self.remember("pnpm is used for packages"), self.remember("the canteen opens at noon")
        rlm.note_injected(self.places, session="claude", project="test", ids=[two], n_bytes=9, score=1.0, reason="x")
        self.assertEqual(self.main("search", "pnpm packages")[0], 0)
        rlm.note_injected(self.places, session="claude", project="test", ids=[two], n_bytes=9, score=1.0, reason="x")
        self.assertEqual(self.main("feedback", "last", "helpful")[0], 0)
        self.assertEqual((self.life(one).helped, self.life(two).rated), (2, 0))
        with in_session("claude"):
            self.main("feedback", "last", "not")
        self.assertEqual((self.life(one).rated, self.life(two).rated), (1, 1))
        with in_session("another"), self.assertRaisesRegex(rlm.UsageError, "nothing was shown"):
            self.call("rlm_feedback", ids="last", rating="not")
        self.assertNotIn(b"pnpm", rlm.read_file(self.places.shown()))
        self.assertEqual(os.stat(self.places.shown()).st_mode & 0o777, 0o600)
        self.main("forget", one)
        self.assertEqual(self.main("forget", "--erase", "--yes", one)[0], 0)
        self.assertNotIn(one.encode(), rlm.read_file(self.places.shown()))

    def test_what_was_shown_long_ago_is_not_last(self) -> None:
        self.remember("pnpm is used for packages")
        with days_ago(2):
            self.main("recall")
        self.assertEqual(self.main("feedback", "last", "helpful")[0], 2)


class HealthTest(ReviewCase):
    def test_status_and_review_name_what_wants_a_hand_and_the_next_step(self) -> None:
        self.assertEqual(self.call("rlm_status").data["health"], {})
        one, two = self.remember("we deploy the shop with helm charts"), self.remember("We deploy the shop, with helm charts!")
        ask = self.remember("who owns the staging cluster?", category="question")
        self.call("rlm_link", members=f"{one},{ask}", label="contradicts")
        code = os.path.join(self.home, "deploy.py")
        with open(code, "w", encoding="utf-8") as file:
            file.write("one")
        with mock.patch.object(rlm, "current_folder", lambda: self.home):
            about = self.remember("deploy.py holds the steps")
        os.unlink(code)
        self.call("rlm_peek", chunk_id=two)
        self.rate(ask, "not", "s1", "s2")
        wanted = {"doubles": 1, "contradictions": 1, "stale": 1, "did not help": 1, "read but unrated": 1, "open questions": 1}
        status = self.call("rlm_status")
        self.assertEqual(status.data["health"], wanted)
        self.assertIn("`rlm_review` tells what to do", status.text)
        review = self.call("rlm_review")
        self.assertEqual({name: len(found) for name, found in review.data.items() if found}, wanted)
        self.assertEqual((review.data["stale"], review.data["open questions"]), ([about], [ask]))
        self.call("rlm_link", members=f"{one} new,{ask} old", label="supersedes")
        left = self.call("rlm_review").data
        self.assertEqual((left["contradictions"], left["open questions"]), ([], []))
        for name in wanted:
            self.assertRegex(review.text, rf"(?m)^{name} \(1\): .*: .*`rlm_\w+`")

    def test_the_status_tells_what_episodes_came_to(self) -> None:
        self.assertIn("0 episodes", self.call("rlm_status").text)
        for n, (task_type, outcome) in enumerate((("bugfix", "success"), ("bugfix", "failure"), ("docs", "success"))):
            with days_ago(3 - n):
                made = self.call("rlm_capture", summary=f"task {n}", task_type=task_type, outcome=outcome).data["id"]
        self.call("rlm_peek", chunk_id=made)
        self.rate(made, "helpful", "s1")
        with mock.patch.object(rlm, "utility_of", lambda life: .75 if life.rated else .5):  # but for what spreads
            status = self.call("rlm_status")
        told = status.data["episodes"]
        self.assertEqual((told["outcomes"], told["types"]), ({"success": 2, "failure": 1}, {"bugfix": 2, "docs": 1}))
        self.assertEqual((told["success_rate"], told["mean_utility"]), (.667, .583))
        self.assertEqual((told["uses"], told["n_helpful"], told["most_useful"]), (1, 1.0, [{"id": made, "utility": .75}]))
        self.assertIn("3 episodes: success 2, failure 1 (67% succeeded); bugfix 2, docs 1; read 1 time, helped 1", status.text)


if __name__ == "__main__":
    unittest.main()
