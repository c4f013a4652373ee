"""Files and places: private, locked, whole or not at all, and clear words when the disk or the home is not there."""
from __future__ import annotations

import errno
import fcntl
import gzip
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import tracemalloc
import unittest
import zlib
from typing import Any
from unittest import mock

from tests.support import HARD, ROOT, TempHome, ended, everything, failing_writes, forked, lock_holder, rlm


class Folder(TempHome):
    """Tests with a folder of their own and no store."""

    def path(self, name: str = "file é 日本") -> str:
        """A path in the scratch folder."""
        return os.path.join(self.home, name)

    def drafts(self) -> list[str]:
        """Unfinished files in the scratch folder."""
        return [name for name in os.listdir(self.home) if name.endswith(".tmp")]


class PlacesTest(TempHome):
    def modes(self, folder: str) -> dict[str, int]:
        """The permission bits of everything below the folder."""
        return {path: stat.S_IMODE(os.lstat(path).st_mode)
                for where, folders, files in os.walk(folder)
                for path in (os.path.join(where, n) for n in folders + files)}

    def test_everything_that_is_made_is_private_whatever_the_umask(self) -> None:
        for mask in (0, 0o022, 0o077):
            with self.subTest(umask=oct(mask)):
                before = os.umask(mask)
                self.addCleanup(os.umask, before)
                shutil.rmtree(os.path.join(self.home, ".claude"), ignore_errors=True)
                self.fill()
                modes = self.modes(self.home)
                self.assertGreater(len(modes), 12)
                for path, mode in modes.items():
                    self.assertEqual(oct(mode), oct(0o700 if os.path.isdir(path) else 0o600), path)

    def fill(self) -> None:
        """A store with one of each file: log, archive, damage set aside, index, settings, an export."""
        ids = [self.chunk(f"{i} {HARD}") for i in range(6)]
        rlm.append_bytes(self.places.log(1), b'{"torn\n')
        view = self.view()
        rlm.archive_docs(view, [view.doc(view.ordinal_of(i)) for i in ids[:3]], rlm.now())
        rlm.rewrite(self.view(), repair=True)
        rlm.catch_up(self.view())
        self.assertEqual(rlm.main(["config", "domains", "é"]), 0)
        exported = os.path.join(self.home, "exported.jsonl")
        if os.path.exists(exported):
            os.unlink(exported)
        self.assertEqual(rlm.main(["export", exported]), 0)
        names = os.listdir(self.places.memory)
        for beginning in ("log-", "archive-", "damaged-", "manifest.json", "lock", "index"):
            self.assertTrue([n for n in names if n.startswith(beginning)], beginning)

    def setUp(self) -> None:
        super().setUp()
        sink = open(os.devnull, "w")
        self.addCleanup(sink.close)
        patch = mock.patch.object(sys, "stdout", sink)
        patch.start()
        self.addCleanup(patch.stop)

    def test_a_store_on_any_path_works_from_the_shell(self) -> None:
        for name in ("-a b  é 日本 \U0001f600", "it's \"quoted\" $HOME `x` %s{0}\\n\nline", os.fsdecode(b"caf\xe9")):
            with self.subTest(name):
                memory = os.path.join(self.home, name, "memory")
                env = {"RLM_CONTEXT_DIR": memory}
                done = self.cli("remember", "kept é \"here\"", "--json", env=env)
                self.assertEqual((done.returncode, done.stderr), (0, b""))
                self.assertEqual(self.cli("peek", json.loads(done.stdout)["id"], env=env).stdout.count(b"kept"), 1)
                self.assertEqual(self.cli("status", env=env).returncode, 0)
                self.assertTrue(os.path.isfile(rlm.Places(memory=memory).log(1)))

    def test_the_home_is_found_in_the_order_the_manual_says(self) -> None:
        claude = os.path.join(self.home, ".claude")
        for environ, home, memory in (
            ({}, f"{claude}/rlm", f"{claude}/rlm/memory"),
            ({"CLAUDE_CONFIG_DIR": "/c é"}, "/c é/rlm", "/c é/rlm/memory"),
            ({"CLAUDE_CONFIG_DIR": "/c", "RLM_HOME": "/h é"}, "/h é", "/h é/memory"),
            ({"RLM_HOME": "/h", "RLM_CONTEXT_DIR": "/m é"}, "/h", "/m é"),
        ):
            with mock.patch.dict(os.environ, environ):
                places = rlm.Places()
                self.assertEqual((places.home, places.memory), (home, memory), environ)

    def test_without_a_home_the_error_says_what_to_set(self) -> None:
        with mock.patch.dict(os.environ, {"HOME": ""}), self.assertRaisesRegex(rlm.StoreUnwritable,
                                                                               "set HOME or RLM_HOME"):
            rlm.Places()
        moved = os.path.join(self.home, "moved é")
        with mock.patch.dict(os.environ, {"HOME": "", "RLM_CONTEXT_DIR": moved}):
            self.assertEqual((rlm.Places().home, rlm.Places().memory), (moved, moved))
        del os.environ["HOME"]  # put back by TempHome
        with mock.patch("pwd.getpwuid", side_effect=KeyError), self.assertRaisesRegex(rlm.StoreUnwritable,
                                                                                      "set HOME or RLM_HOME"):
            rlm.Places()
        with mock.patch("pwd.getpwuid", side_effect=KeyError), mock.patch.dict(os.environ, {"RLM_HOME": self.home}):
            self.assertEqual(rlm.Places().home, self.home)

    def test_a_command_without_a_home_fails_in_one_line(self) -> None:
        done = self.cli("remember", "é", env={"HOME": ""})
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.count(b"\n"), 1, done.stderr)
        self.assertIn(b"HOME is not set", done.stderr)
        self.assertEqual(done.stdout, b"")

    def test_only_files_of_the_exact_name_are_files_of_the_store(self) -> None:
        doc_id = self.chunk(HARD)
        for name in ("log-000001.jsonl.bak", "log-000007 (copy).jsonl", "log-7.jsonl", "log-²²²²²².jsonl",
                     "archive-000003.gz",
                     "log-00000a.jsonl", "archive-0000003.jsonl.gz", "note é.txt"):
            with open(os.path.join(self.places.memory, name), "wb") as file:
                file.write(self.log_bytes())
        self.assertEqual((self.places.numbered("log"), self.places.numbered("archive")), ([1], []))
        rlm.rewrite(self.view())
        self.assertEqual(list(everything(self.places)), [doc_id])
        self.assertEqual(len([n for n in os.listdir(self.places.memory) if n.startswith(("log-", "arch", "note"))]), 9)

    def test_no_path_is_built_from_what_a_user_typed(self) -> None:
        for nasty in ("../../outside", "/etc/passwd", "..", "a/b\0c", "~", "$(touch x)", "log-000009.jsonl", "é/日本"):
            with self.subTest(nasty):
                self.call("rlm_chunk", content=f"{nasty} {HARD}", project=nasty, domain=nasty, ticket=nasty, tags=nasty,
                          summary=nasty)
                for name, key in (("rlm_peek", "chunk_id"), ("rlm_restore", "chunk_id"), ("rlm_forget", "insight_id")):
                    with self.assertRaises(rlm.RlmError):
                        self.call(name, **{key: nasty})
        self.assertEqual(sorted(os.listdir(self.home)), [".claude"])
        self.assertEqual(set(os.listdir(self.places.memory)) - {"index"}, {"lock", "manifest.json", "log-000001.jsonl"})


class LockTest(Folder):
    def test_a_lock_keeps_out_every_other_holder_and_says_so_after_a_short_wait(self) -> None:
        path = self.path("lock")
        with rlm.Lock(path), self.assertRaisesRegex(rlm.StoreBusy, "another process has been writing for 0.05 s"):
            rlm.Lock(path, 0.05).__enter__()
        with rlm.Lock(path, 0.0):  # given back
            pass

    def test_a_lock_is_given_back_when_the_block_raises(self) -> None:
        path = self.path("lock")
        with self.assertRaises(ZeroDivisionError), rlm.Lock(path):
            raise ZeroDivisionError
        with rlm.Lock(path, 0.0):
            pass

    def test_a_killed_holder_gives_the_lock_back(self) -> None:
        path = self.path("lock")
        child = lock_holder(path)
        with self.assertRaises(rlm.StoreBusy):
            rlm.Lock(path, 0.0).__enter__()
        os.kill(child, signal.SIGKILL)
        self.assertEqual(ended(child), -signal.SIGKILL)
        with rlm.Lock(path, 0.0):
            pass

    def test_a_waiting_writer_gets_the_lock_when_it_is_free(self) -> None:
        path, n_rounds = self.path("lock"), 40
        counter = self.path("counter")
        with open(counter, "w") as file:
            file.write("0")

        def count() -> None:
            for _ in range(n_rounds):
                with rlm.Lock(path):
                    with open(counter) as file:
                        n = int(file.read())
                    with open(counter, "w") as file:
                        file.write(str(n + 1))

        children = [forked(count) for _ in range(4)]
        self.assertEqual([ended(child) for child in children], [0, 0, 0, 0])
        with open(counter) as file:
            self.assertEqual(int(file.read()), 4 * n_rounds)

    def test_a_lock_in_an_impossible_place_is_a_clear_error(self) -> None:
        with open(self.path("plain"), "w") as file:
            file.write("é")
        for path in (self.path("plain/lock"), self.path("plain/deeper/lock")):
            with self.assertRaises(rlm.StoreUnwritable) as caught, rlm.Lock(path):
                pass
            self.assertIn(self.path("plain"), str(caught.exception))
        os.mkdir(self.path("folder"))
        with self.assertRaises(rlm.StoreUnwritable), rlm.Lock(self.path("folder")):
            pass

    def test_a_file_system_without_locks_is_a_clear_error(self) -> None:
        with mock.patch.object(fcntl, "flock", side_effect=OSError(errno.ENOLCK, "No locks available")), \
                self.assertRaisesRegex(rlm.StoreUnwritable, "no locks"), rlm.Lock(self.path("lock")):
            pass


class AppendTest(Folder):
    def content(self) -> bytes:
        """What is in the file."""
        return rlm.read_file(self.path())

    def test_bytes_are_appended_and_the_offset_is_theirs(self) -> None:
        self.assertEqual(rlm.append_bytes(self.path(), "é\n".encode()), 0)
        self.assertEqual(rlm.append_bytes(self.path(), "日本\n".encode()), 3)
        self.assertEqual(self.content(), "é\n日本\n".encode())

    def test_a_torn_line_gets_its_newline_before_anything_else(self) -> None:
        rlm.append_bytes(self.path(), b'{"torn')
        self.assertEqual(rlm.append_bytes(self.path(), b"whole\n", heal=True), 7)
        self.assertEqual(rlm.append_bytes(self.path(), b"next\n", heal=True), 13)
        self.assertEqual(self.content(), b'{"torn\nwhole\nnext\n')

    def test_a_full_disk_leaves_the_file_as_it_was_at_every_byte(self) -> None:
        for before in (b"", b"first\n", b"first\n{torn"):
            for n_bytes in range(12):
                rlm.remove_file(self.path())
                rlm.append_bytes(self.path(), before)
                with mock.patch.object(rlm, "write_all", failing_writes(n_bytes)), \
                        self.assertRaisesRegex(rlm.StoreUnwritable, "the disk is full; nothing was saved"):
                    rlm.append_bytes(self.path(), b"0123456789ab\n", heal=True)
                self.assertEqual(self.content(), before)

    def test_a_disk_that_fails_to_sync_leaves_the_file_as_it_was(self) -> None:
        rlm.append_bytes(self.path(), b"first\n")
        with mock.patch.object(rlm, "sync", side_effect=OSError(errno.EIO, "Input/output error")), \
                self.assertRaisesRegex(rlm.StoreUnwritable, "Input/output error"):
            rlm.append_bytes(self.path(), b"second\n")
        self.assertEqual(self.content(), b"first\n")

    def test_an_acknowledged_append_was_synced_and_so_was_the_folder_of_a_new_file(self) -> None:
        with mock.patch.object(rlm, "sync", wraps=rlm.sync) as sync, \
                mock.patch.object(rlm, "sync_folder", wraps=rlm.sync_folder) as sync_folder:
            rlm.append_bytes(self.path(), b"1\n")
            self.assertEqual((sync.call_count, [c.args for c in sync_folder.call_args_list]), (1, [(self.home,)]))
            rlm.append_bytes(self.path(), b"2\n")
            self.assertEqual((sync.call_count, sync_folder.call_count), (2, 1))
            rlm.append_bytes(self.path(), b"3\n", durable=False)
            self.assertEqual((sync.call_count, sync_folder.call_count), (2, 1))

    def test_every_acknowledged_write_was_synced_and_a_use_waits_for_nothing(self) -> None:
        chunk, insight = self.chunk(HARD), str(self.call("rlm_remember", content=HARD).data["id"])
        view = self.view()
        rlm.archive_docs(view, [view.doc(view.ordinal_of(chunk))], rlm.now())
        for name, arguments in (("rlm_chunk", {"content": "new é"}), ("rlm_remember", {"content": "new é"}),
                                ("rlm_forget", {"insight_id": insight}), ("rlm_restore", {"chunk_id": chunk})):
            with mock.patch.object(rlm, "sync", wraps=rlm.sync) as sync:
                rlm.run_tool(rlm.Call(rlm.Store(self.places)), name, arguments)
                self.assertGreater(sync.call_count, 0, name)
        with mock.patch.object(rlm, "sync", wraps=rlm.sync) as sync:
            self.call("rlm_peek", chunk_id=chunk)
            self.assertEqual(sync.call_count, 0)

    def test_sync_reaches_the_disk_by_the_strongest_call_there_is(self) -> None:
        fd = os.open(self.path(), os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, fd)
        with mock.patch.object(fcntl, "F_FULLFSYNC", 51, create=True), \
                mock.patch.object(fcntl, "fcntl") as full, mock.patch.object(os, "fsync") as plain:
            rlm.sync(fd)
            self.assertEqual((full.call_args.args, plain.call_count), ((fd, 51), 0))
            full.side_effect = OSError(errno.ENOTSUP, "not supported")
            rlm.sync(fd)
            self.assertEqual(plain.call_args.args, (fd,))

    def test_every_byte_is_written_however_the_system_splits_it(self) -> None:
        written = []
        with mock.patch.object(os, "write", side_effect=lambda fd, data: written.append(bytes(data[:3]))
                               or len(written[-1])):
            rlm.write_all(1, "0123é日本".encode())
        self.assertEqual(b"".join(written), "0123é日本".encode())
        self.assertGreater(len(written), 3)

    def test_a_disk_that_cannot_even_cut_the_file_back_is_a_clear_error(self) -> None:
        rlm.append_bytes(self.path(), b"first\n")
        with mock.patch.object(rlm, "write_all", failing_writes(3)), \
                mock.patch.object(os, "ftruncate", side_effect=OSError(errno.EIO, "Input/output error")), \
                self.assertRaisesRegex(rlm.StoreUnwritable, "the disk is full"):
            rlm.append_bytes(self.path(), b"second\n")
        self.assertEqual(rlm.append_bytes(self.path(), b"third\n", heal=True), 10)
        self.assertEqual(self.content(), b"first\nsec\nthird\n")

    def test_a_folder_that_cannot_be_synced_does_not_fail_the_write(self) -> None:
        for name in ("open", "fsync"):
            with self.subTest(name), mock.patch.object(os, name, side_effect=OSError(errno.EACCES, "no")) as fault:
                rlm.sync_folder(self.home)
                self.assertEqual(fault.call_count, 1)

    def test_every_error_of_the_disk_says_what_to_do(self) -> None:
        for number, words in ((errno.ENOSPC, "free some space"), (errno.EDQUOT, "free some space"),
                              (errno.EROFS, "RLM_HOME"),
                              (errno.EACCES, "RLM_HOME"), (errno.EPERM, "RLM_HOME")):
            with mock.patch.object(os, "open", side_effect=OSError(number, os.strerror(number))), \
                    self.assertRaisesRegex(rlm.StoreUnwritable, words):
                rlm.append_bytes(self.path(), b"x\n")
        with self.assertRaisesRegex(rlm.StoreUnwritable, "Input/output"), rlm.Writing("/x"):
            raise OSError(errno.EIO, "Input/output error")


class ReplaceTest(Folder):
    def test_a_file_is_replaced_at_one_instant_and_durably(self) -> None:
        rlm.replace_file(self.path(), b"old\n")
        with mock.patch.object(rlm, "sync", wraps=rlm.sync) as sync, mock.patch.object(os, "replace",
                                                                                       wraps=os.replace) as swap, \
                mock.patch.object(rlm, "sync_folder", wraps=rlm.sync_folder) as sync_folder:
            order = mock.Mock()
            for name, each in (("sync", sync), ("swap", swap), ("folder", sync_folder)):
                order.attach_mock(each, name)
            info = rlm.replace_file(self.path(), b"new\n")
        self.assertEqual([call[0] for call in order.mock_calls], ["sync", "swap", "folder"])
        self.assertEqual((rlm.read_file(self.path()), info.st_size, self.drafts()), (b"new\n", 4, []))
        self.assertEqual(os.stat(self.path()).st_ino, info.st_ino)

    def test_a_failure_at_any_byte_leaves_the_old_file_and_no_draft(self) -> None:
        rlm.replace_file(self.path(), b"old\n")
        for n_bytes in range(9):
            with mock.patch.object(rlm, "write_all", failing_writes(n_bytes)), \
                    self.assertRaisesRegex(rlm.StoreUnwritable, "the disk is full"):
                rlm.replace_file(self.path(), b"something new\n")
            self.assertEqual((rlm.read_file(self.path()), self.drafts()), (b"old\n", []))
        for name in ("replace", "fsync"):
            with mock.patch.object(os, name, side_effect=OSError(errno.EIO, "Input/output error")), \
                    self.assertRaises(rlm.StoreUnwritable):
                rlm.replace_file(self.path(), b"something new\n")
            self.assertEqual((rlm.read_file(self.path()), self.drafts()), (b"old\n", []))

    def test_lines_become_a_new_file_complete_or_not_at_all(self) -> None:
        self.assertEqual(rlm.write_lines(self.path(), (f"{i} é\n".encode() for i in range(3))), 3)
        self.assertEqual(rlm.read_file(self.path()), "0 é\n1 é\n2 é\n".encode())

        def broken(error: BaseException) -> Any:
            yield b"new\n"
            raise error

        for error in (OSError(errno.ENOSPC, "No space left"), rlm.Damaged("é"), KeyboardInterrupt()):
            with self.assertRaises((rlm.RlmError, KeyboardInterrupt)):
                rlm.write_lines(self.path(), broken(error))
            self.assertEqual((rlm.read_file(self.path()), self.drafts()), ("0 é\n1 é\n2 é\n".encode(), []), error)

    def test_a_missing_file_reads_as_empty_and_an_unreadable_one_is_a_clear_error(self) -> None:
        self.assertEqual(rlm.read_file(self.path("nothing")), b"")
        os.mkdir(self.path("folder"))
        with self.assertRaisesRegex(rlm.RlmError, "folder.*cannot be read"):
            rlm.read_file(self.path("folder"))


class MemberTest(Folder):
    LINES = [f'{{"k":"chunk","id":"{i}","text":"é 日本 {i}"}}\n'.encode() for i in range(50)]

    def write(self, *members: bytes) -> str:
        """A file of these bytes, one after the other; its path."""
        with open(self.path(), "wb") as file:
            file.write(b"".join(members))
        return self.path()

    def test_members_follow_one_another_and_each_is_read_alone(self) -> None:
        groups = [self.LINES[:20], self.LINES[20:21], self.LINES[21:]]
        path, offset = self.write(*map(rlm.gzip_member, groups)), 0
        for group in groups:
            data, offset, problem = rlm.read_member(path, offset, 1 << 20)
            self.assertEqual((data, problem), (b"".join(group), ""))
        self.assertEqual(offset, os.path.getsize(path))

    def test_any_gzip_tool_reads_the_file(self) -> None:
        path = self.write(rlm.gzip_member(self.LINES[:30]), rlm.gzip_member(self.LINES[30:]))
        with gzip.open(path) as file:
            self.assertEqual(file.read(), b"".join(self.LINES))

    def test_a_member_larger_than_a_read_block_is_whole(self) -> None:
        noise = os.urandom(300_000)
        path = self.write(rlm.gzip_member([noise]), rlm.gzip_member(self.LINES))
        data, after, _ = rlm.read_member(path, 0, 1 << 20)
        self.assertEqual(data, noise)
        self.assertEqual(rlm.read_member(path, after, 1 << 20)[0], b"".join(self.LINES))

    def test_a_bomb_is_refused_before_it_fills_the_memory(self) -> None:
        deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
        block = bytes(1 << 20)
        bomb = b"".join([deflate.compress(block) for _ in range(96)] + [deflate.flush()])
        path = self.write(bomb)
        self.assertLess(len(bomb), 200_000)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        data, _, problem = rlm.read_member(path, 0, 1 << 20)
        self.assertIn("unpacks to over 1,048,576 bytes", problem)
        self.assertEqual(data, b"")
        self.assertLess(tracemalloc.get_traced_memory()[1], 8 << 20)

    def test_exactly_the_largest_member_is_read(self) -> None:
        path = self.write(rlm.gzip_member([bytes(1000)]))
        self.assertEqual(len(rlm.read_member(path, 0, 1000)[0]), 1000)
        self.assertTrue(rlm.read_member(path, 0, 999)[2])

    def test_a_member_cut_at_any_byte_is_damaged(self) -> None:
        member = rlm.gzip_member(self.LINES[:3])
        for n_bytes in range(len(member)):
            self.assertTrue(rlm.read_member(self.write(member[:n_bytes]), 0, 1 << 20)[2])

    def test_a_member_with_any_byte_changed_is_damaged_or_reads_the_same(self) -> None:
        member, n_damaged = rlm.gzip_member(self.LINES[:3]), 0
        for i in range(len(member)):
            path = self.write(member[:i], bytes([member[i] ^ 0x55]), member[i + 1:])
            data, _, problem = rlm.read_member(path, 0, 1 << 20)
            self.assertTrue(problem or data == b"".join(self.LINES[:3]))
            n_damaged += bool(problem)
        self.assertGreater(n_damaged, len(member) - 12)  # a header's time and flags may be anything

    def test_what_is_not_there_is_damaged(self) -> None:
        path = self.write(rlm.gzip_member(self.LINES))
        for where, offset in ((path, 3), (path, 1 << 30), (self.path("nothing"), 0), (self.home, 0)):
            self.assertTrue(rlm.read_member(where, offset, 1 << 20)[2])


class SystemToolTest(TempHome):
    def test_the_installed_program_needs_no_writable_working_folder(self) -> None:
        gone = tempfile.mkdtemp()
        code = f"import os, sys; os.chdir({gone!r}); os.rmdir({gone!r}); sys.path.insert(0, {ROOT!r})\n" \
               "import rlm; sys.exit(rlm.main(['remember', 'é from nowhere']))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual([value[1] for value in everything(self.places).values()], ["é from nowhere"])


if __name__ == "__main__":
    unittest.main()
