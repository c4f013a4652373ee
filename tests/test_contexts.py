"""Texts larger than a window: a Text is a str to whoever reads it; contexts, their parts, filters and tools."""
from __future__ import annotations

import codecs
import gzip
import json
import os
import random
import re
import shutil
import subprocess
import tempfile
import time
import unittest
import unittest.mock
from collections.abc import Iterator

from tests.support import HARD, InProcess, days_ago, rlm, started

SEED = int(os.environ.get("RLM_TEST_SEED") or random.randrange(1 << 30))
# What a text may be made of, and bytes that are no UTF-8 on their own.
ALPHABETS = ("ab\n", "aé\n", "aé日\U0001f600\n ", "ab é日\U0001f600\n\r\x85x", "a", "aaaaaaaaaaaab\n")
BROKEN = (0x80, 0xBF, 0xC3, 0xE6, 0xF0, 0xFF)
NEEDLES = ("a", "b\n", "é", "日", "ab", "aa", "aba", "\udc80", "\udcc3\udc80", "\ud800", "no such thing")
# None of these looks further than a few characters.
PATTERNS = (r"a+", r"\bé\w*", r"^a", r"(?m)^a.*$", r"日.", r"a\n", r"(?<=a)b", r"$", r"a|b", r"\Z", r"(a)|(b)", r"x*", r"\A\w")


def text_of(raw: bytes, kind: type[rlm.Text] = rlm.Text) -> rlm.Text:
    """The bytes in a file without a name, as a Text."""
    file = tempfile.TemporaryFile()
    file.write(raw)
    file.flush()
    text = kind(file.fileno(), "t")
    text.file = file  # it lives as long as the text
    return text


class TextTest(unittest.TestCase):
    def shortDescription(self) -> str:  # told beside a test that fails
        return f"RLM_TEST_SEED={SEED}"

    def drawn(self, rng: random.Random) -> tuple[str, rlm.Text]:
        """A str, and the same as a Text whose blocks and windows are small enough that everything crosses one."""
        class Small(rlm.Text):
            BLOCK, WINDOW = rng.choice([5, 7, 16]), rng.choice([9, 16, 40, 200])
            REACH, LONG_LINE = rng.choice([48, 64]), rng.choice([201, 1 << 24])

        raw = bytearray("".join(rng.choices(rng.choice(ALPHABETS), k=rng.randrange(300))).encode())
        for _ in range(rng.choice([0, 0, 1, 6])):
            raw.insert(rng.randrange(len(raw) + 1), rng.choice(BROKEN))
        return bytes(raw).decode("utf-8", "surrogateescape"), text_of(bytes(raw), Small)

    def each(self, n: int = 60) -> Iterator[tuple[random.Random, str, rlm.Text]]:
        for i in range(n):
            rng = random.Random(f"{SEED}-{i}")
            string, text = self.drawn(rng)
            yield rng, string, text
            text.file.close()

    def test_slices_are_those_of_a_str(self) -> None:
        for rng, string, text in self.each():
            self.assertEqual((len(text), text[:], bool(text)), (len(string), string, bool(string)))
            for _ in range(20):
                i, j = rng.randrange(-5, len(string) + 5), rng.choice([None, rng.randrange(-5, len(string) + 5)])
                step = rng.choice([None, 1, 2, 3, 50, 1000, -1, -2, -7])
                self.assertEqual(text[i:j:step], string[i:j:step], (i, j, step))
                if -len(string) <= i < len(string):
                    self.assertEqual(text[i], string[i])
            self.assertRaises(IndexError, text.__getitem__, len(string))

    def test_walks_give_all_of_it(self) -> None:
        for _, string, text in self.each():
            self.assertEqual("".join(text), string)
            self.assertEqual("".join(text.parts(7)), string)
            self.assertEqual([part[2:] if i else part for i, part in enumerate(text.parts(9, 2))],
                             [string[:9], *(string[i : i + 7] for i in range(9, len(string), 7))] if string else [])
            lines = string.split("\n")[: -1 if string.endswith("\n") or not string else None]
            if all(len(line.encode("utf-8", "surrogateescape")) < text.LONG_LINE for line in lines):
                self.assertEqual(list(text.lines()), lines)
            self.assertEqual("".join(text.lines()), "".join(lines))
            self.assertTrue(text == string and text != string + "x" and text == text)

    def test_what_is_looked_for_is_found_where_a_str_finds_it(self) -> None:
        for rng, string, text in self.each():
            n = len(string)
            for needle in NEEDLES:
                spans = [(), (rng.randrange(-3, n + 1),), (rng.randrange(n + 1), rng.randrange(-3, n + 3))]
                self.assertEqual((text.startswith(needle), text.endswith(needle)), (string.startswith(needle), string.endswith(needle)))
                for name in ("find", "count"):
                    for span in spans:
                        self.assertEqual(getattr(text, name)(needle, *span), getattr(string, name)(needle, *span),
                                         (name, needle, span))
                self.assertEqual(needle in text, needle in string)
            self.assertEqual((text.find(""), text.count("")), (0, n + 1))
            self.assertEqual(text.startswith(("q", string[:3])), True)

    def test_regexes_match_where_they_match_in_a_str(self) -> None:
        for _, string, text in self.each():
            for pattern in PATTERNS:
                long = any(len(match[0].encode("utf-8", "surrogateescape")) > 40 for match in re.finditer(pattern, string))
                if not long:
                    self.assertEqual([(m.span(), m.group(), m.groups()) for m in text.finditer(pattern)],
                                     [(m.span(), m.group(), m.groups()) for m in re.finditer(pattern, string)], pattern)
        text = text_of(b"one two")
        found = list(text.finditer("(?i)T(W)|(x)"))
        text.file.close()
        self.assertEqual((found[0][1], found[0].start(1), found[0].span(2), found[0].re.groups), ("w", 5, (-1, -1), 2))

    def test_a_file_that_shrinks_or_changes_gives_less_and_raises_nothing(self) -> None:
        for rng, _, text in self.each(40):
            n_left = rng.randrange(text.size + 1)
            if rng.random() < 0.5:
                os.ftruncate(text.file.fileno(), n_left)
            else:
                os.pwrite(text.file.fileno(), bytes(rng.choices(BROKEN, k=text.size - n_left)), n_left)
            text[3:200], text[::-1], text[::3], "".join(text), list(text.lines()), list(text.parts(7))
            for needle in ("a", "aa", "é", "\udc80"):
                text.find(needle), text.count(needle)
            list(text.finditer("a+|$"))

    def test_it_reads_through_a_function_too(self) -> None:
        raw = "aé日\n".encode() * 9
        self.assertEqual(rlm.Text(lambda n, offset: raw[offset : offset + n], size=len(raw))[:], raw.decode())

    def test_what_it_does_not_offer_it_says(self) -> None:
        class Small(rlm.Text):
            LIMIT = 10

        text = text_of(b"x" * 11, Small)
        for use, error, words in ((lambda: text[:], MemoryError, "11 characters"), (lambda: text.upper(), AttributeError, "slice"),
                                  (lambda: text.nonsense, AttributeError, "no .nonsense$")):
            with self.assertRaisesRegex(error, words):
                use()
        self.assertIn("11 characters", f"{text}")
        text.file.close()


class ContextCase(InProcess):
    def file(self, name: str, text: str | bytes) -> str:
        """Writes a file in the home; its path."""
        path = os.path.join(self.home, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))
        return path

    def load(self, text: str | bytes, name: str = "t", suffix: str = ".txt") -> str:
        """Makes a context of a file with this text; the path."""
        path = self.file(name + suffix, text)
        self.call("rlm_load", path=path, name=name)
        return path

    def peek(self, wanted: str) -> str:
        return self.call("rlm_peek", chunk_id=wanted).verbatim or ""

    def whole(self, name: str) -> str:
        """All of a context's text, as the sandbox of a REPL would see it."""
        with rlm.open_context(self.places, name) as opened:
            return opened.text[:]

    def stored(self) -> dict[str, bytes]:
        """What is in contexts/, by name."""
        folder = self.places.contexts()
        return {name: rlm.read_file(os.path.join(folder, name)) for name in rlm.listing(folder)}

    def refused(self, error: type[rlm.RlmError], words: str, tool: str = "rlm_load", **arguments: object) -> None:
        before = self.stored()
        with self.assertRaisesRegex(error, words):
            self.call(tool, **arguments)
        self.assertEqual(self.stored(), before)


class LoadTest(ContextCase):
    def test_a_plain_file_is_referenced_and_nothing_of_it_is_stored(self) -> None:
        text = f"{HARD} PEEKABOO\n" * 40 + "no end"
        self.load(text)
        self.assertEqual(list(self.stored()), ["t.json"])
        self.assertNotIn(b"PEEKABOO", b"".join(self.stored().values()))
        self.assertEqual((self.whole("t"), self.peek("t")), (text, text))
        data = self.call("rlm_inspect", name="t").data
        self.assertEqual((data["n_bytes"], data["n_chars"], data["n_lines"]),
                         (len(text.encode()), len(text), rlm.line_count(text)))
        for mode in (os.stat(self.places.contexts()), os.stat(self.places.context("t"))):
            self.assertEqual(mode.st_mode & 0o077, 0)

    def test_what_is_no_plain_text_file_is_unpacked_and_redacted(self) -> None:
        key = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEow" * 40 + "\n-----END RSA PRIVATE KEY-----"
        secret = "ghp_" + "x7Kp2mQ9" * 4 + "Zt3a"
        text = f"{HARD}\ntoken {secret}\n<private>\nmy diary\n</private>\n{key}\nend\n"
        path = self.file("a.log.gz", gzip.compress(text.encode()))
        self.call("rlm_load", path=path, name="packed")
        self.call("rlm_load", path=self.file("w.txt", codecs.BOM_UTF16_LE + text.encode("utf-16-le")), name="wide")
        self.assertEqual(self.cli("load", "-", "--name", "piped", stdin=text.encode()).returncode, 0)
        self.call("rlm_load", content=text, name="given")
        for name in ("packed", "wide", "piped", "given"):
            seen = self.whole(name)
            for hidden in (secret, "diary", "MIIEow"):
                self.assertNotIn(hidden, seen, name)
            self.assertTrue(seen.startswith(HARD) and seen.endswith("\nend\n"), name)
            self.assertEqual(os.stat(self.places.context_text(name)).st_mode & 0o077, 0)

    def test_a_secret_that_lies_across_two_blocks_is_redacted(self) -> None:
        key = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEow" * 40 + "\n" + "MIIEow" * 40 + "\n-----END RSA PRIVATE KEY-----"
        filler = "x" * 99 + "\n"
        n = rlm.COPY_BLOCK // 100
        for shift in (0, 3, 5):
            text = filler * (n - shift) + key + "\n" + filler * n
            self.call("rlm_load", path=self.file("k.gz", gzip.compress(text.encode(), 1)), name="k")
            self.assertNotIn("MIIEow", self.whole("k"))

    def test_a_folder_is_its_text_files_without_what_is_ignored(self) -> None:
        for name, text in (("f/.gitignore", "*.log\nbuild/\n"), ("f/a.py", "a = 1\n"), ("f/b/c é.md", "# c\n"), ("f/x.log", "x"),
                           ("f/build/y.py", "y"), ("f/.env", "KEY=1"), ("f/pic.png", b"\x89PNG\0"), ("f/z.gz", gzip.compress(b"z"))):
            self.file(name, text)
        answer = self.call("rlm_load", path=os.path.join(self.home, "f"))
        self.assertEqual(answer.data["n_files"], 2)
        self.assertEqual(answer.data["left_out"], {".gitignore": 2, "hidden": 2, "binary": 1, "packed": 1})
        with rlm.open_context(self.places, "f") as opened:
            self.assertEqual((opened.text, list(opened.files)), (None, ["a.py", "b/c é.md"]))
        self.assertEqual((self.peek("f"), self.peek("f/a.py")), ("a.py\nb/c é.md\n", "a = 1\n"))
        self.assertEqual([hit["file"] for hit in self.call("rlm_grep", pattern="[#=]", context="f").data["hits"]],
                         ["a.py", "b/c é.md"])
        self.call("rlm_load", glob=os.path.join(self.home, "f/**/*.md"), name="docs")
        self.assertEqual(self.peek("docs"), "b/c é.md\n")
        self.file("f/.gitignore", "")
        os.symlink(".", os.path.join(self.home, "f/loop"))
        self.call("rlm_load", path=os.path.join(self.home, "f"), glob="**/[!b].py", name="code")
        self.assertEqual(self.peek("code"), "a.py\nbuild/y.py\n")

    def test_what_claudes_settings_deny_is_not_loaded(self) -> None:
        inner = self.file("work/keys/deep/a.txt", "k\n")
        paths = [self.file(name, "k\n") for name in ("work/prod.env", "work/sub/prod.env", "notes/x.md", "work/ok.txt", "abs/y.txt")]
        os.symlink(inner, os.path.join(self.home, "link.txt"))
        self.file(".claude/settings.json", json.dumps({"permissions": {"deny": [
            "Read(~/notes/**)", "Bash(x)", 5, "Read(/" + self.home + "/abs)"]}}))
        self.file("work/.claude/settings.local.json", json.dumps({"permissions": {"deny": ["Read(./keys)", "Read(prod.env)"]}}))
        with unittest.mock.patch.dict(os.environ, CLAUDE_PROJECT_DIR=os.path.join(self.home, "work")):
            for path in (inner, os.path.join(self.home, "link.txt"), *paths[:3], paths[4]):
                self.refused(rlm.UsageError, "permissions.deny", path=path)
            answer = self.call("rlm_load", path=os.path.join(self.home, "work"))
            self.assertEqual((answer.data["n_files"], answer.data["left_out"]),
                             (1, {"hidden": 1, "unreadable, denied or excluded": 3}))
            self.file(".claude/settings.json", '{"permissions": {"deny": ["Read"]}}')
            self.refused(rlm.UsageError, "permissions.deny", path=paths[3])

    def test_what_cannot_be_loaded_is_refused_with_the_way_out(self) -> None:
        os.mkfifo(os.path.join(self.home, "pipe"))
        self.file("empty.txt", "")
        self.file("bin.dat", b"\0\1")
        self.file("cut.gz", gzip.compress(os.urandom(5000).hex().encode())[:-20])
        for arguments, error, words in (
                ({}, rlm.UsageError, "one of"), ({"path": "a", "content": "b"}, rlm.UsageError, "one of"),
                ({"path": "pipe"}, rlm.NotFound, "no plain file"), ({"path": "gone"}, rlm.NotFound, "No such file"),
                ({"path": "empty.txt"}, rlm.UsageError, "empty"), ({"path": "bin.dat"}, rlm.UsageError, "binary.*pdftotext"),
                ({"path": "/proc/cpuinfo"}, rlm.UsageError, "no size.*rlm load -"), ({"path": "/proc/self/mem"}, rlm.NotFound, "read"),
                ({"path": "cut.gz"}, rlm.Damaged, "cannot be unpacked"), ({"path": "a\0b"}, rlm.NotFound, "cannot be read"),
                ({"path": "\ud800"}, rlm.NotFound, "cannot be read"), ({"path": "~\udfff/x"}, rlm.NotFound, "cannot be read"),
                ({"content": "x" * 300_000}, rlm.UsageError, "file"), ({"path": "-"}, rlm.UsageError, "shell"),
                ({"path": "empty.txt", "name": "../x/.."}, rlm.UsageError, "empty"),
                ({"path": "x", "name": "///"}, rlm.UsageError, "no name"),
                ({"glob": "*.none"}, rlm.NotFound, "no text files"), ({"memory": "nonsense"}, rlm.UsageError, "project:NAME"),
                ({"memory": "project:none"}, rlm.NotFound, "nothing in memory")):
            if arguments.get("path", "-") not in ("-", "a"):
                arguments["path"] = os.path.join(self.home, arguments["path"])
            self.refused(error, words, **arguments)
        self.refused(rlm.NotFound, "no context 'nope'; there are: none", "rlm_inspect", name="nope")

    def test_ones_own_history_is_a_context_in_order(self) -> None:
        with days_ago(9):
            old = self.chunk("the deploy failed: pool exhausted", project="shop")
        new = self.chunk("the deploy went well", project="shop")
        self.chunk("nothing of that", project="other")
        for memory, ids in (("project:shop", [old, new]), ("sessions:3d", [new]), ("search:pool exhausted", [old])):
            self.call("rlm_load", memory=memory, name="h")
            self.assertEqual(re.findall(r"(?m)^## \[(.+?)\]", self.whole("h"))[: len(ids)], ids, memory)
        self.main("config", "exclude", "shop")
        self.refused(rlm.NotFound, "nothing in memory", memory="project:shop")

    def test_the_running_conversation_is_a_context_with_all_that_tools_gave_back(self) -> None:
        session = "3c57c232-0000-4000-8000-000000000001"
        given = "row\n" * 3000 + "api_key=sk-ant-" + "Ab3dEf9hJk" * 6
        entries = [("user", "find the bug"), ("assistant", [{"type": "tool_use", "name": "Bash", "id": "1", "input": {"command": "make"}}]),
                   ("user", [{"type": "tool_result", "tool_use_id": "1", "content": given}]),
                   ("assistant", [{"type": "text", "text": "It is in the pool."}])]
        lines = [{"type": who, "message": {"content": content}, "sessionId": session, "uuid": str(i),
                  "timestamp": "2026-01-02T03:04:05Z"} for i, (who, content) in enumerate(entries)]
        self.file(f".claude/projects/-x/{session}.jsonl", "".join(json.dumps(line) + "\n" for line in lines) + '{"torn')
        os.environ["CLAUDE_CODE_SESSION_ID"] = session
        self.call("rlm_load", memory="conversation")
        seen = self.whole("conversation")
        self.assertTrue(seen.startswith("## User · 2026-01-02 03:04 UTC\nfind the bug\n"))
        self.assertIn('"command": "make"', seen)
        self.assertEqual((seen.count("row\n"), "Ab3dEf9hJk" in seen), (3000, False))
        self.main("config", "exclude", "test")
        self.refused(rlm.UsageError, "exclude", memory="conversation", name="again")

    def test_what_is_erased_is_gone_from_contexts_and_a_dropped_context_leaves_nothing(self) -> None:
        first = self.chunk("the password of the safe is under the mat", project="shop")
        self.chunk("an innocent note about nothing at all", project="other")
        quoting = "first\nthe password of the safe is under the mat\nlast\n"
        path = self.load(quoting, "referenced")
        self.call("rlm_load", memory="project:shop", name="shop")
        self.call("rlm_load", memory="project:other", name="other")
        self.call("rlm_load", content=quoting, name="copy")
        self.call("rlm_results", name="copy", action="store", key="a", value="é: the password of the safe is under the mat")
        self.call("rlm_filter", name="copy", pattern="the password of the safe is under the mat", output="quoting")
        self.assertEqual(self.main("forget", "--erase", "--yes", first)[0], 0)
        self.assertEqual(sorted(self.stored()), ["copy.json", "copy.results.jsonl", "copy.txt", "other.json", "other.txt",
                                                 "referenced.json"])
        self.assertNotIn(b"under the mat", b"".join(self.stored().values()))
        self.assertEqual((self.peek("copy"), rlm.read_file(path).decode()), ("first\nlast\n", quoting))
        code, out = self.main("contexts", "--delete", "copy", "--delete", "other", "--delete", "referenced")
        self.assertEqual((code, self.stored(), os.path.exists(path)), (0, {}, True))
        self.assertEqual(self.main("contexts", "--delete", "copy")[0], 1)

    def test_what_a_killed_load_left_is_erased_and_goes_after_a_day(self) -> None:
        process = started("load", "-", "--name", "cut", stdin=subprocess.PIPE)
        process.stdin.write(b"PEEKABOO secret plan\n" * 100_000)
        process.stdin.flush()
        until = time.monotonic() + 20
        while not any(self.stored().values()) and time.monotonic() < until:
            time.sleep(0.02)
        process.kill()
        process.communicate()
        self.file(os.path.join(self.places.contexts(), "lost.txt"), "PEEKABOO\n")
        self.assertIn(b"PEEKABOO", b"".join(self.stored().values()))
        self.load("fresh\n", "first")
        self.assertEqual(len(self.stored()), 3)
        other = self.chunk("other words")
        self.assertEqual(self.main("forget", "--erase", other, "--yes")[0], 0)
        self.assertEqual(list(self.stored()), ["first.json"])
        self.file(os.path.join(self.places.contexts(), "lost.txt"), "PEEKABOO\n")
        os.utime(os.path.join(self.places.contexts(), "lost.txt"), (1, 1))
        self.load("fresh\n", "second")
        self.assertEqual(list(self.stored()), ["first.json", "second.json"])

    def test_excluded_projects_are_never_loaded(self) -> None:
        path = self.file("secret/a.txt", "x\n")
        self.main("config", "exclude", os.path.dirname(path))
        self.refused(rlm.UsageError, "exclude", path=path)
        self.refused(rlm.NotFound, "excluded", path=os.path.dirname(path))

    def test_names_are_made_from_sources_and_never_overwrite_another(self) -> None:
        one, two = self.file("a/x_1.log", "1\n"), self.file("b/x_1.log", "2\n")
        names = [self.call("rlm_load", path=path).data["name"] for path in (one, two, one)]
        self.assertEqual(names, ["x-1.log", "x-1.log-2", "x-1.log"])
        self.assertEqual((self.peek("x-1.log"), self.peek("x-1.log-2")), ("1\n", "2\n"))
        self.assertNotIn("replaces", self.call("rlm_load", path=one).text)
        self.assertIn(f"It replaces that of {one}.", self.call("rlm_load", path=two, name="x-1.log").text)

    def test_who_types_a_filter_or_action_wrongly_is_told(self) -> None:
        self.load("a (b\nc\n")
        self.assertIn("is no regex and was taken as it stands", self.call("rlm_filter", name="t", pattern="(").text)
        self.assertIn("did you mean --action get?", self.cli("results", "t", "get").stderr.decode())
        self.assertRegex(self.cli("exec", "1+1").stderr.decode(), "no file '1\\+1'.*standard input")

    def test_a_file_that_changes_or_shrinks_makes_old_parts_stale_and_nothing_fails(self) -> None:
        path = self.load("".join(f"line {n}\n" for n in range(1000)))
        self.call("rlm_split", name="t", strategy="lines", size=100)
        self.call("rlm_filter", name="t", pattern="7", output="sevens")
        self.file("t.txt", "line 0\nline 7\n")
        for wanted in ("t", "t#1"):
            answer = self.call("rlm_peek", chunk_id=wanted)
            self.assertIn("stale", answer.text)
            self.assertIn("stale", answer.data)
        self.refused(rlm.UsageError, "no line 1.*stale", "rlm_peek", chunk_id="sevens")
        for tool, more in (("rlm_filter", {"pattern": "l"}), ("rlm_split", {})):  # it would be of other bytes
            self.refused(rlm.UsageError, "sevens is stale: t.txt changed", tool, name="sevens", **more)
        rows = self.call("rlm_inspect").data["contexts"]
        self.assertEqual([(row["name"], row["stale"]) for row in rows], [("sevens", True), ("t", True)])
        self.assertEqual(self.peek("t"), "line 0\nline 7\n")
        with self.assertRaises(rlm.UsageError):
            self.peek("t#9")
        self.assertIn("stale", self.call("rlm_inspect", name="sevens").text)
        self.assertEqual(self.call("rlm_split", name="t", strategy="lines", size=1).data["n_parts"], 2)
        self.assertEqual((self.peek("t#2"), self.call("rlm_inspect", name="t").data["stale"]), ("line 7\n", ""))
        self.call("rlm_grep", pattern="line", context="sevens")
        os.unlink(path)
        with self.assertRaisesRegex(rlm.NotFound, "load it again"):
            self.peek("t")

    def test_in_a_pipe_a_text_that_is_cut_or_stale_says_so_on_stderr(self) -> None:
        path = self.load("word\n" * 1_000_000)
        done = self.cli("peek", "t")
        self.assertRegex(done.stderr.decode(), r"\A\[cut; go on with t:\d+-\]\n\Z")
        self.assertLess(len(done.stdout), 5_000_000)
        self.assertEqual(self.cli("peek", "t:1-2").stderr, b"")
        self.file(os.path.basename(path), "word\n")
        self.assertRegex(self.cli("peek", "t").stderr.decode(), r"\A\[stale: t.txt changed .*\]\n\Z")

    def test_a_memory_that_was_copied_elsewhere_has_its_contexts(self) -> None:
        self.call("rlm_load", content="one\ntwo\n", name="t")
        self.call("rlm_filter", name="t", pattern="o", output="v")
        self.assertNotIn(self.home.encode(), b"".join(self.stored().values()))
        old = json.loads(self.stored()["t.json"])
        old["files"][0][1] = "/elsewhere/contexts/t.txt"  # as it was written before
        moved = os.path.join(self.home, "moved")
        shutil.copytree(self.places.memory, moved)
        shutil.rmtree(self.places.memory)
        for record in (None, old):
            if record:
                rlm.replace_file(os.path.join(moved, "contexts", "t.json"), json.dumps(record).encode())
            for name in ("t", "v"):
                done = self.cli("peek", name, env={"RLM_CONTEXT_DIR": moved})
                self.assertEqual((done.stdout, done.stderr), (b"one\ntwo\n", b""))

    def test_what_is_damaged_in_the_folder_of_contexts_is_an_error_that_says_so(self) -> None:
        self.load("one\ntwo\n")
        self.call("rlm_filter", name="t", pattern="o", output="v")
        with open(self.places.context_spans("v"), "r+b") as file:
            file.truncate(37)
        self.assertEqual(self.peek("v"), "one\ntwo\n"[: len(self.peek("v"))])
        for data in (b"", b"{", b"\xff", b"[]", b'{"name": "t", "files": []}', b'{"name": "t", "files": [1]}'):
            rlm.replace_file(self.places.context("t"), data)
            self.refused(rlm.Damaged if data else rlm.NotFound, "load", "rlm_peek" if data else "rlm_inspect",
                         **({"chunk_id": "t"} if data else {"name": "t"}))
            self.call("rlm_inspect")

    def test_scrub_cleans_what_contexts_keep(self) -> None:
        self.call("rlm_load", content="x\n", name="t")
        secret = b"token ghp_" + b"x7Kp2mQ9" * 4 + b"Zt3a\n"
        rlm.replace_file(self.places.context_text("t"), b"one\n" + secret + b"two\n")
        self.assertEqual(self.main("scrub")[0], 0)
        self.assertRegex(self.peek("t"), r"\Aone\ntoken \[redacted:[\w-]+\]\ntwo\n\Z")

    def test_unused_contexts_go_when_another_is_loaded_and_files_stay(self) -> None:
        path = self.load("old\n", "old")
        os.utime(self.places.context("old"), (0, 0))
        self.assertEqual(self.call("rlm_load", content="x", name="new").data["expired"], ["old"])
        self.assertTrue(os.path.exists(path))
        self.assertEqual(sorted(self.stored()), ["new.json", "new.txt"])


class PartsTest(ContextCase):
    def drawn(self, rng: random.Random) -> str:
        pieces = ("# One\n", "## Two\n", "\n", "\n\n", "def f():\n", "class X:\n", "word é ", "日本。", "x" * 30,
                  '{"a": "b"}\n', '"q\nq",1\n', "\udc80")
        return "".join(rng.choices(pieces, k=rng.randrange(1, 80)))

    def test_parts_are_together_the_text_whatever_the_strategy(self) -> None:
        for i in range(6):
            rng = random.Random(f"{SEED}-{i}")
            text = self.drawn(rng)
            self.load(text)
            for strategy in ("auto", *rlm.STRATEGIES):
                pattern = {"pattern": r"é|日"} if strategy == "regex" else {}
                answer = self.call("rlm_split", name="t", strategy=strategy, size=rng.choice([0, 1, 3, 40]), **pattern)
                n_parts = answer.data["n_parts"]
                parts = [self.peek(f"t#{n}") for n in range(1, n_parts + 1)]
                self.assertEqual("".join(parts), text, (SEED, i, strategy))
                self.assertNotIn("", parts)
                starts = [1 + "".join(parts[:n]).count("\n") for n in range(n_parts)]
                self.assertEqual(answer.data["lines"], starts, (SEED, i, strategy))

    def test_parts_overlap_by_as_many_units_as_asked_for(self) -> None:
        self.load("".join(f"{n}\n" for n in range(10)))
        self.call("rlm_split", name="t", strategy="lines", size=4, overlap=2)
        self.assertEqual([self.peek(f"t#{n}").split() for n in (1, 2, 3)],
                         [["0", "1", "2", "3"], ["2", "3", "4", "5"], ["4", "5", "6", "7"]])
        self.call("rlm_split", name="t", strategy="chars", size=8, overlap=2)
        self.assertEqual([self.peek(f"t#{n}") for n in (1, 2)], ["0\n1\n2\n3\n", "3\n4\n5\n6\n"])

    def test_auto_cuts_where_the_format_has_its_joints(self) -> None:
        for suffix, text, strategy, first in (
                (".md", "# A\none\n# B\ntwo\n", "headings", "# A\none\n"), (".py", "x = 1\ndef f():\n    pass\n", "code", "x = 1\n"),
                (".csv", "a,b\n" + '1,"2\n3"\n' * 200, "rows", "a,b\n" + '1,"2\n3"\n' * 199),
                (".jsonl", '{"a": 1}\n' * 201, "rows", '{"a": 1}\n' * 200)):
            self.load(text, suffix=suffix)
            self.assertEqual(self.call("rlm_split", name="t").data["strategy"], strategy)
            self.assertEqual(self.peek("t#1"), first)

    def test_lines_of_contexts_and_of_parts_are_peeked_as_those_of_chunks(self) -> None:
        self.load("".join(f"{n}\n" for n in range(1, 31)))
        self.call("rlm_split", name="t", strategy="lines", size=10)
        self.assertEqual((self.peek("t:3-4"), self.peek("t#2:3"), self.peek("t#3:9-")), ("3\n4\n", "13\n", "29\n30\n"))
        self.assertIn("line 11 of t", self.call("rlm_peek", chunk_id="t#2").text)
        chunk = self.chunk("a chunk")
        self.assertIn("a chunk", self.call("rlm_peek", chunk_id=f"t:1,{chunk}").text)
        for wanted in ("t#0", "t#4", "t#x", "t:31", "t/x", "u#1"):
            with self.assertRaises(rlm.RlmError):
                self.peek(wanted)

    def test_a_file_is_read_by_its_name_whatever_is_in_it(self) -> None:
        names = ("a b #3.txt", "c:d-10.txt", "e,f.txt", "new\nline.txt", "g\u202e.txt", "-x.txt")
        for name in names:
            self.file("odd/" + name, "one\ntwo\n")
        self.call("rlm_load", path=os.path.join(self.home, "odd"))
        for name in names:
            for wanted in (name, rlm.plain(name)):
                self.assertEqual((self.peek(f"odd/{wanted}"), self.peek(f"odd/{wanted}:2-2")), ("one\ntwo\n", "two\n"), name)
                self.assertEqual(len(self.call("rlm_grep", pattern="o", context=f"odd/{wanted}:2-").data["hits"]), 1)

    def test_what_is_within_a_context_is_never_taken_for_all_of_it_or_for_another(self) -> None:
        self.load("a\nb\n")
        self.load("other\n", "t-2")
        self.call("rlm_split", name="t", strategy="lines", size=1)
        for tool, arguments in (("rlm_filter", {"pattern": "a"}), ("rlm_split", {}), ("rlm_inspect", {}), ("rlm_results", {})):
            self.refused(rlm.UsageError, "within a context", tool, name="t#2", **arguments)
        self.refused(rlm.UsageError, "within a context", "rlm_exec", code="1", contexts="t#2")
        self.assertEqual(self.main("contexts", "--delete", "t#2")[0], 2)
        self.refused(rlm.UsageError, "less than", "rlm_split", name="t", strategy="lines", size=2**70, overlap=2**70)
        self.assertEqual(self.call("rlm_split", name="t", strategy="lines", size=2**70, overlap=2**39).data["n_parts"], 1)

    def test_a_long_line_and_a_long_text_are_cut_with_the_way_on(self) -> None:
        self.load("x" * 50_000 + "\n" + "y\n" * 30_000)
        call = rlm.Call(rlm.Store(self.places), 20_000)
        self.assertIn("rlm_split", rlm.run_tool(call, "rlm_peek", {"chunk_id": "t"}).text)
        answer = rlm.run_tool(call, "rlm_peek", {"chunk_id": "t:2-"})
        self.assertIn(f"go on with t:{2 + len(answer.verbatim) // 2}-", answer.text)


class FilterTest(ContextCase):
    def test_filters_keep_the_lines_that_match_and_where_they_come_from(self) -> None:
        for i in range(15):
            rng = random.Random(f"{SEED}-{i}")
            lines = ["x", *("".join(rng.choices("abABé日xsk\u017f\u212a", k=rng.randrange(9))) for _ in range(rng.randrange(60)))]
            text = "\n".join(lines) + rng.choice(["\n", ""])
            self.load(text)
            pattern = rng.choice(["a", "^a", "b$", "é", r"^$", r"[^a]b", "(?!a)x", "a.*b", r"a\s", "a|日", "ab|ba", "sk",
                                  "ab.*日", "(ab|日x)+",
                                  "éa"])
            regex = rlm.compiled(pattern)[0]
            numbered = list(enumerate(text.split("\n")[: -1 if text.endswith("\n") else None], 1))
            for mode in ("keep", "remove"):
                want = [(n, line) for n, line in numbered if bool(regex.search(line)) == (mode == "keep")]
                answer = self.call("rlm_filter", name="t", pattern=pattern, output="v", mode=mode)
                self.assertEqual(answer.data["n_lines"], len(want), (SEED, i, pattern, mode))
                if want:
                    seen = self.call("rlm_peek", chunk_id="v")
                    self.assertEqual((seen.verbatim + "\n" * (seen.verbatim[-1:] != "\n")).split("\n")[:-1],
                                     [line for _, line in want], (SEED, i, pattern))
                    self.assertEqual(seen.data["from"], [f"t.txt:{n}" for n, _ in want], (SEED, i, pattern, mode))

    def test_a_filter_of_a_filter_and_of_a_folder_still_knows_the_file(self) -> None:
        for name, text in (("f/a.txt", "one x\ntwo\nthree x"), ("f/b.txt", "four x\nfive xy\n")):
            self.file(name, text)
        self.call("rlm_load", path=os.path.join(self.home, "f"))
        self.call("rlm_filter", name="f", pattern="x", output="x")
        self.assertEqual(self.whole("x"), "one x\nthree x\nfour x\nfive xy\n")
        self.call("rlm_filter", name="x", pattern="^[tf]", output="tf")
        answer = self.call("rlm_peek", chunk_id="tf:1-2")
        self.assertEqual((answer.verbatim, answer.data["from"]), ("three x\nfour x\n", ["a.txt:3", "b.txt:1"]))
        hits = self.call("rlm_grep", pattern="FIVE", context="tf").data["hits"]
        self.assertEqual([(hit["line"], hit["from"]) for hit in hits], [(3, "b.txt:2")])
        self.assertEqual(list(self.stored()), ["f.json", "tf.json", "tf.spans", "x.json", "x.spans"])

    def test_nothing_left_and_a_name_of_its_own_are_told(self) -> None:
        self.load("a\n")
        self.assertTrue(self.call("rlm_filter", name="t", pattern="zzz").failed)
        self.refused(rlm.UsageError, "itself", "rlm_filter", name="t", pattern="a", output="t")
        self.call("rlm_load", content="a\nb\n", name="copy")
        self.call("rlm_filter", name="copy", pattern="a", output="v")
        self.refused(rlm.UsageError, "has its text", "rlm_filter", name="v", pattern="a", output="copy")
        names = [self.call("rlm_filter", name="t", pattern=pattern).data["name"] for pattern in ("a+", "a*", "a+")]
        self.assertEqual(names, ["t-a", "t-a-2", "t-a"])

    def test_a_line_of_megabytes_is_one_line(self) -> None:
        n = rlm.Text.WINDOW
        self.load("start " + "x" * (n - 10) + " needle " + "y" * 2 * n + " stop\nlast\n")
        for pattern in ("needle", "^start.*needle.*stop$"):
            self.assertEqual([hit["line"] for hit in self.call("rlm_grep", pattern=pattern, context="t").data["hits"]], [1])
        self.call("rlm_filter", name="t", pattern="NEEDLE", output="v", mode="remove")
        self.assertEqual(self.peek("v"), "last\n")

    def test_a_regex_that_runs_away_is_stopped(self) -> None:
        self.load("a" * 60 + "!\n")
        rlm.write_config(self.places, {"grep_timeout_s": 0.3})
        with unittest.mock.patch.object(rlm, "CONTEXT_TIMEOUT_S", 0.3):
            for tool, given in (("rlm_filter", {"name": "t"}), ("rlm_grep", {"context": "t"})):
                with self.assertRaises(rlm.TimedOut):
                    self.call(tool, pattern="(a+)+$", **given)


class SearchTest(ContextCase):
    def test_passages_with_most_and_rarest_words_come_first_and_can_be_peeked(self) -> None:
        rng = random.Random(SEED)
        lines = [f"{i} le déploiement de l'équipe {rng.randrange(9)}" for i in range(3_000)]
        lines[2_000] = "2000 the certificates of payments had expired, le déploiement"
        self.load("\n".join(lines) + "\n")
        answer = self.call("rlm_search", query="certificate expired deploiement", context="t", limit=3)
        self.assertIn("2000 the certificates", answer.text.split("\n")[0])
        self.assertEqual(len(answer.data["hits"]), 3)
        for hit in answer.data["hits"]:
            self.assertEqual(self.peek(hit["id"]), hit["text"])
        self.assertTrue(self.call("rlm_search", query="zebra", context="t").failed)
        many = " ".join(f"word{i}" for i in range(200))
        self.assertTrue(self.call("rlm_search", query=f"expired {many}", context="t").data["hits"])
        self.refused(rlm.UsageError, "only `query`", "rlm_search", query="a", context="t", project="x")
        self.file("f/a.txt", "nothing\n")
        self.file("f/b 1.txt", "証明書の期限が切れた\n" * 300)
        self.call("rlm_load", path=os.path.join(self.home, "f"))
        hit = self.call("rlm_search", query="期限", context="f").data["hits"][1]
        self.assertTrue(hit["id"].startswith("f/b 1.txt:"), hit["id"])
        self.assertEqual(self.peek(hit["id"]), hit["text"])
        self.call("rlm_split", name="t", strategy="lines", size=500)
        hit = self.call("rlm_search", query="certificates", context="t#5").data["hits"][0]
        self.assertEqual(self.peek(hit["id"]), hit["text"])

    def drawn_words(self, rng: random.Random, n: int) -> str:
        kinds = (lambda: rng.choice("deployment deployed LOG catalog at id k8s user_id getUserId re-run déploiement échoué œuvre "
                                    "l’équipe d'accès 2026-11-05 worker-3 sha256 a1b2 a\u0301b c++ 10.0.0.8 straße".split()),
                 lambda: "".join(rng.choices("配備は失敗しました。ｶﾞ日本！\u200b", k=rng.randrange(1, 6))), lambda: str(rng.randrange(3000)),
                 lambda: "".join(rng.choices("abé 1-_\udc80กขкот한국\u2028\x85", k=rng.randrange(1, 9))))
        kinds = rng.sample(kinds, rng.randrange(1, 4))
        return "".join(rng.choice(kinds)() + rng.choice(" \n  , ") for _ in range(n))

    def both(self, query: str, name: str = "t") -> list[dict[str, str]]:
        """What a search finds by an index; it must be what it finds by reading."""
        with unittest.mock.patch.multiple(rlm, INDEXED_FROM=0, TABLE_RUNS=90, TABLE_LISTED=500, TABLE_PASSAGES=30):
            found = self.call("rlm_search", query=query, context=name, limit=20).data["hits"]
        self.assertEqual(found, self.call("rlm_search", query=query, context=name, limit=20).data["hits"], (SEED, query))
        return found

    def test_an_index_of_a_context_finds_what_reading_all_of_it_finds(self) -> None:
        rng = random.Random(SEED)
        with unittest.mock.patch.multiple(rlm, SEARCHED_CHARS=60), unittest.mock.patch.object(rlm.Text, "WINDOW", 4096):
            for _ in range(6):
                text = self.drawn_words(rng, rng.choice([3, 100, 1500]))
                self.call("rlm_load", path=self.file("t", text), name="t")
                pieces = [text[at:at + rng.randrange(1, 25)] for at in rng.choices(range(len(text)), k=8)]
                for query in (*pieces, "k8s", "at log", "deployments failed", "user_id 3", "ガ", "absent"):
                    if query.strip() and rlm.query_terms(query):
                        self.both(query)
            os.makedirs(os.path.join(self.home, "f"))
            for i in range(3):
                self.file(f"f/{i}.txt", self.drawn_words(rng, 50) + "deployed")
            self.call("rlm_load", path=os.path.join(self.home, "f"), name="t")
            self.assertEqual(sorted(hit["id"].split(":")[0] for hit in self.both("deployed"))[-1], "t/2.txt")
            self.call("rlm_filter", name="t", pattern="deployed", output="v")
            self.assertTrue(self.both("deployed", "v"))

    def test_an_index_that_is_cut_damaged_or_of_what_was_there_before_is_made_again(self) -> None:
        path = self.file("t", "the lion is late\n" * 300 + "the zebra is late")
        self.call("rlm_load", path=path, name="t")
        self.assertTrue(self.both("zebra"))
        index = self.places.context_words("t")
        self.assertEqual(os.stat(index).st_mode & 0o777, 0o600)
        with open(index, "rb") as file:
            whole = file.read()
        for n_bytes in (*range(0, len(whole), 17), *range(len(whole) - 24, len(whole))):
            with open(index, "wb") as file:
                file.write(whole[:n_bytes])
            self.assertTrue(self.both("zebra"))
            with open(index, "rb") as file:
                self.assertEqual(file.read(), whole)
        for start, garbage in (*((n, bytes(len(whole) - n)) for n in range(80, len(whole), 97)), (whole.index(b"\n") + 1, b"\xff" * 80),
                               *((n, bytes([whole[n] ^ 1])) for n in range(whole.index(b"\n") + 1, len(whole), 31))):
            with open(index, "wb") as file:
                file.write(whole[:start] + garbage + whole[start + len(garbage):])
            self.assertTrue(self.both("zebra"))
            with open(index, "rb") as file:
                self.assertEqual(file.read(), whole, start)
        self.file("t", "a lion came\n" * 99)
        self.assertEqual((self.both("zebra"), len(self.both("lion")) > 0), ([], True))
        with open(index, "rb") as file:
            self.assertEqual(file.read(), whole)  # a log that grows is read, not indexed each time
        self.call("rlm_load", content="nothing of that", name="t")
        self.assertFalse(os.path.exists(index))
        self.both("nothing")
        for killed in (index, self.places.context_words("t2")):
            with open(rlm.temporary_of(killed), "wb") as file:
                file.write(b"half of an index")
        self.main("contexts", "--delete", "t")
        self.assertEqual([name[:9] for name in os.listdir(self.places.contexts()) if "words" in name], ["t2.words."])

    def test_what_is_erased_is_in_no_index_and_a_key_is_in_none_as_it_is(self) -> None:
        self.call("rlm_load", path=self.file("t", "a lion has ghp_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8\n" * 9), name="t")
        self.assertTrue(self.both("lion"))
        with open(self.places.context_words("t"), "rb") as file:
            self.assertNotIn(b"a1b2", file.read())
        self.call("rlm_load", content="the zebra is late\nthe lion is not\n", name="t")
        self.both("zebra")
        self.main("forget", "--erase", "--yes", "--query", "zebra")
        self.assertFalse(os.path.exists(self.places.context_words("t")))

    def test_a_search_that_is_stopped_leaves_no_half_of_an_index(self) -> None:
        self.call("rlm_load", path=self.file("t", "the zebra is late\n" * 99), name="t")
        call = rlm.Call(rlm.Store(self.places))
        call.is_cancelled = True
        with unittest.mock.patch.multiple(rlm, INDEXED_FROM=0), self.assertRaises(rlm.RlmError):
            rlm.run_tool(call, "rlm_search", {"query": "zebra", "context": "t"})
        self.assertEqual([name for name in os.listdir(self.places.contexts()) if "words" in name], [])
        self.assertTrue(self.both("zebra"))


class InspectTest(ContextCase):
    def test_formats_are_told_by_what_is_in_the_text(self) -> None:
        for text, form, outline in (
                ("# A\n\ntext\n\n## B\n", "Markdown", "5: ## B"), ('{"id": 1, "n": "x"}\n{"id": 2}\n', "JSONL", "keys: id, n"),
                ('[{"id": 1,\n "n": 2}]', "JSON", "keys: id, n"), ("a;b\n1;2\n3;4\n", "CSV", "columns: a;b"),
                ("<html><body>x</body></html>\n", "XML/HTML", ""),
                ("import os\ndef f():\n  x\nclass X:\ndef g():\n", "code", "4: class X:"),
                ("2026-01-02 03:04:05 INFO up\n2026-01-02 03:04:06 ERROR down\n", "log",
                 "from 2026-01-02 03:04:05 to 2026-01-02 03:04:06"),
                ("Call me Ishmael. Some years ago.\nNever mind how long.\n", "prose", "")):
            self.load(text)
            answer = self.call("rlm_inspect", name="t")
            self.assertEqual(answer.data["format"], form, text)
            self.assertIn(outline, answer.text)
            self.assertEqual(answer.data["head"], text[:500])

    def test_the_list_names_what_there_is(self) -> None:
        self.assertIn("rlm_load", self.call("rlm_inspect").text)
        self.load("x\n")
        self.assertIn("t · file · 2 B, 1 line, 2 characters", self.call("rlm_inspect").text)
        code, out = self.main("inspect", "t")
        self.assertEqual((code, "--- beginning" in out), (0, True))

    def test_results_are_kept_by_key_and_tell_what_is_missing(self) -> None:
        self.load("a\nb\nc\n")
        self.call("rlm_split", name="t", strategy="lines", size=1)
        for key, value in (("t#1", "yes"), ("t#3", "no"), ("t#1", "maybe")):
            self.call("rlm_results", name="t", action="store", key=key, value=value)
        self.assertEqual(self.call("rlm_results", name="t", action="get", key="t#1").text, "maybe")
        self.assertEqual(self.call("rlm_results", name="t").data, {"results": {"t#1": "maybe", "t#3": "no"}, "missing": ["t#2"]})
        self.assertEqual(self.call("rlm_results", name="t", action="aggregate").data["counts"], {"maybe": 1, "no": 1})
        self.call("rlm_results", name="t", action="store", key="t#2", value="no \n")
        answer = self.call("rlm_results", name="t", action="aggregate")
        self.assertEqual((answer.text, answer.data["groups"]),
                         ("2 × no [t#3, t#2]\n1 × maybe [t#1]", {"no": ["t#3", "t#2"], "maybe": ["t#1"]}))
        self.refused(rlm.NotFound, "no result", "rlm_results", name="t", action="get", key="t#9")


if __name__ == "__main__":
    unittest.main()
