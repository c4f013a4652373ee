"""The fourteen tools: every parameter, default, filter and error that their users rely on."""
from __future__ import annotations

import gzip
import json
import os
import re
import time
import unittest
from typing import Any

from tests.support import HARD, TempHome, days_ago, rlm

# Fixed: prompts and scripts written for the first such server pass these names and rely on these defaults.
SIGNATURES = {
    "rlm_remember": 'content, category="general", importance="medium", tags="", project="", because="", rejected="", '
                    'goal="", evidence="", revisit=""',
    "rlm_recall": 'query="", category="", importance="", limit=10, project="", tags="", kind="insight"',
    "rlm_forget": "insight_id",
    "rlm_status": "",
    "rlm_chunk": 'content, summary="", tags="", project="", ticket="", domain="", chunk_type="session"',
    "rlm_peek": "chunk_id, start=0, end=-1",
    "rlm_grep": 'pattern, limit=10, project="", domain="", fuzzy=false, fuzzy_threshold=80, date_from="", date_to="", '
                'entity="", context=""',
    "rlm_search": 'query, limit=5, project="", domain="", date_from="", date_to="", entity="", include_insights=true, '
                   'explain=false, context="", kind=""',
    "rlm_list_chunks": "limit=20",
    "rlm_sessions": 'project="", domain="", limit=10',
    "rlm_domains": "",
    "rlm_retention_preview": "",
    "rlm_retention_run": "archive=true, purge=false",
    "rlm_restore": "chunk_id",
}
CATEGORIES = ("decision", "fact", "preference", "finding", "todo", "general", "goal", "procedure", "question",
              "correction")


class ToolCase(TempHome):
    def refused(self, tool: str, error: type[rlm.RlmError] = rlm.UsageError, **arguments: Any) -> str:
        """What the tool says when it refuses these arguments; the store stays as it was."""
        before = self.log_bytes()
        with self.assertRaises(error) as caught:
            self.call(tool, **arguments)
        self.assertEqual(self.log_bytes(), before)
        message = str(caught.exception)
        self.assertLess(len(message), 400, "an error nobody will read")
        return message

    def remember(self, content: str, **arguments: Any) -> str:
        """Stores an insight; its id."""
        return str(self.call("rlm_remember", content=content, **arguments).data["id"])

    def found(self, tool: str, **arguments: Any) -> list[str]:
        """The ids that a finding tool answers with, in its order; the text shows the same ids."""
        answer = self.call(tool, **arguments)
        rows = answer.data.get("hits", answer.data.get("insights", answer.data.get("chunks")))
        ids = [row["id"] for row in rows]
        self.assertEqual(re.findall(r"^(?:\d+\. )?\[([^\]]+)\]", answer.text, re.MULTILINE), ids)
        return ids

    def index(self) -> None:
        """Brings everything into the index, so that nothing is found by scanning the log's end."""
        rlm.index_now(self.view(), lambda *_: None)
        self.assertEqual(len(self.view().tail), 0)


class ArgumentTest(ToolCase):
    def test_names_parameters_and_defaults_are_the_fixed_ones(self) -> None:
        for name, signature in SIGNATURES.items():
            with self.subTest(name=name):
                params = rlm.TOOLS[name].params
                shown = [p.name if p.required else f"{p.name}={json.dumps(p.default)}" for p in params]
                self.assertEqual(", ".join(shown), signature)

    def examples(self) -> list[tuple[str, dict[str, Any], rlm.Param]]:
        """(tool, arguments that it needs, a parameter of it) for every parameter of the fourteen tools."""
        needed = {"content": "text é", "pattern": "text", "query": "text", "chunk_id": "x", "insight_id": "x"}
        return [(name, {p.name: needed[p.name] for p in rlm.TOOLS[name].params if p.required}, param)
                for name in SIGNATURES for param in rlm.TOOLS[name].params]

    def test_a_value_of_another_type_is_refused_by_name_with_what_is_accepted(self) -> None:
        wrong: dict[str, tuple[str, list[Any]]] = {
            "str": ("a string", [5, True, ["a", 5], {"a": 1}, 1.5]),
            "int": ("a whole number", ["x", "", "1.5", 1.5, True, [], {}, float("nan"), float("inf"), "9" * 5000]),
            "bool": ("true or false", ["maybe", "", 2, [], 0.5])}
        n_tried = 0
        for name, needed, param in self.examples():
            kind, values = wrong[param.type]
            for value in values:
                with self.subTest(tool=name, param=param.name, value=str(value)[:20]):
                    message = self.refused(name, **{**needed, param.name: value})
                    self.assertIn(f"`{param.name}` must be {kind}, not ", message)
                    n_tried += 1
        self.assertGreater(n_tried, 200)
        self.assertIn("`summary` must be a string", self.refused("rlm_chunk", content="x", summary=["tags only"]))

    def test_numbers_and_booleans_may_come_as_text(self) -> None:
        ids = [self.chunk(f"text {n}") for n in range(3)]
        for two in ("2", 2, 2.0, " 2 "):
            self.assertEqual(self.found("rlm_list_chunks", limit=two), [ids[2], ids[1]])
        self.remember("text of an insight")
        for no in ("false", "False", "no", "0", 0, False):
            self.assertEqual(len(self.found("rlm_search", query="text", include_insights=no)), 3)
        for yes in ("true", "YES", "1", 1, True):
            self.assertEqual(len(self.found("rlm_search", query="text", include_insights=yes)), 4)

    def test_null_means_the_default(self) -> None:
        self.chunk("text", summary=None, project=None, chunk_type=None)
        row = self.call("rlm_list_chunks", limit=None).data["chunks"][0]
        self.assertEqual((row["project"], row["type"], row["summary"]), ("test", "session", "text"))

    def test_tags_may_come_as_a_list(self) -> None:
        self.chunk("text", tags=["a", "b c", "é,d"])
        self.assertEqual(self.call("rlm_list_chunks").data["chunks"][0]["tags"], ["a", "b c", "é", "d"])

    def test_an_unknown_argument_is_refused_with_those_there_are(self) -> None:
        for name in SIGNATURES:
            with self.subTest(tool=name):
                message = self.refused(name, **{"nonsense é": 1, "x" * 5000: 2})
                self.assertIn("nonsense é", message)
                for param in rlm.TOOLS[name].params:
                    self.assertIn(param.name, message)

    def test_a_missing_argument_is_named(self) -> None:
        for name, needed, _ in self.examples():
            for param in needed:
                self.assertIn(f"needs `{param}`", self.refused(name))
                self.assertIn(f"needs `{param}`", self.refused(name, **{param: None}))

    def test_arguments_that_are_no_object_are_refused(self) -> None:
        for arguments in ([], "x", 5, None):
            with self.assertRaises(rlm.UsageError):
                rlm.checked_arguments(rlm.TOOLS["rlm_status"], arguments)

    def test_limits_are_from_1_to_10000(self) -> None:
        self.chunk("text")
        for name, needed, param in self.examples():
            if param.name != "limit":
                continue
            for limit in (0, -1, -(10 ** 30), 10_001, 10 ** 30):
                with self.subTest(tool=name, limit=limit):
                    self.assertIn("from 1 to 10,000", self.refused(name, **needed, limit=limit))
            for limit in (1, 10_000):
                self.call(name, **needed, limit=limit)

    def test_a_wrong_date_is_refused_with_an_example(self) -> None:
        wrong = ("tomorrow", "last", "last 7", "5m", "2026-13", "2026-02-30", "2026-13-01", "2026-1-1",
                 "31.11.2026", "2026-11-21T25:00", "0000-00-00",
                 "²" * 10, "x" * 5000, "2026-11-2é")
        for tool, needed in (("rlm_grep", {"pattern": "x"}), ("rlm_search", {"query": "x"})):
            for name in ("date_from", "date_to"):
                for date in wrong:
                    with self.subTest(tool=tool, name=name, date=date[:12]):
                        message = self.refused(tool, **needed, **{name: date})
                        self.assertIn(f"`{name}` takes a date such as 2026-11-21", message)
            self.assertIn("is after", self.refused(tool, **needed, date_from="2026-02-02", date_to="2026-02-01"))


class WordsTest(ToolCase):
    """Messages name what the caller can type: `limit` and `rlm_grep` over MCP, `--limit` and `rlm grep` in a shell."""

    def test_no_message_names_what_its_reader_cannot_type(self) -> None:
        chunk_id = self.chunk("a chunk é")
        self.remember("an insight é")
        self.chunk("another chunk é")
        for tool, arguments in (
                ("rlm_search", {"query": "x", "limit": 0}), ("rlm_search", {"query": " "}), ("rlm_search", {}),
                ("rlm_search", {"query": "x" * 9000}), ("rlm_search", {"query": "x", "date_from": "é"}),
                ("rlm_search", {"query": "x", "date_from": "2026", "date_to": "2025"}), ("rlm_list_chunks", {"l": 1}),
                ("rlm_peek", {"chunk_id": "2020-01-01_x_001"}), ("rlm_peek", {"chunk_id": chunk_id, "start": 9}),
                ("rlm_grep", {"pattern": "x", "fuzzy_threshold": 101}), ("rlm_recall", {"category": "x"}),
                ("rlm_chunk", {"content": "x", "chunk_type": "insight"}), ("rlm_restore", {"chunk_id": "zzz"}),
                ("rlm_remember", {"content": "x" * 70_000}), ("rlm_chunk", {"content": "x", "ticket": "é" * 999})):
            with self.subTest(tool=tool, arguments=str(arguments)[:60]):
                with self.assertRaises(rlm.RlmError) as caught:
                    self.call(tool, **arguments)
                said = str(caught.exception)
                self.assertNotRegex(said, r"(?<!`)\brlm_[a-z]")
                self.assertNotIn("--", said)
                in_shell = rlm.in_shell(said)
                self.assertNotRegex(in_shell, r"\brlm_|`(limit|start|end|date_\w+|category|ticket)`")
                self.assertNotEqual(in_shell, said)

    def test_hints_of_answers_too(self) -> None:
        for tool, arguments in (("rlm_list_chunks", {}), ("rlm_search", {"query": "x"}), ("rlm_domains", {})):
            self.hints(tool, arguments, "rlm_chunk", "rlm chunk")
        for n in range(3):
            with days_ago(200):
                self.chunk(f"word {n} é", project=f"p{n}")
            self.remember(f"word {n} é")
        for tool, arguments in (("rlm_list_chunks", {}), ("rlm_recall", {}), ("rlm_grep", {"pattern": "word"}),
                                ("rlm_sessions", {})):
            self.hints(tool, {**arguments, "limit": 1}, "limit", "--limit")
        rlm.write_config(self.places, {"archive_after_days": 1, "purge_after_days": 0})
        with days_ago(190):
            self.call("rlm_retention_run")
        self.hints("rlm_retention_run", {}, "purge", "--purge")

    def hints(self, tool: str, arguments: dict[str, Any], over_mcp: str, in_shell: str) -> None:
        """Checks how the tool's answer names something."""
        self.assertIn(f"`{over_mcp}`", self.call(tool, **arguments).text)
        call = rlm.Call(rlm.Store(self.places))
        call.words = rlm.in_shell
        said = rlm.run_tool(call, tool, arguments).text
        self.assertIn(f"`{in_shell}`", said)
        self.assertNotIn(f"`{over_mcp}`", said)


class InsightTest(ToolCase):
    def test_only_an_empty_recall_has_a_hint(self) -> None:
        self.assertIn("hint", self.call("rlm_recall").data)
        self.assertIn("hint", self.call("rlm_recall", query="deploy").data)
        self.call("rlm_remember", content="We deploy on Tuesdays")
        for query in ("", "deploy"):
            self.assertNotIn("hint", self.call("rlm_recall", query=query).data, query)

    def test_every_category_and_importance_is_stored_and_shown(self) -> None:
        for i, category in enumerate(CATEGORIES):
            importance = ("low", "medium", "high", "critical")[i % 4]
            self.remember(f"statement {i} é", category=f" {category.upper()} ", importance=importance.title())
            answer = self.call("rlm_recall", limit=1)
            row = answer.data["insights"][0]
            self.assertEqual((row["category"], row["importance"]), (category, importance))
            self.assertIn(f"{category}, {importance}", answer.text)

    def test_the_defaults_are_general_medium_and_the_present_project(self) -> None:
        self.remember("statement")
        row = self.call("rlm_recall").data["insights"][0]
        self.assertEqual((row["category"], row["importance"], row["project"], row["tags"], row["text"]),
                         ("general", "medium", "test", [], "statement"))

    def test_an_unknown_category_or_importance_lists_the_choices(self) -> None:
        for tool, needed in (("rlm_remember", {"content": "x"}), ("rlm_recall", {})):
            message = self.refused(tool, **needed, category="idea " * 1000)
            for category in CATEGORIES:
                self.assertIn(category, message)
            self.assertIn("low, medium, high, critical", self.refused(tool, **needed, importance="urgent"))

    def test_without_a_query_the_newest_come_first_and_the_rest_is_announced(self) -> None:
        ids = []
        for n in range(4):
            with days_ago(10 - n):
                ids.append(self.remember(f"statement {n}"))
        self.assertEqual(self.found("rlm_recall"), ids[::-1])
        answer = self.call("rlm_recall", limit=3)
        self.assertIn("3 of 4 shown", answer.text)
        self.assertEqual(answer.data["total"], 4)

    def test_with_a_query_the_best_come_first(self) -> None:
        worse = self.remember("The deployment is done by Anna and many other people of her team")
        best = self.remember("Deployment script: deployment.sh")
        self.remember("Lunch at noon")
        self.assertEqual(self.found("rlm_recall", query="deployment script"), [best, worse])

    def test_words_match_whole_and_without_case_or_accents(self) -> None:
        party = self.remember("The party is on")
        deploy = self.remember("Le déploiement coûte cher à l'ÉQUIPE")
        self.assertEqual(self.found("rlm_recall", query="art"), [])
        self.assertEqual(self.found("rlm_recall", query="PARTY"), [party])
        self.assertEqual(self.found("rlm_recall", query="DEPLOIEMENT equipe"), [deploy])
        self.assertEqual(self.found("rlm_recall", query="Coute"), [deploy])

    def test_one_word_that_is_nowhere_does_not_empty_the_answer(self) -> None:
        wanted = self.remember("We deploy on Fridays")
        self.assertEqual(self.found("rlm_recall", query="deploy zzzqqq"), [wanted])
        self.assertEqual(self.found("rlm_recall", query="zzzqqq"), [])

    def test_nothing_found_names_near_words(self) -> None:
        self.remember("We deploy on Fridays")
        self.assertIn("deploy", self.call("rlm_recall", query="deplyo").text)
        self.assertIn("No insights", self.call("rlm_recall", category="todo").text)

    def test_filters_are_applied_before_ranking(self) -> None:
        for n in range(15):
            self.remember(f"cache cache cache {n}", category="fact", tags="noise")
        wanted = self.remember("something about the cache and very many other words " * 5, category="decision",
                               importance="critical", tags="Été, b")
        for filters in ({"category": "decision"}, {"importance": "critical"}, {"tags": "été"}, {"tags": "B,ete"}):
            with self.subTest(filters=filters):
                self.assertEqual(self.found("rlm_recall", query="cache", limit=1, **filters), [wanted])
                self.assertEqual(self.found("rlm_recall", limit=5, **filters), [wanted])
        self.assertEqual(self.found("rlm_recall", tags="b,noise"), [], "all tags must be there")
        self.index()
        self.assertEqual(self.found("rlm_recall", query="cache", limit=1, category="decision"), [wanted])

    def test_the_project_filter_ignores_case_and_accents(self) -> None:
        os.environ["RLM_PROJECT"] = "Été"
        wanted = self.remember("statement")
        os.environ["RLM_PROJECT"] = "other"
        self.remember("statement, too")
        self.assertEqual(self.found("rlm_recall", project="ete"), [wanted])
        self.assertIn("found in other projects", self.call("rlm_recall", query="statement", project="none").text)

    def test_recall_shows_insights_only(self) -> None:
        self.chunk("deploy deploy deploy")
        self.assertEqual(self.found("rlm_recall", query="deploy"), [])

    def test_text_is_shown_whole(self) -> None:
        text = HARD + "\nsecond line\n" + "x" * 1000
        self.remember(text)
        self.assertIn(text, self.call("rlm_recall").text)

    def test_what_is_forgotten_is_found_by_nothing_until_it_is_brought_back(self) -> None:
        insight, chunk = self.remember("We deploy on Fridays é"), self.chunk("the deploy log é")
        for forgotten in (insight, chunk):
            answer = self.call("rlm_forget", insight_id=forgotten)
            self.assertEqual(answer.data, {"id": forgotten, "forgotten": True, "changed": True})
            self.assertIn(f"rlm forget --undo {forgotten}", answer.text)
        self.index()
        self.assertEqual(self.found("rlm_recall") + self.found("rlm_recall", query="deploy"), [])
        self.assertEqual(self.found("rlm_search", query="deploy") + self.found("rlm_grep", pattern="deploy"), [])
        self.assertEqual(self.found("rlm_grep", pattern="deplyo", fuzzy=True) + self.found("rlm_list_chunks"), [])
        self.assertEqual(self.call("rlm_sessions").data["sessions"], [])
        status = self.call("rlm_status").data
        self.assertEqual((status["n_chunks"], status["n_insights"]), (0, 0))
        self.assertIn(f"forget --undo {chunk}", self.refused("rlm_peek", rlm.NotFound, chunk_id=chunk))
        self.assertIn("was forgotten already", self.call("rlm_forget", insight_id=insight).text)
        for back in (insight, chunk):
            rlm.forget_or_undo(rlm.Call(rlm.Store(self.places)), back, undo=True)
        self.assertEqual(self.found("rlm_recall"), [insight])
        self.assertEqual(set(self.found("rlm_search", query="deploy")), {insight, chunk})
        self.assertEqual(self.found("rlm_grep", pattern="deploy"), [chunk])

    def test_several_are_forgotten_together_or_when_one_is_unknown_none(self) -> None:
        ids = [self.remember("one é"), self.chunk("two é"), self.remember("three")]
        self.refused("rlm_forget", rlm.NotFound, insight_id=f"{ids[0]}, i-00000000, {ids[1]}")
        answer = self.call("rlm_forget", insight_id=f"{ids[0]}, {ids[1]}")
        self.assertEqual([row["id"] for row in answer.data["memories"] if row["changed"]], ids[:2])
        self.assertEqual(len(re.findall(r"(?m)^\S+ is forgotten; ", answer.text)), 2)
        self.assertEqual(self.found("rlm_search", query="one two three"), ids[2:])
        undone = rlm.forget_or_undo(rlm.Call(rlm.Store(self.places)), " ".join(ids), undo=True)
        self.assertEqual([row["changed"] for row in undone.data["memories"]], [True, True, False])
        self.assertEqual(len(self.found("rlm_search", query="one two three")), 3)

    def test_forgetting_what_is_not_there_is_an_error(self) -> None:
        self.assertIn("i-00000000", self.refused("rlm_forget", rlm.NotFound, insight_id="i-00000000"))


class ChunkTest(ToolCase):
    def test_every_type_is_stored_and_any_other_lists_them(self) -> None:
        for chunk_type in ("session", "snapshot", "debug", " DEBUG "):
            self.chunk(f"text of {chunk_type}", chunk_type=chunk_type)
            row = self.call("rlm_list_chunks", limit=1).data["chunks"][0]
            self.assertEqual(row["type"], chunk_type.strip().lower())
        self.assertIn("session, snapshot, debug", self.refused("rlm_chunk", content="x", chunk_type="note"))

    def test_an_insight_is_sent_to_remember(self) -> None:
        self.assertIn("rlm_remember", self.refused("rlm_chunk", content="x", chunk_type="Insight"))

    def test_all_fields_are_stored(self) -> None:
        new_id = self.chunk(HARD, summary="a summary é", tags="a,b", project="P", ticket="T-1", domain="D")
        row = self.call("rlm_list_chunks").data["chunks"][0]
        expected = {"id": new_id, "kind": "chunk", "summary": "a summary é", "tags": ["a", "b"], "project": "P",
                    "ticket": "T-1", "domain": "D", "type": "session", "importance": "medium", "tier": "session",
                    "uses": 0, "n_bytes": len(HARD.encode()), "tokens": (len(HARD.encode()) + 3) // 4}
        self.assertEqual({key: row[key] for key in expected}, expected)
        self.assertLess(abs(rlm.epoch_of(row["created_at"]) - time.time()), 60)

    def test_the_answer_says_how_much_was_saved(self) -> None:
        for text, n_lines in (("one", "1 line"), ("one\n", "1 line"), ("one\ntwo", "2 lines"), ("é\n\n", "2 lines")):
            answer = self.call("rlm_chunk", content=text)
            self.assertIn(f" {n_lines},", answer.text)
            self.assertEqual(answer.data["n_bytes"], len(text.encode()))

    def test_the_project_is_detected_when_none_is_given(self) -> None:
        for project in ("", "  ", "\n"):
            answer = self.call("rlm_chunk", content="x" + project + "y", project=project)
            self.assertEqual(answer.data["project"], "test")


class PeekTest(ToolCase):
    LINES = [f"line {n} é\r\n" for n in range(1, 51)]

    def test_lines_are_counted_from_0_by_start_and_end_and_from_1_in_a_range(self) -> None:
        chunk_id = self.chunk("".join(self.LINES))
        cases: list[tuple[dict[str, Any], slice]] = [
            ({}, slice(0, 50)), ({"start": 10}, slice(10, 50)), ({"end": 3}, slice(0, 3)),
            ({"start": 10, "end": 12}, slice(10, 12)), ({"start": 49, "end": 9999}, slice(49, 50)),
            ({"chunk_id": f"{chunk_id}:10-40"}, slice(9, 40)), ({"chunk_id": f"{chunk_id}:10"}, slice(9, 10)),
            ({"chunk_id": f"{chunk_id}:10-"}, slice(9, 50)), ({"chunk_id": f"{chunk_id}:50-99"}, slice(49, 50)),
            ({"chunk_id": f" {chunk_id}:1-1 "}, slice(0, 1)), ({"chunk_id": f"{chunk_id[:-1]}:2-2"}, slice(1, 2))]
        for arguments, wanted in cases:
            with self.subTest(arguments=arguments):
                answer = self.call("rlm_peek", **{"chunk_id": chunk_id, **arguments})
                self.assertEqual(answer.verbatim, "".join(self.LINES[wanted]))
                self.assertEqual((answer.data["first_line"], answer.data["last_line"], answer.data["n_lines"]),
                                 (wanted.start + 1, wanted.stop, 50))
                self.assertIn(f"lines {wanted.start + 1}-{wanted.stop} of 50, from 1", answer.text)

    def test_a_range_without_any_line_is_refused(self) -> None:
        chunk_id = self.chunk("".join(self.LINES))
        for lines in ("0-3", "4-3", "a-b", "", "-", "-5", "1-2-3", "1.5", "²", "٣", "1-٣", "9" * 5000, "1-" + "9" * 30,
                      " 1-2x"):
            with self.subTest(lines=lines[:10]):
                self.assertIn("id:10-40", self.refused("rlm_peek", chunk_id=f"{chunk_id}:{lines}"))
        for start, end in ((-1, -1), (0, -2), (5, 5), (5, 3), (0, 0)):
            with self.subTest(start=start, end=end):
                self.assertIn("`start` counts from 0", self.refused("rlm_peek", chunk_id=chunk_id, start=start, end=end))
        self.assertIn("50 lines", self.refused("rlm_peek", chunk_id=chunk_id, start=50))
        self.assertIn("50 lines", self.refused("rlm_peek", chunk_id=f"{chunk_id}:51-60"))

    def test_several_ids_give_several_texts_each_behind_its_note(self) -> None:
        ids = [self.chunk("".join(self.LINES)), self.chunk("no newline é"), self.remember(HARD)]
        for wanted in (f"{ids[0]}:2-3 {ids[1]},{ids[2]}", f" {ids[0]}:2-3, {ids[1]} ,\n{ids[2]} {ids[2]}",
                       [f"{ids[0]}:2-3", ids[1], ids[2]]):
            answer = self.call("rlm_peek", chunk_id=wanted)
            self.assertEqual([(row["id"], row["text"]) for row in answer.data["texts"]],
                             [(ids[0], "line 2 é\r\nline 3 é\r\n"), (ids[1], "no newline é"), (ids[2], HARD)])
            self.assertRegex(answer.text, r"(?s)\[[^\n]*lines 2-3 of 50[^\n]*\]\nline 2 .*\]\nno newline é\n\n\[")
        self.assertEqual({row["uses"] for row in self.call("rlm_list_chunks").data["chunks"]}, {3})
        self.refused("rlm_peek", rlm.NotFound, chunk_id=f"{ids[0]} 2020-01-01_none_001")

    def test_several_texts_share_the_length_of_one_answer(self) -> None:
        ids, store = [self.chunk(f"{n} é\n" * 9000) for n in range(9)], rlm.Store(self.places)
        answer = rlm.run_tool(rlm.Call(store, 20_000), "rlm_peek", {"chunk_id": ",".join(ids[:4])})
        self.assertLessEqual(len(answer.text), 20_000)
        self.assertEqual(len(re.findall(r"cut; go on with \S+:\d+-9000\]", answer.text)), 4)
        with self.assertRaisesRegex(rlm.UsageError, "9 texts do not fit.* 6 at most"):
            rlm.run_tool(rlm.Call(store, 20_000), "rlm_peek", {"chunk_id": ",".join(ids)})
        self.assertEqual(len(self.call("rlm_peek", chunk_id=",".join(ids)).data["texts"]), 9, "a shell gets all of it")

    def test_a_line_end_at_the_end_makes_no_further_line(self) -> None:
        for text, n_lines in (("a\nb", 2), ("a\nb\n", 2), ("a\nb\n\n", 3), ("a", 1), ("a\n", 1), ("\n\na", 3)):
            with self.subTest(text=text):
                self.assertEqual(self.call("rlm_peek", chunk_id=self.chunk(text)).data["n_lines"], n_lines)

    def test_a_read_counts_as_one_use(self) -> None:
        chunk_id = self.chunk("text")
        for _ in range(3):
            self.call("rlm_peek", chunk_id=chunk_id)
        self.call("rlm_search", query="text")
        self.call("rlm_grep", pattern="text")
        self.assertEqual(self.call("rlm_list_chunks").data["chunks"][0]["uses"], 3)

    def test_insights_can_be_read_too(self) -> None:
        answer = self.call("rlm_peek", chunk_id=self.remember(HARD, category="fact"))
        self.assertEqual(answer.verbatim, HARD)
        self.assertIn("fact, medium", answer.text)

    def test_a_long_text_is_cut_with_a_note_that_leads_to_all_of_it(self) -> None:
        text = "".join(f"line {n} " + "é" * (n % 700) + "\n" for n in range(300)) + "x" * 50_000 + "\nthe end"
        wanted, parts = self.chunk(text), []
        whole_id = wanted
        store = rlm.Store(self.places)
        while True:
            answer = rlm.run_tool(rlm.Call(store, 20_000), "rlm_peek", {"chunk_id": wanted})
            self.assertLessEqual(len(answer.verbatim or "") + len(answer.text), 20_000)
            parts.append(answer.verbatim or "")
            further = re.search(r"go on with (\S+?:\d+-\d+)\]", answer.text)
            if not further:
                break
            wanted = further[1]
        self.assertGreater(len(parts), 3)
        shown = "".join(parts)
        cut = shown.index("xxx")
        self.assertEqual(shown[:cut], text[:cut])
        self.assertTrue(shown.endswith("x\nthe end") or shown.endswith("xthe end"), shown[-20:])
        # The line that is longer than an answer says so, and where to read it.
        answer = rlm.run_tool(rlm.Call(store, 20_000), "rlm_peek", {"chunk_id": f"{whole_id}:301-301"})
        self.assertIn("50,001 characters", answer.text)
        self.assertIn("rlm peek", answer.text)
        self.assertEqual(self.call("rlm_peek", chunk_id=whole_id).verbatim, text, "a shell gets all of it")


class GrepTest(ToolCase):
    def setUp(self) -> None:
        super().setUp()
        with days_ago(3):
            self.old = self.chunk("before\nConnectionResetError: é\nafter\nother", project="Shop", domain="API")
        with days_ago(1):
            self.new = self.chunk("a connection reset by peer in src/net/tcp.py\r\nCONNECTIONRESETERROR again",
                                  project="blog")
        self.other = self.chunk("nothing to see here (really)\n日本語の接続エラー")

    def test_a_regex_matches_line_by_line_without_case_newest_first(self) -> None:
        self.assertEqual(self.found("rlm_grep", pattern="connectionreset"), [self.new, self.old])
        self.assertEqual(self.found("rlm_grep", pattern=r"^connection\w+:"), [self.old])
        self.assertEqual(self.found("rlm_grep", pattern="error.*after"), [], "a match may not cross a line")
        self.assertEqual(self.found("rlm_grep", pattern="接続エラー"), [self.other])
        self.index()
        self.assertEqual(self.found("rlm_grep", pattern="connectionreset"), [self.new, self.old])

    def test_hits_show_line_numbers_and_a_line_of_context(self) -> None:
        answer = self.call("rlm_grep", pattern="ResetError: é")
        self.assertIn("    1: before\n  > 2: ConnectionResetError: é\n    3: after", answer.text)
        self.assertNotIn("other", answer.text)
        self.assertEqual(answer.data["hits"][0]["lines"], [{"line": 2, "text": "ConnectionResetError: é"}])

    def test_more_matches_than_shown_are_announced(self) -> None:
        many = self.chunk("match\n" * 10)
        answer = self.call("rlm_grep", pattern="match")
        self.assertEqual(answer.data["hits"][0]["n_matching_lines"], 10)
        self.assertRegex(answer.text, r"\+\d+ more lines in it")
        answer = self.call("rlm_grep", pattern="a", limit=1)
        self.assertTrue(answer.data["more"])
        self.assertIn("raise `limit`", answer.text)
        self.assertFalse(self.call("rlm_grep", pattern="match", limit=1).data["more"])
        self.assertEqual(self.found("rlm_grep", pattern="match"), [many])

    def test_an_invalid_regex_is_taken_literally_and_says_so(self) -> None:
        for pattern in ("(really", "here (really)\\", "[", "*", "(?P<x>a)(?P<x>b)", "a{5,2}", "(?i", "\\", "(" * 1999):
            with self.subTest(pattern=pattern[:10]):
                answer = self.call("rlm_grep", pattern=pattern)
                self.assertIn("is no valid regex; searched as plain text", answer.text)
                self.assertLess(len(answer.text), 2000)
        self.assertEqual(self.call("rlm_grep", pattern="(really").data["hits"][0]["id"], self.other)
        self.assertNotIn("valid", self.call("rlm_grep", pattern=r"\(really\)").text)

    def test_an_empty_or_very_long_pattern_is_refused(self) -> None:
        self.assertIn("empty", self.refused("rlm_grep", pattern=""))
        self.assertIn("2,000", self.refused("rlm_grep", pattern="x" * 2001))
        self.assertIn("one word", self.refused("rlm_grep", pattern="?!", fuzzy=True))

    def test_every_filter_narrows(self) -> None:
        day = [rlm.local_day(rlm.now() - n * rlm.DAY_S) for n in range(5)]
        cases: list[tuple[dict[str, Any], list[str]]] = [
            ({"project": "shop"}, [self.old]), ({"project": "SHOP "}, [self.old]), ({"project": "none"}, []),
            ({"domain": "api"}, [self.old]), ({"domain": "ap"}, []), ({"entity": "tcp.py"}, [self.new]),
            ({"entity": "resetError: É"}, [self.old]), ({"date_from": day[1]}, [self.new]),
            ({"date_to": day[3]}, [self.old]), ({"date_to": day[4]}, []),
            ({"date_from": day[2], "date_to": day[1]}, [self.new]),
            ({"date_from": day[3] + "T00:00", "date_to": day[3] + "T23:59:59"}, [self.old]),
            ({"project": "shop", "date_from": day[1]}, [])]
        for indexed in (False, True):
            if indexed:
                self.index()
            for filters, wanted in cases:
                with self.subTest(filters=filters, indexed=indexed):
                    self.assertEqual(self.found("rlm_grep", pattern="connectionreset", **filters), wanted)
                    fuzzy = self.found("rlm_grep", pattern="conectionreseterror", fuzzy=True, **filters)
                    self.assertEqual(fuzzy, wanted)

    def test_fuzzy_tolerates_typos_down_to_its_threshold_closest_first(self) -> None:
        exact = self.chunk("the word connection itself")
        typo = self.chunk("the word conection itself")
        self.assertEqual(self.found("rlm_grep", pattern="connection itself", fuzzy=True)[:2], [exact, typo])
        hits = self.call("rlm_grep", pattern="connection itself", fuzzy=True).data["hits"]
        self.assertGreater(hits[0]["score"], hits[1]["score"])
        self.assertEqual(self.found("rlm_grep", pattern="connection itself", fuzzy=True, fuzzy_threshold=100), [exact])
        self.assertIn(typo, self.found("rlm_grep", pattern="konnection itself", fuzzy=True, fuzzy_threshold=60))
        for wrong in (-1, 101):
            self.assertIn("from 0 to 100", self.refused("rlm_grep", pattern="x", fuzzy=True, fuzzy_threshold=wrong))

    def test_nothing_found_says_what_would_be(self) -> None:
        text = self.call("rlm_grep", pattern="conectionreseterror").text
        self.assertIn("connectionreseterror", text)
        self.assertIn("Shop", self.call("rlm_grep", pattern="ConnectionResetError", project="test").text)

    def test_a_regex_that_runs_away_is_stopped_at_the_configured_deadline(self) -> None:
        self.chunk("a" * 60 + "b")
        rlm.write_config(self.places, {"grep_timeout_s": 0.2})
        started_s = time.monotonic()
        message = self.refused("rlm_grep", rlm.TimedOut, pattern="(a+)+$")
        self.assertLess(time.monotonic() - started_s, 5)
        self.assertIn("0.2 s", message)
        self.assertIn("grep_timeout_s", message)
        self.assertEqual(self.found("rlm_grep", pattern="connectionreset"), [self.new, self.old], "and life goes on")


class SearchTest(ToolCase):
    def test_the_best_come_first_with_id_age_score_and_the_matching_lines(self) -> None:
        with days_ago(3):
            best = self.chunk("intro\nthe deploy script is deploy.sh\noutro", project="shop",
                              summary="how it is done é")
        worse = self.chunk("someone mentioned a script among very many other things " * 3)
        self.chunk("lunch", project="other")
        answer = self.call("rlm_search", query="deploy script", limit=2)
        self.assertEqual([hit["id"] for hit in answer.data["hits"]], [best, worse])
        first = answer.text.split("\n2. ")[0]
        for part in (f"[{best}]", "shop", "3d ago · 100%", "how it is done é", "2: the deploy script is deploy.sh"):
            self.assertIn(part, first)
        self.assertGreater(answer.data["hits"][0]["score"], answer.data["hits"][1]["score"])

    def test_a_missing_word_does_no_harm(self) -> None:
        wanted = self.chunk("the deploy script")
        self.assertEqual(self.found("rlm_search", query="deploy zzzqqq script xxyyzz"), [wanted])

    def test_insights_are_included_unless_told_otherwise(self) -> None:
        insight, chunk = self.remember("deploy on Fridays"), self.chunk("deploy on Mondays")
        self.assertEqual(set(self.found("rlm_search", query="deploy")), {insight, chunk})
        self.assertEqual(self.found("rlm_search", query="deploy", include_insights=False), [chunk])
        rows = {hit["id"]: hit for hit in self.call("rlm_search", query="deploy").data["hits"]}
        self.assertEqual(rows[insight]["text"], "deploy on Fridays")
        self.assertNotIn("text", rows[chunk])

    def test_every_filter_is_applied_before_ranking(self) -> None:
        for n in range(12):
            self.chunk(f"cache cache cache cache {n}", project="noise")
        with days_ago(5):
            wanted = self.chunk("one word about the cache in app/store.py, and many others besides it " * 3,
                                project="Été", domain="Data", ticket="X-1")
        day = rlm.local_day(rlm.now() - 5 * rlm.DAY_S)
        for indexed in (False, True):
            if indexed:
                self.index()
            self.assertNotIn(wanted, self.found("rlm_search", query="cache", limit=5))
            for filters in ({"project": "ete"}, {"domain": "DATA"}, {"date_to": day}, {"entity": "store.py"},
                            {"date_from": day, "date_to": day, "project": "Été", "domain": "data", "entity": "app/"}):
                with self.subTest(filters=filters, indexed=indexed):
                    self.assertEqual(self.found("rlm_search", query="cache", limit=1, **filters), [wanted])

    def test_nothing_found_says_what_would_be(self) -> None:
        for tool, argument in (("rlm_search", "query"), ("rlm_grep", "pattern"), ("rlm_recall", "query")):
            self.assertIn("the memory is empty; `rlm_chunk`, `rlm_remember`", self.call(tool, **{argument: "x"}).text)
        self.remember("a statement")
        self.assertIn("there are: test", self.call("rlm_search", query="zzzqqq", project="blog").text)
        self.chunk("the deployment script", project="Shop")
        self.assertIn("deployment", self.call("rlm_search", query="deplyoment").text, "a hit or a hint")
        self.assertIn("other projects: Shop", self.call("rlm_search", query="deployment", project="blog").text)
        answer = self.call("rlm_search", query="zzzqqq", project="blog")
        self.assertIn("no such project; there are: Shop, test", answer.text)
        self.assertEqual((answer.data["hits"], answer.data["hint"]), ([], answer.text))

    def test_an_empty_query_is_refused_and_one_without_words_finds_nothing(self) -> None:
        for query in ("", "  ", "\n"):
            self.assertIn("empty", self.refused("rlm_search", query=query))
        self.chunk("text ???")
        for query in ("???", "\0", "\udcff", "' OR 1=1 --", "(", "*"):
            self.call("rlm_search", query=query)
        self.assertEqual(self.call("rlm_search", query="???").data["hits"], [])

    def test_a_huge_query_is_answered(self) -> None:
        wanted = self.chunk("the deploy script")
        self.assertEqual(self.found("rlm_search", query="deploy " + "nonsense é " * 700), [wanted])


class ListTest(ToolCase):
    def test_chunks_are_listed_newest_first_and_the_rest_is_announced(self) -> None:
        ids = []
        for n in (3, 2, 1):
            with days_ago(n):
                ids.append(self.chunk(f"text {n} é"))
        self.remember("no chunk")
        for indexed in (False, True):
            if indexed:
                self.index()
            self.assertEqual(self.found("rlm_list_chunks"), ids[::-1])
            answer = self.call("rlm_list_chunks", limit=2)
            self.assertEqual(([row["id"] for row in answer.data["chunks"]], answer.data["total"]), (ids[:0:-1], 3))
            self.assertIn("2 of 3 shown", answer.text)

    def test_20_are_listed_when_nothing_is_said(self) -> None:
        items = [{"kind": "chunk", "text": f"text {n}"} for n in range(25)]
        rlm.import_items(self.view(), items, "test", lambda *_: None)
        self.assertEqual(len(self.call("rlm_list_chunks").data["chunks"]), 20)

    def test_an_empty_store_says_so_and_is_not_created_by_looking(self) -> None:
        for tool in ("rlm_list_chunks", "rlm_sessions", "rlm_domains", "rlm_recall", "rlm_status",
                     "rlm_retention_preview"):
            self.assertTrue(self.call(tool).text)
        self.call("rlm_search", query="x")
        self.call("rlm_grep", pattern="x")
        self.assertEqual(os.listdir(self.home), [])

    def test_sessions_gather_the_chunks_of_a_conversation(self) -> None:
        with days_ago(2):
            os.environ["CLAUDE_CODE_SESSION_ID"] = "conversation-1"
            first, second = self.chunk("one é", project="shop", domain="api"), self.chunk("two", project="shop")
        del os.environ["CLAUDE_CODE_SESSION_ID"]
        third = self.chunk("three", project="blog")
        self.remember("insights belong to no session")
        answer = self.call("rlm_sessions")
        rows = answer.data["sessions"]
        self.assertEqual([row["chunks"] for row in rows], [[third], [second, first]])
        self.assertEqual((rows[1]["session"], rows[1]["n_chunks"]), ("conversation-1", 2))
        self.assertEqual(rows[0]["session"], f"{rlm.local_day(rlm.now())}_blog")
        for part in ("conversation-1", "2 chunks", first, second, third):
            self.assertIn(part, answer.text)
        self.assertLessEqual(rows[1]["first_at"], rows[1]["last_at"])
        filtered: list[tuple[dict[str, Any], list[list[str]]]] = [
            ({"project": "SHOP"}, [[second, first]]), ({"domain": "Api"}, [[first]]), ({"project": "none"}, []),
            ({"limit": 1}, [[third]])]
        for filters, wanted in filtered:
            with self.subTest(filters=filters):
                rows = self.call("rlm_sessions", **filters).data["sessions"]
                self.assertEqual([row["chunks"] for row in rows], wanted)
        answer = self.call("rlm_sessions", limit=1)
        self.assertIn("1 of 2 sessions shown", answer.text)
        self.assertEqual(answer.data["total"], 2)

    def test_domains_are_those_in_use_and_those_in_the_settings(self) -> None:
        self.chunk("one", domain="api")
        self.chunk("two", domain="api")
        self.chunk("three", domain="Été")
        self.call("rlm_forget", insight_id=self.chunk("four", domain="gone"))
        rlm.write_config(self.places, {"domains": ["docs", "api"]})
        for indexed in (False, True):
            if indexed:
                self.index()
            answer = self.call("rlm_domains")
            self.assertEqual([(row["domain"], row["n_chunks"]) for row in answer.data["domains"]],
                             [("api", 2), ("Été", 1), ("docs", 0)])
            self.assertEqual(answer.text, "api: 2 chunks\nÉté: 1 chunk\ndocs: 0 chunks")

    def test_status_counts_everything(self) -> None:
        with days_ago(40):
            old = self.chunk("an old text")
        used = self.chunk("a text é" * 10, chunk_type="debug", project="shop")
        self.chunk("a snapshot", chunk_type="snapshot")
        self.remember("a decision", category="decision", importance="critical")
        self.remember("a fact", category="fact")
        self.call("rlm_retention_run")
        for _ in range(2):
            self.call("rlm_peek", chunk_id=used)
        answer = self.call("rlm_status")
        expected = {
            "version": rlm.__version__, "memory": self.places.memory, "n_chunks": 3, "n_insights": 2,
            "types": {"debug": 1, "session": 1, "snapshot": 1}, "categories": {"decision": 1, "fact": 1},
            "importance": {"critical": 1, "medium": 1}, "projects": {"test": 4, "shop": 1},
            "tiers": {"longterm": 2, "archived": 1, "session": 1, "task": 1}, "damaged_lines": 0, "semantic": None,
            "most_used": [{"id": used, "uses": 2}]}
        self.assertEqual({key: answer.data[key] for key in expected}, expected)
        self.assertEqual(answer.data["tokens"], sum((n + 3) // 4 for n in (11, 90, 10)))
        self.assertEqual(answer.data["store_bytes"], sum(
            os.path.getsize(os.path.join(self.places.memory, name)) for name in os.listdir(self.places.memory)
            if name.startswith(("log-", "archive-"))))
        for part in (rlm.__version__, self.places.memory, "3 chunks", "2 insights", "archived 1", f"{used} (2)",
                     "shop 1", "damaged lines: 0", "semantic provider: none"):
            self.assertIn(part, answer.text)
        self.assertEqual(self.call("rlm_peek", chunk_id=old).data["tier"], "archived")

    def test_status_counts_damaged_lines(self) -> None:
        self.chunk("text")
        with open(self.places.log(1), "ab") as file:
            file.write(b"{broken\n")
        answer = self.call("rlm_status")
        self.assertEqual((answer.data["damaged_lines"], answer.data["n_chunks"]), (1, 1))
        self.assertIn("rlm verify", answer.text)


class RetentionTest(ToolCase):
    def old(self, text: str, n_days: float = 31, **arguments: Any) -> str:
        """Stores a chunk that many days ago; its id."""
        with days_ago(n_days):
            return self.chunk(text, **arguments)

    def archive_text(self) -> bytes:
        """All archive files, unpacked as `zgrep` would."""
        return b"".join(gzip.decompress(rlm.read_file(self.places.archive(n))) for n in self.places.numbered("archive"))

    def test_what_is_30_days_old_and_unused_is_archived(self) -> None:
        gone, kept = self.old("text thirty-one é", 30.01), self.old("text twenty-nine", 29.9)
        used = self.old("text used")
        self.call("rlm_peek", chunk_id=used)
        insight = self.old_insight("an insight is never archived")
        preview = self.call("rlm_retention_preview")
        self.assertEqual(preview.data, {"archive": [gone], "purge": [], "immune": {}, "n_recent": 1, "n_used": 1})
        self.assertIn(f"Would archive 1 chunk: {gone}", preview.text)
        self.assertEqual(self.archive_text(), b"", "a preview changes nothing")
        done = self.call("rlm_retention_run")
        self.assertEqual((done.data["archived"], done.data["n_archived"], done.data["n_purged"]), ([gone], 1, 0))
        self.assertIn("Archived 1 chunk, purged 0 chunks", done.text)
        tiers = {row["id"]: row["tier"] for row in self.call("rlm_list_chunks").data["chunks"]}
        self.assertEqual(tiers, {gone: "archived", kept: "session", used: "session"})
        self.assertEqual(self.found("rlm_recall"), [insight])
        self.assertEqual(self.call("rlm_retention_run").data["n_archived"], 0)

    def old_insight(self, text: str) -> str:
        """Stores an insight 400 days ago; its id."""
        with days_ago(400):
            return self.remember(text)

    def test_immune_chunks_are_never_archived_and_the_preview_says_why(self) -> None:
        why: dict[str, str] = {}
        for tag in ("critical", "Decision", "KEEP", "important"):
            why[self.old(f"text with tag {tag}", tags=f"a,{tag}")] = "tag"
        for word in ("DECISION:", "IMPORTANT:", "CRITICAL:", "A RETENIR:", "À RETENIR:", "重要:", "重要："):
            why[self.old(f"text\nwith {word} in it")] = "keyword in the text"
        used = self.old("text that is read")
        for _ in range(3):
            self.call("rlm_peek", chunk_id=used)
        why[used] = "3 uses"
        item = {"kind": "chunk", "id": "crit", "text": "é", "importance": "critical", "created_at": "2020-01-01"}
        rlm.import_items(self.view(), [item], "test", lambda *_: None)
        why["crit"] = "importance critical"
        plain = [self.old("text about a decision: it is not written in capitals"), self.old("keepsake", tags="keeper")]
        for indexed in (False, True):
            if indexed:
                self.index()
            preview = self.call("rlm_retention_preview")
            self.assertEqual(preview.data["immune"], why)
            self.assertEqual(sorted(preview.data["archive"]), sorted(plain))
        self.assertIn("13 immune", preview.text)
        self.assertIn("+3 more", preview.text)
        self.assertEqual(self.call("rlm_retention_run").data["n_archived"], 2)

    def test_archived_chunks_stay_findable_readable_and_grepable(self) -> None:
        gone = self.old("before\nthe archived deployment script é\nafter", domain="ops")
        self.call("rlm_retention_run")
        rlm.rewrite(self.view())
        self.assertNotIn(b"the archived deployment script \xc3\xa9\\n", self.log_bytes())
        self.assertIn("the archived deployment script é".encode(), self.archive_text())
        for _ in range(2):
            self.assertEqual(self.found("rlm_search", query="deployment script"), [gone])
            self.assertEqual(self.found("rlm_grep", pattern="archived dep"), [gone])
            self.assertEqual(self.found("rlm_grep", pattern="deploiment", fuzzy=True), [gone])
            self.index()
        self.assertIn("archived", self.call("rlm_search", query="deployment").text)
        answer = self.call("rlm_peek", chunk_id=f"{gone}:2-2")
        self.assertEqual(answer.verbatim, "the archived deployment script é\n")
        self.assertIn("archived", answer.text)

    def test_restoring_is_lossless_and_lasts(self) -> None:
        gone = self.old(HARD, tags="a", ticket="T-1", domain="d", summary="é")
        before = self.call("rlm_list_chunks").data["chunks"][0]
        self.call("rlm_retention_run")
        rlm.rewrite(self.view())
        answer = self.call("rlm_restore", chunk_id=gone)
        self.assertEqual((answer.data, answer.text), ({"id": gone, "restored": True}, f"{gone} is active again."))
        after = self.call("rlm_list_chunks").data["chunks"][0]
        self.assertEqual(after, {**before, "uses": 1})
        self.assertEqual(self.call("rlm_peek", chunk_id=gone).verbatim, HARD)
        self.assertEqual(self.call("rlm_retention_run").data["n_archived"], 0, "it would be archived at once again")
        self.assertIn("was active already", self.call("rlm_restore", chunk_id=gone).text)

    def test_several_are_restored_together(self) -> None:
        gone = [self.old(f"text {n} é", 100) for n in range(2)]
        self.call("rlm_retention_run")
        rows = self.call("rlm_restore", chunk_id=gone).data["memories"]
        self.assertEqual(rows, [{"id": each, "restored": True} for each in gone])

    def test_only_archived_chunks_can_be_restored(self) -> None:
        self.assertIn("was active already", self.call("rlm_restore", chunk_id=self.remember("é")).text)
        self.refused("rlm_restore", rlm.NotFound, chunk_id="2020-01-01_none_001")

    def test_what_is_180_days_in_the_archive_is_purged_only_when_asked(self) -> None:
        text = "a text nobody will ever read again é"
        gone, later = self.old(text, 400), self.old("another text", 400)
        with days_ago(181):
            self.assertEqual(self.call("rlm_retention_run").data["n_archived"], 2)
        self.call("rlm_peek", chunk_id=later)
        preview = self.call("rlm_retention_preview")
        self.assertEqual((preview.data["purge"], preview.data["n_used"]), ([gone], 1))
        self.assertIn(f"Would purge 1 chunk: {gone}", preview.text)
        done = self.call("rlm_retention_run")
        self.assertEqual((done.data["n_purged"], done.data["n_purgeable"], done.data["purged"]), (0, 1, []))
        self.assertIn("1 chunk could be purged", done.text)
        self.assertEqual(self.call("rlm_peek", chunk_id=gone, start=0).verbatim, text)

    def test_the_180_days_count_from_the_archiving(self) -> None:
        old = self.old("an old text é", 400)
        self.assertEqual(self.call("rlm_retention_run", purge=True).data["archived"], [old])
        self.assertEqual(self.call("rlm_retention_preview").data["purge"], [])
        self.assertEqual(self.call("rlm_retention_run", purge=True).data["n_purged"], 0)

    def test_a_purge_takes_the_text_off_the_disk_and_leaves_a_line(self) -> None:
        text = "zwölf Boxkämpfer " * 20
        gone = self.old(text, 400, summary="a summary that goes too")
        with days_ago(181):
            self.call("rlm_retention_run")
        rlm.rewrite(self.view())
        self.assertIn("zwölf".encode(), self.archive_text())
        done = self.call("rlm_retention_run", purge=True)
        self.assertEqual((done.data["purged"], done.data["n_purged"]), ([gone], 1))
        self.assertNotIn("zwölf".encode(), self.archive_text() + self.log_bytes())
        self.assertNotIn(b"a summary", self.log_bytes())
        records = [json.loads(line) for line in self.log_bytes().splitlines()]
        purged = [record for record in records if record["k"] == "purge"]
        self.assertEqual([(record["id"], record["project"]) for record in purged], [(gone, "test")])
        self.assertNotIn("text", purged[0])
        self.assertIn("was purged", self.refused("rlm_peek", rlm.NotFound, chunk_id=gone))
        self.assertIn("was purged", self.refused("rlm_restore", rlm.NotFound, chunk_id=gone))
        self.assertEqual(self.found("rlm_search", query="boxkämpfer") + self.found("rlm_list_chunks"), [])
        self.assertTrue(self.call("rlm_chunk", content=text).data["new"], "the text can be saved anew")

    def test_archive_and_purge_are_switched_apart(self) -> None:
        first = self.old("first é", 400)
        with days_ago(181):
            self.call("rlm_retention_run")
        second = self.old("second", 100)
        done = self.call("rlm_retention_run", archive=False, purge=True)
        self.assertEqual((done.data["archived"], done.data["purged"]), ([], [first]))
        done = self.call("rlm_retention_run", archive=False)
        self.assertEqual((done.data["n_archived"], done.data["n_purged"]), (0, 0))
        self.assertEqual(self.call("rlm_retention_run", archive="true").data["archived"], [second])

    def test_thresholds_come_from_the_settings(self) -> None:
        chunk_id = self.old("text", 10)
        self.call("rlm_peek", chunk_id=chunk_id)
        young = self.old("young é", 6)
        self.assertEqual(self.call("rlm_retention_preview").data["n_recent"], 2)
        rlm.write_config(self.places, {"archive_after_days": 7, "immune_uses": 1})
        preview = self.call("rlm_retention_preview").data
        self.assertEqual((preview["n_recent"], preview["immune"]), (1, {chunk_id: "1 uses"}))
        rlm.write_config(self.places, {"archive_after_days": 5, "purge_after_days": 0})
        self.assertEqual(self.call("rlm_retention_run").data["archived"], [young])
        self.assertEqual(self.call("rlm_retention_preview").data["purge"], [young])

    def test_a_wrong_threshold_names_the_file_and_the_remedy(self) -> None:
        rlm.write_config(self.places, {"archive_after_days": "soon"})
        message = self.refused("rlm_retention_preview")
        for part in (self.places.config(), "archive_after_days takes a whole number",
                     "config --unset archive_after_days"):
            self.assertIn(part, message)


if __name__ == "__main__":
    unittest.main()
