"""Projects are who they are: by origin, first commit or path; what hooks tell, what names mean, what is left out."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import unicodedata
import unittest
from typing import Any
from unittest import mock

from tests.support import TempHome, rlm

WORDS = "the zebrafish layoff export in payroll.py é"
QUESTION = "fix the zebrafish layoff export in payroll"
NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


class ProjectCase(TempHome):
    def setUp(self) -> None:
        super().setUp()
        del os.environ["RLM_PROJECT"]
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.home)

    def folder(self, *parts: str) -> str:
        """Makes a folder below the home."""
        path = os.path.join(self.home, *parts)
        os.makedirs(path, exist_ok=True)
        return path

    def repo(self, where: str, origin: str = "", config: str = "") -> str:
        """Makes a folder look like a repository with that origin."""
        text = config or (f'[core]\n\tbare = false\n[remote "origin"]\n\turl = {origin}\n' if origin else "[core]\n")
        with open(os.path.join(self.folder(where, ".git"), "config"), "w", encoding="utf-8") as file:
            file.write(text)
        return os.path.join(self.home, where)

    def at(self, folder: str) -> Any:
        """For a `with` block in which that is the project's folder."""
        return mock.patch.dict(os.environ, {"CLAUDE_PROJECT_DIR": folder})

    def identity(self, folder: str) -> str:
        """The identity of a folder's project."""
        return rlm.project_at(self.places, folder).identity

    def remember(self, folder: str, text: str, **more: Any) -> str:
        """Remembers something in a folder; its id."""
        with self.at(folder):
            return str(self.call("rlm_remember", content=text, **more).data["id"])

    def told(self, folder: str, event: str = "SessionStart", **payload: Any) -> str:
        """What a hook says to a session that begins in a folder."""
        fields = {"session_id": "s", "cwd": folder, "source": "startup", "hook_event_name": event, **payload}
        with self.at(folder):
            answer = rlm.hook_answer(event, fields)
        is_data = answer.startswith('{"hook')
        return str(json.loads(answer)["hookSpecificOutput"]["additionalContext"]) if is_data else answer

    def asked(self, folder: str) -> str:
        """What a hook says to the prompt."""
        return self.told(folder, "UserPromptSubmit", prompt=QUESTION)

    def save_conversation(self, folder: str, text: str = WORDS, name: str = "3c57c232-d4a0-4b3f-a780-c76246539c7a",
                          more: bytes = b"") -> str:
        """Writes a transcript of a session in the folder, that ended a while ago; its path."""
        path = os.path.join(self.folder(".claude", "projects", "-" + name[:4]), name + ".jsonl")
        common = {"sessionId": name, "cwd": folder, "timestamp": "2026-11-01T10:00:00.000Z", "version": "2"}
        rows = [{"type": "user", "uuid": name + "1", "message": {"role": "user", "content": text}, **common},
                {"type": "assistant", "uuid": name + "2",
                 "message": {"id": "m", "role": "assistant", "content": [{"type": "text", "text": "done"}]}, **common}]
        with open(path, "wb") as file:
            file.write(b"".join(json.dumps(row).encode() + b"\n" for row in rows) + more)
        os.utime(path, (time.time() - 9e5, time.time() - 9e5))
        return path

    def import_past(self) -> None:
        """Imports Claude Code's transcripts."""
        paths = rlm.transcript_paths(os.path.join(self.home, ".claude", "projects"))
        rlm.import_transcripts(self.view(), paths, lambda *_: None)

    def put_old(self, project: str, text: str = WORDS) -> None:
        """Adds a memory as rlm wrote them before projects had identities."""
        rlm.ensure_folder(self.places.memory)
        with rlm.Writer(self.view()) as writer:
            writer.add("insight", id=f"i-{len(text):08x}", at="2026-11-01T10:00:00.000Z", project=project, tags=[],
                       category="fact", importance="critical", sha=rlm.digest(text), n_bytes=len(text), text=text)

    def configured(self, *arguments: str, folder: str = "") -> Any:
        """What `rlm config` says, as data."""
        done = self.cli("config", *arguments, "--json", env={"CLAUDE_PROJECT_DIR": folder or self.home})
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return json.loads(done.stdout)


class IdentityTest(ProjectCase):
    def test_every_form_of_a_url_gives_host_owner_and_name(self) -> None:
        for url in ("https://github.com/acme/api", "https://github.com/acme/api.git", "https://github.com/acme/api/",
                    "https://github.com/acme/api.git/", "http://GitHub.com:8080/acme/api.git", "git@github.com:acme/api.git",
                    "github.com:acme/api", "ssh://git@github.com/acme/api.git", "ssh://git@GITHUB.com:22/acme/api",
                    "git://github.com/acme/api.git", "git+ssh://git@github.com/acme/api.git", "git@github.com:/acme/api.git",
                    "https://zoe:s3cr3tw0rd@github.com/acme/api.git", "https://s3cr3tw0rd@github.com/acme/api",
                    "https://zoe:s3cr3tw0rd/x@github.com/acme/api", "zoe:s3cr3tw0rd@github.com:acme/api.git",
                    "https://github.com/acme/api.git?token=s3cr3tw0rd", "https://github.com//acme/api#s3cr3tw0rd",
                    "https://github.com/Acme/API.git", "ssh://git@ssh.github.com:443/acme/api.git"):
            with self.subTest(url):
                self.assertEqual(rlm.remote_identity(url, self.home), "github.com/acme/api")
        for url, wanted in (("https://gitlab.com/a/b/c/d.git", "gitlab.com/a/b/c/d"), ("host:name.git", "host/name"),
                            ("ssh://git@[::1]:2222/a/b", "[::1]/a/b"), ("https://dev.azure.com/o/My Project/_git/r",
                                                                       "dev.azure.com/o/my project/_git/r")):
            self.assertEqual(rlm.remote_identity(url, self.home), wanted)

    def test_a_remote_that_is_a_folder_is_its_path(self) -> None:
        depot = os.path.realpath(self.folder("depot"))
        for url in (f"{depot}.git", f"file://{depot}.git", f"{depot}/.git", f"{depot}/", "../depot", "~/depot.git"):
            with self.subTest(url):
                self.assertEqual(rlm.remote_identity(url, self.folder("clone")), depot)

    def test_gits_configuration_is_read_as_git_reads_it(self) -> None:
        wanted = "h/a/b"
        for text in ('[remote "origin"]\n\turl = git@h:a/b.git\n', '[REMOTE "origin"]\nURL=git@h:a/b\n',
                     '[remote   "origin"] url = "git@h:a/b" ; comment\n', "[remote.origin]\nurl = h:a/b # comment\r\n",
                     '[remote "up"]\nurl = h:c/d\n[remote "origin"]\nfetch = +refs\npushurl = h:x/y\nurl = h:a/b\nurl = h:e/f\n'):
            with self.subTest(text):
                self.assertEqual(self.identity(self.repo("r", config=text)), wanted)
        for text in ("", '[remote "up"]\nurl = h:c/d\n', "[core]\nurl = h:a/b\n", "\0\xff[[[\n= =\n[remote \"origin\"]\nurl\n"):
            with self.subTest(text):
                folder = self.repo("none", config=text or " ")
                self.assertEqual(self.identity(folder), os.path.realpath(folder))

    def test_clones_folders_in_them_and_worktrees_agree_and_others_of_that_name_do_not(self) -> None:
        one, moved = self.repo("acme/api", "git@h:acme/api.git"), self.repo("elsewhere/acme-api", "https://t@h/acme/api")
        deep = self.folder("acme/api/src/é")
        tree = self.folder("trees/fix")
        with open(os.path.join(tree, ".git"), "w", encoding="utf-8") as file:
            file.write(f"gitdir: {one}/.git/worktrees/fix\n")
        odd, real = self.folder("trees/odd"), self.folder("somewhere/admin")
        for path, text in ((os.path.join(odd, ".git"), f"gitdir: {real}\n"), (os.path.join(real, "commondir"), f"{one}/.git\n")):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        os.symlink(os.path.join(one, "src"), os.path.join(self.home, "link"))
        link = os.path.join(self.home, "link")
        self.assertEqual({self.identity(each) for each in (one, moved, deep, tree, odd, link)}, {"h/acme/api"})
        self.assertEqual({rlm.project_at(self.places, each).name for each in (one, deep, tree, odd, link)}, {"api"})
        self.assertEqual(self.identity(self.repo("globex/api", "git@h:globex/api.git")), "h/globex/api")

    def test_a_submodule_is_a_project_of_its_own(self) -> None:
        self.repo("acme/api", "git@h:acme/api.git")
        folder = self.folder("acme/api/libs/parser")
        with open(os.path.join(folder, ".git"), "w", encoding="utf-8") as file:
            file.write("gitdir: ../../.git/modules/parser\n")
        with open(os.path.join(self.folder("acme/api/.git/modules/parser"), "config"), "w", encoding="utf-8") as file:
            file.write('[remote "origin"]\n\turl = git@h:acme/parser.git\n')
        self.assertEqual(self.identity(folder), "h/acme/parser")

    def test_paths_that_look_equal_are_one_project_and_a_folder_that_is_gone_is_its_path(self) -> None:
        self.assertEqual(self.identity(f"/gone/{NFD}"), f"/gone/{NFC}")
        self.assertEqual(self.identity(f"/gone/{NFC}"), f"/gone/{NFC}")
        os.symlink(self.folder("notes"), os.path.join(self.home, "link"))
        self.assertEqual(self.identity(os.path.join(self.home, "link")), self.identity(self.folder("notes")))
        with mock.patch.object(rlm, "ignores_case", lambda path: True):
            self.assertEqual(self.identity("/Gone/Here"), self.identity("/gone/here"))
        self.assertNotEqual(self.identity("/Gone/Here"), self.identity("/gone/here"))
        self.assertEqual(rlm.project_at(self.places, "/gone/\0x").name, "x")

    def test_whether_case_matters_is_asked_of_the_file_system(self) -> None:
        self.folder("Letters")
        self.assertFalse(rlm.ignores_case(os.path.join(self.home, "Letters", "not there")))
        real = os.lstat
        with mock.patch.object(rlm.os, "lstat", lambda path: real(path if os.path.lexists(path) else path.swapcase())):
            with mock.patch.object(rlm.os, "lstat", lambda path: real(self.home)):
                self.assertTrue(rlm.ignores_case(os.path.join(self.home, "Letters", "not there")))

    def test_the_name_that_rlm_project_gives_wins(self) -> None:
        one = self.repo("acme/api", "git@h:acme/api.git")
        with self.at(one), mock.patch.dict(os.environ, {"RLM_PROJECT": "Crm é"}):
            here = rlm.current_project(self.places)
            self.assertEqual((here.name, here.identity), ("Crm é", "name:crm é"))
            mine = self.call("rlm_remember", content=WORDS, importance="critical").data["id"]
            self.assertIn(mine, self.told(one))
        self.assertEqual(self.told(one), "")

    def test_the_identity_of_a_folder_costs_a_hook_little_and_starts_no_process(self) -> None:
        folder = self.repo("acme/api")
        with mock.patch.object(subprocess, "Popen", side_effect=AssertionError("a process")):
            self.told(folder)
            self.asked(folder)
        self.assertFalse(os.path.exists(self.places.memory))


@unittest.skipUnless(shutil.which("git"), "needs git")
class FirstCommitTest(ProjectCase):
    def git(self, folder: str, *arguments: str) -> None:
        """Runs git, away from the configuration of whoever runs the tests."""
        given = ["-c", "user.name=é", "-c", "user.email=e@example.org", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", "-C", folder, *given, *arguments], check=True, capture_output=True,
                       env={**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull})

    def started(self, where: str) -> str:
        """A repository with a commit and no origin."""
        folder = self.folder(where)
        self.git(folder, "init", "-q")
        self.git(folder, "commit", "-q", "--allow-empty", "-m", "first of " + where)
        return folder

    def test_a_repository_without_an_origin_is_known_by_its_first_commit_wherever_it_moves(self) -> None:
        one, other = self.started("a/api"), self.started("b/api")
        mine = self.remember(one, WORDS, importance="critical")
        self.assertRegex(self.identity(one), r"\Acommit:[0-9a-f]{40}\Z")
        self.remember(other, "something else é")
        self.assertNotEqual(self.identity(one), self.identity(other))
        self.git(one, "commit", "-q", "--allow-empty", "-m", "second")
        moved = os.path.join(self.home, "moved é")
        os.rename(one, moved)
        self.remember(moved, "from the new place é")  # outside a hook: git is asked here, too
        self.assertIn(mine, self.told(moved))
        self.assertNotIn(mine, self.told(other))

    def test_hooks_alone_know_a_repository_that_moved(self) -> None:
        one = self.started("a/api")
        self.git(one, "commit", "-q", "--amend", "--allow-empty", "-m", "another first")
        self.git(one, "commit", "-q", "--allow-empty", "-m", "second")
        self.told(one, "PostCompact", compact_summary=WORDS)
        moved = os.path.join(self.home, "moved é")
        os.rename(one, moved)
        with mock.patch.object(subprocess, "Popen", side_effect=AssertionError("a process")):
            told = self.told(moved, "UserPromptSubmit", prompt=QUESTION, session_id="another")
        self.assertIn("zebrafish", told)
        roots = subprocess.run(["git", "-C", moved, "rev-list", "--max-parents=0", "HEAD"], check=True, capture_output=True)
        self.assertEqual(self.identity(moved), "commit:" + roots.stdout.decode().strip())

    def test_git_is_asked_once_and_never_where_there_is_an_origin(self) -> None:
        one, cloned = self.started("a/api"), self.folder("c")
        self.git(self.home, "clone", "-q", one, cloned)
        shutil.rmtree(os.path.join(one, ".git", "logs"))
        self.remember(one, WORDS)
        with mock.patch.object(subprocess, "run", side_effect=AssertionError("git was asked")):
            self.remember(one, "again é")
            self.remember(cloned, "of the clone é")
        self.assertEqual(self.identity(cloned), os.path.realpath(one))  # its origin

    def test_without_git_or_a_commit_the_path_does(self) -> None:
        folder = self.folder("empty")
        self.git(folder, "init", "-q")
        mine = self.remember(folder, WORDS, importance="critical")
        self.assertEqual(self.identity(folder), os.path.realpath(folder))
        self.assertIn(mine, self.told(folder))
        one = self.started("a/api")
        shutil.rmtree(os.path.join(one, ".git", "logs"))
        with mock.patch.dict(os.environ, {"PATH": "/nowhere"}):
            self.remember(one, WORDS)
        self.assertEqual(self.identity(one), os.path.realpath(one))

    def test_a_folder_keeps_its_memories_when_it_becomes_a_repository_and_gets_an_origin(self) -> None:
        folder = self.folder("shop")
        first = self.remember(folder, "before git é", importance="critical")
        self.git(folder, "init", "-q")
        self.git(folder, "commit", "-q", "--allow-empty", "-m", "first")
        second = self.remember(folder, "with a commit é", importance="critical")
        self.git(folder, "remote", "add", "origin", "git@h:acme/shop.git")
        third = self.remember(folder, "with an origin é", importance="critical")
        self.assertEqual(self.identity(folder), "h/acme/shop")
        told = self.told(folder)
        self.assertEqual([each in told for each in (first, second, third)], [True] * 3)
        answer = self.call("rlm_recall", project="shop")  # it is one project, not three
        self.assertNotIn("note", answer.data)
        self.assertEqual(answer.text.count("· shop ·"), 3)

    def test_two_made_from_one_template_are_told_apart_by_their_origins(self) -> None:
        folders = [self.started("a/api"), os.path.join(self.home, "b")]
        shutil.copytree(*folders)
        for folder in folders:
            self.remember(folder, "before there was an origin é" + folder, importance="critical")
        self.assertEqual(*map(self.identity, folders))
        for name, folder in zip("ab", folders):
            self.git(folder, "remote", "add", "origin", f"git@h:{name}/api.git")
            self.remember(folder, f"of {name} é", importance="critical")
        for name, folder in zip("ab", folders):
            self.assertEqual(self.told(folder).count('- "'), 1)
            self.assertIn(f"of {name} é", self.told(folder))

    def test_worktrees_agree_with_their_repository(self) -> None:
        one = self.started("a/api")
        mine = self.remember(one, WORDS, importance="critical")
        self.git(one, "worktree", "add", "-q", os.path.join(self.home, "fix"))
        self.assertIn(mine, self.told(os.path.join(self.home, "fix")))


class TwoOfOneNameTest(ProjectCase):
    def setUp(self) -> None:
        super().setUp()
        self.acme = self.repo("acme/api", "git@h:acme/api.git")
        self.globex = self.repo("globex/api", "git@h:globex/api.git")

    def test_hooks_tell_of_the_repository_itself_only(self) -> None:
        self.save_conversation(self.acme)
        self.import_past()
        mine = self.remember(self.acme, WORDS, importance="critical", category="decision")
        for told in (self.told(self.globex), self.asked(self.globex), self.told(self.globex, source="compact"),
                     self.told(self.folder("third", "api")), self.asked(self.folder("third", "api"))):
            self.assertEqual(told, "")
        for told in (self.told(self.acme), self.asked(self.acme), self.told(self.acme, source="compact")):
            self.assertIn(mine, told)
        self.assertIn("Last session", self.told(self.acme))
        self.assertNotEqual(self.asked(self.folder("acme/api/src")), "")

    def test_folders_of_any_name_have_memories_of_their_own(self) -> None:
        folders = [self.folder(name) for name in ("a\tb  c", "line\nend", os.fsdecode(b"caf\xe9"), NFD, "\u202eé", "*", "x" * 200)]
        ids = [self.remember(folder, f"of {n} é", importance="critical") for n, folder in enumerate(folders)]
        for wanted, folder in zip(ids, folders):
            told = self.told(folder)
            self.assertEqual([each for each in ids if each in told], [wanted], folder)

    def test_a_conversation_in_a_folder_that_is_gone_is_of_that_path(self) -> None:
        self.save_conversation(os.path.join(self.home, "gone", "api"))
        self.import_past()
        self.assertEqual(self.told(self.globex) + self.asked(self.globex), "")
        self.assertIn("zebrafish", self.asked(self.folder("gone", "api")))

    def test_what_a_hook_saves_has_the_identity_of_its_folder(self) -> None:
        path = self.save_conversation(self.acme)
        self.told(self.acme, "PreCompact", transcript_path=path)
        self.told(self.acme, "PostCompact", compact_summary="a summary é of the zebrafish export in payroll layoff")
        docs = list(self.view().alive())
        self.assertEqual([(doc.project, doc.identity) for doc in docs], [("api", "h/acme/api")] * 2)

    def test_an_old_memory_is_told_only_where_no_other_project_has_its_name(self) -> None:
        self.put_old("api")
        self.assertIn("zebrafish", self.told(self.globex))
        self.assertIn("zebrafish", self.asked(self.globex))
        self.remember(self.globex, "of globex é")
        self.assertIn("zebrafish", self.told(self.globex))
        self.assertEqual(self.told(self.acme), "")  # now globex is a project of that name, too
        self.remember(self.acme, "of acme é")
        self.assertNotIn("zebrafish", self.told(self.globex) + self.asked(self.globex))
        self.assertEqual(self.told(self.folder("other")), "")
        self.assertTrue(self.call("rlm_search", query="zebrafish", project="api").data["hits"])

    def test_a_name_of_several_searches_all_and_says_so_and_a_qualified_one_selects(self) -> None:
        a, g = self.remember(self.acme, "zebrafish one é"), self.remember(self.globex, "zebrafish two é")
        for folder in (self.acme, self.globex):
            with self.at(folder):
                self.chunk("zebrafish three é")
        for tool, given in (("rlm_search", {"query": "zebrafish"}), ("rlm_grep", {"pattern": "zebrafish"}),
                            ("rlm_recall", {"query": "zebrafish"}), ("rlm_recall", {}), ("rlm_sessions", {})):
            with self.subTest(tool):
                answer = self.call(tool, project="api", **given)
                self.assertIn("api is the name of 2 projects, and all were searched: acme/api, globex/api", answer.text)
                self.assertIn("2 projects", answer.data["note"])
                for wanted in ("acme/api", "ACME/Api", "h/acme/api"):
                    one = self.call(tool, project=wanted, **given)
                    self.assertNotIn("note", one.data)
                    self.assertNotIn("globex", one.text)
                    self.assertIn("acme/api", one.text)
        found = {row["id"] for row in self.call("rlm_recall", project="api").data["insights"]}
        self.assertEqual(found, {a, g})
        self.assertEqual([row["id"] for row in self.call("rlm_recall", project="globex/api").data["insights"]], [g])
        hint = self.call("rlm_recall", query="zebrafish two", project="acme/ap").text
        self.assertIn("found in other projects", hint)
        self.assertEqual(set(self.call("rlm_status").data["projects"]), {"acme/api", "globex/api"})

    def test_one_project_of_a_name_is_shown_by_it_alone(self) -> None:
        self.remember(self.acme, WORDS)
        self.assertIn("· api ·", self.call("rlm_recall").text)
        self.assertEqual(self.call("rlm_status").data["projects"], {"api": 1})

    def test_writing_to_a_name_means_the_present_project_then_the_only_known_one(self) -> None:
        def owner(folder: str, text: str, project: str) -> tuple[str, str]:
            with self.at(folder):
                new_id = self.chunk(text, project=project)
            view = self.view()
            doc = view.doc(view.ordinal_of(new_id))
            return doc.project, doc.identity

        self.assertEqual(owner(self.acme, "1 é", "api"), ("api", "h/acme/api"))
        self.assertEqual(owner(self.acme, "2 é", "acme/api"), ("api", "h/acme/api"))
        self.assertEqual(owner(self.home, "3 é", "API"), ("api", "h/acme/api"))
        self.assertEqual(owner(self.globex, "4 é", "api"), ("api", "h/globex/api"))
        self.assertEqual(owner(self.home, "5 é", "api"), ("api", ""))  # whose is not known
        self.assertEqual(owner(self.home, "6 é", "globex/api"), ("api", "h/globex/api"))
        self.assertEqual(owner(self.home, "7 é", "new"), ("new", ""))

    def test_the_same_text_in_both_is_two_memories_and_in_clones_of_one_it_is_one(self) -> None:
        ids = {self.remember(folder, WORDS) for folder in (self.acme, self.globex)}
        self.assertEqual(len(ids), 2)
        ids.add(self.remember(self.repo("clone of api", "https://h/acme/api.git"), WORDS))
        self.assertEqual(len(ids), 2)
        self.put_old("api", "an old statement é")
        with self.at(self.acme):
            self.assertFalse(self.call("rlm_remember", content="an old statement é").data["new"])

    def test_an_export_takes_identities_along_and_an_old_one_gets_none(self) -> None:
        mine = self.remember(self.acme, WORDS, importance="critical")
        self.remember(self.globex, "other é")
        path = os.path.join(self.home, "out.jsonl")
        self.assertEqual(self.cli("export", "--project", "acme/api", path).returncode, 0)
        shutil.rmtree(self.places.memory)
        with self.at(self.globex):
            self.assertEqual(self.cli("import", path).returncode, 0)
        self.assertIn(mine, self.told(self.acme))
        self.assertEqual(self.told(self.globex), "")
        shutil.rmtree(self.places.memory)
        with open(path, encoding="utf-8") as file:
            row = {key: value for key, value in json.loads(file.read()).items() if key != "identity"}
        with open(path, "w", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n" + json.dumps({"text": "without a project é"}) + "\n")
        with self.at(self.globex):
            self.assertEqual(self.cli("import", path).returncode, 0)
        found = {doc.id == mine: doc.identity for doc in self.view().alive()}
        self.assertEqual(found, {True: "", False: "h/globex/api"})

    def test_no_credentials_of_an_origin_are_in_any_file(self) -> None:
        self.remember(self.repo("shop", "https://zoe:Xk9mQ2vLr7TzWp4N@h/acme/shop.git"), WORDS)
        for folder, _, names in os.walk(self.places.home):
            for name in names:
                self.assertNotIn(b"Xk9mQ2vLr7TzWp4N", rlm.read_file(os.path.join(folder, name)))


class UsersOwnTest(ProjectCase):
    def test_the_users_own_memories_are_told_in_every_project(self) -> None:
        folder = self.folder("shop")
        mine = self.remember(folder, WORDS, importance="critical", project="*")
        rlm.write_config(self.places, {"exclude": ["hidden"]})
        with self.assertRaisesRegex(rlm.UsageError, "exclude"):
            self.remember(self.folder("hidden"), "of the hidden project é", project="*")
        for where in (folder, self.folder("elsewhere"), self.repo("acme/api", "git@h:acme/api.git")):
            self.assertIn(mine, self.told(where))
            self.assertIn(mine, self.asked(where))
        other = self.remember(folder, "of the shop é")
        ids = {project: [row["id"] for row in self.call("rlm_recall", project=project).data["insights"]]
               for project in ("*", "shop", "")}
        self.assertEqual(ids, {"*": [mine], "shop": [other], "": [other, mine]})

    def test_a_shell_says_it_the_same_way(self) -> None:
        done = self.cli("remember", WORDS, "--project", "*", "--json")
        self.assertEqual(self.view().doc(0).project, "*")
        self.assertIn(json.loads(done.stdout)["id"], self.cli("recall", "--project", "*").stdout.decode())


class ConfigProjectTest(ProjectCase):
    def test_it_shows_joins_renames_and_takes_that_back(self) -> None:
        acme, globex = self.repo("acme/api", "git@h:acme/api.git"), self.repo("globex/api", "git@h:globex/api.git")
        mine, theirs = self.remember(acme, WORDS, importance="critical"), self.remember(globex, "two é", importance="critical")
        shown = self.configured("project", folder=acme)
        self.assertEqual((shown["name"], shown["identity"], shown["others"]), ("api", "h/acme/api", ["globex/api"]))
        self.assertIn("origin", shown["found_by"])
        self.assertEqual(shown["n_memories"], 1)
        shown = self.configured("project", "--join", "globex/api", folder=acme)
        self.assertEqual((shown["also"][-1], shown["others"], shown["n_memories"]), ("h/globex/api", [], 2))
        self.assertIn(mine, self.told(acme))
        self.assertIn(theirs, self.told(acme))
        self.assertNotIn(mine, self.told(globex))
        self.assertNotIn("note", self.call("rlm_recall", project="api").data)  # they are one now
        self.assertEqual(self.configured("project", "--rename", "Shop é", folder=acme)["name"], "Shop é")
        self.assertIn("Shop é", self.told(acme))
        self.assertEqual(len(self.call("rlm_recall", project="shop e").data["insights"]), 2)
        self.assertIn("· Shop é ·", self.call("rlm_recall", query="zebrafish").text)
        shown = self.configured("project", "--unset", folder=acme)
        self.assertEqual((shown["name"], shown["others"], shown["n_memories"]), ("api", ["globex/api"], 1))
        self.assertEqual(rlm.read_config(self.places), {})
        self.assertNotIn(theirs, self.told(acme))
        self.assertNotIn("projects", self.configured("archive_after_days"))

    def test_joining_goes_on_with_what_was_joined_before_and_turns_round_what_was_joined_the_other_way(self) -> None:
        a, b, c = (self.repo(f"{name}/api", f"git@h:{name}/api.git") for name in "abc")
        ids = [self.remember(folder, f"of {folder} é", importance="critical") for folder in (a, b, c)]
        self.configured("project", "--join", "c/api", folder=b)
        self.configured("project", "--join", "b/api", folder=a)
        self.assertEqual([each in self.told(a) for each in ids], [True] * 3)
        self.assertEqual([each in self.told(b) for each in ids], [False, True, False])
        self.configured("project", "--join", "a/api", folder=b)
        self.assertEqual([each in self.told(b) for each in ids], [True] * 3)
        self.assertEqual([each in self.told(a) for each in ids], [True, False, False])

    def test_an_old_name_can_be_joined(self) -> None:
        acme = self.repo("acme/api", "git@h:acme/api.git")
        self.put_old("former-api")
        self.assertEqual(self.told(acme), "")
        self.configured("project", "--join", "former-api", folder=acme)
        self.assertIn("zebrafish", self.told(acme))
        self.assertTrue(self.call("rlm_search", query="zebrafish", project="former-api").data["hits"])

    def test_what_cannot_be_joined_is_refused_with_what_can(self) -> None:
        for name in ("acme", "globex"):
            self.remember(self.repo(f"{name}/api", f"git@h:{name}/api.git"), f"of {name} é")
        env = {"CLAUDE_PROJECT_DIR": self.folder("here")}
        for arguments, code, wanted in ((("project", "--join", "api"), 2, b"acme/api, globex/api"),
                                        (("project", "--join", "nobody"), 1, b"no other project 'nobody'"),
                                        (("--join", "api"), 2, b"config project"),
                                        (("archive_after_days", "--rename", "x"), 2, b"config project")):
            done = self.cli("config", *arguments, env=env)
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertIn(wanted, done.stderr)
        self.assertFalse(os.path.exists(self.places.config()))

    def test_a_damaged_setting_of_projects_does_no_harm(self) -> None:
        acme = self.repo("acme/api", "git@h:acme/api.git")
        mine = self.remember(acme, WORDS, importance="critical")
        for value in (7, [], {"names": 7, "joined": []}, {"names": {"h/acme/api": 7}, "joined": {"x": [], "y": None}}):
            rlm.write_config(self.places, {"projects": value})
            self.assertIn(mine, self.told(acme))


class ExcludeTest(ProjectCase):
    def saved(self) -> int:
        """How many memories there are."""
        return sum(1 for _ in self.view().alive())

    def test_a_name_is_excluded_however_it_is_spelt(self) -> None:
        for entry, name in ((NFC, NFD), (NFD, NFC), (NFC.upper(), NFD), ("caf*", NFD), ("STRASSE", "straße")):
            with self.subTest(entry=entry, name=name):
                rlm.write_config(self.places, {"exclude": [entry]})
                self.save_conversation(f"/Users/zoe/{name}")
                self.import_past()
                self.assertEqual(self.saved(), 0)
                with self.at(f"/Users/zoe/{name}"), self.assertRaisesRegex(rlm.UsageError, "exclude"):
                    self.call("rlm_remember", content=WORDS)

    def test_a_folder_is_excluded_however_it_is_spelt(self) -> None:
        os.symlink(self.folder(NFC), os.path.join(self.home, "link"))
        for entry, folder in ((f"/Users/{NFC}", f"/Users/{NFD}/x"), (f"/Users/{NFD}/", f"/Users/{NFC}"),
                              (os.path.join(self.home, "link"), os.path.join(self.home, NFC, "x"))):
            self.assertTrue(rlm.is_excluded([entry], rlm.project_at(self.places, folder), folder), entry)
        there = rlm.project_at(self.places, "/users/zoe/x")
        self.assertFalse(rlm.is_excluded(["/Users/Zoe"], there, "/users/zoe/x"))
        with mock.patch.object(rlm, "ignores_case", lambda path: True):
            self.assertTrue(rlm.is_excluded(["/Users/Zoe"], there, "/users/zoe/x"))

    def test_one_of_two_projects_of_a_name_is_excluded_by_owner_and_name_or_identity(self) -> None:
        acme, globex = self.repo("acme/api", "git@h:acme/api.git"), self.repo("globex/api", "git@h:globex/api.git")
        for entry in ("globex/api", "h/globex/api", "H/Globex/*", "globex/*"):
            with self.subTest(entry):
                rlm.write_config(self.places, {"exclude": [entry]})
                with self.at(globex), self.assertRaisesRegex(rlm.UsageError, "exclude"):
                    self.chunk(WORDS)
                with self.at(acme):
                    self.chunk(WORDS + entry)
        items = [{"kind": "insight", "text": WORDS, "project": "api", "identity": each} for each in ("h/globex/api", "h/acme/api")]
        done = rlm.Imported()
        rlm.import_batch(self.view(), items, "x", done)
        self.assertEqual((done.n_new, done.n_excluded), (1, 1))

    def test_a_renamed_project_stays_excluded_by_the_name_of_its_folder(self) -> None:
        acme = self.repo("acme/api", "git@h:acme/api.git")
        rlm.write_config(self.places, {"exclude": ["api"], "projects": {"names": {"h/acme/api": "shop"}}})
        with self.at(acme), self.assertRaisesRegex(rlm.UsageError, "exclude"):
            self.call("rlm_remember", content=WORDS)

    def test_a_line_that_names_an_impossible_folder_stops_nothing(self) -> None:
        shop = self.folder("shop")
        rlm.write_config(self.places, {"exclude": ["~/clients"]})
        poison = json.dumps({"type": "user", "sessionId": "x", "cwd": "/w/\0x", "uuid": "u9", "message": {
            "role": "user", "content": "poison é"}}).encode() + b"\n"
        path = self.save_conversation(shop, more=poison)
        self.assertIn("Last session", self.told(shop, transcript_path=os.path.join(os.path.dirname(path), "new.jsonl")))
        self.assertFalse(os.path.exists(self.places.hooks_log()))


class HomeTest(TempHome):
    def test_a_server_without_a_home_of_the_user_works_where_the_memory_was_moved(self) -> None:
        env = {"HOME": "", "RLM_CONTEXT_DIR": os.path.join(self.home, "m é")}
        done = self.cli("remember", WORDS, env=env)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        with mock.patch.dict(os.environ, env):
            client = self.client()
            client.initialize()
            self.assertIn("zebrafish", client.text("rlm_recall"))

    def test_a_tilde_that_no_shell_has_read_is_the_home(self) -> None:
        with mock.patch.dict(os.environ, {"CLAUDE_CONFIG_DIR": "~/.alt", "RLM_CONTEXT_DIR": "~/m"}):
            places = rlm.Places()
        self.assertEqual((places.home, places.memory), (f"{self.home}/.alt/rlm", f"{self.home}/m"))


if __name__ == "__main__":
    unittest.main()
