"""README tells the truth: its tool table is the registry's, its commands exist, and its transcript can be replayed."""
from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import unittest

from tests.support import RLM, ROOT, TempHome, rlm

with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
    README = file.read()

# The text that the transcript in README stores.
INCIDENT = """# Incident 2026-11-18

Checkout failed with ConnectionResetError after the deploy of v2.3.1.
The load balancer closed idle connections after 60 s; the pool kept them for 300 s.
Fix: pool_recycle=50 in src/db/pool.py (SHOP-412).
"""


def without_chance(text: str) -> str:
    """The text without what differs from run to run: dates, random ids, ages."""
    text = re.sub(r"\d{4}-\d\d-\d\d(?=_)", "DATE", text)
    return re.sub(r"\b\d+[smh] ago", "AGE ago", re.sub(r"\bi-[0-9a-f]{8}\b", "i-ID", text))


class ReadmeTest(TempHome):
    def test_the_tool_table_is_the_registrys(self) -> None:
        between = re.search(r"<!-- tools:.*?-->\n(.*?)\n<!-- end of tools -->", README, re.DOTALL)
        self.assertIsNotNone(between)
        assert between
        self.assertEqual(between[1], rlm.tool_table())

    def test_every_command_is_named(self) -> None:
        for name in rlm.COMMANDS:
            self.assertRegex(README, rf"`?{name}\b")

    def test_every_tool_and_command_has_a_help_text_and_an_example_that_parses(self) -> None:
        for made in rlm.TOOLS.values():
            self.assertTrue(made.help.endswith("."), made.name)
            self.assertTrue(made.run.__doc__, made.name)
        examples = [line for text in rlm.EXAMPLES.values() for line in text.split("\n") if line.startswith("rlm.py ")]
        self.assertGreater(len(examples), 15)
        for line in examples:
            words = shlex.split(line.partition(" | ")[0])[1:]
            with self.subTest(line=line):
                self.assertEqual(rlm.build_parser(words[0]).parse_args(words).command, words[0])

    def test_the_transcript_is_what_the_commands_print(self) -> None:
        block = re.search(r"```console\n(.*?)\n```", README, re.DOTALL)
        assert block
        with open(os.path.join(self.home, "incident.md"), "w", encoding="utf-8") as file:
            file.write(INCIDENT)
        os.environ["RLM_PROJECT"] = "shop"
        steps = re.split(r"^\$ ", block[1], flags=re.MULTILINE)[1:]
        self.assertGreater(len(steps), 4)
        for step in steps:
            command, _, shown = step.partition("\n")
            run = command.replace("python3 rlm.py", f"{shlex.quote(sys.executable)} {shlex.quote(RLM)}", 1)
            done = subprocess.run(["sh", "-c", run], cwd=self.home, capture_output=True, text=True, check=False)
            with self.subTest(command=command):
                self.assertEqual(done.stderr, "")
                self.assertEqual(without_chance(done.stdout).rstrip(), without_chance(shown).rstrip())

    def test_it_runs_as_a_module_too(self) -> None:
        command = [sys.executable, "-m", "rlm", "--version"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, f"rlm {rlm.__version__}\n", ""))
        client = self.client(command=[sys.executable, "-m", "rlm", "serve"], env={"PYTHONPATH": ROOT})
        client.initialize()
        self.assertIn("saved", client.text("rlm_chunk", content="as a module é"))

    def test_the_first_steps_of_readme_work_on_a_fresh_machine(self) -> None:
        folder = os.path.join(self.home, "rlm")
        shutil.copytree(ROOT, folder, ignore=lambda _, names: [n for n in names if n in (".git", "tests", "__pycache__")])
        projects = os.path.join(self.home, ".claude", "projects", "-home-dev-shop")
        os.makedirs(projects)
        path = os.path.join(projects, "3c57c232-d4a0-4b3f-a780-c76246539c7a.jsonl")
        with open(path, "w", encoding="utf-8") as file:
            for kind, text in (("user", "How long do we keep backups? é"), ("assistant", "We decided on 90 days, off site.")):
                print(json.dumps({"type": kind, "uuid": kind, "sessionId": "3c57c232", "cwd": "/home/dev/shop",
                                  "timestamp": "2026-11-21T07:13:49.789Z",
                                  "message": {"role": kind, "content": [{"type": "text", "text": text}]}},
                                 separators=(",", ":")), file=file)
        os.utime(path, (1, 1))
        del os.environ["RLM_PROJECT"]

        def run(line: str) -> str:
            """What a command of README prints."""
            self.assertIn(line, README)
            line = line.replace("python3", shlex.quote(sys.executable)).replace("~/.local", '"$HOME"/.local')
            done = subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
            return done.stdout

        self.assertIn("write", run("python3 rlm.py install --dry-run"))
        self.assertEqual(os.listdir(os.path.join(self.home, ".claude")), ["projects"])
        self.assertIn("0 failures", run("python3 rlm.py install  ".rstrip()))
        self.assertIn("90 days", run('~/.local/bin/rlm search "what did we decide about backups"'))
        done = subprocess.run([os.path.join(self.home, ".local", "bin", "rlm"), "uninstall", "--all", "--yes"],
                              cwd=self.home, capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        left = [name for _, _, names in os.walk(os.path.join(self.home, ".claude")) for name in names]
        self.assertEqual((left, os.path.exists(os.path.join(self.home, ".claude.json"))), ([os.path.basename(path)], False))

    def test_a_folder_of_texts_is_searchable_without_claude_code(self) -> None:
        notes = os.path.join(self.home, "notes")
        os.mkdir(notes)
        with open(os.path.join(notes, "plan.md"), "w", encoding="utf-8") as file:
            file.write("# Backups\n\nWe decided to keep backups for 90 days, off site.\n")
        self.assertIn("python3 rlm.py import ~/notes", README)
        self.assertIn(b"Imported 1", self.cli("import", notes).stdout)
        self.assertIn(b"90 days", self.cli("search", "what did we decide about backups").stdout)

    def test_the_hooks_and_settings_in_readme_are_those_that_are_installed(self) -> None:
        with open(os.path.join(ROOT, "settings.snippet.json"), encoding="utf-8") as file:
            self.assertEqual(len(json.load(file)["hooks"]), 5)
        self.assertIn("puts five hooks into", README)
        for word in ("[redacted:KIND]", "<private>", "config exclude", "uninstall", "doctor", "restore-transcript"):
            self.assertIn(word, README)


if __name__ == "__main__":
    unittest.main()
