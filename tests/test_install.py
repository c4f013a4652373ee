"""Install, uninstall and doctor in a scratch HOME: the user's files keep their every byte, and what is installed runs."""
from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import py_compile
import random
import shlex
import shutil
import stat
import struct
import subprocess
import sys
import time
import unittest
from typing import Any
from unittest import mock

from tests.support import RLM, ROOT, InProcess, ended, forked, rlm

SNIPPET = os.path.join(ROOT, "settings.snippet.json")

# Four spaces, no newline at the end, other people's hooks, keys that nobody knows, numbers that floats do not hold.
SETTINGS = """\
{
    "$schema": "https://json.schemastore.org/claude-code-settings.json",
    "model": "opus",
    "permissions": {
        "allow": ["Bash(git status:*)", "Read(//home/dé/**)"],
        "deny": [ "Read(.env)" ]
    },
    "hooks": {
        "PreToolUse": [
            {
                "matcher": "Bash",
                "hooks": [
                    { "type": "command", "command": "/opt/guard.py --strict", "timeout": 3 }
                ]
            }
        ],
        "SessionStart": [
            {"hooks": [{"type": "command", "command": "echo 'caf\\u00e9 日本語'"}]}
        ]
    },
    "unknown": {"big": 12345678901234567890123, "precise": 1.10, "e": 1E5, "null": null, "empty": []},
    "statusLine": {"type": "command", "command": "~/bin/line"}
}"""
CLIENT_STATE = """\
{
  "numStartups": 412,
  "oauthAccount": { "emailAddress": "dé@example.com" },
  "mcpServers": {
    "github": {
      "type": "stdio",
      "command": "npx",
      "args": ["-y", "server-github"],
      "env": {}
    }
  },
  "projects": {
    "/home/dev/shop": { "lastCost": 0.30000000000000004, "lastTotal": 98765432109876543210, "mcpServers": {} }
  },
  "tip": "\\ud83d\\ude00 \\u2028"
}
"""
STANDARD = ["PreCompact", "SessionStart", "UserPromptSubmit", "PostCompact", "SessionEnd"]
TINY = '''"""A stand-in for the program: quick to compile."""
__version__ = "{version}"


def run_hook(event):
    print(event, flush=True)


def main(argv=None):
    return 0
'''


def mode_of(path: str) -> int:
    """The file's permissions."""
    return stat.S_IMODE(os.stat(path).st_mode)


class Terminal(io.StringIO):
    """A terminal at which something is typed."""

    def isatty(self) -> bool:
        return True


class InstallCase(InProcess):
    """A scratch HOME with a client in it, and a small program to install, which is compiled only once."""

    compiled: dict[bytes, bytes] = {}  # bytecode by source

    def setUp(self) -> None:
        super().setUp()
        self.claude = os.path.join(self.home, ".claude")
        self.settings = os.path.join(self.claude, "settings.json")
        self.state = os.path.join(self.home, ".claude.json")
        self.source = os.path.join(self.home, "download")
        for name in ("rlm", "rlm-analyze"):
            self.put(os.path.join(self.source, "skills", name, "SKILL.md"), f"# {name}: mcp__rlm__rlm_peek\n")
        self.put_program(TINY.format(version=rlm.__version__))
        os.environ.pop("RLM_PROJECT")
        real = rlm.run_briefly

        def run_briefly(command: Any, *more: Any) -> Any:
            return real(command, *more) if "py_compile" not in command else self.put_bytecode(command[-1])

        self.patch = mock.patch.object(rlm, "run_briefly", run_briefly)
        self.patch.start()
        self.addCleanup(mock.patch.stopall)

    def put_bytecode(self, program: str) -> None:
        """Puts the program's bytecode there, with the time and size of this file."""
        source, about = rlm.read_file(program), os.stat(program)
        if source not in self.compiled:
            self.compiled[source] = rlm.read_file(py_compile.compile(program) or "")
        stamp = struct.pack("<LLL", 0, int(about.st_mtime) & 0xFFFFFFFF, about.st_size & 0xFFFFFFFF)
        path = importlib.util.cache_from_source(program)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(self.compiled[source][:4] + stamp + self.compiled[source][16:])

    def put_program(self, text: str) -> None:
        """Makes this the program that is installed."""
        self.put(os.path.join(self.source, "rlm.py"), text)
        mock.patch.object(rlm, "PROGRAM", os.path.join(self.source, "rlm.py")).start()

    def put(self, path: str, text: str) -> None:
        """Writes a file."""
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(text)

    def text(self, path: str) -> str:
        """Reads a file."""
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()

    def data(self, path: str) -> Any:
        """Reads a JSON file."""
        return json.loads(self.text(path))

    def put_client(self) -> None:
        """A client that somebody has used for long."""
        self.put(self.settings, SETTINGS)
        self.put(self.state, CLIENT_STATE)

    def files(self) -> dict[str, bytes]:
        """Every file below HOME but the download and bytecode."""
        paths = [os.path.join(folder, name) for folder, _, names in os.walk(self.home) for name in names]
        return {p: rlm.read_file(p) for p in paths if not p.startswith(self.source) and not p.endswith(".pyc")}

    def run_command(self, name: str, *arguments: str, doctor: bool = False, typed: str | None = None) -> tuple[int, str]:
        """Runs a command in this process; exit code and all that it printed. Without *doctor*, that part is left out.

        With *typed* there is a terminal at which somebody types that.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.object(sys, "stdin", io.StringIO() if typed is None else Terminal(typed)))
            if not doctor:
                stack.enter_context(mock.patch.object(rlm, "doctor_checks", lambda places, record: []))
            return self.main(name, *arguments)

    def install(self, *arguments: str) -> str:
        """Installs, without doctor; what was printed."""
        code, text = self.run_command("install", *arguments)
        self.assertEqual(code, 0, text)
        return text

    def uninstall(self, *arguments: str) -> str:
        """Uninstalls; what was printed."""
        code, text = self.run_command("uninstall", *arguments)
        self.assertEqual(code, 0, text)
        return text

    def doctor(self, *arguments: str, hooks: bool = True, server: bool = True) -> tuple[int, dict[str, list[Any]], str]:
        """Exit code, the states with their findings by check, and all that was printed; it runs hooks and server or not."""
        with contextlib.ExitStack() as stack:
            if not hooks:
                stack.enter_context(mock.patch.object(rlm, "hook_trips", lambda *_: iter(())))
            if not server:
                stack.enter_context(mock.patch.object(rlm, "server_trip", lambda *_: ("server", "ok", "", "")))
            code, text = self.run_command("doctor", "--json", *arguments, doctor=True)
        found: dict[str, list[Any]] = {}
        start = text.index("{\n")
        for check in json.JSONDecoder().raw_decode(text[start:])[0]["checks"]:
            found.setdefault(check["check"], []).append((check["state"], check["what"], check["to_do"]))
        return code, found, text

    def put_transcript(self, age_s: float = 0) -> str:
        """A conversation that was last touched so long ago; its path."""
        path = os.path.join(self.claude, "projects", "-home-dev-shop", "3c57c232-d4a0-4b3f-a780-c76246539c7a.jsonl")
        self.put(path, json.dumps({"type": "user", "uuid": "u", "sessionId": "3c57c232", "cwd": "/home/dev/shop",
                                   "timestamp": "2026-11-21T07:13:49.789Z",
                                   "message": {"role": "user", "content": "How long do we keep backups?"}}) + "\n")
        os.utime(path, (rlm.now() - age_s, rlm.now() - age_s))
        return path

    def in_project(self) -> str:
        """A project's folder, the current one until the test ends."""
        project = os.path.realpath(os.path.join(self.home, "shop"))
        os.makedirs(project, exist_ok=True)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(project)
        return project

    def hook(self, event: str, path: str = "") -> Any:
        """The entry of ours for an event in the settings."""
        for group in self.data(path or self.settings)["hooks"].get(event, []):
            for entry in group["hooks"]:
                if f"/rlm/hooks/{rlm.HOOKS[event].file}" in entry["command"]:
                    return entry
        return None


class InstallTest(InstallCase):
    def test_on_a_machine_without_any_file_of_the_client_it_makes_them(self) -> None:
        self.install()
        self.assertEqual(list(self.data(self.settings)["hooks"]), STANDARD)
        self.assertEqual(list(self.data(self.state)["mcpServers"]), ["rlm"])
        self.assertTrue(self.text(self.settings).endswith("}\n"))
        for path in ("rlm/rlm.py", "rlm/hooks/pre_compact.py", "skills/rlm/SKILL.md", "skills/rlm-analyze/SKILL.md"):
            self.assertTrue(os.path.isfile(os.path.join(self.claude, path)), path)
        self.assertNotIn("RLM_", self.text(rlm.launcher_file()) + self.text(self.settings) + self.text(self.state))

    def test_everything_else_in_the_clients_files_stays_in_its_order_and_form(self) -> None:
        self.put_client()
        self.install()
        settings, was = self.data(self.settings), json.loads(SETTINGS)
        self.assertEqual(list(settings), list(was))
        ours = {event: groups[-1:] for event, groups in settings["hooks"].items() if event in STANDARD}
        for event, groups in settings["hooks"].items():
            self.assertEqual(groups, [*was["hooks"].get(event, []), *ours.get(event, [])])
        self.assertEqual({**settings, "hooks": 0}, {**was, "hooks": 0})
        self.assertIn('        "PreCompact": [\n            {\n                "hooks": [', self.text(self.settings))
        self.assertIn("echo 'café 日本語'", self.text(self.settings))
        self.assertFalse(self.text(self.settings).endswith("\n"))
        state = self.data(self.state)
        self.assertEqual(list(state["mcpServers"]), ["github", "rlm"])
        del state["mcpServers"]["rlm"]
        self.assertEqual(state, json.loads(CLIENT_STATE))
        self.assertTrue(self.text(self.state).endswith("\n}\n"))

    def test_indent_line_ends_byte_order_mark_and_half_characters_stay(self) -> None:
        text = '\ufeff{\r\n\t"a": "\\ud83d",\r\n\t"hooks": {}\r\n}\r\n'
        self.put(self.settings, text)
        self.install()
        after = self.text(self.settings)
        self.assertTrue(after.startswith('\ufeff{\r\n\t"a": "\\ud83d",\r\n\t"hooks": {\r\n\t\t"PreCompact": ['), after)
        self.assertEqual(after.count("\n"), after.count("\r\n"))
        for text in ('{"a":1}', '{"hooks": {}}', '{"hooks":{"PreCompact":[]},"b":[1,2]}\n', '{"mcpServers":{}}'):
            self.put(self.settings, text)
            self.install()
            self.assertEqual(self.text(self.settings).strip().count("\n"), 0, text)
            self.assertEqual(set(self.data(self.settings)["hooks"]), set(STANDARD))

    def test_installing_twice_changes_nothing_more(self) -> None:
        self.put_client()
        self.install("--allow", "--advice")
        before = self.files()
        times = {path: os.stat(path).st_mtime_ns for path in before}
        text = self.install("--allow", "--advice")
        self.assertEqual(self.files(), before)
        self.assertEqual({path: os.stat(path).st_mtime_ns for path in before}, times)
        self.assertEqual({line.split()[0] for line in text.splitlines() if " /" in line} - {"Restart"},
                         {"unchanged"}, text)

    def test_the_plan_shown_by_a_dry_run_is_the_plan_carried_out_and_a_dry_run_changes_nothing(self) -> None:
        self.put_client()
        before = self.files()
        planned = self.install("--dry-run")
        self.assertEqual(self.files(), before)
        self.assertTrue(self.install().startswith(planned), planned)
        self.assertIn(f"change     {self.settings}", planned)

    def test_the_plan_names_the_import_and_the_end_what_else_there_is_and_what_to_try(self) -> None:
        self.put_transcript(90_000)
        memory = os.path.join(self.claude, "projects", "-home-dev-shop", "memory")
        store = os.path.join(self.claude, "rlm", "context")
        self.put(os.path.join(memory, "MEMORY.md"), "# Memory\n")
        self.put(os.path.join(memory, "deploys.md"), "---\nname: deploys\ndescription: when\ntype: project\n---\nTuesdays\n")
        self.put(os.path.join(store, "session_memory.json"), '{"insights": []}')
        self.assertIn(f"import     {self.claude}/projects: 1 transcript, ", self.install("--dry-run"))
        self.assertNotIn("transcript", self.install("--dry-run", "--no-import"))
        lines = self.install().splitlines()
        self.assertIn(f"`rlm import {store}`", lines[-4])
        self.assertIn(f"`rlm import {memory}`", lines[-3])
        self.assertIn("not on PATH", lines[-2])
        self.assertRegex(lines[-1], f'^Restart Claude Code, .*{rlm.launcher_file()} search "')
        with mock.patch.dict(os.environ, PATH=os.path.dirname(rlm.launcher_file()) + ":" + os.environ["PATH"]):
            self.assertRegex(self.install().splitlines()[-1], ': rlm search "')

    def test_as_json_every_command_prints_one_document(self) -> None:
        for arguments in (("install", "--dry-run"), ("install",), ("install", "--skills-only"), ("uninstall", "--all", "--dry-run"),
                          ("uninstall", "--keep-data"), ("uninstall", "--all"), ("doctor",)):
            data = json.loads(self.run_command(*arguments, "--json")[1])
            self.assertIn("checks" if arguments == ("doctor",) else "steps", data)
            self.assertTrue(all(step["step"] and step["path"] for step in data.get("steps", [])))

    def test_a_backup_holds_the_first_state_and_undoes_no_change_that_was_made_since(self) -> None:
        self.put_client()
        self.install()
        self.put(self.settings, self.text(self.settings).replace('"opus"', '"haiku"'))
        self.install("--allow")
        self.assertEqual(self.text(self.settings + ".rlm-backup"), SETTINGS)
        self.assertEqual(self.text(self.state + ".rlm-backup"), CLIENT_STATE)
        self.assertEqual(mode_of(self.state + ".rlm-backup"), 0o600)
        self.uninstall("--keep-data")
        self.assertEqual(self.data(self.settings), {**json.loads(SETTINGS), "model": "haiku"})
        self.assertEqual(self.text(self.state), CLIENT_STATE)

    def test_a_link_to_the_settings_stays_a_link_and_permissions_stay(self) -> None:
        target = os.path.join(self.home, "dotfiles", "claude.json")
        self.put(target, SETTINGS)
        os.chmod(target, 0o640)
        os.makedirs(self.claude)
        os.symlink(target, self.settings)
        self.install()
        self.assertTrue(os.path.islink(self.settings))
        self.assertIn("pre_compact.py", self.text(target))
        self.assertEqual(mode_of(target), 0o640)
        self.assertEqual(os.listdir(os.path.dirname(target)), ["claude.json"])
        self.uninstall("--keep-data")
        self.assertEqual(self.text(target), SETTINGS)
        self.assertTrue(os.path.islink(self.settings))

    def test_broken_files_of_the_client_are_an_error_that_changes_nothing(self) -> None:
        cases = [('{"a": 1,}', "valid JSON"), ("[]", "object"), ('{"hooks": []}', '"hooks"'), ("{" * 100_000, "JSON"),
                 ('{"hooks": {"PreCompact": {}}}', '"PreCompact"'), ('{"permissions": {"allow": {}}}', '"allow"'),
                 ('{"permissions": 1}', '"permissions"')]
        for text, part in cases:
            self.put_client()
            self.put(self.settings, text)
            self.assert_refused(part, "--allow")
        for text, part in [("nonsense", "valid JSON"), ('"text"', "object"), ('{"mcpServers": []}', '"mcpServers"')]:
            self.put_client()
            self.put(self.state, text)
            self.assert_refused(part)
        for number in ("NaN", "1e999"):
            self.put(self.state, f'{{"a": {number}}}')
            self.assert_refused(self.state)
        with open(self.state, "wb") as file:
            file.write(b'{"a": "\xe9"}')
        self.assert_refused("UTF-8")

    def assert_refused(self, part: str, *arguments: str) -> None:
        """Installing fails with a message that holds *part* and what to do, and leaves every file alone."""
        before = self.files()
        code, text = self.run_command("install", *arguments)
        self.assertRegex(text, part + ".*nothing was changed: .* try again" if ";" not in part else part)
        self.assertEqual(code, 1)
        self.assertEqual(self.files(), before)

    def test_a_read_only_file_is_an_error_that_changes_nothing(self) -> None:
        for path in (self.settings, self.state):
            self.put_client()
            os.chmod(path, 0o444)
            self.assert_refused("read-only")
            os.chmod(path, 0o644)

    def test_another_server_of_that_name_stays_and_ours_gets_the_name_that_is_given(self) -> None:
        for entry in ({"command": "node", "args": ["rlm-server.js"]}, {"type": "http", "url": "http://x"}, "odd"):
            self.put(self.state, json.dumps({"mcpServers": {"rlm": entry, "taken": {}}}))
            self.assert_refused("another server named rlm; .*--name rlm-memory")
            self.assert_refused("another server named taken", "--name", "taken")
        self.assertEqual(self.run_command("install", "--name", "a b")[0], 2)
        self.install("--name", "rlm-memory", "--allow")
        for _ in range(2):
            servers = self.data(self.state)["mcpServers"]
            self.assertEqual((list(servers), servers["rlm"]), (["rlm", "taken", "rlm-memory"], entry))
            self.install()  # the name is known now
        self.install("--name", "memory")
        self.assertEqual(list(self.data(self.state)["mcpServers"]), ["rlm", "taken", "memory"])
        self.assertIn("mcp__memory__rlm_search", self.data(self.settings)["permissions"]["allow"])
        self.assertNotIn("mcp__rlm", self.text(self.settings))
        self.assertEqual(self.text(os.path.join(self.claude, "skills", "rlm", "SKILL.md")), "# rlm: mcp__memory__rlm_peek\n")
        self.uninstall("--keep-data")
        self.assertEqual(self.data(self.state), {"mcpServers": {"rlm": entry, "taken": {}}})
        self.assertFalse(os.path.exists(self.settings))

    def test_a_server_entered_by_hand_is_taken_over_with_what_the_user_added(self) -> None:
        entry = {"command": "python3", "args": ["/src/rlm.py", "serve"], "timeout": 9000, "env": {"RLM_PROJECT": "x"}}
        self.put(self.state, json.dumps({"mcpServers": {"rlm": entry, "b": {}}}))
        self.install()
        new = self.data(self.state)["mcpServers"]
        self.assertEqual(list(new), ["rlm", "b"])
        self.assertEqual(new["rlm"]["timeout"], 9000)
        self.assertEqual(new["rlm"]["env"], {"RLM_PROJECT": "x"})
        self.assertEqual(new["rlm"]["command"], rlm.interpreter())

    def test_a_change_that_the_client_makes_meanwhile_is_not_lost(self) -> None:
        self.put_client()
        real, n_reads = rlm.read_file, 0

        def read_file(path: str) -> bytes:
            nonlocal n_reads
            data = real(path)
            n_reads += path == self.state
            if path == self.state and n_reads == 2:  # the first reading was for the plan
                self.put(self.state, CLIENT_STATE.replace("412", "413"))
            return data

        with mock.patch.object(rlm, "read_file", read_file):
            self.install()
        self.assertEqual(self.data(self.state)["numStartups"], 413)
        self.assertIn("rlm", self.data(self.state)["mcpServers"])

    def test_hooks_get_the_variables_that_move_the_store(self) -> None:
        moved = os.path.join(self.home, "my memory")
        with mock.patch.dict(os.environ, RLM_CONTEXT_DIR=moved):
            self.install()
        self.assertTrue(self.hook("PreCompact")["command"].startswith(f"RLM_CONTEXT_DIR='{moved}' "))
        self.assertEqual(self.data(self.state)["mcpServers"]["rlm"]["env"], {"RLM_CONTEXT_DIR": moved})
        self.put_transcript()
        self.install()  # from a shell in which it is not set
        with mock.patch.dict(os.environ, RLM_CONTEXT_DIR=moved):
            self.assertEqual(rlm.View(rlm.Places()).refresh().n_docs(), 1)
        self.assertIn(moved, self.hook("PreCompact")["command"])
        self.assertIn(moved, self.text(rlm.launcher_file()))

    def test_with_a_configuration_folder_of_its_own_everything_goes_there(self) -> None:
        folder = os.path.join(self.home, "work config")
        with mock.patch.dict(os.environ, CLAUDE_CONFIG_DIR=folder):
            self.install()
        self.assertEqual(sorted(os.listdir(folder)), [".claude.json", "rlm", "settings.json", "skills"])
        self.assertFalse(os.path.exists(self.claude))
        self.assertFalse(os.path.exists(self.state))
        self.assertIn(f"RLM_HOME='{folder}/rlm'", self.text(rlm.launcher_file()))  # the variable may not be set there

    def test_only_tools_that_read_are_allowed_only_when_asked_for_and_once(self) -> None:
        self.put_client()
        self.install()
        self.assertNotIn("mcp__rlm__", self.text(self.settings))
        self.install("--allow")
        self.install("--allow")
        rules = self.data(self.settings)["permissions"]["allow"]
        self.assertEqual(rules, ["Bash(git status:*)", "Read(//home/dé/**)",
                                 *(f"mcp__rlm__{name}" for name, made in rlm.TOOLS.items() if made.reads_only)])
        self.assertIn("mcp__rlm__rlm_search", rules)
        self.assertFalse({f"mcp__rlm__rlm_{name}" for name in ("remember", "forget", "chunk", "retention_run")} & {*rules})

    def test_a_rule_for_all_tools_that_an_older_version_made_becomes_one_for_each_that_reads(self) -> None:
        self.put_client()
        self.install()
        for path, known in self.data(self.places.install_record())["client_files"].items():
            self.assertEqual("server" in known, path == self.state)
        record = self.data(self.places.install_record())
        record["client_files"][self.settings]["allow"] = record["client_files"][self.state]["server"] = True
        self.put(self.places.install_record(), json.dumps(record))
        data = self.data(self.settings)
        data["permissions"]["allow"].insert(0, "mcp__rlm__*")
        self.put(self.settings, json.dumps(data))
        self.install()
        rules = self.data(self.settings)["permissions"]["allow"]
        self.assertEqual(("mcp__rlm__*" in rules, "mcp__rlm__rlm_peek" in rules), (False, True))
        self.uninstall("--keep-data")
        self.assertEqual(self.data(self.settings), json.loads(SETTINGS))

    def test_parts_can_be_left_out(self) -> None:
        self.install("--skills-only")
        self.assertEqual(sorted(os.listdir(self.claude)), ["rlm", "skills"])
        self.assertEqual(sorted(os.listdir(os.path.join(self.claude, "rlm"))), ["install.json", "install.lock"])
        code, found, text = self.doctor()
        self.assertEqual((code, found["files"] if "files" in found else []), (0, []), text)
        self.install("--no-hooks")
        self.assertFalse(os.path.exists(self.settings))
        self.assertFalse(os.path.exists(os.path.join(self.claude, "rlm", "hooks")))
        self.assertTrue(os.path.exists(self.state))

    def test_history_is_imported_unless_told_otherwise(self) -> None:
        self.put_transcript()
        for left_out in ("--no-import", "--skills-only"):
            self.assertNotIn("transcript", self.install(left_out))
        self.assertIn("Imported 1 chunk from 1 transcript; 0 had nothing new.", self.install())
        self.assertIn("Nothing new in 1 transcript.", self.install())

    def test_for_a_project_what_its_team_shares_holds_nobodys_paths(self) -> None:
        self.put_client()
        project = self.in_project()
        text = self.install("--project", "--allow")
        self.assertEqual((self.text(self.settings), self.text(self.state)), (SETTINGS, CLIENT_STATE))
        self.assertEqual(sorted(os.listdir(os.path.join(project, ".claude"))), ["settings.local.json", "skills"])
        settings = os.path.join(project, ".claude", "settings.local.json")
        self.assertEqual(list(self.data(settings)["hooks"]), STANDARD)
        self.assertRegex(text, "settings.local.json: .*keep it out of git")
        servers = os.path.join(project, ".mcp.json")
        self.assertNotIn(self.home, self.text(servers))
        self.assertEqual(self.data(servers)["mcpServers"]["rlm"]["command"], "${HOME}/.local/bin/rlm")
        self.assertTrue(os.path.exists(os.path.join(project, ".claude", "skills", "rlm", "SKILL.md")))
        self.assertFalse(os.path.exists(os.path.join(self.claude, "skills")))
        os.chdir(self.home)
        self.uninstall("--keep-data")
        self.assertEqual(os.listdir(project), [])

    def test_another_program_named_rlm_stays_and_a_projects_server_has_our_paths_then_and_that_is_said(self) -> None:
        self.put(rlm.launcher_file(), "#!/bin/sh\necho other\n")
        project = self.in_project()
        text = self.install("--project")
        self.assertIn("another program has that name", text)
        self.assertRegex(text, r"\.mcp\.json: .*keep it out of git")
        self.assertIn(rlm.interpreter(), self.text(os.path.join(project, ".mcp.json")))
        self.uninstall("--all")
        self.assertEqual(self.text(rlm.launcher_file()), "#!/bin/sh\necho other\n")

    def test_hooks_that_an_older_version_put_into_a_teams_settings_move_to_ones_own(self) -> None:
        project = self.in_project()
        self.install("--project")
        team, own = (os.path.join(project, ".claude", name) for name in ("settings.json", "settings.local.json"))
        os.rename(own, team)
        record = self.data(self.places.install_record())
        record["client_files"][team] = record["client_files"].pop(own)
        self.put(self.places.install_record(), json.dumps(record))
        self.install("--project")
        self.assertEqual((os.path.exists(team), list(self.data(own)["hooks"])), (False, STANDARD))

    def test_a_lone_program_installs_all_but_the_skills_and_says_so(self) -> None:
        alone = os.path.join(self.home, "alone", "rlm.py")
        self.put(alone, TINY.format(version="1"))
        with mock.patch.object(rlm, "PROGRAM", alone):
            text = self.install()
        self.assertRegex(text, "skills come with the whole folder.*README.*install")
        self.assertFalse(os.path.exists(os.path.join(self.claude, "skills")))
        self.assertTrue(os.path.exists(os.path.join(self.claude, "rlm", "hooks", "session_end.py")))

    def test_installing_from_the_installed_copy_breaks_nothing_and_keeps_the_skills(self) -> None:
        self.install()
        before = self.files()
        with mock.patch.object(rlm, "PROGRAM", os.path.join(self.claude, "rlm", "rlm.py")):
            self.assertNotIn("skip", self.install())
            self.assertIn("skills come with the whole folder", self.install("--skills-only"))
        self.assertEqual(self.files(), before)
        self.uninstall("--keep-data")
        self.assertFalse(os.path.exists(os.path.join(self.claude, "skills")))

    def test_the_program_is_compiled_for_the_interpreter_that_the_settings_name(self) -> None:
        self.patch.stop()
        self.install()
        program = os.path.join(self.claude, "rlm", "rlm.py")
        self.assertTrue(rlm.is_compiled(program))
        os.utime(program, (1, 1))
        self.assertFalse(rlm.is_compiled(program))
        self.install()
        self.assertTrue(rlm.is_compiled(program))
        done = subprocess.run([rlm.interpreter(), "-I", "-S", "-v", "-c", rlm.import_code(self.places)], capture_output=True, check=False)
        self.assertRegex(done.stderr.decode(), f"{os.path.dirname(program)}/__pycache__/rlm.*matches {program}")


class UpgradeTest(InstallCase):
    def setUp(self) -> None:
        super().setUp()
        self.put_client()
        self.install("--advice")

    def change_settings(self, change: Any) -> None:
        """Changes the settings as a user with an editor does."""
        data = self.data(self.settings)
        change(data)
        self.put(self.settings, json.dumps(data, indent=3))

    def test_a_variable_that_the_user_set_in_a_hook_stays(self) -> None:
        def change(data: Any) -> None:
            entry = data["hooks"]["SessionStart"][-1]["hooks"][0]
            entry["command"] = "RLM_LANG=fr RLM_HOME=/old 'X'='a b' " + entry["command"]

        self.change_settings(change)
        for _ in range(2):
            self.install()
            self.assertEqual(self.hook("SessionStart")["command"],
                             "RLM_LANG=fr X='a b' " + self.hook("PreCompact")["command"].replace("pre_compact", "session_start"))

    def test_a_hook_that_the_user_took_out_stays_out(self) -> None:
        self.change_settings(lambda data: data["hooks"].pop("UserPromptSubmit"))
        for _ in range(2):
            self.assertIn("you took out UserPromptSubmit", self.install())
            self.assertIsNone(self.hook("UserPromptSubmit"))
        self.assertIsNotNone(self.hook("SessionEnd"))

    def test_when_all_hooks_are_gone_the_file_was_replaced_and_they_are_put_in_again(self) -> None:
        self.put(self.settings, SETTINGS)
        self.install()
        self.assertEqual(set(STANDARD) - set(self.data(self.settings)["hooks"]), set())

    def test_seconds_that_the_user_set_stay_and_advice_stays_without_the_option(self) -> None:
        self.change_settings(lambda data: data["hooks"]["PreCompact"][0]["hooks"][0].update(timeout=300))
        with mock.patch.object(rlm.HOOKS["PreCompact"], "timeout_s", 90), \
                mock.patch.object(rlm.HOOKS["PostCompact"], "timeout_s", 45):
            self.install()
        self.assertEqual(self.hook("PreCompact")["timeout"], 300)
        self.assertEqual(self.hook("PostCompact")["timeout"], 45)
        self.assertIsNotNone(self.hook("PreToolUse"))

    def test_seconds_in_an_entry_made_by_hand_stay(self) -> None:
        with open(SNIPPET, encoding="utf-8") as file:
            self.put(self.settings, file.read().replace('"timeout": 30', '"timeout": 33'))
        os.unlink(self.places.install_record())
        self.install()
        self.assertEqual(self.hook("SessionStart")["timeout"], 33)
        self.assertIn(rlm.interpreter(), self.hook("SessionStart")["command"])

    def test_a_launcher_of_ours_is_replaced_without_a_copy_and_can_be_run_again(self) -> None:
        path, before = rlm.launcher_file(), self.text(rlm.launcher_file())
        self.put(path, before.replace(rlm.interpreter(), "/gone/python3"))
        self.install()
        self.assertEqual((self.text(path), os.listdir(os.path.dirname(path))), (before, ["rlm"]))
        os.chmod(path, 0o600)
        self.install()
        self.assertEqual(mode_of(path), 0o755)

    def test_our_entry_is_replaced_where_it_stands_and_doubles_go(self) -> None:
        def change(data: Any) -> None:
            ours = data["hooks"]["SessionStart"].pop()
            ours["hooks"][0]["command"] = "python3 -I -S \"$HOME/.claude/rlm/hooks/session_start.py\""
            data["hooks"]["SessionStart"].insert(0, ours)
            data["hooks"]["SessionStart"].append(ours)

        self.change_settings(change)
        self.install()
        groups = self.data(self.settings)["hooks"]["SessionStart"]
        self.assertEqual(len(groups), 2)
        self.assertIn(rlm.interpreter(), groups[0]["hooks"][0]["command"])
        self.assertIn("echo", groups[1]["hooks"][0]["command"])

    def test_a_skill_that_the_user_changed_stays_and_a_newer_one_is_put_beside_it(self) -> None:
        skill = os.path.join(self.claude, "skills", "rlm", "SKILL.md")
        self.put(skill, "mine\n")
        self.assertIn("you changed it; it stays", self.install())
        self.assertEqual(os.listdir(os.path.dirname(skill)), ["SKILL.md"])
        for newer in ("newer\n", "newest\n"):
            self.put(os.path.join(self.source, "skills", "rlm", "SKILL.md"), newer)
            self.assertIn(f"write      {skill}.new: the new version; you changed the one beside it", self.install())
            self.assertEqual((self.text(skill), self.text(skill + ".new")), ("mine\n", newer))
        os.unlink(skill + ".new")  # read, and not wanted
        self.doctor("--fix")
        self.assertIn("you changed it; it stays", self.install())
        self.assertEqual(os.listdir(os.path.dirname(skill)), ["SKILL.md"])
        self.put(skill, newer)
        self.install()
        self.put(os.path.join(self.source, "skills", "rlm", "SKILL.md"), "after that\n")
        self.install()
        self.assertEqual(self.text(skill), "after that\n")
        self.put(skill, "mine\n")
        self.assertIn("you changed it; it stays", self.uninstall("--all"))
        self.assertEqual(os.listdir(os.path.join(self.claude, "skills")), ["rlm"])

    def test_a_skill_that_the_user_removed_stays_away_until_it_is_asked_for(self) -> None:
        shutil.rmtree(os.path.join(self.claude, "skills", "rlm"))
        for _ in range(2):
            self.assertIn("you removed it; `rlm install --skills-only` brings it back", self.install())
            self.assertEqual(os.listdir(os.path.join(self.claude, "skills")), ["rlm-analyze"])
        self.install("--skills-only")
        self.assertEqual(sorted(os.listdir(os.path.join(self.claude, "skills"))), ["rlm", "rlm-analyze"])

    def test_a_hook_file_that_the_user_changed_is_kept_beside_the_new_one(self) -> None:
        hook = os.path.join(self.claude, "rlm", "hooks", "session_end.py")
        self.put(hook, "mine\n")
        text = self.install()
        self.assertNotEqual(self.text(hook), "mine\n")
        (kept,) = [name for name in os.listdir(os.path.dirname(hook)) if name.startswith("session_end.py.bak-")]
        self.assertEqual(self.text(os.path.join(os.path.dirname(hook), kept)), "mine\n")
        self.assertIn(kept, text)

    def test_a_new_version_replaces_the_old_one_without_a_copy(self) -> None:
        self.put(os.path.join(self.source, "rlm.py"), TINY.format(version="9.9"))
        self.install()
        home = os.path.join(self.claude, "rlm")
        self.assertIn('"9.9"', self.text(os.path.join(home, "rlm.py")))
        self.assertEqual([n for n in os.listdir(home) if ".bak" in n], [])


class UninstallTest(InstallCase):
    def test_the_users_files_are_byte_for_byte_as_before(self) -> None:
        self.put_client()
        self.put(os.path.join(self.claude, "skills", "mine", "SKILL.md"), "mine")
        before = self.files()
        self.install("--allow", "--advice")
        self.assertNotEqual(self.files(), before)
        self.uninstall("--all")
        self.assertEqual(self.files(), before)
        self.assertFalse(os.path.exists(os.path.join(self.claude, "rlm")))

    def test_an_agent_of_a_skill_goes_to_the_agents_and_away_again_unless_the_user_changed_it(self) -> None:
        self.put(os.path.join(self.source, "skills", "rlm", "rlm-leaf.md"), "tools: mcp__rlm__rlm_peek\n")
        agents = os.path.join(self.claude, "agents")
        for has_own in (False, True):
            if has_own:
                self.put(os.path.join(agents, "mine.md"), "mine")
            before = self.files()
            self.install("--name", "memory")
            self.assertEqual(self.text(os.path.join(agents, "rlm-leaf.md")), "tools: mcp__memory__rlm_peek\n")
            self.uninstall("--all")
            self.assertEqual(self.files(), before)
            self.assertEqual(os.path.exists(agents), has_own)
        self.install()
        self.put(os.path.join(agents, "rlm-leaf.md"), "changed\n")
        self.assertIn("you changed it; it stays", self.uninstall("--all"))
        self.assertEqual(sorted(os.listdir(agents)), ["mine.md", "rlm-leaf.md"])

    def test_odd_but_valid_files_come_back_too(self) -> None:
        texts = ["", "{}", "{ }", "{\n}\n", '{"hooks":{}}', '{"hooks": {"PreCompact": []}}\n', '{"a":1,"a":2}',
                 '{"permissions":{"allow":[]}}', '\t{"x" : [ ] }  \n\n', '{\n\n  "a": 1\n\n}']
        for text in texts:
            self.put(self.settings, text)
            self.put(self.state, text)
            self.install("--allow")
            self.assertEqual(set(self.data(self.settings)["hooks"]), {*STANDARD})
            self.uninstall("--keep-data")
            self.assertEqual((self.text(self.settings), self.text(self.state)), (text, text))

    def test_what_others_changed_after_the_installation_stays(self) -> None:
        self.put_client()
        self.install("--allow")
        for path, old, new in ((self.settings, '"opus"', '"haiku"'), (self.state, "412", "413")):
            self.put(path, self.text(path).replace(old, new))
        self.uninstall("--keep-data")
        self.assertEqual(self.data(self.settings), {**json.loads(SETTINGS), "model": "haiku"})
        self.assertEqual(self.data(self.state), {**json.loads(CLIENT_STATE), "numStartups": 413})

    def test_hooks_of_ours_that_stand_in_another_group_go_and_the_group_stays(self) -> None:
        self.install()
        ours = self.hook("SessionEnd")
        self.put(self.settings, json.dumps({"hooks": {"SessionEnd": [
            {"matcher": "clear", "hooks": [{"type": "command", "command": "true"}, ours]},
            {"matcher": "other", "hooks": [ours]}]}}))
        self.uninstall("--keep-data")
        self.assertEqual(self.data(self.settings), {"hooks": {"SessionEnd": [
            {"matcher": "clear", "hooks": [{"type": "command", "command": "true"}]}]}})

    def test_a_permission_that_the_user_had_stays(self) -> None:
        text = '{"permissions": {"allow": ["mcp__rlm__*", "mcp__rlm__rlm_peek"]}}'
        self.put(self.settings, text)
        self.install("--allow")
        self.assertIn("mcp__rlm__rlm_search", self.text(self.settings))
        self.put(self.settings, self.text(self.settings) + "\n")  # so that the backup is of no use
        self.uninstall("--keep-data")
        self.assertEqual(self.text(self.settings), text + "\n")

    def test_entries_made_by_hand_before_the_installation_go_too(self) -> None:
        with open(SNIPPET, encoding="utf-8") as file:
            by_hand = json.load(file)
        self.put(self.settings, json.dumps({"a": 1, **by_hand}))
        self.put(self.state, '{"mcpServers": {"rlm": {"command": "python3", "args": ["/src/rlm.py", "serve"]}}, "b": 2}')
        self.install()
        self.uninstall("--keep-data")
        self.assertEqual((self.text(self.settings), self.text(self.state)), ('{"a": 1}', '{"b": 2}'))

    def test_without_the_record_of_the_installation_it_still_takes_all_entries_out(self) -> None:
        self.put_client()
        self.install()
        for again in (False, True):
            os.unlink(self.places.install_record())
            if again:
                self.install()
                self.assertEqual(list(self.data(self.places.install_record())["client_files"][self.settings]["events"]),
                                 STANDARD)
            self.uninstall("--keep-data")
            self.assertEqual((self.data(self.settings), self.data(self.state)), (json.loads(SETTINGS), json.loads(CLIENT_STATE)))
            self.install()

    def test_data_is_kept_or_deleted_as_told(self) -> None:
        self.install()
        self.chunk("a text")
        rlm.write_config(self.places, {"immune_uses": 4})
        self.assertIn("kept in", self.uninstall("--keep-data"))
        self.assertEqual(sorted(os.listdir(self.places.home)), ["config.json", "memory"])
        self.assertEqual(rlm.View(rlm.Places()).refresh().n_docs(), 1)
        self.install()
        self.uninstall("--all")
        self.assertFalse(os.path.exists(self.places.home))

    def test_everything_in_the_memory_that_rlm_has_a_path_for_is_deleted_with_it(self) -> None:
        self.install()
        for folder, pattern in rlm.PATHS.values():
            if folder != "home" and "." in pattern:
                self.put(os.path.join(getattr(self.places, folder), pattern.format(1, 1, 1)), "")
        self.uninstall("--all")
        self.assertFalse(os.path.exists(self.places.home))

    def test_what_is_not_ours_in_the_memory_folder_stays(self) -> None:
        moved = os.path.join(self.home, "shared")
        self.put(os.path.join(moved, "thesis.txt"), "years of work")
        with mock.patch.dict(os.environ, RLM_CONTEXT_DIR=moved):
            self.install()
            self.places = rlm.Places()
            self.chunk("a text")
        self.assertIn("not a file of rlm", self.uninstall("--all"))  # the variable is not set any more
        self.assertEqual(os.listdir(moved), ["thesis.txt"])

    def test_no_backup_is_left_of_a_file_that_the_client_wrote_on(self) -> None:
        self.install("--no-import")
        self.put(self.state, self.text(self.state).replace("{", '{"numStartups": 1,', 1))
        self.uninstall("--keep-data")
        self.assertEqual(self.data(self.state), {"numStartups": 1})
        self.assertEqual([name for name in os.listdir(self.home) if "backup" in name], [])

    def test_a_folder_that_is_no_store_is_not_touched(self) -> None:
        moved = os.path.join(self.home, "wrong")
        self.put(os.path.join(moved, "index", "page.html"), "mine")
        with mock.patch.dict(os.environ, RLM_CONTEXT_DIR=moved):
            self.install()
            self.uninstall("--all")
        self.assertEqual(os.listdir(os.path.join(moved, "index")), ["page.html"])

    def test_without_a_choice_nothing_is_changed_and_without_a_terminal_the_options_are_named(self) -> None:
        self.install()
        before = self.files()
        for more, typed in (((), None), (("--yes",), None), ((), "")):
            code, text = self.run_command("uninstall", *more, typed=typed)
            self.assertEqual(code, 1 if typed == "" else 2)
            self.assertRegex(text, "nothing was changed" if typed == "" else "--keep-data.*--all")
        self.assertEqual(self.files(), before)

    def test_at_a_terminal_it_asks_and_only_a_yes_deletes_the_memories(self) -> None:
        for arguments, typed, is_there, is_installed in (
                ((), "\n", True, False), ((), "C\n", True, True), ((), "cancel\n", True, True),
                ((), "y\nn\n", True, True), ((), "y\nyes\n", False, False),
                (("--all",), "\n", True, True), (("--all", "--yes"), "", False, False)):
            self.install()
            self.chunk("a text")
            code, text = self.run_command("uninstall", *arguments, typed=typed)
            self.assertEqual(os.path.exists(self.places.log(1)), is_there, typed)
            self.assertEqual((os.path.exists(self.settings), code), (is_installed, int(is_installed)), typed)
            self.assertEqual("Delete the memories in" in text, not arguments)

    def test_a_dry_run_changes_nothing_and_names_every_file_that_goes(self) -> None:
        self.put_client()
        self.install()
        self.chunk("a text")
        before = self.files()
        text = self.run_command("uninstall", "--all", "--dry-run")[1]
        self.assertEqual(self.files(), before)
        self.uninstall("--all")
        for path in set(before) - set(self.files()):
            named = path in text or any(f"{folder}:" in text for folder in (self.places.index,) if path.startswith(folder))
            self.assertTrue(named, path)

    def test_links_that_the_user_made_stay_with_what_is_there(self) -> None:
        real = os.path.join(self.home, "dots")
        self.put(os.path.join(real, "claude", ".credentials.json"), "login")
        self.put(os.path.join(real, "skills", "mine", "SKILL.md"), "mine")
        os.makedirs(os.path.join(real, "big"))
        os.symlink(os.path.join(real, "claude"), self.claude)
        os.symlink(os.path.join(real, "skills"), os.path.join(self.claude, "skills"))
        os.symlink(os.path.join(real, "big"), self.places.home)
        os.symlink(os.path.join(real, "state.json"), self.state)  # nothing is there yet
        self.install()
        self.chunk("a text")
        self.uninstall("--keep-data")
        for link in (self.claude, os.path.join(self.claude, "skills"), self.places.home, self.state):
            self.assertTrue(os.path.islink(link), link)
        self.assertEqual(sorted(os.listdir(real)), ["big", "claude", "skills"])
        self.assertEqual(self.text(os.path.join(self.claude, ".credentials.json")), "login")
        self.assertEqual(os.listdir(os.path.join(real, "skills")), ["mine"])
        self.assertEqual(os.listdir(self.places.home), ["memory"])
        outside = os.path.join(real, "index")
        os.makedirs(os.path.join(outside, "segments"))
        os.symlink(outside, self.places.index)
        self.install()
        self.assertIn("a link that you made", self.uninstall("--all"))
        self.assertTrue(os.listdir(outside))

    def test_folders_that_were_there_before_stay_and_those_it_made_go(self) -> None:
        os.makedirs(os.path.join(self.claude, "skills"))
        self.install()
        self.assertTrue(os.path.exists(os.path.join(self.home, ".local", "bin", "rlm")))
        self.uninstall("--all")
        self.assertEqual(sorted(os.listdir(self.home)), [".claude", "download"])
        self.assertEqual(os.listdir(self.claude), ["skills"])

    def test_what_cannot_be_removed_is_said_and_can_be_removed_later(self) -> None:
        self.install()
        self.chunk("a text")
        gone = rlm.remove_file
        with mock.patch.object(rlm, "remove_file", lambda path: path != self.places.log(1) and gone(path)):
            code, text = self.run_command("uninstall", "--all")
        self.assertEqual(code, 1)
        self.assertIn(f"failed     {self.places.log(1)}", text)
        self.assertIn("uninstall again", text)
        self.assertIn(self.places.log(1), self.uninstall("--all"))
        self.assertFalse(os.path.exists(self.places.home))

    def test_what_the_client_writes_while_the_question_is_read_stays(self) -> None:
        for before in (None, CLIENT_STATE):
            if before:
                self.put(self.state, before)
            self.install()

            def answer(_: str) -> str:
                data = self.data(self.state)
                self.put(self.state, json.dumps({**data, "login": "new"}))
                return "yes"

            with mock.patch.object(rlm, "typed_answer", answer):
                self.assertEqual(self.run_command("uninstall", "--all", typed="")[0], 0)
            data = self.data(self.state)
            self.assertEqual(data, {**json.loads(before or "{}"), "login": "new"})

    def test_the_installation_of_another_home_is_named_and_its_launcher_stays(self) -> None:
        other = os.path.join(self.home, "elsewhere")
        with mock.patch.dict(os.environ, RLM_HOME=other):
            self.install()
        before = self.files()
        code, text = self.run_command("uninstall", "--all")
        self.assertEqual((code, f"RLM_HOME={other}" in text), (2, True))
        self.assertEqual(self.files(), before)
        with mock.patch.dict(os.environ, CLAUDE_CONFIG_DIR=os.path.join(self.home, "second")):
            self.install()
            self.assertIn("second", self.text(rlm.launcher_file()))
        with mock.patch.dict(os.environ, RLM_HOME=other):
            found = self.doctor(hooks=False, server=False)[1]
            self.assertEqual({state for checks in found.values() for state, _, _ in checks}, {"ok"}, found)
            self.uninstall("--all")
        self.assertTrue(os.path.exists(rlm.launcher_file()))

    def test_a_kill_at_any_step_loses_nothing_of_what_was_before(self) -> None:
        for n_steps in range(60):
            self.put_client()
            left = [n_steps]

            def replace(source: str, target: str, left: list[int] = left) -> None:
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)
                os.rename(source, target)

            def job() -> None:
                with mock.patch.object(os, "replace", replace):
                    self.run_command("install", "--allow", "--no-import")

            code = ended(forked(job))
            self.assertIn(code, (0, 9))
            for path in (self.settings, self.state):
                self.data(path)
            if n_steps % 2:  # once more, or not
                self.install("--allow")
            self.uninstall("--all")
            self.assertEqual((self.text(self.settings), self.text(self.state)), (SETTINGS, CLIENT_STATE), n_steps)
            rest = {os.path.basename(path) for path in self.files()} - {"settings.json", ".claude.json"}
            self.assertEqual({name for name in rest if ".bak-" not in name}, set(), n_steps)
            if code == 0:
                break
        self.assertGreater(n_steps, 8)
        self.assertEqual(code, 0)

    def test_installing_at_the_same_time_is_installing_once(self) -> None:
        for child in [forked(lambda: self.run_command("install", "--no-import") and None) for _ in range(3)]:
            self.assertEqual(ended(child), 0)
        self.uninstall("--all")
        self.assertEqual(os.listdir(self.home), ["download"])

    def test_broken_settings_are_an_error_that_changes_nothing_before_anything_is_asked(self) -> None:
        self.install()
        self.put(self.settings, "{")
        before = self.files()
        for more, typed in ((("--all",), None), ((), "y\n")):
            code, text = self.run_command("uninstall", *more, typed=typed)
            self.assertEqual((code, "Delete" in text), (1, False), text)
        self.assertEqual(self.files(), before)

    def test_where_nothing_is_installed_it_says_so(self) -> None:
        self.assertIn("not installed", self.uninstall("--all"))
        self.assertEqual(self.files(), {})


class HookFileTest(InstallCase):

    def run_hook(self, event: str = "PreCompact", **env: str) -> subprocess.CompletedProcess[bytes]:
        """Runs the installed hook command as the client does."""
        return subprocess.run(["sh", "-c", self.hook(event)["command"]], input=b"{}", capture_output=True,
                              cwd=self.home, env={**os.environ, **env}, timeout=30, check=False)

    def test_the_hook_runs_the_installed_program_from_any_folder(self) -> None:
        self.install()
        self.put(os.path.join(self.home, "rlm.py"), "raise SystemExit(3)")  # a project with a file of that name
        self.put(os.path.join(self.home, "os.py"), "raise SystemExit(4)")
        for event in STANDARD:
            done = self.run_hook(event, PYTHONPATH=self.home)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, event.encode() + b"\n", b""))

    def test_the_server_runs_the_installed_program_from_any_folder(self) -> None:
        self.put_program("import sys\n\n\ndef main(argv):\n    print(argv, __file__)\n    return 5\n")
        self.install()
        for name in ("rlm.py", "sys.py", "os.py", "encodings.py"):
            self.put(os.path.join(self.home, name), "raise SystemExit(3)")
        entry = self.data(self.state)["mcpServers"]["rlm"]
        done = subprocess.run([entry["command"], *entry["args"]], capture_output=True, cwd=self.home,
                              env={**os.environ, **entry["env"], "PYTHONPATH": self.home}, check=False)
        program = os.path.join(self.claude, "rlm", "rlm.py")
        self.assertEqual((done.returncode, done.stdout.decode()), (5, f"['serve'] {program}\n"), done.stderr)

    def test_whatever_is_wrong_with_the_program_the_prompt_goes_on(self) -> None:
        self.install()
        program = os.path.join(self.claude, "rlm", "rlm.py")
        for source in ("def broken(", "raise SystemExit(2)", "raise KeyboardInterrupt", "", "1/0", "import nothing"):
            self.put(program, source)
            done = self.run_hook()
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""), source)
        os.unlink(program)
        self.assertEqual(self.run_hook().returncode, 0)

    def test_the_snippet_for_installing_by_hand_is_what_install_writes(self) -> None:
        with open(SNIPPET, encoding="utf-8") as file:
            text = file.read()
        self.install()
        written = self.text(self.settings)
        for event in STANDARD:
            name = rlm.HOOKS[event].file
            path = os.path.join(self.claude, "rlm", "hooks", name)
            command = f"{shlex.quote(rlm.interpreter())} -I -S {shlex.quote(path)}"
            written = written.replace(json.dumps(command, ensure_ascii=False),
                                      json.dumps(f'python3 -I -S "$HOME/.claude/rlm/hooks/{name}"'))
        self.assertEqual(written, text)

    def test_hooks_run_and_are_known_as_ours_in_a_home_with_signs_that_a_shell_would_read(self) -> None:
        os.environ["HOME"] = os.path.join(self.home, "a$HOME ~b`c")
        self.settings = os.path.join(os.environ["HOME"], ".claude", "settings.json")
        os.makedirs(os.path.dirname(self.settings))
        self.install()
        self.assertEqual(self.run_hook("SessionEnd").stdout, b"SessionEnd\n")
        self.assertEqual([entry[0] for entry in rlm.hook_entries(self.data(self.settings), rlm.Places().home)], STANDARD)
        self.uninstall("--keep-data")
        self.assertFalse(os.path.exists(self.settings))

    def test_the_snippets_commands_run_and_are_known_as_ours(self) -> None:
        self.install()
        with open(SNIPPET, encoding="utf-8") as file:
            self.put(self.settings, file.read())
        self.assertEqual(self.run_hook("SessionEnd").stdout, b"SessionEnd\n")
        self.uninstall("--keep-data")
        self.assertFalse(os.path.exists(self.settings))

    def test_other_peoples_hooks_are_not_taken_for_ours(self) -> None:
        for command in ("/opt/x/hooks/pre_compact.py", "python3 ~/x/hooks/session_end.py", "x 'unmatched", None, 3,
                        f"{self.claude}/rlm/hooks/other.py", "echo rlm/hooks", "/rlm/hook/pre_compact.py"):
            self.assertEqual(rlm.our_hook(command, self.places.home), "", command)

    def test_the_launcher_passes_every_argument_on_and_lets_the_callers_variables_win(self) -> None:
        self.put_program("import os, sys\n\n\ndef main(argv=None):\n"
                         "    print(sys.argv[1:], os.environ.get('RLM_CONTEXT_DIR'))\n    return 7\n")
        with mock.patch.dict(os.environ, RLM_CONTEXT_DIR="/a b"):
            self.install()
        for env, seen in (({}, "/a b"), ({"RLM_CONTEXT_DIR": "/c"}, "/c")):
            done = subprocess.run([rlm.launcher_file(), "a b", "", "$x", "'"], capture_output=True, cwd=self.home,
                                  env={**os.environ, **env}, check=False)
            self.assertEqual(done.stdout.decode(), f"{['a b', '', '$x', chr(39)]} {seen}\n", done.stderr)
            self.assertEqual(done.returncode, 7)


class ClientFileTest(unittest.TestCase):
    def test_any_document_in_any_form_takes_what_is_ours_and_gives_it_back(self) -> None:
        draw = random.Random(3)
        group = rlm.hook_group("/py", "/h/.claude/rlm/hooks", "SessionEnd", {})
        entry = {"command": "/py", "args": ["/h/rlm.py"], "env": {}}
        edits = [lambda data: rlm.put_hooks(data, "/h", {"SessionEnd": group}, {}),
                 lambda data: rlm.put_rules(data, ["mcp__m__a"], ["old"]),
                 lambda data: rlm.put_server(data, "p", "/h", "m", "m", entry)]
        for n in range(500):
            value: dict[str, Any] = {"k": draw.choice([None, -1.5e9, 12345678901234567890, "\\ é\u2028\r\n", [], {"]}": "\ud83d"}])}
            value.update({"hooks": {"Stop": [{"hooks": [{}]}], "SessionEnd": [{"hooks": ["x"]}]}} if n % 2 else {})
            value.update({"permissions": {"allow": ["x"]}} if n % 3 else {}, **{"mcpServers": {"o": {}}} if n % 5 else {})
            text = json.dumps(value, indent=draw.choice([None, 1, 4, "\t"]), separators=draw.choice([None, (",", ":")]))
            text += draw.choice(["", "\n", " \n\n"])
            raw = text.replace("\n", draw.choice(["\n", "\r\n"])).encode()
            new = rlm.edited("p", raw, edits)
            self.assertEqual(json.loads(new)["hooks"]["SessionEnd"][-1], group)
            self.assertEqual(rlm.edited("p", new, edits), new)
            self.assertEqual(new.count(b"\r\n"), new.count(b"\n") if b"\r\n" in raw else 0)
            back = rlm.without_us("p", new, "/h", {"allow": ["mcp__m__a"], "server": "m"})
            self.assertEqual(json.loads(back), value)
            self.assertEqual(rlm.edited("p", raw, [lambda data: None]), raw)


class DoctorTest(InstallCase):
    """With the real program: the round trips are real."""

    def setUp(self) -> None:
        super().setUp()
        with open(RLM, encoding="utf-8") as file:
            self.put_program(file.read())

    def test_after_an_installation_everything_is_well_and_really_ran(self) -> None:
        self.put_client()
        code, text = self.run_command("install", doctor=True)
        self.assertEqual(code, 0, text)
        before = self.files()
        code, found, text = self.doctor()
        self.assertEqual(code, 0, text)
        self.assertEqual({state for checks in found.values() for state, _, _ in checks}, {"ok"}, text)
        self.assertRegex(found["hooks"][0][1], r"^5 hooks ran, in \d+ ms at most: rlm ")
        self.assertRegex(found["server"][0][1], rf"answers in \d+ ms: rlm {rlm.__version__}")
        self.assertEqual(self.files(), before)  # it only reads

    def test_a_chosen_provider_that_cannot_be_used_is_found_without_asking_it(self) -> None:
        self.install()
        rlm.write_config(self.places, {"provider": "claude", "claude.program": "/no/such/claude"})
        code, found, text = self.doctor(hooks=False, server=False)
        self.assertEqual((code, found["provider"][0][0]), (1, "fail"), text)
        self.assertIn("claude.program", found["provider"][0][1])
        rlm.write_config(self.places, {"provider": "ollama", "model": "m"})
        self.assertIn("nothing was asked", self.doctor(hooks=False, server=False)[1]["provider"][0][1])

    def test_where_nothing_is_installed_it_says_how_to_install(self) -> None:
        code, found, _ = self.doctor("--fix")
        self.assertEqual(code, 1)
        self.assertEqual(list(found), ["rlm"])
        self.assertIn("install", found["rlm"][0][2])
        self.assertEqual(self.files(), {})

    def test_what_is_broken_is_found_and_mended(self) -> None:
        self.install()
        home = os.path.join(self.claude, "rlm")
        self.chunk("a text")
        log = self.places.log(1)
        os.chmod(log, 0o644)
        os.unlink(os.path.join(home, "hooks", "session_start.py"))
        os.utime(os.path.join(home, "rlm.py"), (5, 5))
        self.put(self.state, "{}")
        code, found, text = self.doctor()
        self.assertEqual(code, 1)
        for name in ("bytecode", "hooks", "permissions"):
            self.assertNotEqual(found[name][0][0], "ok", text)
            self.assertIn("doctor --fix", found[name][0][2])
        self.assertEqual(found["server"][0][0], "warn")
        self.assertEqual([what for state, what, todo in found["files"] if (state, todo) == ("fail", rlm.AGAIN)],
                         [f"{home}/hooks/session_start.py is not there", f"{self.state} has none of our entries any more"])
        code, found, text = self.doctor("--fix")
        self.assertEqual(code, 0, text)
        self.assertEqual({state for checks in found.values() for state, _, _ in checks}, {"ok"}, text)
        self.assertEqual(mode_of(log), 0o600)

    def test_a_hook_that_fails_talks_or_hangs_and_a_server_that_ends_are_found(self) -> None:
        self.install()
        program = os.path.join(self.claude, "rlm", "rlm.py")
        hook = os.path.join(self.claude, "rlm", "hooks", "session_start.py")
        self.put(program, "raise SystemExit('no')")
        for source, part in (("import sys; sys.exit(2)", "ends with 2"), ("import sys; sys.stderr.write('oh')", "oh"),
                             ("import os; os.system('sleep 20')", "still running after 1 s")):
            self.put(hook, source)
            data = self.data(self.settings)
            data["hooks"]["SessionStart"][0]["hooks"][0]["timeout"] = 1 if "sleep" in source else 30
            self.put(self.settings, json.dumps(data))
            started_s = time.monotonic()
            code, found, _ = self.doctor()
            self.assertLess(time.monotonic() - started_s, 15)  # what the hook started was ended with it
            self.assertEqual((code, {state for state, _, _ in found["hooks"]}), (1, {"fail"}))
            self.assertEqual([part in what for _, what, _ in found["hooks"] if what.startswith("SessionStart")], [True])
            self.assertEqual({what.partition(": ")[2] for _, what, _ in found["hooks"] if "SessionStart" not in what},
                             {"it says nothing, so it did not run"})
        self.assertRegex(found["server"][0][1], "does not work: no$")

    def test_an_error_that_the_hook_kept_to_itself_is_found(self) -> None:
        self.install()
        rlm.write_config(self.places, {})
        self.put(self.places.config(), "[]")  # not an object
        code, found, text = self.doctor()
        self.assertEqual((code, found["hooks"][0][0]), (1, "fail"), text)
        self.assertIn("config.json", found["hooks"][0][1])

    def test_an_interpreter_that_has_gone_is_found(self) -> None:
        self.install()
        for path in (self.settings, self.state, self.places.install_record()):
            self.put(path, self.text(path).replace(rlm.interpreter(), "/gone/python3"))
        code, found, _ = self.doctor()
        self.assertEqual((code, found["python"][0][0], found["hooks"][0][0]), (1, "fail", "fail"))
        self.assertIn("/gone/python3", found["hooks"][0][1])

    def test_what_the_user_changed_and_works_is_told_and_is_no_failure_whichever_python_looks(self) -> None:
        self.install()
        hook, data = os.path.join(self.places.home, "hooks", "pre_compact.py"), self.data(self.settings)
        data["hooks"]["SessionEnd"][0]["hooks"][0]["command"] += " # mine"
        self.put(hook, self.text(hook) + "# mine")
        self.put(self.settings, json.dumps(data))
        for python in (rlm.interpreter(), "/another/python3"):
            with mock.patch.object(rlm, "interpreter", lambda python=python: python):
                code, found, text = self.doctor()
            self.assertEqual((code, found["hooks"][0][0]), (0, "ok"), text)
            self.assertEqual([(state, what) for state, what, _ in found["files"] if state != "ok"],
                             [("warn", f"{path} is not as this version installs it") for path in (hook, self.settings)])

    def test_each_hook_must_run_and_read_the_store(self) -> None:
        self.install()
        command = self.hook("PreCompact")["command"]
        for broken, part in ((command.replace(rlm.interpreter(), "python-that-is-not"), "127"),
                             (command.replace(rlm.interpreter(), "RLM_LANG=fr true"), "did not run"),
                             (command.replace("-I -S", "-I -S -c pass"), "did not run")):
            settings = self.data(self.settings)
            settings["hooks"]["PreCompact"][0]["hooks"][0]["command"] = broken
            self.put(self.settings, json.dumps(settings))
            code, found, text = self.doctor()
            self.assertEqual((code, len(found["hooks"])), (1, 1), text)
            self.assertIn("PreCompact", found["hooks"][0][1])
            self.assertIn(part, found["hooks"][0][1])
        self.assertEqual(self.doctor("--fix")[0], 0)

    def test_it_only_reads_even_where_there_is_something_to_do(self) -> None:
        self.install()
        self.chunk("a text")
        self.put(os.path.join(self.places.spool(), "session@0.jsonl"), "{}\n")
        os.chmod(self.places.spool(), 0o700)
        os.chmod(os.path.join(self.places.spool(), "session@0.jsonl"), 0o600)
        for config in ("{}", "["):
            self.put(self.places.config(), config)
            before = self.files()
            self.assertEqual(self.doctor()[0], int(config == "["))
            self.assertEqual(self.files(), before)

    def test_a_store_that_cannot_be_written_is_found(self) -> None:
        self.install()
        self.chunk("a text")
        with mock.patch.object(os, "access", lambda path, mode: path != self.places.memory):
            code, found, _ = self.doctor(hooks=False, server=False)
        self.assertEqual((code, found["permissions"][0][0]), (1, "fail"))
        self.assertIn("cannot be written", found["permissions"][0][1])

    def test_a_project_is_mended_where_it_is_and_forgotten_when_it_has_gone(self) -> None:
        project = self.in_project()
        self.install("--project")
        os.chdir(self.home)
        code, found, text = self.doctor()
        self.assertEqual((code, found["server"][0][0]), (0, "ok"), text)
        os.unlink(os.path.join(project, ".mcp.json"))
        self.assertEqual(self.doctor(hooks=False)[0], 1)
        code, _, text = self.doctor("--fix")
        self.assertEqual(code, 0, text)
        self.assertIn("rlm", self.data(os.path.join(project, ".mcp.json"))["mcpServers"])
        self.assertFalse(os.path.exists(os.path.join(self.claude, "skills")))
        self.assertFalse(os.path.exists(self.state))
        shutil.rmtree(project)
        self.install()
        code, found, text = self.doctor(hooks=False, server=False)
        self.assertEqual((code, {state for checks in found.values() for state, _, _ in checks}), (0, {"ok"}), text)
        self.assertNotIn(project, text)

    def test_settings_that_keep_hooks_from_running_are_found_wherever_they_are(self) -> None:
        self.install("--no-import")
        project, managed = self.in_project(), os.path.join(self.home, "managed-settings.json")
        below = os.path.join(project, "src", "deep")
        os.makedirs(below)
        os.makedirs(os.path.join(project, ".git"))
        off, only = '{"disableAllHooks": true}', '{"allowManagedHooksOnly": true}'
        with mock.patch.object(rlm, "managed_settings", lambda: [managed]):
            for path, text, is_told in (
                    (os.path.join(project, ".claude", "settings.json"), off, True),
                    (os.path.join(project, ".claude", "settings.local.json"), off, True),
                    (os.path.join(project, ".claude", "settings.local.json"), only, False),  # only managed ones may
                    (os.path.join(project, ".claude", "settings.json"), "{", False),
                    (os.path.join(self.home, "other", ".claude", "settings.json"), off, False),
                    (managed, off, True), (managed, only, True)):
                self.put(path, text)
                for folder in (project, below):
                    os.chdir(folder)
                    found = self.doctor(hooks=False, server=False)[1].get("settings", [])
                    self.assertEqual([(state, path in what) for state, what, _ in found], [("warn", True)] * is_told, path)
                os.unlink(path)

    def test_it_never_says_that_all_is_saved_when_it_is_not(self) -> None:
        self.install("--no-import")
        self.assertEqual(self.doctor(hooks=False, server=False)[1]["transcripts"], [("ok", "all saved", "")])
        self.put(self.places.reading("a"), '{"damaged": 2}\n')
        self.assertIn("of 2 damaged lines a part could not be read", self.doctor(hooks=False, server=False)[1]["transcripts"][0][1])
        for age_s, state in ((5, "ok"), (3600, "ok"), (90_000, "warn"), (29 * rlm.DAY_S, "fail")):
            path = self.put_transcript(age_s)
            (found,) = self.doctor(hooks=False, server=False)[1]["transcripts"]
            self.assertEqual(found[0], state)
            self.assertRegex(found[1], "^1 transcript with .* not saved")
            self.assertIn("rlm import", found[1] + found[2])
        os.unlink(path)

    def test_odd_entries_are_findings_and_no_crash(self) -> None:
        self.install()
        state, settings = self.data(self.state), self.data(self.settings)
        entry = state["mcpServers"]["rlm"]
        for odd in ({"command": None}, {"command": ["x"]}, {"args": [*entry["args"], 5]}, {"env": ["x"]}, {"env": {"A\0": "b"}}):
            self.put(self.state, json.dumps({"mcpServers": {"rlm": {**entry, **odd}}}))
            code, found, text = self.doctor(hooks=False)
            self.assertEqual((code, found["server"][0][0]), (1, "fail"), text)
        self.put(self.state, json.dumps(state))
        for timeout in (0, -5, "x", None):
            settings["hooks"]["PreCompact"][0]["hooks"][0]["timeout"] = timeout
            self.put(self.settings, json.dumps(settings))
            self.assertEqual(self.doctor(server=False)[0], 0, timeout)
        os.unlink(rlm.launcher_file())
        os.makedirs(rlm.launcher_file())
        self.assertEqual(self.doctor("--fix", hooks=False, server=False)[1]["files"][0][0], "warn")
        self.uninstall("--all")

    def test_a_lost_record_is_a_finding(self) -> None:
        self.install()
        for text in ("", "["):
            self.put(self.places.install_record(), text)
            code, found, _ = self.doctor(hooks=False, server=False)
            self.assertEqual((code, found["record"][0][0]), (0, "warn"))
        self.install()
        self.assertNotIn("record", self.doctor(hooks=False, server=False)[1])

    def test_broken_settings_are_a_finding_and_no_crash(self) -> None:
        self.install()
        self.put(self.settings, "{")
        for more in ((), ("--fix",)):
            code, found, _ = self.doctor(*more, hooks=False, server=False)
            self.assertEqual((code, [state for state, _, _ in found["settings"]]), (1, ["fail"]))

    def test_damage_old_transcripts_and_logged_errors_are_told(self) -> None:
        self.install("--no-hooks")
        self.chunk("a text")
        with open(self.places.log(1), "ab") as file:
            file.write(b"garbage\n")
        stamps = [rlm.stamp(rlm.now() - days * rlm.DAY_S) for days in (30, 3, 2, 1, 0)]
        self.put(self.places.hooks_log(), "".join(f"{s} PreCompact: error {i}\n" for i, s in enumerate(stamps)))
        os.chmod(self.places.hooks_log(), 0o600)
        with mock.patch.object(rlm, "unsaved_transcripts", return_value=[("/p/a.jsonl", 5000, 2.0)]):
            code, found, _ = self.doctor(server=False)
            self.assertEqual(code, 1)
            self.assertIn("log-000001.jsonl: damaged: no record", found["store"][0][1])
            self.assertEqual(found["hooks"][0][0], "warn")
            self.assertRegex(found["hooks.log"][0][1], r"^4 lines in 7 days.*error 2.*error 3.*error 4$")
            self.assertEqual(found["transcripts"][0][0], "warn")
            self.put(self.settings, '{"cleanupPeriodDays": 4}')
            self.assertEqual(self.doctor(hooks=False, server=False)[1]["transcripts"][0][0], "fail")


if __name__ == "__main__":
    unittest.main()
