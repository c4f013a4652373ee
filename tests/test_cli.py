"""The command line keeps its manners: data and messages apart, exit codes, JSON, dry runs, quiet ends, no traceback."""
from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import unittest
from typing import Any
from unittest import mock

from tests.support import HARD, PROGRAM, RLM, TempHome, bytecode, days_ago, rlm, started

ID = re.compile(r"\d{4}-\d\d-\d\d_[\w.-]+|i-[0-9a-f]{8}")
TOOL_COMMANDS = ("remember", "recall", "forget", "status", "chunk", "peek", "grep", "search", "list-chunks", "sessions",
                 "domains", "retention-preview", "retention-run", "restore")
OTHER_COMMANDS = ("serve", "import", "export", "verify", "compact", "config", "completion", "eval")


class CliCase(TempHome):
    def write(self, name: str, data: bytes | str) -> str:
        """Writes a file into the home; its path."""
        path = os.path.join(self.home, name)
        with open(path, "wb") as file:
            file.write(data.encode("utf-8") if isinstance(data, str) else data)
        return path

    def ok(self, *arguments: Any, stdin: bytes = b"", code: int = 0, env: dict[str, str] | None = None) -> str:
        """What a command that succeeds prints; nothing but that is printed."""
        done = self.cli(*arguments, stdin=stdin, env=env)
        self.assertEqual((done.returncode, done.stderr), (code, b""), arguments)
        return done.stdout.decode("utf-8", "surrogateescape")

    def failed(self, code: int, *arguments: Any, stdin: bytes = b"", env: dict[str, str] | None = None) -> str:
        """What a command that fails with that code says on stderr; nothing is printed on stdout."""
        done = self.cli(*arguments, stdin=stdin, env=env)
        message = done.stderr.decode("utf-8")
        self.assertEqual((done.returncode, done.stdout), (code, b""), (arguments, message))
        self.assertRegex(message, r"\A(rlm: |usage: rlm)")
        self.assertNotIn("Traceback", message)
        self.assertNotIn("a bug of rlm", message)
        return message

    def in_process(self, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        """(exit code, stdout, stderr) of a command run here, for what a process of its own adds nothing to."""
        streams = [io.TextIOWrapper(io.BytesIO(data), "utf-8", "backslashreplace") for data in (stdin, b"", b"")]
        with mock.patch.multiple(sys, stdin=streams[0], stdout=streams[1], stderr=streams[2]):
            try:
                code = rlm.main(arguments)
            except SystemExit as ending:  # argparse ends so
                code = int(str(ending.code or 0))
            outputs = []
            for stream in streams[1:]:
                stream.flush()
                outputs.append(stream.buffer.getvalue().decode("utf-8", "surrogateescape"))  # type: ignore[attr-defined]
        return code, outputs[0], outputs[1]

    def quick(self, *arguments: str, stdin: bytes = b"", code: int = 0) -> str:
        """As `ok`, without a process of its own."""
        ended_with, out, err = self.in_process(*arguments, stdin=stdin)
        self.assertEqual((ended_with, err), (code, ""), arguments)
        return out

    def files(self) -> dict[str, bytes]:
        """Every file below the home with its bytes, but for the index (a cache) and empty locks."""
        found = {}
        for folder, _, names in os.walk(self.home):
            for name in names:
                path = os.path.join(folder, name)
                if not path.startswith(self.places.index + os.sep):
                    found[os.path.relpath(path, self.home)] = rlm.read_file(path)
        return found


class AnswerTest(CliCase):
    """Text and JSON of every command."""

    def setUp(self) -> None:
        super().setUp()
        with days_ago(40):
            self.old = self.chunk("an old deploy script é\nsecond line", project="shop", domain="ops", tags="a,b")
        self.new = self.chunk("the deploy script is deploy.sh\n" + HARD, ticket="T-1")
        self.insight = str(self.call("rlm_remember", content="We deploy on Fridays é", category="decision").data["id"])

    def both(self, *arguments: str, code: int = 0) -> tuple[str, Any]:
        """A command's text and its JSON, which name the same memories."""
        (text_code, text, err), raw = self.in_process(*arguments), self.ok(*arguments, "--json", code=code)
        self.assertEqual((text_code, err), (code, ""))
        named = [{i for i in (self.old, self.new, self.insight) if i in shown} for shown in (text, raw)]
        self.assertEqual(named[0], named[1], arguments)
        return text, json.loads(raw)

    def test_search_and_grep(self) -> None:
        text, data = self.both("search", "deploy", "script", "--limit", "9")
        percents = list(map(int, re.findall(r"ago · (\d+)%", text)))
        self.assertEqual((len(percents), sorted(percents, reverse=True)), (3, percents))
        self.assertEqual(len(data["hits"]), 3)
        for hit in data["hits"]:
            shown = [f"{line['line']}: {line['text']}" for line in hit["lines"]] if hit["kind"] == "chunk" else []
            for part in shown or [hit["text"]]:
                self.assertIn(part, text)
        text, data = self.both("grep", r"deploy\.?\w*", "--project", "test")
        self.assertIn(f"1: {data['hits'][0]['lines'][0]['text']}", text)
        text, data = self.both("grep", "nothing there (", code=1)
        self.assertIn(data["hint"], text)
        self.assertIn(data["note"], text)
        text = self.quick("search", "zzzqqq", code=1)
        data = json.loads(self.quick("search", "zzzqqq", "--json", code=1))
        self.assertEqual(text.strip(), data["hint"])

    def test_what_finds_nothing_exits_with_1_as_grep_does(self) -> None:
        for command in (("search", "xylophone"), ("search", "deplyoo scrjpt"), ("grep", "xylophone"),
                        ("grep", "xylophone", "--fuzzy"), ("recall", "xylophone")):
            self.quick(*command, code=1)
        for command in (("search", "deploy"), ("grep", "deploy"), ("grep", "deplyo", "--fuzzy"), ("recall", "deploy"),
                        ("recall", "--category", "todo"), ("sessions", "--project", "none")):
            self.quick(*command)

    def test_lists(self) -> None:
        text, data = self.both("list-chunks")
        for row in data["chunks"]:
            self.assertIn(row["summary"], text)
            self.assertIn(f"{row['tokens']} tokens", text)
        text, data = self.both("recall")
        self.assertIn(data["insights"][0]["text"], text)
        self.assertIn(data["insights"][0]["category"], text)
        text, data = self.both("sessions")
        self.assertEqual([row["session"] in text for row in data["sessions"]], [True, True])
        text, data = self.both("domains")
        self.assertEqual(text, "ops: 1 chunk\n")
        self.assertEqual(data, {"domains": [{"domain": "ops", "n_chunks": 1}]})
        text, data = self.both("status")
        for value in (data["version"], data["memory"], f"{data['n_chunks']} chunks", "shop 1"):
            self.assertIn(value, text)
        text, data = self.both("retention-preview")
        self.assertIn(f"Would archive {len(data['archive'])} chunk", text)

    def test_peek_prints_the_text_and_nothing_else(self) -> None:
        self.assertEqual(self.ok("peek", self.new + ":2-3"), HARD)
        data = json.loads(self.in_process("peek", self.new + ":2-3", "--json")[1])
        self.assertEqual((data["text"], data["first_line"], data["last_line"]), (HARD, 2, 3))

    def test_writing_commands(self) -> None:
        data = json.loads(self.ok("remember", "Use", "tabs", "--category", "preference", "--tags", "a,b", "--json"))
        self.assertIn(f"{data['id']} says exactly that already", self.quick("remember", "Use tabs"))
        path = self.write("notes é.md", "a note é\r\n")
        data = json.loads(self.ok("chunk", path, "--chunk-type", "debug", "--json"))
        self.assertIn(f"{data['id']} holds exactly this text already", self.quick("chunk", path))
        self.assertEqual(self.quick("peek", data["id"]), "a note é\r\n")
        self.assertEqual(json.loads(self.ok("forget", data["id"], "--json"))["forgotten"], True)
        self.assertIn("is back", self.quick("forget", "--undo", data["id"]))
        self.assertIn("Archived 1 chunk", self.ok("retention-run"))
        self.assertEqual(json.loads(self.ok("restore", self.old, "--json")), {"id": self.old, "restored": True})

    def test_commands_that_are_no_tools(self) -> None:
        text, data = self.both("verify")
        self.assertEqual((text, data), ("No damage.\n", {"problems": [], "n_left": 0}))
        text, data = self.both("config")
        for name, (default, _) in rlm.SETTINGS.items():
            self.assertEqual(data[name], default)
            self.assertIn(f"{name} = {json.dumps(default)}", text)
        lines = [json.loads(line) for line in self.ok("export", "--json").splitlines()]
        self.assertEqual({line["id"] for line in lines}, {self.old, self.new, self.insight})
        data = json.loads(self.quick("export", os.path.join(self.home, "out.jsonl"), "--json"))
        self.assertEqual(data["n"], 3)
        data = json.loads(self.ok("import", os.path.join(self.home, "out.jsonl"), "--json"))
        self.assertEqual(data, {"new": 0, "known": 3, "excluded": 0, "skipped": {}, "refused": []})
        data = json.loads(self.quick("completion", "bash", "--json"))
        self.assertIn("complete ", data["script"])
        data = json.loads(self.ok("compact", "--json"))
        self.assertEqual(data["n_kept"], 3)

    def test_damage_is_reported_on_stdout_with_code_1(self) -> None:
        with open(self.places.log(1), "ab") as file:
            file.write(b"{broken \xff\n")
        text, data = self.both("verify", code=1)
        problem = data["problems"][0]
        self.assertIn(f"{problem['file']}:{problem['line']} (byte {problem['byte']:,}", text)
        text = self.quick("verify", "--repair")
        self.assertIn("0 left", text)
        self.assertEqual(self.quick("verify"), "No damage.\n")

    def test_a_tools_name_works_as_a_command(self) -> None:
        self.assertEqual(self.quick("rlm_list_chunks"), self.quick("list-chunks"))


class HelpTest(CliCase):
    def test_every_tool_has_a_command_and_nothing_is_missing(self) -> None:
        self.assertEqual(set(TOOL_COMMANDS) - set(rlm.commands()), set())
        self.assertEqual(set(OTHER_COMMANDS) - set(rlm.COMMANDS), set())
        text = self.ok("--help")
        for name in (*TOOL_COMMANDS, *OTHER_COMMANDS):
            self.assertRegex(text, rf"(?m)^    {name}\b")

    def test_every_command_explains_itself_with_examples_that_parse(self) -> None:
        parser = rlm.build_parser()
        for name in (*TOOL_COMMANDS, *OTHER_COMMANDS):
            with self.subTest(name=name):
                code, text, _ = self.in_process(name, "--help")
                self.assertEqual(code, 0)
                self.assertIn(f"usage: rlm {name}", text)
                self.assertIn("\nexamples:\n", text)
                self.assertIn("--json", text)
                for example in re.findall(r"\brlm (?!-)(.*)", text.partition("\nexamples:\n")[2]):
                    command = re.split(r" [|>] |\)\"", example)[0]
                    if not command.startswith("serve"):
                        self.assertEqual(parser.parse_args(shlex.split(command)).command, shlex.split(command)[0])

    def test_help_says_of_each_option_of_chunk_what_it_takes(self) -> None:
        self.assertEqual(re.findall(r"(?m)^  --[a-z-]+ STR(?:  +may be given again)?$", self.in_process("chunk", "--help")[1]), [])

    def test_help_of_a_process_comes_on_stdout_and_names_defaults(self) -> None:
        text = self.ok("grep", "--help")
        for part in ("PATTERN", "--fuzzy-threshold", "(default 80)", "--date-from", "examples:"):
            self.assertIn(part, text)

    def test_destructive_commands_offer_a_dry_run(self) -> None:
        for name in ("forget", "retention-run", "restore", "import", "verify", "compact"):
            self.assertIn("--dry-run", self.in_process(name, "--help")[1])

    def test_version_and_no_command(self) -> None:
        self.assertEqual(self.ok("--version"), f"rlm {rlm.__version__}\n")
        self.assertIn("usage: rlm", self.ok())
        self.assertFalse(os.listdir(self.home), "help makes no files")

    def test_help_begins_with_what_is_used_most_and_names_commands(self) -> None:
        shown = rlm.build_parser().format_help()
        places = [shown.index(f"\n    {name} ") for name in ("remember", "search", "import", "serve")]
        self.assertEqual(places, sorted(places))
        self.assertNotIn("rlm_", shown)
        self.assertIn("rlm search.", shown)

    def test_help_can_be_read_in_any_locale(self) -> None:
        for env in ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "latin-1"}):
            self.assertIn("…", self.ok("--help", env=env))


class ExitCodeTest(CliCase):
    def test_what_is_not_there_is_1_and_what_cannot_be_meant_is_2(self) -> None:
        self.chunk("text")
        self.failed(1, "peek", "nothing")
        self.failed(2, "nonsense")
        self.failed(2, "search", " ")
        for arguments, part in (
                (("peek", "nothing"), "nothing has the id"), (("forget", "i-00000000"), "i-00000000"),
                (("chunk", "no such file é"), "no such file é"), (("chunk", self.home), "directory"),
                (("import", "no such file"), "no such file"), (("export", "no/such/folder/x.jsonl"), "no/such/folder")):
            with self.subTest(arguments=arguments):
                code, out, err = self.in_process(*arguments)
                self.assertEqual((code, out), (1, ""))
                self.assertRegex(err, r"\Arlm: [^\n]+\n\Z")
                self.assertIn(part, err)
        for arguments, part in (
                (("nonsense",), "invalid choice"), (("search",), "QUERY"), (("search", " "), "empty"),
                (("search", "x", "--limit", "many"), "--limit"), (("search", "x", "--limit=0"), "from 1 to 10,000"),
                (("search", "x", "--nonsense"), "--nonsense"),
                (("remember", "x", "--category", "idea"), "decision, fact"),
                (("peek", "20", "--start", "-1"), "`--start` counts from 0"),
                (("grep", "x", "--date-from", "soon"), "2026-11-21"),
                (("completion", "tcsh"), "tcsh"), (("config", "nonsense"), "archive_after_days"),
                (("export", "x.jsonl.gz"), "gzip"), (("remember",), "CONTENT")):
            with self.subTest(arguments=arguments):
                code, out, err = self.in_process(*arguments)
                self.assertEqual((code, out), (2, ""))
                self.assertRegex(err, r"\A(rlm: [^\n]+\n\Z|usage: rlm)")
                self.assertIn(part, err)

    def test_elsewhere_than_on_linux_and_macos_it_says_so(self) -> None:
        code = 'import os, sys; os.name = "nt"; sys.argv = ["rlm.py", "status"]; import rlm'
        done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **bytecode()}, capture_output=True)
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertEqual(done.stderr, b"rlm runs on Linux and macOS; on Windows, use WSL\n")

    def test_export_does_not_write_over_a_file(self) -> None:
        path = self.write("mine.jsonl", "mine")
        self.assertIn("mine.jsonl exists", self.failed(2, "export", path))
        self.assertEqual(rlm.read_file(path), b"mine")

    def test_a_home_that_is_no_place_for_a_memory_is_named(self) -> None:
        self.assertIn("HOME", self.failed(1, "status", env={"HOME": ""}))
        path = self.write("file", "é")
        message = self.failed(1, "remember", "x", env={"RLM_HOME": path})
        self.assertIn(path, message)
        self.assertIn("set RLM_HOME", message)

    def test_a_bug_is_one_line_and_a_failure_unless_asked_for_more(self) -> None:
        with mock.patch.object(rlm, "carry_out_command", side_effect=ZeroDivisionError("é")):
            code, out, err = self.in_process("status")
            self.assertEqual((code, out, err.count("\n")), (1, "", 1))
            self.assertIn("ZeroDivisionError: é", err)
            with mock.patch.dict(os.environ, RLM_DEBUG="1"), self.assertRaises(ZeroDivisionError):
                self.in_process("status")

    def test_no_odd_input_ever_ends_in_a_traceback(self) -> None:
        known = self.chunk("text é\n" * 30)
        odd = ("", " ", "\n", "../../etc/passwd", "x" * 3000, "²", "\udcff", "🙂", "%s", "{}", "-", "--", "'", "\\",
               known + ":", known + ":0", known + ":9-1", known + ":²", known + ":" + "9" * 5000, known[:-1], known[:4],
               "(", "(a+)+$")
        n_run = 0
        for name in TOOL_COMMANDS + ("import", "config"):
            for value in odd:
                if (name, value) == ("import", "-") or (name, value) == ("import", "--"):
                    continue
                with self.subTest(command=name, value=value[:40]):
                    code, _, err = self.in_process(name, value, stdin=b"text")
                    self.assertIn(code, (0, 1, 2))
                    self.assertNotIn("Traceback", err)
                    self.assertNotIn("a bug of rlm", err)
                    self.assertLess(len(err), 6000)
                    n_run += 1
        self.assertGreater(n_run, 300)


class DryRunTest(CliCase):
    def assert_dry(self, *arguments: str) -> str:
        """The command with --dry-run changes no byte and says "would"; without it, it does change something."""
        before = self.files()
        text = self.ok(*arguments, "--dry-run")
        self.assertIn("ould ", text)
        json.loads(self.in_process(*arguments, "--dry-run", "--json")[1])
        self.assertEqual(self.files(), before, arguments)
        self.assertEqual(self.in_process(*arguments)[0], 0)
        self.assertNotEqual(self.files(), before, f"{arguments} has nothing to do, so the dry run proves nothing")
        return text

    def test_forget_and_its_undo(self) -> None:
        chunk_id = self.chunk("text é")
        self.assertIn(chunk_id, self.assert_dry("forget", chunk_id))
        self.assertIn(chunk_id, self.assert_dry("forget", "--undo", chunk_id))

    def test_retention_and_restore(self) -> None:
        with days_ago(400):
            old, older = self.chunk("old é"), self.chunk("older")
        with days_ago(200):
            self.call("rlm_forget", insight_id=old)
            self.call("rlm_retention_run")
            rlm.forget_or_undo(rlm.Call(rlm.Store(self.places)), old, undo=True)
        # Now one of them could be archived, the other purged.
        self.assertIn("Would archive 0 chunks", self.quick("retention-run", "--no-archive", "--dry-run"))
        text = self.assert_dry("retention-run")
        self.assertIn(f"Would archive 1 chunk: {old}\nWould purge 0 chunks: none", text)
        self.assertIn("1 chunk could be purged", text)
        self.assertIn(old, self.assert_dry("restore", old))
        text = self.assert_dry("retention-run", "--no-archive", "--purge")
        self.assertIn(f"Would archive 0 chunks: none\nWould purge 1 chunk: {older}", text)

    def test_import(self) -> None:
        path = self.write("notes.jsonl", '{"text": "é"}\n{"text": "b", "category": "fact"}\n')
        self.assertIn("chunk 1, insight 1", self.assert_dry("import", path))

    def test_compact(self) -> None:
        self.chunk("kept é")
        self.call("rlm_forget", insight_id=self.chunk("forgotten"))
        self.assertIn("1 dead of 2", self.assert_dry("compact"))

    def test_verify_repair(self) -> None:
        self.chunk("text é")
        with open(self.places.log(1), "ab") as file:
            file.write(b"{broken\n")
        before = self.files()
        done = self.cli("verify", "--repair", "--dry-run")
        self.assertEqual((done.returncode, self.files()), (1, before))
        self.assertIn(b"1 left", done.stdout)
        self.assertIn("0 left", self.ok("verify", "--repair"))
        self.assertNotEqual(self.files(), before)


class InputTest(CliCase):
    def test_a_dash_reads_standard_input(self) -> None:
        data = json.loads(self.ok("chunk", "-", "--json", stdin=HARD.encode()))
        self.assertEqual(self.quick("peek", data["id"]), HARD)
        data = json.loads(self.ok("remember", "-", "--json", stdin=b"tabs, not spaces \xc3\xa9\n"))
        self.assertEqual(self.quick("peek", data["id"]), "tabs, not spaces é")
        self.assertIn("Imported 1,", self.ok("import", "-", stdin=b'{"text": "imported"}\n'))

    def test_a_file_in_utf_16_is_text(self) -> None:
        path = self.write("wide.txt", HARD.encode("utf-16"))
        self.assertEqual(self.quick("peek", json.loads(self.quick("chunk", path, "--json"))["id"]), HARD)

    def test_a_binary_file_is_refused(self) -> None:
        path = self.write("program", b"\x7fELF\0\0\0")
        self.assertIn("binary", self.failed(2, "chunk", path))
        self.assertIn("binary", self.failed(2, "chunk", "-", stdin=b"a\0b"))
        self.assertFalse(self.places.numbered("log"))

    def test_bytes_that_are_no_utf_8_come_back_as_they_were(self) -> None:
        data = "caf\xe9 cr\xe8me\r\n".encode("latin-1") + bytes(range(0x80, 0x100)) + "é日".encode()
        path = self.write("latin é.txt", data)
        done = self.cli("chunk", path)
        self.assertEqual(done.returncode, 0, done.stderr)
        chunk_id = ID.findall(done.stdout.decode())[0]
        self.assertEqual(self.cli("peek", chunk_id).stdout, data)
        text = data.decode("utf-8", "surrogateescape")
        self.assertIn("already", self.quick("chunk", path))
        self.assertEqual(json.loads(self.quick("peek", chunk_id, "--json"))["text"], text)
        self.assertIn("caf\udce9", self.quick("grep", "caf"))
        exported = self.cli("export").stdout
        json.loads(exported.decode("utf-8"))
        with mock.patch.dict(os.environ, RLM_HOME=os.path.join(self.home, "other")):
            self.assertIn("Imported 1,", self.quick("import", "-", stdin=exported))
            self.assertEqual(self.quick("peek", chunk_id), text)

    def test_arguments_that_are_no_utf_8_are_taken_as_they_are(self) -> None:
        path = os.fsencode(self.home) + b"/\xff\xe9.txt"
        try:
            with open(path, "wb") as file:
                file.write(b"text in an oddly named file")
        except OSError:
            self.skipTest("this file system refuses such names")
        done = self.cli("chunk", path, b"--project=\xff", "--summary", b"a \xff summary", "--json")  # type: ignore[arg-type]
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(json.loads(done.stdout)["project"], "test")
        self.assertEqual(len(json.loads(self.quick("search", "oddly \udcff", "--json"))["hits"]), 1)
        self.assertIn("Nothing matches", self.quick("grep", "\udcff", code=1))
        self.assertIn("is no id", self.in_process("peek", "\udcff")[2])
        self.assertIn("known already 1", self.quick("import", os.fsdecode(path)))
        done = self.cli("chunk", path + b"\xff")  # type: ignore[arg-type]
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"No such file", done.stderr)

    def test_words_need_no_quotes(self) -> None:
        data = json.loads(self.quick("remember", "We", "deploy", "on", "Fridays", "--json"))
        self.assertEqual(self.quick("peek", data["id"]), "We deploy on Fridays")
        self.assertIn(data["id"], self.quick("recall", "deploy", "Fridays"))


class StreamTest(CliCase):
    def shell(self, script: str, timeout_s: float = 60) -> subprocess.CompletedProcess[bytes]:
        """Runs a shell script in which `rlm` is the command."""
        rlm_function = f'rlm() {{ {shlex.join(PROGRAM)} "$@"; }}\n'
        return subprocess.run(["bash", "-c", "set -o pipefail\n" + rlm_function + script], capture_output=True,
                              cwd=self.home, timeout=timeout_s, check=False, env={**os.environ, **bytecode()})

    def fill(self) -> None:
        """Stores more than a pipe holds."""
        items = [{"kind": "chunk", "text": f"text {n} é " * 200} for n in range(200)]
        rlm.import_items(self.view(), items, "test", lambda *_: None)

    def test_a_reader_that_has_seen_enough_ends_the_command_quietly(self) -> None:
        self.fill()
        done = self.shell("rlm export | head -n 1")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(done.stdout.count(b"\n"), 1)
        done = self.shell("rlm list-chunks --limit 200 --json | head -n 1")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"{\n", b""))
        for arguments in (["status"], ["--version"], ["grep", "--help"]):
            reading, writing = os.pipe()
            os.close(reading)  # gone before anything is written
            process = started(*arguments, stdout=writing, stderr=subprocess.PIPE)
            os.close(writing)
            self.assertEqual((process.communicate()[1], process.returncode), (b"", 0), arguments)

    def test_a_full_disk_below_the_output_is_a_failure(self) -> None:
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        self.fill()
        for command in ("export", "status", "--version"):
            done = self.shell(f"rlm {command} > /dev/full")
            self.assertEqual((done.returncode, done.stderr.count(b"\n")), (1, 1), done.stderr)
            self.assertIn(b"No space left", done.stderr)

    def test_missing_standard_streams_do_no_harm(self) -> None:
        chunk_id = self.chunk("text é")
        before = self.log_bytes()
        done = self.shell(f"rlm peek {chunk_id} >&- <&-; echo $?; rlm status >&-; echo $?; rlm --help >&-; echo $?;"
                          "rlm chunk - <&- 2>/dev/null; echo $?; rlm serve <&- >&-; echo $?;"
                          "rlm peek nothing 2>&-; echo $?")
        self.assertEqual((done.stdout, done.stderr), (b"0\n0\n0\n2\n0\n1\n", b""))
        self.assertEqual(self.log_bytes()[: len(before)], before, "no output went into the store")
        self.assertEqual(rlm.verify(self.view(), lambda *_: None), [])

    def test_interrupting_ends_a_command_without_a_traceback(self) -> None:
        fifo = os.path.join(self.home, "fifo")
        os.mkfifo(fifo)
        for command in ("chunk", "import"):
            process = started(command, fifo, cwd=self.home, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            with open(fifo, "wb"):  # returns once the command has opened it, and it now waits for the text
                for _ in range(20):  # one that comes just before Python's read() blocks is seen only when that returns
                    process.send_signal(signal.SIGINT)
                    try:
                        process.wait(2)
                        break
                    except subprocess.TimeoutExpired:
                        continue
                out, err = process.communicate(timeout=30)
            self.assertEqual((process.returncode, out, err), (130, b"", b"\n"), command)
        self.assertFalse(self.places.numbered("log"), "nothing was stored")

    def test_nothing_is_coloured_and_no_progress_is_shown_without_a_terminal(self) -> None:
        path = self.write("notes.jsonl", "".join(f'{{"text": "text {n} é"}}\n' for n in range(600)))
        forced = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
        self.assertRegex(self.ok("import", path, env=forced), r"\AImported [\d, a-z]+\.\n\Z")
        for env in (forced, {"NO_COLOR": "1"}):
            self.assertNotIn("\x1b", self.ok("search", "text", "3", env=env))

    def test_a_terminal_sees_the_same_answer_as_a_pipe(self) -> None:
        self.chunk("text é")
        master, slave = os.openpty()
        with started("list-chunks", stdin=slave, stdout=slave, stderr=slave) as process:
            process.wait(30)
        shown = os.read(master, 1 << 16)
        os.close(slave)
        os.close(master)
        self.assertEqual(shown.replace(b"\r\n", b"\n").decode(), self.quick("list-chunks"))

    def test_a_terminal_shows_what_it_would_act_on_and_a_pipe_gets_it(self) -> None:
        hostile = "deploy \x1b]0;owned\x07\x1b[2J \x9b31m \u202edlrow \r \U000e0041 end"
        chunk_id = self.chunk(hostile)
        self.call("rlm_remember", content=hostile)
        for command in (("search", "deploy"), ("grep", "deploy"), ("recall", "deploy"), ("peek", chunk_id), ("list-chunks",)):
            master, slave = os.openpty()
            with started(*command, stdin=slave, stdout=slave, stderr=slave) as process:
                process.wait(30)
            shown = os.read(master, 1 << 16).replace(b"\r\n", b"\n").decode()
            os.close(slave)
            os.close(master)
            with self.subTest(command=command):
                self.assertIn("deploy", shown)
                self.assertEqual([char for char in shown if not char.isprintable() and char != "\n"], [])
                self.assertEqual("\\x1b" in shown, "\x1b" in self.quick(*command))

    def test_messages_and_help_name_the_program_as_it_was_called(self) -> None:
        script = subprocess.run([sys.executable, RLM, "forget", "nosuch"], capture_output=True, text=True)
        self.assertIn("`python3 rlm.py list-chunks`", script.stderr)
        self.chunk("text é")
        with open(self.places.log(1), "ab") as file:
            file.write(b"{broken\n")
        script = subprocess.run([sys.executable, RLM, "verify"], capture_output=True, text=True)
        self.assertIn("`python3 rlm.py verify --repair`", script.stdout)
        module = subprocess.run([sys.executable, "-m", "rlm", "forget", "nosuch"], capture_output=True, text=True,
                                cwd=os.path.dirname(RLM))
        self.assertIn("`rlm list-chunks`", module.stderr)
        for command, called in (([sys.executable, RLM], "python3 rlm.py"), ([sys.executable, "-m", "rlm"], "rlm")):
            done = subprocess.run([*command, "search", "--help"], capture_output=True, text=True, cwd=os.path.dirname(RLM))
            self.assertIn(f"usage: {called} search", done.stdout)
            self.assertIn(f"\n  {called} search \"how do we deploy\"", done.stdout)

    def test_messages_name_what_a_shell_takes(self) -> None:
        for words, part in ((("search", " "), "`QUERY` is empty; `rlm list-chunks` and"),
                            (("search", "x" * 9000), "`QUERY` has 9,000 characters"),
                            (("chunk", RLM, "--ticket", "x" * 300), "`--ticket` has 300"),
                            (("list-chunks", "--limit", "0"), "`--limit` must be"),
                            (("domains", "--nope"), "usage: rlm domains ")):
            with self.subTest(words=words):
                self.assertIn(part, self.in_process(*words)[2])

    def test_what_was_mistyped_is_named(self) -> None:
        for words, meant in ((("serch", "x"), "search"), (("search", "x", "--limt", "3"), "--limit"),
                             (("completion", "bsh"), "bash")):
            with self.subTest(words=words):
                self.assertIn(meant, self.failed(2, *words))

    def test_several_ids_are_taken_where_one_is(self) -> None:
        ids = [self.chunk("first of two"), self.chunk("second of two")]
        for words in (ids, [",".join(ids)]):
            text = self.ok("peek", *words)
            self.assertIn("first of two", text)
            self.assertIn("second of two", text)
        self.ok("forget", *ids)
        self.failed(1, "peek", *ids)

    def test_progress_is_one_line_that_goes_away(self) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        terminal = Terminal()
        with mock.patch.object(sys, "stderr", terminal), mock.patch.object(rlm.time, "monotonic") as clock:
            clock.return_value = 100.0
            progress = rlm.terminal_progress()
            progress(0, 0, "")
            clock.return_value = 100.9
            progress(5, 10, "importing")
            self.assertEqual(terminal.getvalue(), "", "what takes under a second shows nothing")
            clock.return_value = 101.1
            progress(6000, 10000, "importing")
            self.assertEqual(terminal.getvalue(), "\rimporting 6,000 of 10,000\x1b[K\r")
            progress(7000, 10000, "importing")
            self.assertNotIn("7,000", terminal.getvalue(), "not more than ten times a second")
            progress(0, 0, "")
            self.assertTrue(terminal.getvalue().endswith("\r\x1b[K"))
            pipe = io.StringIO()
            with mock.patch.object(sys, "stderr", pipe):
                progress = rlm.terminal_progress()
                clock.return_value = 110.0
                progress(5, 10, "importing")
                progress(0, 0, "")
            self.assertEqual(pipe.getvalue(), "")

    def test_the_note_of_peek_is_for_terminals(self) -> None:
        chunk_id = self.chunk("text without a line end")
        master, slave = os.openpty()
        with started("peek", chunk_id, stdout=slave, stderr=subprocess.PIPE) as process:
            err = process.communicate(timeout=30)[1]
        os.close(slave)
        self.assertEqual(os.read(master, 1000), b"text without a line end")
        os.close(master)
        self.assertIn(f"[{chunk_id}".encode(), err)
        self.assertEqual(self.in_process("peek", chunk_id), (0, "text without a line end", ""))


class ConfigTest(CliCase):
    def config(self, *arguments: str) -> Any:
        """What `config` answers, as data."""
        code, out, err = self.in_process("config", *arguments, "--json")
        self.assertEqual((code, err), (0, ""))
        return json.loads(out)

    def refused(self, *arguments: str) -> str:
        """What `config` says when it refuses."""
        code, out, err = self.in_process("config", *arguments)
        self.assertEqual((code, out, err[:5], err.count("\n")), (2, "", "rlm: ", 1))
        return err

    def test_a_setting_is_changed_shown_and_put_back(self) -> None:
        self.assertIn("archive_after_days = 60\n", self.ok("config", "archive_after_days", "60"))
        self.assertEqual(json.loads(rlm.read_file(self.places.config())), {"archive_after_days": 60})
        self.assertEqual(os.stat(self.places.config()).st_mode & 0o777, 0o600)
        self.assertEqual(self.config("archive_after_days"), {"archive_after_days": 60})
        self.assertEqual(self.config("grep_timeout_s", "2.5"), {"grep_timeout_s": 2.5})
        self.assertEqual(self.config()["archive_after_days"], 60)
        self.assertIn("(default)", self.ok("config", "--unset", "archive_after_days"))
        self.assertEqual(json.loads(rlm.read_file(self.places.config())), {"grep_timeout_s": 2.5})

    def test_a_value_that_a_setting_cannot_have_is_refused_with_those_it_takes(self) -> None:
        for key, value, wanted in (("provider", "bogus", "claude, anthropic"), ("mode", "silly", "micro, fast"),
                                   ("prices", "x", "MODEL=IN/OUT"), ("window_tokens", "10", "at least 4000")):
            code, _, err = self.in_process("config", key, value)
            self.assertEqual((code, wanted in err), (2, True), err)
        self.assertEqual([set(rlm.SETTING_FORMS[key][0]) for key in ("provider", "mode")],
                         [{"", *rlm.PROVIDERS}, {*rlm.MODES, "off"}])
        for key, value in (("provider", ""), ("mode", "fast"), ("prices", "a = 1/.5,m=1:8b=0/10"), ("window_tokens", "0")):
            self.ok("config", key, value)
        self.assertIn("bogus is no provider (claude,", self.in_process("config", "tier.fast", "bogus/leaf")[2])
        self.assertEqual(self.in_process("config", "tier.fast", "claude/haiku")[2], "")

    def test_domains_are_a_list(self) -> None:
        self.assertEqual(self.config("domains", " api, Été,,日本 "), {"domains": ["api", "Été", "日本"]})
        self.assertIn('["api", "Été", "日本"]', self.in_process("config", "domains")[1])
        self.assertIn("Été", rlm.read_file(self.places.config()).decode("utf-8"))
        self.assertEqual(self.config("domains", ""), {"domains": []})

    def test_bad_values_are_refused_and_change_nothing(self) -> None:
        self.config("immune_uses", "5")
        before = rlm.read_file(self.places.config())
        for key, value in (("archive_after_days", "soon"), ("archive_after_days", "-1"), ("archive_after_days", "1.5"),
                           ("archive_after_days", "nan"), ("purge_after_days", "1e400"), ("immune_uses", ""),
                           ("grep_timeout_s", "inf"), ("grep_timeout_s", "x" * 5000)):
            with self.subTest(key=key, value=value[:9]):
                message = self.refused(key, value)
                self.assertIn(key, message)
                self.assertIn("from 0 to 1e9", message)
                self.assertLess(len(message), 200)
        for arguments in (("nonsense",), ("nonsense", "1"), ("--unset", "nonsense"), ("--unset",), ("", "1"),
                          ("--unset", "immune_uses", "3")):
            with self.subTest(arguments=arguments):
                self.assertIn("archive_after_days, purge_after_days", self.refused(*arguments))
        self.assertEqual(rlm.read_file(self.places.config()), before)

    def test_unknown_settings_of_a_newer_version_survive(self) -> None:
        rlm.write_config(self.places, {"new_é": [1]})
        self.config("immune_uses", "5")
        self.assertEqual(json.loads(rlm.read_file(self.places.config())), {"new_é": [1], "immune_uses": 5})

    def test_a_corrupt_file_is_named_and_left_alone(self) -> None:
        os.makedirs(self.places.home)
        for data in (b"{", b"", b"[]", b"\xff", b"null", b"[" * 100_000):
            with self.subTest(data=data[:5]):
                with open(self.places.config(), "wb") as file:
                    file.write(data)
                for arguments in ((), ("immune_uses", "5"), ("--unset", "immune_uses")):
                    message = self.refused(*arguments)
                    self.assertIn(self.places.config(), message)
                    self.assertIn("mend it or remove it", message)
                self.assertEqual(rlm.read_file(self.places.config()), data)
        self.assertIn("mend it", self.failed(2, "retention-run"))
        # Saving stops too: which projects are never to be saved is in that file.
        self.assertIn("mend it", self.failed(2, "remember", "é"))

    def test_a_bad_value_in_the_file_is_named_and_can_be_mended(self) -> None:
        rlm.write_config(self.places, {"immune_uses": "many", "domains": 5})
        message = self.refused()
        self.assertIn(self.places.config(), message)
        self.assertIn("config --unset immune_uses", message)
        self.config("--unset", "immune_uses")
        self.config("domains", "api")
        self.assertEqual(self.config()["domains"], ["api"])


class CompletionTest(CliCase):
    def script(self, shell: str) -> str:
        """The completion script for that shell, as a file."""
        return self.write(f"completion.{shell}", self.in_process("completion", shell)[1])

    def test_scripts_parse_in_their_shells(self) -> None:
        tried = []
        for shell in ("bash", "zsh", "fish"):
            path = self.script(shell)
            if shutil.which(shell):
                done = subprocess.run([shell, "-n", path], capture_output=True, check=False)
                self.assertEqual((done.returncode, done.stderr), (0, b""), shell)
                tried.append(shell)
        self.assertIn("bash", tried)

    def test_every_command_and_every_option_is_completed(self) -> None:
        parsers = rlm.build_parser()._subparsers._group_actions[0].choices
        for shell in ("bash", "zsh", "fish"):
            script = rlm.read_file(self.script(shell)).decode()
            for name in (*TOOL_COMMANDS, *OTHER_COMMANDS):
                self.assertRegex(script, rf"\b{name}\b")
                for option in re.findall(r"--([a-z][a-z-]+)", parsers[name].format_help().split("examples:")[0]):
                    if shell == "fish":
                        self.assertRegex(script, rf"(?m)^  for option in .*\b{option}\b.*from {name}' -l ")
                    else:
                        self.assertRegex(script, rf"(?m)^ +{name}\).*--{option}\b")

    def test_bash_completes(self) -> None:
        path = self.script("bash")
        for words, wanted in ((["rlm.py", "retention"], ["retention-preview", "retention-run"]),
                              (["rlm.py", "forget", "--d"], ["--dry-run"]),
                              (["rlm.py", "retention-run", "--no"], ["--no-archive"]),
                              (["rlm.py", "search", "--date"], ["--date-from", "--date-to"])):
            script = f'source {shlex.quote(path)}; COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}; ' \
                '_rlm; printf "%s\\n" "${COMPREPLY[@]}"'
            done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
            self.assertEqual(sorted(done.stdout.decode().split()), wanted)


if __name__ == "__main__":
    unittest.main()
