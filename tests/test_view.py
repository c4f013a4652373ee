"""A page and a picture of the memory: nothing stored is more than text in them, and nothing of others is in them."""
from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import stat
import unittest
from typing import Any
from unittest import mock
from urllib.parse import quote

from tests import demo
from tests.support import ROOT, InProcess, rlm

# What is stored by somebody who wants to get out of the page, or to deceive who reads it.
EVIL = ('</script><script>document.title="owned"</script><!-- <img src=x onerror=alert(1)> &lt; {{data}} {{policy}} '
        'safe \u202egpj.exe\u202c \u200b\u2028\u2029 \x1b]0;title\x07 nul:\0 tag:\U000e0041\U000e0042 "quoted" \'single\' \\')
DAY_1 = rlm.epoch_of("2026-11-20T12:00:00")
TURNS = ("## User · 2026-11-20 09:15 UTC\nWhy is « Éclair » sorted last?\n\n## Claude\nBecause of code points.\n"
         "- Bash `npm test -- tri` → ok: 12 passed\nIt uses Intl.Collator now: 並べ替え.")


class ViewCase(InProcess):
    """A store, its page, and what is in the page."""

    def page(self, *options: str, code: int = 0) -> str:
        """The page, as a file that was made has it."""
        path = os.path.join(self.home, "page.html")
        told = self.main("view", path, *options)
        self.assertEqual(told[0], code, told[1])
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()

    def data(self, *options: str) -> Any:
        """What the page shows, out of the page."""
        found = re.findall('<script type="application/json" id="data">(.*?)</script>', self.page(*options), re.DOTALL)
        self.assertEqual(len(found), 1)
        return json.loads(found[0])

    def memory(self, wanted: str, *options: str) -> Any:
        """A memory as the page has it."""
        return next(each for each in self.data(*options)["memories"] if each["id"] == wanted)

    def remember(self, content: str, **arguments: Any) -> str:
        return str(self.call("rlm_remember", content=content, **arguments).data["id"])


class PageTest(ViewCase):
    def test_what_is_stored_can_not_leave_the_json_and_comes_out_of_it_as_it_went_in(self) -> None:
        chunk, insight = self.chunk(EVIL, tags="<b>"), self.remember(EVIL + "\ud800")
        empty = rlm.PAGE.count("<"), rlm.PAGE.count(">")
        page = self.page()
        self.assertEqual((page.count("<"), page.count(">")), empty)
        self.assertNotRegex(page, "[\u2028\u2029]")
        self.assertEqual(self.memory(chunk)["text"], EVIL)
        self.assertEqual(self.memory(insight)["text"], EVIL + "\ud800")
        self.assertEqual(self.memory(chunk)["tags"], ["<b>"])

    def test_the_browser_is_told_to_run_its_own_script_only_and_to_fetch_nothing(self) -> None:
        page = self.page()
        found = re.search('Content-Security-Policy" content="(.*?)"', page)
        assert found
        for tag in ("style", "script"):
            source = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
            made = base64.b64encode(hashlib.sha256(source[0].encode()).digest()).decode()
            self.assertEqual((len(source), found[1].count(f"{tag}-src 'sha256-{made}'")), (1, 1))
        self.assertTrue(found[1].startswith("default-src 'none'; base-uri 'none'; form-action 'none'"))
        self.assertEqual(re.findall(r"unsafe-|innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|https?://|url\(|@import", page), [])

    def test_the_file_is_for_its_owner_and_stands_beside_the_memory_unless_a_name_is_given(self) -> None:
        code, told = self.main("view")
        self.assertEqual(code, 0)
        self.assertIn("only you can read it", told)
        self.assertIn("file://" + rlm.Places().memory.replace(" ", "%20").replace("é", "%C3%A9"), told)
        self.assertEqual(stat.S_IMODE(os.stat(self.places.view()).st_mode), 0o600)
        code, told = self.main("view", "-")
        self.assertEqual((code, told.startswith("<!doctype html>"), told.endswith("</html>\n")), (0, True, True))

    def test_no_file_of_others_is_overwritten(self) -> None:
        path = os.path.join(self.home, "page.html")
        with open(path, "w", encoding="utf-8") as file:
            file.write("<html>mine</html>")
        self.assertEqual(self.main("view", path)[0], 2)
        self.assertEqual(rlm.read_file(path), b"<html>mine</html>")
        self.assertEqual(self.main("view", path, "--force")[0], 0)
        self.assertEqual(self.main("view", path)[0], 0)  # it is ours now
        self.assertEqual(self.main("view", self.home, "--force")[0], 2)
        self.assertEqual(self.main("view", os.path.join(self.home, "no", "page.html"))[0], 1)
        self.assertEqual(self.main("view", path, "--limit", "0")[0], 2)

    def test_a_page_of_one_project_names_no_other(self) -> None:
        secret = {"RLM_PROJECT": "othercorp"}
        with mock.patch.dict(os.environ, secret):
            other, other_chunk = self.remember("about othercorp"), self.chunk("othercorp said", domain="othercorp")
        own = self.remember("about us", category="decision")
        self.call("rlm_link", members=f"{own} new, {other} old", label="supersedes")
        rlm.note_injected(self.places, session="s", project="othercorp", ids=[other], n_bytes=40, score=.5, reason="othercorp")
        rlm.note_injected(self.places, session="s", project="test", ids=[own, other], n_bytes=40, score=.5, reason="words")
        rlm.note_injected(self.places, session="t", project="othercorp", ids=[own], n_bytes=40, score=.5, reason="words")
        later: Any = {"cited": [own, other]}
        rlm.note_injected(self.places, session="s", project="test", ids=[], n_bytes=0, score=0, reason="", named=later)
        self.assertEqual(len(self.data()["injected"]), 3)
        page = self.page("--project", "test")
        for name in ("othercorp", other, other_chunk, rlm.to_json(self.home)[1:-1]):
            self.assertNotIn(name, page)
        self.assertIn(own, page)
        data = self.data("--project", "test")
        self.assertEqual([row["uses"] for row in data["injected"]], [{own: 0}])
        self.assertEqual((data["total"], data["notes"]), (1, []))  # a hidden link is no memory that was left out
        self.assertEqual(self.main("view", "--project", "nobody")[0], 1)

    def test_a_store_with_runs_only_is_not_empty(self) -> None:
        self.assertEqual(self.main("view", "--json")[0], 1)
        rlm.ensure_folder(self.places.runs())
        rlm.Trace(self.places.run("r-1")).add(0, "run", question="how many?", names=[])
        self.assertEqual(self.main("view", "--json")[0], 0)

    def test_a_damaged_run_costs_no_page_and_no_list(self) -> None:
        rlm.ensure_folder(self.places.runs())
        for name, event in (("up", {"up": None}), ("spent", {"spent": 7}), ("end", {"kind": "end", "up": 1, "answer": "x"})):
            trace = rlm.Trace(self.places.run(name))
            trace.add(0, "run", question="how many?", names=[])
            with open(self.places.run(name), "a", encoding="utf-8") as file:
                file.write(json.dumps({"n": 2, "up": 1, "kind": "note", "at": rlm.stamp(DAY_1), **event}) + "\n")
        self.assertEqual({row["run"] for row in self.data()["runs"]}, {"up", "spent"})
        self.assertEqual({row["run"] for row in self.call("rlm_trace").data["runs"]}, {"up", "spent"})

    def test_what_is_excluded_or_forgotten_is_not_in_it(self) -> None:
        with mock.patch.dict(os.environ, {"RLM_PROJECT": "hidden"}):
            self.remember("excluded")
        self.main("config", "exclude", "hidden")
        self.call("rlm_forget", insight_id=self.remember("forgotten"))
        self.assertEqual(self.data()["memories"], [])

    def test_links_replacements_ratings_files_and_zones_are_told(self) -> None:
        old, new = self.remember("deploy any day"), self.remember("never on Fridays")
        link = self.call("rlm_link", members=f"{new} new, {old} old", label="supersedes").data["id"]
        self.call("rlm_feedback", ids=new, rating="helpful")
        self.assertEqual(self.memory(old)["superseded_by"], [new])
        self.assertEqual(self.memory(new)["superseded_by"], [])
        self.assertEqual(self.memory(new)["links"][0], {"id": link, "label": "supersedes", "members": [[new, "new"], [old, "old"]]})
        self.assertEqual((self.memory(new)["n_helpful"], self.memory(new)["n_rated"]), (1, 1))
        with mock.patch.object(rlm, "now", return_value=rlm.now() - 40 * rlm.DAY_S):
            kept, going = self.chunk("kept", tags="keep"), self.chunk("going")
        zones = {each["id"]: (each["zone"], each.get("zone_why")) for each in self.data()["memories"]}
        self.assertEqual((zones[kept], zones[going]), (("immune", "tag"), ("archive next", None)))
        self.call("rlm_retention_run")
        self.assertEqual(self.memory(going)["zone"], "archived")
        self.assertEqual(self.memory(going)["text"], "going")

    def test_a_conversation_is_under_its_session_with_the_newest_first(self) -> None:
        with mock.patch.dict(os.environ, CLAUDE_CODE_SESSION_ID="3c57c232"):
            ids = [self.chunk(f"{TURNS} {n}") for n in range(2)]
        found = self.data()
        self.assertEqual([row["session"] for row in found["sessions"]], ["3c57c232"])
        self.assertEqual({each["id"] for each in found["memories"]}, set(ids))
        self.assertEqual({each["session"] for each in found["memories"]}, {"3c57c232"})

    def test_what_does_not_fit_is_counted_and_insights_stay(self) -> None:
        chunk, insight = self.chunk("long\n" * 2_000), self.remember("short")
        self.assertRegex(self.memory(chunk)["text"], r"\[cut: 10,000 characters in all, [\d,]+ shown; `rlm peek " + chunk)
        with mock.patch.object(rlm, "PAGE_BYTES", 5_000):
            self.assertEqual((self.memory(chunk)["text"], self.memory(insight)["text"]), ("", "short"))
            self.assertIn("1 older chunks", "".join(self.data()["notes"]))
        self.assertEqual([each["id"] for each in self.data("--limit", "1")["memories"]], [insight])
        self.assertIn("newest 1 of 2", "".join(self.data("--limit", "1")["notes"]))
        self.assertEqual(len(self.data("--since", "2d")["memories"]), 2)

    def test_no_page_is_larger_than_fifteen_megabytes_and_texts_give_way_before_memories(self) -> None:
        row = {"id": "2026-11-20_project_0001", "kind": "chunk", "text": "x<" * 1_000, "summary": "s" * 200,
               "created_at": "2026-11-20T09:15:00.000Z", "session": "3c57c232-d4a0-4b3f-a780-c76246539c7a", "tags": []}
        session = {"session": row["session"], "title": "t", "chunks": []}
        for summary, n_there in (("s" * 200, 10_000), ("<" * 400, 2_500)):
            rows = [{**row, "summary": summary} for _ in range(10_000)]
            with mock.patch.object(rlm, "memory_rows", return_value=rows), \
                    mock.patch.object(rlm.Sessions, "row", return_value=session):
                data = json.loads(self.main("view", "--json")[1])
                self.assertLess(len(self.page().encode()), 15_000_000)
            self.assertGreaterEqual(len(data["memories"]), n_there)
            self.assertEqual((data["memories"][0]["text"], data["memories"][-1]["text"]), (row["text"], ""))

    def test_a_run_is_a_tree_of_lines_with_its_cost(self) -> None:
        rlm.ensure_folder(self.places.runs())
        trace = rlm.Trace(self.places.run("r-1"))
        trace.add(0, "run", question="how many?", names=[])
        for n in range(3):
            trace.add(1, "proposal", tool="rlm_remember", content=f"line {n}")
        trace.add(1, "end", status="answered", answer="42", reason="", notes=[],
                  spent={"calls": 1, "tokens": 10, "seconds": 1.5, "dollars": 0.5})
        with mock.patch.object(rlm, "PAGE_EVENTS", 2):
            row = self.data()["runs"][0]
        self.assertEqual((row["question"], row["answer"], row["spent"]["dollars"], row["n_left_out"]), ("how many?", "42", .5, 3))
        self.assertEqual([(each["up"], each["kind"], each["line"]) for each in row["events"]],
                         [(0, "run", "how many?"), (1, "proposal", "line 0")])

    def test_a_number_that_json_does_not_know_makes_no_broken_page(self) -> None:
        made = self.remember("x")
        with open(self.places.injected(), "w", encoding="utf-8") as file:
            file.write(f'{{"at":"2026-11-20T09:15:00Z","ids":["{made}"],"bytes":1,"score":NaN}}\n')
        self.assertEqual(self.data()["injected"][0]["score"], None)

    def test_data_for_programs_is_what_the_page_has_and_writes_nothing(self) -> None:
        self.remember("x")
        code, told = self.main("view", os.path.join(self.home, "none.html"), "--json")
        self.assertEqual((code, json.loads(told)["memories"]), (0, self.data()["memories"]))
        self.assertFalse(os.path.exists(os.path.join(self.home, "none.html")))

    def test_the_page_beside_the_memory_goes_when_something_is_erased_or_scrubbed(self) -> None:
        made = self.remember("never happened")
        rlm.ensure_folder(self.places.runs())
        rlm.Trace(self.places.run("r-1")).add(0, "run", question="where is zanzibar?", names=[])
        with mock.patch.object(rlm, "redact", lambda text: text):
            self.remember("token ghp_" + "k3Jd8sLq0PzXc7Vb2NmA9wErTy5UiOp1GhFd")
        for erasing in (["forget", "--erase", "--yes", "--query", "zanzibar"], ["scrub"],
                        ["forget", "--erase", "--yes", made]):
            self.assertEqual(self.main("view")[0], 0)
            self.assertIn(b"never happened", rlm.read_file(self.places.view()))
            self.assertEqual(self.main(*erasing)[0], 0, erasing)
            self.assertFalse(os.path.exists(self.places.view()), erasing)
        self.assertTrue(re.fullmatch(rlm.STORE_FILES, "view.html"))  # uninstall --all takes it along


# What a test does in the page: it presses keys, types, looks, and leaves what it saw as the page's only text.
DRIVER = """
const told = {}, wait = () => new Promise(done => setTimeout(done, 50));
const press = async key => {
  document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
  await wait();
};
const type = async text => { $("q").value = text; $("q").dispatchEvent(new Event("input")); await wait(); };
const titles = () => rows().map(each => each.querySelector(".title").textContent);
const shown = id => !!$(id).offsetParent && $(id).innerText;
addEventListener("error", event => { told.error = event.message; });
(async () => {
%s
})().catch(error => { told.error = String(error); }).finally(() => {
  document.body.textContent = "TOLD" + JSON.stringify(told) + "END";
});
"""


@unittest.skipUnless(demo.CHROMIUM, "needs Chromium")
class BrowserTest(ViewCase):
    """The page in a real browser, without a window."""

    def shown(self, where: str = "", script: str = "") -> str:
        """The page's elements once it is drawn."""
        with mock.patch.object(rlm, "PAGE", rlm.PAGE.replace("</script>\n</body>", script + "</script>\n</body>")):
            self.page()
        path = os.path.join(self.home, "page.html")
        dom = demo.browser("--dump-dom", "--virtual-time-budget=20000", f"file://{quote(path)}#{where}")
        if "<html" not in dom:
            self.skipTest("Chromium does not start here")
        return dom

    def driven(self, steps: str) -> Any:
        """What the steps saw."""
        found = re.search("TOLD(.*)END", self.shown(script=DRIVER % steps), re.DOTALL)
        assert found, "the steps did not come to their end"
        return json.loads(html.unescape(found[1]))

    def test_what_is_stored_is_text_and_what_nobody_sees_is_marked(self) -> None:
        self.remember(EVIL, category="decision")
        self.chunk(f"## User\n{EVIL}", summary=EVIL, tags="<i>")
        dom = self.shown("q=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&view=constructor&only=__proto__&id=toString")
        self.assertRegex(dom, 'data-ready="[0-9]+"')
        self.assertIn("<title>rlm memory</title>", dom)
        body = dom.partition("<main")[2].partition("<script")[0]
        self.assertNotIn("<img", body)
        for mark in ("U+202E", "U+202C", "U+200B", "U+001B", "U+0000", "U+E0041 and 1 more"):
            self.assertIn(f">{mark}</span>", body)
        self.assertIn("&lt;/script&gt;", body)
        self.assertEqual(re.findall("[\u202e\u200b\U000e0041]", body), [])

    def test_a_reader_searches_moves_opens_and_filters_by_keys(self) -> None:
        with mock.patch.dict(os.environ, CLAUDE_CODE_SESSION_ID="3c57c232"):
            self.chunk(TURNS)
        old, new = self.remember("Éclair vor Zeste"), self.remember("予約の時刻はUTCで保存する", category="decision")
        self.call("rlm_link", members=f"{new} new, {old} old", label="supersedes")
        with self.places_with_many():
            told = self.driven("""
            told.atFirst = rows().length;
            $("list").querySelector(".rest").click();
            told.later = rows().length;
            await press("/"); told.isSearching = document.activeElement === $("q");
            await type("ECLAIR zeste"); told.folded = titles(); told.marked = document.querySelectorAll(".title mark").length;
            await type("予約"); told.japanese = titles();
            await type("insight 7 nothing"); told.nothing = [rows().length, shown("list")];
            await type("eclair"); document.activeElement.blur();
            await press("j"); document.activeElement.click(); await wait(); told.opened = shown("detail");
            await press("Escape"); told.closed = shown("detail");
            await press("Escape"); told.cleared = state.q;
            await press("?"); told.help = [$("help").open]; $("help").querySelector("button").click(); await wait();
            told.help.push($("help").open);
            go({id: rows()[0].dataset.id}); await press("/"); await type("x");
            told.typing = [document.activeElement === $("q"), state.id]; await press("Escape"); await press("Escape");
            await press("2"); told.decisions = titles();
            $("only").value = "replaced"; $("only").dispatchEvent(new Event("change")); await wait();
            await press("1"); told.replaced = titles();
            go({id: "3c57c232"}); await wait(); told.session = shown("detail");
            await press("t"); told.theme = getComputedStyle(document.body).backgroundColor;
            await press("8"); told.store = shown("list");
            """)
        self.assertNotIn("error", told)
        self.assertEqual((told["atFirst"] <= 120, told["later"] > told["atFirst"]), (True, True))
        self.assertEqual((told["isSearching"], told["folded"], told["marked"]), (True, ["Éclair vor Zeste"], 2))
        self.assertEqual((told["japanese"], told["nothing"][0]), (["予約の時刻はUTCで保存する"], 0))
        self.assertIn("rlm search", told["nothing"][1])
        self.assertRegex(told["opened"], f"(?s)Éclair vor Zeste.*Superseded by.*{new}")
        self.assertEqual((told["closed"], told["cleared"]), (False, ""))
        self.assertEqual((told["help"], told["typing"]), ([True, False], [True, ""]))
        self.assertEqual((told["decisions"], told["replaced"]), (["予約の時刻はUTCで保存する"], ["Éclair vor Zeste"]))
        self.assertRegex(told["session"], "(?s)User.*09:15.*sorted last.*Claude.*npm test.*並べ替え")
        self.assertEqual(told["theme"], "rgb(252, 251, 249)")
        self.assertRegex(told["store"], "(?s)Damage.*none.*Retention zones.*active")

    def test_a_date_in_the_future_does_not_hide_the_picture_of_days(self) -> None:
        for at_s in (rlm.now() - 5 * rlm.DAY_S, rlm.now(), rlm.epoch_of("9999-12-31T12:00:00")):
            with mock.patch.object(rlm, "now", return_value=at_s):
                self.remember(f"at {at_s}")
        self.assertIn('class="days"', self.shown())

    def places_with_many(self) -> Any:
        """A patch under which a page has 300 insights more."""
        rows = rlm.memory_rows

        def more(view: Any, *rest: Any) -> Any:
            yield from rows(view, *rest)
            for n in range(300):
                yield {"id": f"i-{n}", "kind": "insight", "category": "fact", "text": f"insight {n}", "project": "many",
                       "created_at": rlm.stamp(DAY_1 - n * 3600), "tags": [], "importance": "medium"}

        return mock.patch.object(rlm, "memory_rows", more)


class TimelineTest(ViewCase):
    """Days and projects in characters."""

    def test_the_picture_is_as_worked_out_by_hand(self) -> None:
        def of(memories: int, decisions: int = 0, failures: int = 0) -> dict[str, int]:
            return {"memories": memories, "decisions": decisions, "failures": failures}

        days = [f"2026-11-{day:02}" for day in range(1, 11)]
        counts = {"予約": {days[0]: of(8), days[1]: of(1), days[9]: of(4, decisions=1)}, "shop": {days[2]: of(5, 1, 1)}}
        self.assertEqual(rlm.timeline_text(days, counts, 80), [
            "      11-01  11-08",
            "予約  █▁·······▄ 13\n               ◆",
            "shop  ··▅······· 5\n        ✗",
            "", "2026-11-01 to 2026-11-10, 1 day a column; █ 8 memories, ◆ decision, ✗ failure"])
        years = [f"{2000 + n // 336}-{n // 28 % 12 + 1:02}-{n % 28 + 1:02}" for n in range(672)]  # 10 a column
        self.assertEqual(rlm.timeline_text(years, {"shop": {years[0]: of(1)}}, 84)[0],
                         "      2000-01-01    2000-06-01    2000-11-01    2001-04-01    2001-09-01")
        # Narrow: 7 columns at least, so two days share one: 8+1, 4 of 9; 5 of 9.
        narrow = rlm.timeline_text(days, counts, 20)
        self.assertEqual([line.partition("\n")[0] for line in narrow[1:3]], ["予約  █···▄ 13", "shop  ·▅··· 5"])
        self.assertIn("2 days a column; █ 9 memories", narrow[-1])

    def test_wide_and_combining_characters_keep_the_columns(self) -> None:
        self.assertEqual([rlm.n_columns_of(text) for text in ("shop", "予約", "e\u0301", "")], [4, 4, 1, 0])
        counts = {name: {"2026-11-01": {"memories": 1}} for name in ("予約サイト", "e\u0301t\u00e9", "shopkeeper")}
        for width, names in ((20, ["予約…", "e\u0301té  ", "shop…"]), (24, ["予約… ", "e\u0301té   ", "shopk…"])):
            self.assertEqual(rlm.timeline_text(["2026-11-01"], counts, width)[1:4], [f"{name}  █ 1" for name in names])

    def test_projects_and_days_with_what_was_decided_and_what_failed(self) -> None:
        self.assertEqual(self.main("timeline"), (1, "Nothing is stored yet.\n"))
        with mock.patch.object(rlm, "now", return_value=DAY_1 - 2 * rlm.DAY_S):
            self.remember("never on Fridays\x1b[2J", category="decision")
            with mock.patch.dict(os.environ, RLM_PROJECT="予約サイト"):
                self.call("rlm_capture", summary="did not work", task_type="bugfix", outcome="failure")
        with mock.patch.object(rlm, "now", return_value=DAY_1):
            self.chunk("one")
            code, told = self.main("timeline")
            data = json.loads(self.main("timeline", "--json")[1])
            self.assertEqual(self.main("timeline", "--since", "1d", "--project", "nobody")[0], 1)
            self.assertEqual(len(json.loads(self.main("timeline", "--since", "1d", "--json")[1])["projects"]), 1)
            self.assertEqual(self.main("timeline", "--since", "soon")[0], 2)
        self.assertEqual((code, "\x1b" in told), (0, False))
        self.assertEqual(told.split("\n")[:5], ["            11-18", "test        █·█ 2", "            ◆",
                                                "予約サイト  █·· 1", "            ✗"])
        self.assertRegex(told, r"◆ 2026-11-18 never on Fridays.*\[i-")
        self.assertEqual(data["projects"][0], {"project": "test", "days": {
            "2026-11-20": {"memories": 1}, "2026-11-18": {"memories": 1, "decisions": 1}}})
        self.assertEqual({each["what"] for each in data["marked"]}, {"decisions", "failures"})

    def test_the_picture_in_readme_is_that_of_the_demo(self) -> None:
        with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
            shown = re.findall(r"```text\n\$ rlm timeline\n(.*?)```", file.read(), re.DOTALL)[0]
        with demo.sealed(), mock.patch.dict(os.environ, RLM_HOME=self.home):
            demo.fill(self.home)
            with mock.patch.object(rlm, "now", return_value=demo.NOW_S):
                told = self.main("timeline")[1]
        told, shown = (re.sub(r"\b[ei]-[0-9a-f]{8}", "ID", text) for text in (told, shown))
        self.assertEqual(told[: len(shown)], shown)
        for name in os.listdir(demo.PICTURES):
            self.assertLess(os.path.getsize(os.path.join(demo.PICTURES, name)), 200_000)


if __name__ == "__main__":
    unittest.main()
