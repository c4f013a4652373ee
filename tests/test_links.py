"""Links: a memory of their own, shown with their members; what was replaced ranks below what replaced it."""
from __future__ import annotations

import unittest

from tests.support import TempHome, rlm


class LinkTest(TempHome):
    def setUp(self) -> None:
        super().setUp()
        self.old, self.new = (str(self.call("rlm_remember", content=text).data["id"]) for text in (
            "the deploy token of the shop is kept in vault", "the deploy token of the shop is in the keychain now"))

    def link(self, members: str, label: str = "supersedes") -> rlm.Answer:
        return self.call("rlm_link", members=members, label=label)

    def found(self) -> list[str]:
        return [hit["id"] for hit in self.call("rlm_search", query="deploy token shop vault", limit=5).data["hits"]]

    def test_what_was_replaced_ranks_below_its_successor_and_says_so_until_the_link_is_forgotten(self) -> None:
        self.assertEqual(self.found()[0], self.old)
        made = self.link(f"{self.new}, {self.old}").data["id"]
        self.assertRegex(made, "^l-[0-9a-f]{8}$")
        for _ in range(2):  # in the tail, then indexed
            self.assertEqual(self.found()[:2], [self.new, self.old])
            self.assertIn(f"superseded by [{self.new}]", self.call("rlm_search", query="deploy token vault").text)
            self.assertIn(f"superseded by [{self.new}]", self.call("rlm_recall").text)
            rlm.catch_up(self.view())
        rlm.rewrite(self.view())
        self.assertEqual(self.found()[:2], [self.new, self.old])
        self.call("rlm_forget", insight_id=made)
        self.assertEqual(self.found()[0], self.old)

    def test_a_successor_that_is_forgotten_replaces_nothing(self) -> None:
        self.link(f"{self.old} old, {self.new} new")
        self.call("rlm_forget", insight_id=self.new)
        self.assertEqual(self.found()[0], self.old)

    def test_a_statement_near_another_names_it_and_offers_to_replace_it(self) -> None:
        first = self.call("rlm_remember", content="releases of the billing service happen on Fridays").data
        self.assertEqual(first["near"], [])
        second = self.call("rlm_remember", content="releases of the billing service happen on Thursdays")
        self.assertEqual(second.data["near"], [first["id"]])
        self.assertIn(f"{second.data['id']} new, {first['id']} old", second.text)
        again = self.call("rlm_remember", content="releases of the billing service happen on Thursdays").data
        self.assertEqual(again["near"], [])
        elsewhere = self.call("rlm_remember", content="releases of the billing service happen on Mondays", project="other")
        self.assertEqual(elsewhere.data["near"], [])

    def test_a_link_is_shown_with_its_members_and_its_members_with_it(self) -> None:
        made = self.link(f"{self.new} decision, {self.old} rejected", "decides").data
        self.assertEqual((made["label"], made["members"]), ("decides", [[self.new, "decision"], [self.old, "rejected"]]))
        shown = self.call("rlm_recall", kind="link").text
        self.assertIn(f"rejected [{self.old}] the deploy token of the shop is kept in vault", shown)
        told = self.call("rlm_recall").text
        self.assertIn(f"   decides [{self.old}] (rejected) the deploy token of the shop is kept in vault", told)
        self.assertIn(f"   [{self.new}] decides this: the deploy token of the shop is in the keychain now", told)
        self.assertEqual(self.link(f"{self.new} decision, {self.old} rejected", "decides").data["id"], made["id"])
        self.call("rlm_forget", insight_id=self.old)
        self.assertIn("(gone)", self.call("rlm_recall", kind="link").text)

    def test_a_link_holds_no_word_of_its_members(self) -> None:
        made = self.link(f"{self.new}, {self.old}").data["id"]
        self.assertNotIn("token", self.call("rlm_peek", chunk_id=made).verbatim)

    def test_links_that_make_no_sense_store_nothing(self) -> None:
        before = self.log_bytes()
        for members, label in ((self.old, "relates"), (f"{self.old},{self.old}", "relates"), ("", "relates"),
                               (f"{self.old},i-00000000", "relates"), (f"{self.old},{self.new}", "loves"),
                               (f"{self.old} {'x' * 300},{self.new}", "relates"), (f"{self.old}\0,{self.new}", "relates")):
            with self.assertRaises(rlm.RlmError, msg=members):
                self.link(members, label)
        with self.assertRaises(rlm.RlmError):
            self.call("rlm_link", members=f"{self.old},{self.new}", label="relates", weight=-1)
        self.assertEqual(self.log_bytes(), before)

    def test_nothing_is_replaced_by_what_it_replaced(self) -> None:
        newest = str(self.call("rlm_remember", content="the token of the shop is gone").data["id"])
        made = self.link(f"{self.new}, {self.old}").data["id"]
        self.link(f"{newest} new, {self.new} old")
        for members, first in ((f"{self.old}, {self.new}", f"{self.new} supersedes .*{made}"),
                               (f"{self.old} new, {newest} old", f"{newest} supersedes ")):
            with self.assertRaisesRegex(rlm.UsageError, first):
                self.link(members)
        self.assertIn(made, self.call("rlm_recall", kind="link").text)
        self.assertFalse(self.link(f"{self.new}, {self.old}").data["new"])
        self.call("rlm_forget", insight_id=made)
        self.assertTrue(self.link(f"{self.old}, {newest}").data["new"])

    def test_what_supersedes_says_which_is_new(self) -> None:
        for members in (f"{self.new} newer, {self.old} older", f"{self.new} new, {self.old} new", f"{self.new} old, {self.old} old"):
            with self.assertRaisesRegex(rlm.UsageError, "one is new"):
                self.link(members)

    def test_a_circle_of_successors_ends(self) -> None:
        with rlm.Writer(self.view()) as writer:  # as two machines may have made it
            for pair in ((self.new, self.old), (self.old, self.new)):
                rlm.save_link(writer, dict(zip(pair, ("new", "old"))), "supersedes", 1.0, project="test")
        self.assertEqual(set(self.found()), {self.old, self.new} | set(self.found()))

    def test_links_come_through_export_and_import(self) -> None:
        made = self.link(f"{self.new}, {self.old}", "contradicts").data["id"]
        lines = list(rlm.exported_lines(self.view(), ""))
        done = self.cli("forget", "--erase", "--yes", made, self.new)
        self.assertEqual(done.returncode, 0, done.stderr)
        view = self.view()
        rlm.import_items(view, [rlm.item_of_line(line) for line in lines], "test", lambda *_: None)
        self.assertNotIn(made, self.call("rlm_recall", kind="link").text)  # it was erased
        self.assertEqual(rlm.item_of_line(lines[-1])["members"], [[self.new, "subject"], [self.old, "object"]])


if __name__ == "__main__":
    unittest.main()
