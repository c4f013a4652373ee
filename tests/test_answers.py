"""What a search prints: lines that answer, what is near the best, dates in the question, and what tools returned."""
from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import termios
import time
import unittest
from datetime import datetime
from typing import Any
from unittest import mock

from tests.support import HARD, PROGRAM, TempHome, bytecode, rlm
from tests.test_erase import OTHER, PADDING, call_of, line
from tests.test_scrub import SESSION, StoreCase

NOW = datetime(2026, 11, 28, 12).timestamp()  # a Saturday


def result_of(number: int, content: Any, session: str = SESSION, **more: Any) -> bytes:
    """A line with what the tool call before it returned."""
    block = {"type": "tool_result", "tool_use_id": f"toolu_{session[:4]}{number - 1}", "content": content}
    return line(number, "", session, message={"role": "user", "content": [block]}, **more)


class DatesTest(unittest.TestCase):
    def setUp(self) -> None:
        clock = mock.patch.object(rlm, "now", lambda: NOW)
        clock.start()
        self.addCleanup(clock.stop)

    def days(self, text: str) -> list[tuple[str, int]]:
        """The first day and the number of days of each date in the text."""
        return [(time.strftime("%Y-%m-%d", time.localtime(first)), round((behind - first) / 86400))
                for first, behind in rlm.spans_of(text)]

    def test_dates_are_read_in_three_languages(self) -> None:
        for day, texts in {
            "2026-05-17": ("what did we do on 17 May", "le 17 mai", "May 17th, again", "5月17日のこと"),
            "2024-01-17": ("on 17.01.2024", "2024年1月17日に", "17th of January, 2024", "Jan 17 2024?", "(2024-01-17)",
                           "le 17 janvier 2024", "17/01/2024"),
            "2025-12-03": ("on 3 December", "le 3 décembre"),
            "2026-11-27": ("what broke yesterday", "qu'avons-nous fait hier ?", "昨日の会議", "1 day ago", "on Friday",
                           "vendredi dernier", "金曜日", "il y a un jour"),
            "2026-11-26": ("the day before yesterday", "avant-hier", "two days ago", "2日前"),
            "2026-11-28": ("today", "aujourd\u2019hui", "今日"), "2026-11-21": ("a week ago", "on saturday", "il y a 7 jours"),
        }.items():
            for text in texts:
                self.assertEqual(self.days(text), [(day, 1)], text)
        for first, n_days, texts in (
                ("2026-11-16", 7, ("last week", "la semaine dernière", "先週")), ("2026-11-23", 7, ("this week", "今週")),
                ("2026-10-01", 31, ("in October", "last month", "le mois dernier", "en octobre", "October 2026", "先月")),
                ("2023-05-01", 31, ("May 2023", "mai 2023", "in may, 2023", "2023-05", "2023年5月")),
                ("2026-05-01", 31, ("in May", "en mai", "5月")), ("2025-01-01", 365, ("last year", "in 2025", "2025年", "去年"))):
            for text in texts:
                self.assertEqual(self.days(text), [(first, n_days)], text)
        self.assertEqual(self.days("between 3 May 2023 and 2023-06-01"), [("2023-06-01", 1), ("2023-05-03", 1)])

    def test_plain_words_and_other_numbers_are_no_dates(self) -> None:
        for text in ("how may I march on", "the may function", "a month of data", "mars la planète", "sum of 3 marches", "",
                     "version 1.2.2024.1", "10.0.0.1", "python 3.11", "error 2024-13-45", "31.02.2024", "port 8080",
                     "week days", "12345-01-01", "the last straw", "on the second", "decimal 5 decades ago", "日本",
                     "9999999999 days ago", "x" * 5000, "1" * 5000):
            self.assertEqual(self.days(text), [], text[:50])


class SearchCase(TempHome):
    def dated(self, text: str, days_ago: float, **more: Any) -> str:
        """Stores a chunk that was made then; its id."""
        with mock.patch.object(rlm, "now", lambda: NOW - days_ago * 86400):
            return self.chunk(text, **more)

    def search(self, query: str, **more: Any) -> rlm.Answer:
        with mock.patch.object(rlm, "now", lambda: NOW):
            return self.call("rlm_search", query=query, **more)

    def found(self, query: str, **more: Any) -> list[str]:
        return [hit["id"] for hit in self.search(query, **more).data["hits"]]


class DatedSearchTest(SearchCase):
    def test_what_is_of_the_time_comes_first_and_the_rest_is_not_hidden(self) -> None:
        best = self.dated("deploy, deploy and again deploy é", 40)
        then = self.dated("a deploy and some more words that stand beside it", 1)
        for _ in range(2):
            self.assertEqual(self.found("deploy", limit=9), [best, then])
            for query in ("deploy yesterday", "deploys on 27 November", "deploy 2026-11-27", "le deploy d'hier"):
                self.assertEqual(self.found(query, limit=9), [then, best], query)
            self.assertEqual(self.found("deploy in October", limit=9), [best, then])
            self.assertEqual(self.found("may deploy march on", limit=9), [best, then])
            rlm.index_now(self.view(), lambda *_: None)

    def test_the_days_after_count_too_and_less(self) -> None:
        days = [self.dated(f"we said {word} about the migration", ago)
                for word, ago in (("red", 30), ("green", 9), ("blue", 10), ("grey", 20))]
        self.assertEqual(self.found("the migration on 18 November", limit=2), [days[2], days[1]])

    def test_among_many_a_dated_one_is_not_cut_off(self) -> None:
        with mock.patch.object(rlm, "now", lambda: NOW - 90 * 86400):
            rows = [{"kind": "chunk", "text": f"deploy and deploy {n}"} for n in range(300)]
            rlm.import_batch(self.view(), rows, "test", rlm.Imported())
        then = self.dated("one deploy with a good many other words around it, as it happens", 2)
        rlm.index_now(self.view(), lambda *_: None)
        self.assertEqual(self.found("deploy two days ago")[0], then)


class AnswerTest(SearchCase):
    def test_the_line_that_decides_is_shown_and_the_first_hit_in_full(self) -> None:
        note = "\n".join(["Notes of the backups meeting é", "What did we decide about backups?",
                          "Decision: pgBackRest to S3, nightly.", *(f"filler {n}" for n in range(30)),
                          "the old backups are still there"])
        first = self.chunk(note)
        answer = self.search("what did we decide about backups")
        (hit,) = answer.data["hits"]
        self.assertEqual(hit["id"], first)
        self.assertIn("   3: Decision: pgBackRest to S3, nightly.", answer.text)
        self.assertNotIn("filler 9", answer.text)

    def test_hits_far_below_the_first_are_counted_unless_so_many_are_asked_for(self) -> None:
        self.chunk("the zebra crossing is painted tomorrow é", project="shop")
        for n in range(7):
            self.chunk(f"a zebra {n} among " + f"many other words {n} " * 40)
        answer = self.search("zebra crossing painted")
        self.assertEqual(len(answer.data["hits"]), 1)
        self.assertIn("(7 more, weaker: `limit=8`)", answer.text)
        for limit in (5, 8):
            answer = self.search("zebra crossing painted", limit=limit)
            self.assertEqual(len(answer.data["hits"]), limit)
            self.assertNotIn("weaker", answer.text)
        for shown, arguments in (("(7 more, weaker: `--limit 8`)", ()), ("5. [", ("--limit", "5"))):
            self.assertIn(shown, self.cli("search", "zebra", "crossing", "painted", *arguments).stdout.decode())

    def test_a_hit_says_how_much_of_the_question_it_has_and_explain_says_why(self) -> None:
        self.chunk("the zebra crossing is painted é")
        self.call("rlm_remember", content="zebra stripes", importance="critical")
        text = self.search("zebra crossing painted xylophone", limit=2).text
        self.assertRegex(text, r"(?m)^1\. .* ago · [1-9]\d?%\n")
        self.assertNotIn("score", text)
        first, second = (row for row in self.search("zebra crossing painted today", limit=2, explain=True).text.split("\n")
                         if ". [" in row)
        self.assertRegex(first, r"score (\d+\.\d\d): words \d+\.\d\d, their order \d+\.\d\d, time x2$")
        self.assertIn(", importance x1.1", second)
        self.assertIn("score", self.cli("search", "zebra", "--explain").stdout.decode())


class ReturnedTest(StoreCase):
    """What tools returned has one line in the saved text; all of it is in the copies."""

    def setUp(self) -> None:
        super().setUp()
        os.environ.pop("RLM_PROJECT")
        self.path = self.transcript(
            line(1, f"first question é {PADDING[0]}"), call_of(2, "Read", file_path="/x/recipe.txt"),
            result_of(3, f"one\nSix jaunes d'œuf, 95 °C {HARD}\nthree"), line(4, "done", said_by="assistant"),
            line(5, f"second question {PADDING[1]}"),
            call_of(6, "Write", file_path="/x/m.py", content="import pyvips\nprint(0o7)  # maxmemory_human"),
            result_of(7, [{"type": "text", "text": "File written"}]), line(8, "done too", said_by="assistant"))
        self.transcript(line(1, f"another é {PADDING[2]}", OTHER), call_of(2, "Bash", OTHER, command="ls"),
                        result_of(3, "one\ntwo maxmemory_human\nthree", OTHER), session=OTHER)
        self.assertEqual(self.cli("import").returncode, 0)

    def found(self, tool: str, **arguments: Any) -> list[dict[str, Any]]:
        """The places that the answer names, each of which peek reads."""
        answer = self.call(tool, **arguments)
        places = list(answer.data.get("returned", []))
        self.assertEqual(answer.failed, not places)
        for place in places:
            peeked = self.call("rlm_peek", chunk_id=place["id"])
            for row in place["lines"]:
                self.assertIn(row["text"].split("…")[0], peeked.verbatim.split("\n")[row["line"] - 1])
        return places

    def test_grep_and_search_find_it_where_the_saved_text_has_nothing(self) -> None:
        (place,) = self.found("rlm_grep", pattern="six JAUNES")
        self.assertEqual((place["session"], place["what"], place["lines"][0]["line"]), (SESSION, "result", 2))
        text = self.call("rlm_grep", pattern=r"six\s+jaunes").text
        self.assertRegex(text, rf"1\. \[\S+\] in a tool result of session {SESSION}, \d+\w+ ago\n   2: Six jaunes")
        self.assertEqual([each["what"] for each in self.found("rlm_grep", pattern="import pyvips")], ["call"])
        self.assertEqual([each["id"] for each in self.found("rlm_search", query="jaunes d'œuf")], [place["id"]])
        self.assertEqual(self.found("rlm_grep", pattern="nowhere_at_all"), [])
        self.assertEqual(self.found("rlm_search", query="nowhere_at_all"), [])

    def test_the_newest_come_first_within_limit_project_and_dates(self) -> None:
        both = [each["session"] for each in self.found("rlm_grep", pattern="maxmemory_human")]
        self.assertEqual(sorted(both), sorted([SESSION, OTHER]))
        self.assertEqual(len(self.found("rlm_grep", pattern="maxmemory_human", limit=1)), 1)
        for more in ({"project": "elsewhere"}, {"date_to": "2026-11-20"}, {"entity": "m.py"}, {"domain": "x"}):
            self.assertEqual(self.found("rlm_grep", pattern="maxmemory_human", **more), [], more)
        for more in ({"project": "shop"}, {"date_from": "2026-11-21"}):
            self.assertEqual(len(self.found("rlm_grep", pattern="maxmemory_human", **more)), 2, more)

    def test_a_shell_reads_the_place_and_exits_with_0(self) -> None:
        done = self.cli("grep", "Six jaunes")
        self.assertEqual(done.returncode, 0)
        place = done.stdout.decode().split("[")[1].split("]")[0]
        self.assertEqual(self.cli("peek", place + ":2").stdout.decode(), f"Six jaunes d'œuf, 95 °C {HARD}\n".split("\r")[0] + "\r\n")
        for wrong in ("nobody@nowhere", place + "0", "@", place.split("@")[0] + "@"):
            self.assertEqual(self.cli("peek", wrong).returncode, 1, wrong)

    def test_what_is_excluded_erased_or_forgotten_stays_hidden(self) -> None:
        (place,) = self.found("rlm_grep", pattern="Six jaunes")
        (doc,) = [each["id"] for each in self.call("rlm_grep", pattern="first question").data["hits"]]
        self.call("rlm_forget", insight_id=doc)
        self.assertEqual(self.found("rlm_grep", pattern="Six jaunes"), [])
        with self.assertRaises(rlm.NotFound):
            self.call("rlm_peek", chunk_id=place["id"])
        self.assertEqual(self.cli("forget", "--undo", doc).returncode, 0)
        self.assertEqual(len(self.found("rlm_grep", pattern="Six jaunes")), 1)
        rlm.write_config(self.places, {"exclude": ["shop"]})
        self.assertEqual(self.found("rlm_grep", pattern="Six jaunes"), [])
        rlm.write_config(self.places, {})
        self.assertEqual(self.cli("forget", "--erase", "--yes", doc).returncode, 0)
        self.assertEqual(self.found("rlm_grep", pattern="Six jaunes"), [])
        self.assertEqual(len(self.found("rlm_grep", pattern="import pyvips")), 1)

    def test_it_takes_bounded_time_and_says_so(self) -> None:
        with mock.patch.object(rlm, "LOOK_S", 0.0):
            answer = self.call("rlm_grep", pattern="Six jaunes")
        self.assertEqual((answer.failed, "older transcripts were not looked into" in answer.text), (True, True))

    def test_a_damaged_copy_stops_nothing(self) -> None:
        with open(self.places.transcript(OTHER), "r+b") as file:
            file.seek(20)
            file.write(b"\0" * 9)
        self.assertEqual(len(self.found("rlm_grep", pattern="Six jaunes")), 1)


class TerminalTest(TempHome):
    def on_a_terminal(self, n_columns: int, *arguments: str, **env: str) -> list[str]:
        """The lines that a terminal of that width is given."""
        master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, n_columns, 0, 0))
        with subprocess.Popen([*PROGRAM, *arguments], cwd=self.home, stdin=slave, stdout=slave, stderr=slave,
                              env={**os.environ, **bytecode(), "TERM": "xterm", **env}) as process:
            process.wait(30)
        shown = os.read(master, 1 << 16).decode().replace("\r\n", "\n")
        os.close(slave)
        os.close(master)
        return shown.split("\n")[:-1]

    def test_matches_are_bold_ids_and_ages_dim_and_lines_fit(self) -> None:
        self.chunk("The connections were reset after the deploys of yesterday evening, all of them \x1b[31m\n" + "接続の設定を見る" * 9,
                   summary="s é")
        self.call("rlm_remember", content="We deployed the connection pool on Tuesday " * 3)
        for command in (("search", "deploy connection 設定"), ("grep", "connection"), ("recall", "deploy")):
            shown = self.on_a_terminal(60, *command)
            plain = [re.sub(r"\x1b\[[012]m", "", line) for line in shown]
            self.assertFalse([line for line in plain if "\x1b" in line], command)
            self.assertFalse([line for line in plain if sum(1 + rlm.is_wide(char) for char in line) > 60], command)
            self.assertRegex("\n".join(shown), r"\x1b\[2m\[[^\]]+\]\x1b\[0m(?s:.)*\x1b\[2m\d+s ago\x1b\[0m", command)
            self.assertRegex("\n".join(shown), r"\x1b\[1m(?i:connection|deploy)", command)
            wanted = self.cli(*command).stdout.decode().replace("\x1b", "\\x1b").splitlines()
            self.assertEqual(*("".join(re.sub(r"\d+s ago|\s", "", line) for line in lines) for lines in (plain, wanted)))
        self.assertIn("\x1b[1m設定\x1b[0m", "".join(self.on_a_terminal(120, "search", "設定")))
        self.assertTrue(self.on_a_terminal(1, "search", "deploy connection 設定"))

    def test_nothing_of_it_where_it_is_not_wanted(self) -> None:
        self.chunk("The connections were reset after the deploys of yesterday evening, all of them é")
        wanted = self.cli("search", "deploy").stdout.decode().split("\n")[1:-1]
        self.assertNotIn("\x1b", "".join(wanted))
        for n_columns, env in ((40, {"NO_COLOR": "1"}), (40, {"TERM": "dumb"}), (0, {})):
            self.assertEqual(self.on_a_terminal(n_columns, "search", "deploy", **env)[1:], wanted)
        self.assertNotIn("\x1b", "".join(self.on_a_terminal(40, "search", "deploy", "--json")))


if __name__ == "__main__":
    unittest.main()
