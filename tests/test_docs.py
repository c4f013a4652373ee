"""README tells the truth: its tool table is the registry's, its commands exist, and its transcript can be replayed."""
from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
import unittest
from unittest import mock
from urllib.parse import quote

from tests.support import ROOT, TempHome, bytecode, rlm

with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
    README = file.read()

# The text that the transcript in README stores.
INCIDENT = """# Incident 2026-11-18

Checkout failed with ConnectionResetError after the deploy of v2.3.1.
The load balancer closed idle connections after 60 s; the pool kept them for 300 s.
Fix: pool_recycle=50 in src/db/pool.py (SHOP-412).
"""


# The session before the one that README shows the beginning of.
SESSION = "3c57c232-d4a0-4b3f-a780-c76246539c7a"
TURNS = (("user", "Checkout fails with ConnectionResetError after each deploy. Find out why, and mend it."),
         ("assistant", "The load balancer closes idle connections after 60 s, the pool kept them for 300 s. Now it is 50 s."),
         ("user", "Good. Write the runbook tomorrow."))


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
        texts = [*rlm.TOOL_EXAMPLES.values(), *(command.example for command in rlm.COMMANDS.values())]
        examples = [line for text in texts for line in text.split("\n") if line.startswith("rlm ")]
        self.assertGreater(len(examples), 15)
        for line in examples:
            words = shlex.split(line.partition(" | ")[0])[1:]
            with self.subTest(line=line):
                self.assertEqual(rlm.build_parser(words[0]).parse_args(words).command, words[0])

    def put_transcript(self, folder: str, turns: tuple[tuple[str, str], ...]) -> str:
        """A conversation of half a day ago in that folder; the transcript's path."""
        path = os.path.join(self.home, ".claude", "projects", "-home-dev-shop", SESSION + ".jsonl")
        os.makedirs(os.path.dirname(path))
        at_s = time.time() - 14.5 * 3600
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))
        with open(path, "w", encoding="utf-8") as file:
            for n, (kind, text) in enumerate(turns):
                print(json.dumps({"type": kind, "uuid": f"u{n}", "sessionId": SESSION, "cwd": folder, "timestamp": stamp,
                                  "message": {"role": kind, "content": [{"type": "text", "text": text}]}}), file=file)
        os.utime(path, (at_s, at_s))
        return path

    def test_the_transcript_is_what_the_commands_print(self) -> None:
        block = re.search(r"```console\n(.*?)\n```", README, re.DOTALL)
        assert block
        with open(os.path.join(self.home, "incident.md"), "w", encoding="utf-8") as file:
            file.write(INCIDENT)
        with open(os.path.join(self.home, "rlm"), "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -S -m rlm "$@"\n')
        os.chmod(file.name, 0o755)
        env = {**os.environ, **bytecode(), "RLM_PROJECT": "shop", "PATH": self.home + ":" + os.environ["PATH"]}
        steps = re.split(r"^\$ ", block[1], flags=re.MULTILINE)[1:]
        self.assertGreater(len(steps), 4)
        for step in steps:
            command, _, shown = step.partition("\n")
            done = subprocess.run(["sh", "-c", command], cwd=self.home, env=env, capture_output=True, text=True, check=False)
            with self.subTest(command=command):
                self.assertEqual(done.stderr, "")
                self.assertEqual(without_chance(done.stdout).rstrip(), without_chance(shown).rstrip())

    def test_the_second_day_is_what_the_hook_says(self) -> None:
        block = re.search(r"\*\*On day two\*\*.*?```text\n(.*?)\n```", README, re.DOTALL)
        assert block
        del os.environ["RLM_PROJECT"]
        shop = os.path.join(self.home, "shop")
        os.mkdir(shop)
        path = self.put_transcript(shop, TURNS)
        with mock.patch.dict(os.environ, CLAUDE_PROJECT_DIR=shop):
            self.cli("remember", "Never deploy on Fridays: nobody is there to roll back", "--category", "decision",
                     "--importance", "critical")
            for event, session, more in (("SessionEnd", SESSION, {"reason": "other"}), ("SessionStart", "new", {"source": "startup"})):
                payload = {"session_id": session, "transcript_path": path.replace(SESSION, session), "cwd": shop,
                           "hook_event_name": event, **more}
                hook = os.path.join(ROOT, "hooks", rlm.HOOKS[event].file)
                done = subprocess.run([sys.executable, "-I", "-S", hook], input=json.dumps(payload), capture_output=True,
                                      text=True, check=False)
        text = json.loads(done.stdout)["hookSpecificOutput"]["additionalContext"]
        self.assertEqual(without_chance(text), without_chance(block[1]))

    def test_it_runs_as_a_module_too(self) -> None:
        command = [sys.executable, "-m", "rlm", "--version"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, f"rlm {rlm.__version__}\n", ""))
        client = self.client(command=[sys.executable, "-m", "rlm", "serve"], env={"PYTHONPATH": ROOT})
        client.initialize()
        self.assertIn("saved", client.text("rlm_chunk", content="as a module é"))

    @unittest.skipUnless(shutil.which("curl"), "needs curl")
    def test_the_first_steps_of_readme_work_on_a_fresh_machine(self) -> None:
        url, fetch, dry_run, install = re.findall(r"^    (\S.*?)(?: +# .*)?$", README.partition("## Start")[2], re.MULTILINE)[:4]
        archive = os.path.join(self.home, "main.tar.gz")
        with tarfile.open(archive, "w:gz") as tar:
            for name in ("rlm.py", "README.md", "hooks", "skills"):
                tar.add(os.path.join(ROOT, name), f"rlm-main/{name}", filter=lambda i: None if "__pycache__" in i.name else i)
        path = self.put_transcript("/home/dev/shop", (("user", "How long do we keep backups? é"),
                                                      ("assistant", "We decided on 90 days, off site.")))
        del os.environ["RLM_PROJECT"]

        def run(line: str, folder: str = self.home) -> str:
            """What a command of README prints."""
            line = line.replace("python3", shlex.quote(sys.executable))
            env = {**os.environ, "PATH": os.path.join(self.home, ".local", "bin") + ":" + os.environ["PATH"]}
            done = subprocess.run(["sh", "-c", line], cwd=folder, env=env, capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
            return done.stdout

        self.assertRegex(url, r"^RLM_URL=https://\S+/OWNER/\S+\.tar\.gz$")
        run(f"RLM_URL={shlex.quote('file://' + quote(archive))}; {fetch}")
        folder = os.path.join(self.home, "rlm")
        self.assertIn("import ", run(dry_run, folder))
        self.assertEqual(os.listdir(os.path.join(self.home, ".claude")), ["projects"])
        self.assertRegex(run(install, folder), "0 failures[^!]*Restart Claude Code")
        self.assertEqual(len(os.listdir(os.path.join(self.home, ".claude", "skills"))), 3)
        self.assertIn('    rlm search "what did we decide about backups"\n', README)
        self.assertIn("90 days", run('rlm search "what did we decide about backups"'))
        run("rlm uninstall --all --yes")
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
