"""What was stored is cleaned by today's rules, given back as it was, and never taken from excluded projects."""
from __future__ import annotations

import argparse
import gzip
import json
import os
import time
import unittest
from unittest import mock

from tests.support import HARD, ROOT, TempHome, everything, rlm

SECRET = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
SESSION = "3c57c232-d4a0-4b3f-a780-c76246539c7a"


def spoken(text: str, session: str = SESSION, cwd: str = "/home/dev/shop", **more: object) -> bytes:
    """A line of a transcript in which the user says something."""
    line = {"type": "user", "uuid": rlm.digest(text + session), "sessionId": session, "cwd": cwd, "gitBranch": "main",
            "timestamp": "2026-11-21T07:13:49.789Z", "message": {"role": "user", "content": text}, **more}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


class StoreCase(TempHome):
    def unredacted(self) -> object:
        """A patch under which secrets are stored as they are: by an rlm that did not know this kind yet."""
        same = mock.patch.multiple(rlm, redact=lambda text: text, redact_value=lambda value: value)
        return same

    def transcript(self, *lines: bytes, session: str = SESSION) -> str:
        """A transcript where the client keeps it, last written some time ago."""
        path = os.path.join(self.home, ".claude", "projects", "-home-dev-shop", session + ".jsonl")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.writelines(lines)
        os.utime(path, (time.time() - 9000,) * 2)
        return path

    def save(self, path: str) -> None:
        """Saves the transcript in this process."""
        rlm.Keeper(self.view()).save(path)

    def bytes_at_home(self) -> bytes:
        """All bytes that rlm keeps, packed ones unpacked too."""
        found = b""
        for folder, _, names in os.walk(self.places.home):
            for name in names:
                data = rlm.read_file(os.path.join(folder, name))
                found += data + (gzip.decompress(data) if name.endswith(".gz") and data else b"")
        return found


class ScrubTest(StoreCase):
    def setUp(self) -> None:
        super().setUp()
        with self.unredacted():  # type: ignore[attr-defined]
            self.chunk_id = self.chunk(f"the token is {SECRET} {HARD}", summary=f"about {SECRET}", tags=f"x,{SECRET}")
            self.other = self.chunk("nothing to hide é")
            self.insight = self.call("rlm_remember", content=f"use {SECRET} for é").data["id"]
            archived = self.chunk(f"archived {SECRET} {HARD}")
            rlm.archive_docs(self.view(), [rlm.find_id(self.view(), archived)], rlm.now())
            self.archived = archived
            self.path = self.transcript(spoken(f"deploy with {SECRET} é"), spoken("then rest 日本"))
            self.save(self.path)
        self.assertGreater(self.bytes_at_home().count(SECRET.encode()), 6)

    def test_a_dry_run_tells_what_would_change_and_changes_nothing(self) -> None:
        before = self.bytes_at_home()
        done = self.cli("scrub", "--dry-run", "--json")
        data = json.loads(done.stdout)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertFalse(data["done"])
        self.assertLessEqual({self.chunk_id, self.insight, self.archived}, set(data["memories"]))
        self.assertNotIn(self.other, data["memories"])
        self.assertEqual(data["transcripts"], {SESSION: 1})
        self.assertEqual(self.bytes_at_home(), before)

    def test_no_secret_is_left_anywhere_and_all_else_stays(self) -> None:
        before = everything(self.places)
        done = self.cli("scrub")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertIn(b"Replaced secrets in 4 memories and 1 transcript.", done.stdout)
        self.assertNotIn(SECRET.encode(), self.bytes_at_home())
        after = everything(self.places)
        self.assertEqual(after.keys(), before.keys())
        self.assertEqual(after[self.other], before[self.other])
        self.assertEqual(after[self.chunk_id][1], before[self.chunk_id][1].replace(SECRET, "[redacted:github-token]"))
        self.assertEqual(after[self.archived][8], "archived")
        self.assertIn("No damage.", self.cli("verify").stdout.decode())
        self.assertIn(self.chunk_id, self.call("rlm_search", query="the token is").text)
        self.assertEqual(self.cli("scrub").stdout, b"No secrets found.\n")

    def test_a_transcript_goes_on_after_its_copy_was_cleaned(self) -> None:
        self.cli("scrub")
        with open(self.path, "ab") as file:
            file.write(spoken("and a last word é"))
        os.utime(self.path, (time.time() - 8000,) * 2)
        self.save(self.path)
        copy = gzip.decompress(rlm.read_file(self.places.transcript(SESSION)))
        self.assertEqual(copy, rlm.read_file(self.path).replace(SECRET.encode(), b"[redacted:github-token]"))

    def test_what_lies_in_the_spool_is_read_before_it_could_be_forgotten(self) -> None:
        path = self.transcript(spoken(f"put aside {SECRET} é"), session=SESSION.replace("3c", "4d"))
        rlm.put_aside(self.places, path)
        self.cli("scrub")
        self.assertEqual(rlm.spooled_files(self.places), [])
        self.assertIn(b"put aside [redacted:github-token]", self.log_bytes())
        self.assertNotIn(SECRET.encode(), self.bytes_at_home())

    def test_the_state_of_a_transcript_is_cleaned_and_stays_as_old_as_it_was(self) -> None:
        self.cli("scrub")
        mtime_ns = os.stat(self.path).st_mtime_ns
        state = {**rlm.load_state(self.places, SESSION), "prompt": f"deploy with {SECRET} é", "heads": ["x", SECRET]}
        rlm.save_state(self.places, SESSION, state, mtime_ns)
        for arguments, n_left in ((("--dry-run",), 2), ((), 0)):
            data = json.loads(self.cli("scrub", "--json", *arguments).stdout)
            self.assertEqual((data["other_lines"], data["transcripts"]), (1, {}))
            self.assertEqual(self.bytes_at_home().count(SECRET.encode()), n_left)
        clean = {"prompt": "deploy with [redacted:github-token] é", "heads": ["x", "[redacted:github-token]"]}
        self.assertEqual(rlm.load_state(self.places, SESSION), {**state, **clean})
        self.assertTrue(rlm.is_saved(self.places, self.path))

    def test_old_drafts_of_transcripts_are_removed_but_not_by_a_dry_run(self) -> None:
        draft = rlm.temporary_of(self.places.spooled(SESSION, 0))
        rlm.ensure_folder(os.path.dirname(draft))
        rlm.replace_file(draft, f"raw {SECRET}\n".encode())
        later = mock.patch.object(rlm, "now", return_value=rlm.now() + 2 * rlm.DAY_S)
        for dry_run in (True, False):
            with later:
                rlm.scrub_command(rlm.Call(rlm.Store(self.places)), argparse.Namespace(dry_run=dry_run))
            self.assertEqual(os.path.exists(draft), dry_run)

    def test_an_empty_store_has_nothing_to_scrub(self) -> None:
        empty = os.path.join(self.home, "empty")
        done = self.cli("scrub", env={"RLM_HOME": empty})
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"No secrets found.\n", b""))
        self.assertFalse(os.path.exists(empty))


class RestoreTest(StoreCase):
    def setUp(self) -> None:
        super().setUp()
        self.lines = [spoken(f"first {HARD}"), b'{"type":"mode","mode":"normal"}\n', spoken("second\u2028é")]
        self.path = self.transcript(*self.lines)
        folder = os.path.join(self.path[: -len(".jsonl")], "subagents")
        os.makedirs(folder)
        self.agent = os.path.join(folder, "agent-a5a65ebe842ab4d32.jsonl")
        with open(self.agent, "wb") as file:
            file.write(spoken("look around é", isSidechain=True, agentId="a5a65ebe842ab4d32"))
        os.utime(self.agent, (time.time() - 9000,) * 2)
        self.assertEqual(self.cli("import").returncode, 0)
        self.kept = {path: rlm.read_file(path) for path in (self.path, self.agent)}

    def test_it_comes_back_byte_for_byte_with_its_subagents(self) -> None:
        for path in self.kept:
            os.unlink(path)
        planned = self.cli("restore-transcript", SESSION, "--dry-run")
        self.assertIn(self.path, planned.stdout.decode())
        self.assertFalse(os.path.exists(self.path))
        done = self.cli("restore-transcript", SESSION[:8])
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual({path: rlm.read_file(path) for path in self.kept}, self.kept)

    def test_a_file_that_is_there_is_never_overwritten(self) -> None:
        done = self.cli("restore-transcript", SESSION)
        self.assertEqual(done.returncode, 2)
        self.assertIn(self.path, done.stderr.decode())

    def test_what_is_there_of_its_subagents_stays_and_the_rest_comes_back(self) -> None:
        os.unlink(self.path)
        with open(self.agent, "ab") as file:
            file.write(spoken("newer é"))
        newer = rlm.read_file(self.agent)
        done = self.cli("restore-transcript", SESSION)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertIn(f"{self.agent}: is there", done.stdout.decode())
        self.assertEqual((rlm.read_file(self.path), rlm.read_file(self.agent)), (self.kept[self.path], newer))

    def test_it_goes_to_another_file_or_to_standard_output(self) -> None:
        target = os.path.join(self.home, "copy é.jsonl")
        self.assertEqual(self.cli("restore-transcript", SESSION, "--to", target).returncode, 0)
        self.assertEqual(rlm.read_file(target), self.kept[self.path])
        self.assertEqual(self.cli("restore-transcript", SESSION, "--to", "-").stdout, self.kept[self.path])

    def test_unknown_sessions_are_named(self) -> None:
        for wanted in ("nobody", "../x", "", "\u2028"):
            done = self.cli("restore-transcript", wanted)
            self.assertEqual((done.returncode, done.stdout), (1, b""), wanted)
            self.assertIn(b"no transcript", done.stderr)

    def test_it_finds_its_place_in_another_home(self) -> None:
        moved = os.path.join(self.home, "other home é")
        done = self.cli("restore-transcript", SESSION,
                        env={"CLAUDE_CONFIG_DIR": moved, "RLM_HOME": self.places.home})
        self.assertEqual(done.returncode, 0, done.stderr)
        path = os.path.join(moved, "projects", "-home-dev-shop", SESSION + ".jsonl")
        self.assertEqual(rlm.read_file(path), self.kept[self.path])

    def test_what_a_killed_writer_left_behind_a_copy_is_no_obstacle(self) -> None:
        with open(self.places.transcript(SESSION), "ab") as file:
            file.write(rlm.gzip_member([b"half a member\n" * 99])[:40])
        target = os.path.join(self.home, "copy é.jsonl")
        done = self.cli("restore-transcript", SESSION, "--to", target)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(rlm.read_file(target), self.kept[self.path])
        self.assertIn("No damage.", self.cli("verify").stdout.decode())

    def test_verify_names_a_copy_that_is_cut(self) -> None:
        self.assertIn("No damage.", self.cli("verify").stdout.decode())
        with open(self.places.transcript(SESSION), "r+b") as file:
            file.truncate(30)
        done = self.cli("verify")
        self.assertEqual(done.returncode, 1)
        self.assertIn(SESSION, done.stdout.decode())


    def damage(self) -> bytes:
        """Makes the copy one of three slices, and flips a byte in the second; the bytes of the copy."""
        with open(self.path, "ab") as file:
            file.write(spoken("third é"))
        self.save(self.path)
        with open(self.path, "ab") as file:
            file.write(spoken("fourth é"))
        os.utime(self.path, (time.time() - 8000,) * 2)
        self.save(self.path)
        copy = self.places.transcript(SESSION)
        data = bytearray(rlm.read_file(copy))
        data[data.index(rlm.GZIP_MAGIC, 1) + 20] ^= 0xFF
        with open(copy, "wb") as file:
            file.write(data)
        return bytes(data)

    def test_a_damaged_copy_is_made_anew_from_its_transcript(self) -> None:
        self.damage()
        self.assertEqual(self.cli("verify").returncode, 1)
        done = self.cli("verify", "--repair")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertIn("made anew from the transcript", done.stdout.decode())
        self.assertIn("No damage.", self.cli("verify").stdout.decode())
        self.assertEqual(self.cli("restore-transcript", SESSION, "--to", "-").stdout, rlm.read_file(self.path))

    def test_of_a_damaged_copy_without_its_transcript_what_can_be_read_is_kept(self) -> None:
        self.damage()
        os.unlink(self.path)
        self.assertEqual(self.cli("verify", "--repair", "--dry-run").returncode, 1)
        done = self.cli("verify", "--repair")
        self.assertIn("what can be read was kept", done.stdout.decode())
        self.assertIn("No damage.", self.cli("verify").stdout.decode())
        expected = b"".join([*self.lines, spoken("fourth é")])
        self.assertEqual(self.cli("restore-transcript", SESSION, "--to", "-").stdout, expected)

    def test_a_damaged_copy_does_not_keep_the_others_from_being_scrubbed(self) -> None:
        damaged, other = self.damage(), SESSION.replace("3c", "4d")
        with self.unredacted():  # type: ignore[attr-defined]
            self.save(self.transcript(spoken(f"secret {SECRET} é", session=other), session=other))
        done = self.cli("scrub")
        self.assertEqual((done.returncode, done.stderr), (1, b""))
        self.assertIn(f"transcript {SESSION}: cannot be read", done.stdout.decode())
        self.assertEqual(rlm.read_file(self.places.transcript(SESSION)), damaged)
        self.assertEqual(self.cli("verify", "--repair").returncode, 0)
        self.assertNotIn(SECRET.encode(), self.bytes_at_home())
        self.assertEqual(self.cli("scrub").returncode, 0)


class ExcludeTest(StoreCase):
    def test_tools_refuse_and_imports_leave_out_what_is_excluded(self) -> None:
        self.assertEqual(self.cli("config", "exclude", f"Test,{self.home}/clients").returncode, 0)
        for arguments in (("remember", "x é"), ("chunk", os.path.join(ROOT, "LICENSE"))):
            done = self.cli(*arguments)
            self.assertEqual(done.returncode, 2)
            self.assertIn(b"exclude", done.stderr)
        items = "".join(json.dumps({"text": f"text {p} é", "project": p}) + "\n" for p in ("TEST", "open"))
        done = self.cli("import", "-", "--json", stdin=items.encode())
        self.assertEqual(json.loads(done.stdout), {"new": 1, "known": 0, "excluded": 1, "skipped": {}, "refused": []})
        self.assertNotIn(b"text TEST", self.bytes_at_home())

    def test_a_folder_excludes_all_that_is_below_it(self) -> None:
        folder = os.path.join(self.home, "clients", "acme")
        os.makedirs(folder)
        self.cli("config", "exclude", os.path.join("~", "clients"))
        env = {"CLAUDE_PROJECT_DIR": folder, "RLM_PROJECT": ""}
        self.assertEqual(self.cli("remember", "x é", env=env).returncode, 2)
        self.assertEqual(self.cli("remember", "x é", env={**env, "CLAUDE_PROJECT_DIR": self.home}).returncode, 0)

    def test_an_excluded_folder_has_all_its_names(self) -> None:
        folder, link = os.path.join(self.home, "clients", "acme"), os.path.join(self.home, "link é")
        os.makedirs(folder)
        os.symlink(os.path.dirname(folder), link)
        linked = os.path.join(link, "acme")
        for entry, where, code in (("~/link é", folder, 2), ("~/clients", linked, 2), ("~/clients/*", linked, 2),
                                   ("~/link é/a*", folder, 2), ("~/clients/b*", linked, 0), ("~/clients/*", link, 0)):
            self.cli("config", "exclude", entry)
            env = {"CLAUDE_PROJECT_DIR": where, "RLM_PROJECT": ""}
            self.assertEqual(self.cli("remember", f"x é {entry}", env=env).returncode, code, (entry, where))

    def test_a_switch_takes_words_for_on_and_off(self) -> None:
        for word, expected in (("off", False), ("on", True), ("no", False), ("TRUE", True)):
            done = self.cli("config", "keep_transcripts", word, "--json")
            self.assertEqual(json.loads(done.stdout), {"keep_transcripts": expected})
        self.assertEqual(self.cli("config", "keep_transcripts", "perhaps").returncode, 2)


if __name__ == "__main__":
    unittest.main()
