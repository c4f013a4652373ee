"""Processes under fire: kills, full and read-only disks, held locks, crowds; nothing acknowledged is lost."""
from __future__ import annotations

import contextlib
import errno
import io
import itertools
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
import unittest
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from tests.support import HARD, McpClient, TempHome, ended, everything, failing_writes, forked, lock_holder, rlm, started


def run(store: rlm.Store, name: str, **arguments: Any) -> rlm.Answer:
    """Calls a tool on a store object that is kept, as a server does."""
    return rlm.run_tool(rlm.Call(store), name, arguments)


class Teller:
    """One pipe into which child processes tell, one line at a time, what they were promised."""

    def __init__(self, case: unittest.TestCase) -> None:
        self.out, self.into = os.pipe()
        case.addCleanup(os.close, self.out)
        case.addCleanup(os.close, self.into)
        self.received = b""

    def tell(self, *fields: object) -> None:
        """Tells one line; the system writes lines this short whole."""
        os.write(self.into, ("\t".join(map(str, fields)) + "\n").encode())

    def hear(self, timeout_s: float = 0.0) -> None:
        """Takes in what was told so far, so that the pipe never fills."""
        while select.select([self.out], [], [], timeout_s)[0]:
            self.received += os.read(self.out, 1 << 16)
            timeout_s = 0.0

    def told(self) -> list[list[str]]:
        """Everything told, split."""
        self.hear()
        return [line.split("\t") for line in self.received.decode().splitlines()]


class KillTest(TempHome):
    """Writers that are killed at any moment; each tells what was acknowledged, and all of that must be there."""

    N_KILLS = 60
    N_AT_ONCE = 4

    def text(self, number: str) -> str:
        """A text that only that number has."""
        return f"text number {number} {HARD} " + "padding é\n" * (int(number, 16) % 40)

    def write_until_killed(self, teller: Teller, seed: int) -> None:
        """One operation after the other, telling of each that returned."""
        dice = random.Random(seed)
        view, store = rlm.View(self.places), rlm.Store(self.places)
        kinds = ["chunk", "remember", "import", "chunk", "retention", "compact"]
        dice.shuffle(kinds)
        for n_done in itertools.count():
            number, kind = f"{dice.randrange(1 << 48):x}", kinds[n_done % len(kinds)]
            try:
                if kind == "chunk":
                    told = str(run(store, "rlm_chunk", content=self.text(number)).data["id"])
                elif kind == "remember":
                    told = str(run(store, "rlm_remember", content=self.text(number)).data["id"])
                elif kind == "import":
                    told = "imported"
                    rlm.import_items(view, [{"kind": "chunk", "text": self.text(number)}], "test", lambda *_: None)
                elif kind == "compact":
                    told = "compacted"
                    rlm.rewrite(rlm.View(self.places))
                else:
                    told = "retained"
                    run(store, "rlm_retention_run", archive=True)
            except rlm.StoreBusy:
                continue
            teller.tell(kind, told, number)

    def test_many_kills_lose_no_acknowledged_write(self) -> None:
        os.makedirs(self.places.home, mode=0o700)
        with open(self.places.config(), "w", encoding="utf-8") as file:
            json.dump({"archive_after_days": 0}, file)  # so that every run of retention moves texts
        teller, n_killed = Teller(self), 0
        seed = random.randrange(1 << 32)
        dice = random.Random(seed)
        with self.subTest(seed=seed):
            while n_killed < self.N_KILLS or len({kind for kind, *_ in teller.told()}) < 5:
                self.assertLess(n_killed, 10 * self.N_KILLS)
                children = [forked(lambda: self.write_until_killed(teller, dice.randrange(1 << 32)))
                            for _ in range(self.N_AT_ONCE)]
                # The clock is the fault here: a kill may come at any instant after something was acknowledged.
                for child in children:
                    teller.hear(5)
                    time.sleep(dice.random() * 0.02)
                    os.kill(child, signal.SIGKILL)
                    self.assertEqual(ended(child), -signal.SIGKILL)
                    n_killed += 1
            told = teller.told()
            self.assertGreater(len(told), self.N_KILLS // 2)
            self.check(told)

    def check(self, told: list[list[str]]) -> None:
        """All that was told is there, as it was, for each way to look for it; the next process can write."""
        found = everything(self.places)
        texts = {value[1] for value in found.values()}
        for kind, doc_id, number in told:
            if kind in ("chunk", "remember"):
                self.assertEqual(found[doc_id][1], self.text(number))
            elif kind == "import":
                self.assertIn(self.text(number), texts)
        store = rlm.Store(self.places)
        for _, doc_id, number in random.sample([t for t in told if t[0] == "chunk"], 5):
            self.assertEqual(run(store, "rlm_peek", chunk_id=doc_id).verbatim, self.text(number))
            self.assertEqual([h["id"] for h in run(store, "rlm_grep", pattern=f"number {number} ").data["hits"]],
                             [doc_id])
        new = run(store, "rlm_chunk", content="after all the kills é").data["id"]
        self.assertLessEqual(self.view().n_damaged, self.N_KILLS)
        rlm.rewrite(self.view(), repair=True)
        after = everything(self.places)
        self.assertEqual({i: v[1] for i, v in after.items() if i != new}, {i: v[1] for i, v in found.items()})
        self.assertEqual(rlm.verify(self.view(), lambda *_: None), [])

    def test_an_import_that_was_killed_is_finished_by_running_it_again(self) -> None:
        path, n_items = os.path.join(self.home, "many é.jsonl"), 1500
        with open(path, "w", encoding="utf-8") as file:
            for i in range(n_items):
                file.write(json.dumps({"text": f"item {i} {HARD}", "project": "p"}) + "\n")
        process = started("import", path, cwd=self.home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 30
        while not rlm.read_file(self.places.log(1)) and time.monotonic() < until:
            time.sleep(0.001)
        process.kill()
        process.wait()
        n_before = len(everything(self.places))
        self.assertTrue(0 < n_before < n_items, n_before)
        done = self.cli("import", path, "--json")
        self.assertEqual(json.loads(done.stdout), {"new": n_items - n_before, "known": n_before, "excluded": 0,
                                                   "skipped": {}, "refused": []}, done.stderr)
        self.assertEqual(sorted(v[1] for v in everything(self.places).values()),
                         sorted(f"item {i} {HARD}" for i in range(n_items)))


class CrowdTest(TempHome):
    def word(self, n_client: int, i: int) -> str:
        """A word that no other text has, nor any part of it."""
        return f"q{'abcdefgh'[n_client]}z{chr(97 + i // 8)}{chr(97 + i % 8)}"

    def test_eight_servers_times_fifty_writes_on_an_empty_store_are_all_found(self) -> None:
        self.assertFalse(os.path.exists(self.places.home))
        servers = [self.client() for _ in range(8)]
        ids: dict[str, str] = {}
        errors: list[BaseException] = []

        def write(client: McpClient, n_client: int) -> None:
            try:
                client.initialize()
                for i in range(50):
                    text = f"writer {n_client} says {self.word(n_client, i)} {HARD}"
                    answer = client.call("rlm_chunk", content=text)
                    assert not answer.get("isError"), answer
                    ids[answer["content"][0]["text"].split()[0]] = text
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=write, args=(client, i)) for i, client in enumerate(servers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(errors, [])
        store = rlm.Store(self.places)
        self.assertEqual({d: run(store, "rlm_peek", chunk_id=d).verbatim for d in ids}, ids)
        self.assertEqual(len(ids), 400)
        listed = run(store, "rlm_list_chunks", limit=1000).data["chunks"]
        self.assertEqual({chunk["id"] for chunk in listed}, set(ids))
        hits = run(store, "rlm_grep", pattern="says q[a-h]z[a-z]{2}", limit=1000).data["hits"]
        self.assertEqual({hit["id"] for hit in hits}, set(ids))
        for doc_id, text in ids.items():
            hits = run(store, "rlm_search", query=text.split()[3], limit=1).data["hits"]
            self.assertEqual([hit["id"] for hit in hits], [doc_id])
        for client in servers:  # and each of the writers knows the others' last
            self.assertIn("400", client.text("rlm_list_chunks", limit=1))

    def test_first_use_by_many_processes_at_once_loses_nothing(self) -> None:
        for n_round in range(6):
            home = os.path.join(self.home, f"home {n_round} é")
            places, n_children = rlm.Places(home=home), 12
            start_out, start_in = os.pipe()

            def first_use(n_child: int, places: rlm.Places = places, gate: int = start_out,
                          wait: int = start_in) -> None:
                os.close(wait)
                os.read(gate, 1)  # opens for everybody when the parent closes its end
                run(rlm.Store(places), "rlm_remember" if n_child % 2 else "rlm_chunk", content=f"child {n_child} é")

            children = [forked(lambda n=n: first_use(n)) for n in range(n_children)]
            os.close(start_in)
            self.assertEqual([ended(child) for child in children], [0] * n_children)
            os.close(start_out)
            self.assertEqual(sorted(v[1] for v in everything(places).values()),
                             sorted(f"child {n} é" for n in range(n_children)))
            self.assertEqual((places.numbered("log"), rlm.verify(rlm.View(places).refresh(), lambda *_: None)),
                             ([1], []))

    def test_first_use_by_many_commands_at_once_loses_nothing(self) -> None:
        commands = [started("remember", f"command {i} é", cwd=self.home, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                    for i in range(6)]
        for command in commands:
            out, err = command.communicate(timeout=60)
            self.assertEqual((command.returncode, err), (0, b""), out)
        self.assertEqual({v[1] for v in everything(self.places).values()}, {f"command {i} é" for i in range(6)})

    def test_compacting_again_and_again_disturbs_neither_writers_nor_readers(self) -> None:
        known = {self.chunk(f"known {i} marker{i}x {HARD}"): f"known {i} marker{i}x {HARD}" for i in range(12)}
        view = self.view()
        rlm.archive_docs(view, [view.doc(view.ordinal_of(i)) for i in list(known)[::2]], rlm.now())
        teller, n_writes = Teller(self), 40

        def write(n_writer: int) -> None:
            store = rlm.Store(self.places)
            for i in range(n_writes):
                doc_id = run(store, "rlm_chunk", content=f"writer {n_writer} text {i} é").data["id"]
                teller.tell("wrote", doc_id, f"writer {n_writer} text {i} é")

        def read() -> None:
            dice, store, n_before = random.Random(7), rlm.Store(self.places), 0
            while True:
                i = dice.randrange(12)
                doc_id = list(known)[i]
                fresh = dice.choice((store, rlm.Store(self.places)))
                assert run(fresh, "rlm_peek", chunk_id=doc_id).verbatim == known[doc_id], doc_id
                fresh.uses.clear()
                for name, given in (("rlm_grep", {"pattern": f"marker{i}x"}), ("rlm_search", {"query": f"marker{i}x"})):
                    hits = [h["id"] for h in run(fresh, name, **given).data["hits"]]
                    assert doc_id in hits, (name, doc_id, hits)
                n_after = run(fresh, "rlm_list_chunks", limit=1).data["total"]
                assert n_after >= n_before, (n_after, n_before)
                n_before = n_after
                teller.tell("read", n_after)

        readers, writers = [forked(read) for _ in range(2)], [forked(lambda n=n: write(n)) for n in range(2)]
        n_compacts, working = 0, set(writers)
        while working or n_compacts < 12:
            teller.hear()
            with contextlib.suppress(rlm.StoreBusy):
                n_compacts += bool(rlm.rewrite(self.view()).n_kept)
            for child in list(working):
                if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                    self.assertEqual(ended(child), 0)
                    working.remove(child)
        for child in readers:
            os.kill(child, signal.SIGKILL)
            self.assertEqual(ended(child), -signal.SIGKILL)  # else it ended with an assertion before
        told = teller.told()
        found = everything(self.places)
        self.assertEqual({d: found[d][1] for _, d, _ in (t for t in told if t[0] == "wrote")},
                         {d: text for _, d, text in (t for t in told if t[0] == "wrote")})
        self.assertEqual(len([t for t in told if t[0] == "wrote"]), 2 * n_writes)
        self.assertGreater(len([t for t in told if t[0] == "read"]), 20)
        self.assertGreater(self.view().log.generation(), 12)


class FullDiskTest(TempHome):
    def test_a_disk_that_is_full_at_any_byte_of_a_commit_loses_nothing_and_says_so(self) -> None:
        doc_id = self.chunk("there before é")
        before, store = self.log_bytes(), rlm.Store(self.places)
        with mock.patch.object(rlm, "sync", lambda _: None):
            for name in ("rlm_chunk", "rlm_remember"):
                n_bytes, failed = 0, True
                while failed:
                    try:
                        with mock.patch.object(rlm, "write_all", failing_writes(n_bytes)):
                            run(store, name, content=f"new {HARD}")
                        failed = False
                    except rlm.StoreUnwritable as error:
                        self.assertIn("the disk is full; nothing was saved: free some space and try again", str(error))
                        self.assertEqual(self.log_bytes(), before)
                        n_bytes += 1
                self.assertGreater(n_bytes, 200)
                before = self.log_bytes()
        self.assertEqual([v[1] for v in everything(self.places).values()],
                         ["there before é", f"new {HARD}", f"new {HARD}"])
        self.assertEqual(run(store, "rlm_peek", chunk_id=doc_id).verbatim, "there before é")

    def test_an_import_on_a_full_disk_keeps_the_batches_that_were_saved(self) -> None:
        items = [{"kind": "chunk", "text": f"item {i} {HARD}"} for i in range(10)]
        with mock.patch.object(rlm, "IMPORT_ITEMS", 3), mock.patch.object(rlm, "write_all", failing_writes(2500)), \
                self.assertRaisesRegex(rlm.StoreUnwritable, "the disk is full"):
            rlm.import_items(rlm.View(self.places), items, "test", lambda *_: None)
        kept = [v[1] for v in everything(self.places).values()]
        self.assertIn(len(kept), (3, 6, 9))
        self.assertEqual(kept, [str(item["text"]) for item in items[: len(kept)]])
        rlm.import_items(rlm.View(self.places), items, "test", lambda *_: None)
        self.assertEqual(len(everything(self.places)), 10)

    def test_a_quota_and_an_input_error_are_told_apart_from_a_full_disk(self) -> None:
        for number, words in ((errno.EDQUOT, "quota"), (errno.EIO, "Input/output error"), (errno.EROFS, "read-only")):
            with mock.patch.object(rlm, "write_all", failing_writes(5, number)), \
                    self.assertRaisesRegex(rlm.StoreUnwritable, words):
                self.chunk(HARD)

    def test_a_server_goes_on_reading_when_the_disk_is_full_and_writing_when_it_is_not(self) -> None:
        with small_disk(self) as folder:
            with open(os.path.join(folder, "in the way"), "wb") as file:
                file.write(bytes(50_000))
            client = self.client(env={"RLM_CONTEXT_DIR": os.path.join(folder, "memory é")})
            client.initialize()
            saved, refused = [], ""
            for i in range(200):
                answer = client.call("rlm_chunk", content=f"chunk {i} {HARD} " + f"padding {i} " * 300)
                text = answer["content"][0]["text"]
                if answer.get("isError"):
                    refused = text
                    break
                saved.append(text.split()[0])
            self.assertIn("the disk is full; nothing was saved", refused)
            self.assertGreater(len(saved), 10)
            for i in (0, len(saved) // 2, len(saved) - 1):
                self.assertIn(f"chunk {i} ", client.text("rlm_peek", chunk_id=saved[i]))
            self.assertIn(saved[3], client.text("rlm_grep", pattern="chunk 3 "))
            self.assertEqual(self.cli("search", "chunk", env={"RLM_CONTEXT_DIR": os.path.join(folder,
                                                                                              "memory é")}).returncode,
                                                                                              0)
            os.unlink(os.path.join(folder, "in the way"))  # room again
            self.assertFalse(client.call("rlm_remember", content="after the flood é").get("isError"))
            places = rlm.Places(memory=os.path.join(folder, "memory é"))
            found = everything(places)
            self.assertLessEqual(set(saved), set(found))
            self.assertEqual(len(found), len(saved) + 1)
            self.assertEqual(rlm.View(places).refresh().n_damaged, 0)
            client.close()


@contextlib.contextmanager
def small_disk(case: unittest.TestCase, size: str = "512k") -> Iterator[str]:
    """A folder with a file system of its own of that size; skips the test where that is not allowed."""
    folder = os.path.join(os.environ["HOME"], "small disk")
    os.mkdir(folder)
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or not shutil.which("mount") or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], capture_output=True,
            check=False).returncode:
        case.skipTest("making a small file system needs root on Linux")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


class ReadOnlyTest(TempHome):
    READS = (("peek", "ID"), ("grep", "marker"), ("search", "marker"), ("list-chunks",), ("recall", "insight"),
             ("sessions",),
             ("domains",), ("status",), ("retention-preview",), ("verify",), ("export", "-"))
    WRITES = (("remember", "é"), ("chunk", "-"), ("forget", "ID"), ("restore", "ID"), ("compact",))

    @contextlib.contextmanager
    def read_only(self) -> Iterator[rlm.Places]:
        """A store that nobody can write, with an archived chunk; skips the test where none can be made."""
        with contextlib.ExitStack() as stack:
            if os.geteuid() == 0:
                folder = stack.enter_context(small_disk(self, "4m"))
            else:
                folder = os.path.join(self.home, "locked")
            self.places = rlm.Places(memory=os.path.join(folder, "memory é"))
            os.environ["RLM_CONTEXT_DIR"] = self.places.memory  # TempHome puts it back
            ids = [self.chunk(f"chunk {i} marker {HARD}", domain="api") for i in range(3)]
            self.call("rlm_remember", content="an insight é")
            view = self.view()
            rlm.archive_docs(view, [view.doc(view.ordinal_of(ids[0]))], rlm.now())
            rlm.catch_up(self.view())
            if os.geteuid() == 0:
                subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
            else:
                for where, _, names in os.walk(folder):
                    for name in names:
                        os.chmod(os.path.join(where, name), 0o400)
                    os.chmod(where, 0o500)
                    stack.callback(os.chmod, where, 0o700)
            with self.assertRaises(OSError), open(self.places.log(1), "ab"):  # the fault is there
                pass
            yield self.places

    def test_reading_works_and_writing_is_refused_in_clear_words(self) -> None:
        with self.read_only():
            view = self.view()
            doc_id = next(doc.id for doc in view.alive() if doc.life.tier == 3)
            before = everything(self.places)
            client = self.client()
            client.initialize()
            self.assertIn("chunk 0 marker", client.text("rlm_peek", chunk_id=doc_id))
            self.assertIn(doc_id, client.text("rlm_grep", pattern="marker"))
            self.assertIn(doc_id, client.text("rlm_search", query="marker"))
            refused = client.call("rlm_chunk", content="é")
            self.assertTrue(refused["isError"])
            self.assertRegex(refused["content"][0]["text"], "read-only|permission denied")
            client.close()
            for command in self.READS:
                code, out, err = self.main(*(doc_id if word == "ID" else word for word in command))
                self.assertEqual((code, err), (0, ""), command)
                self.assertTrue(out.strip(), command)
            for command in self.WRITES:
                code, out, err = self.main(*(doc_id if word == "ID" else word for word in command))
                self.assertEqual((code, out, err.count("\n")), (1, "", 1), (command, err))
                self.assertRegex(err, "read-only|permission denied")
            done = self.cli("remember", "é")
            self.assertEqual((done.returncode, done.stdout, done.stderr.count(b"\n")), (1, b"", 1))
            self.assertEqual(everything(self.places), before)

    def main(self, *arguments: str) -> tuple[int, str, str]:
        """Runs a command in this process; exit code, stdout, stderr."""
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        stdin = io.TextIOWrapper(io.BytesIO("é from stdin".encode()))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), mock.patch.object(sys, "stdin", stdin):
            code = rlm.main(list(arguments))
        return code, out.buffer.getvalue().decode(), err.buffer.getvalue().decode()  # type: ignore[attr-defined]

    def test_a_file_where_the_store_should_be_is_a_clear_error_for_writers(self) -> None:
        os.makedirs(self.places.home)
        with open(self.places.memory, "w", encoding="utf-8") as file:
            file.write("é, in the way")
        code, out, err = self.main("remember", "é")
        self.assertEqual((code, out, err.count("\n")), (1, "", 1))
        self.assertIn(self.places.memory, err)
        self.assertIn("a file is in the way", err)
        for command in (("search", "é"), ("list-chunks",), ("status",)):
            code, _, err = self.main(*command)
            self.assertIn(code, (0, 1), command)
            self.assertNotIn("a bug", err)

    def test_folders_where_files_should_be_are_clear_errors(self) -> None:
        for name in ("manifest.json", "log-000001.jsonl", "lock"):
            with self.subTest(name):
                shutil.rmtree(self.places.home, ignore_errors=True)
                if name == "lock":
                    self.chunk(HARD)
                    os.unlink(self.places.lock())
                os.makedirs(os.path.join(self.places.memory, name), exist_ok=True)
                for command in (("remember", "é"), ("search", "é"), ("status",), ("verify",), ("compact",)):
                    code, _, err = self.main(*command)
                    self.assertIn(code, (0, 1), command)
                    self.assertNotIn("a bug", err, command)
                self.assertEqual(self.main("remember", "é")[0], 1)


class HeldLockTest(TempHome):
    @contextlib.contextmanager
    def held(self, path: str) -> Iterator[None]:
        """Another process has the lock."""
        child = lock_holder(path)
        try:
            yield
        finally:
            os.kill(child, signal.SIGKILL)
            self.assertEqual(ended(child), -signal.SIGKILL)

    def test_a_held_lock_stops_writers_after_a_wait_and_readers_not_at_all(self) -> None:
        doc_id = self.chunk(f"marker {HARD}")
        client = self.client()
        client.initialize()
        defaults: Any = rlm.Writer.__init__.__kwdefaults__
        with self.held(self.places.lock()), mock.patch.dict(defaults, wait_s=0.05):
            for name, arguments in (("rlm_chunk", {"content": "é"}), ("rlm_remember", {"content": "é"}),
                                    ("rlm_forget", {"insight_id": doc_id})):
                with self.assertRaisesRegex(rlm.StoreBusy, "another process has been writing .* try again, or end"):
                    self.call(name, **arguments)
            self.assertIn("marker", client.text("rlm_peek", chunk_id=doc_id))
            self.assertIn(doc_id, client.text("rlm_grep", pattern="marker"))
            self.assertIn(doc_id, client.text("rlm_search", query="marker"))
            self.assertIn(doc_id, client.text("rlm_list_chunks"))
            done = self.cli("peek", doc_id, timeout_s=8)  # well below the ten seconds that a writer waits
            self.assertEqual((done.returncode, done.stdout), (0, f"marker {HARD}".encode()))
        self.assertTrue(self.chunk("free again é"))

    def test_a_held_index_lock_stops_nobody(self) -> None:
        ids = [self.chunk(f"chunk {i} é") for i in range(3)]
        with self.held(self.places.index_lock()):
            self.assertFalse(rlm.catch_up(self.view()))
            ids.append(self.chunk("another é"))
            self.assertEqual({h["id"] for h in self.call("rlm_search", query="chunk another", limit=5).data["hits"]}, set(ids))


class ReadTest(TempHome):
    """Reading never rewrites anything."""

    def stored(self) -> dict[str, tuple[int, int]]:
        """inode and size of every file of the store but the index."""
        return {entry.name: (entry.stat().st_ino, entry.stat().st_size) for entry in os.scandir(self.places.memory)
                if entry.is_file()}

    def grown(self, before: dict[str, tuple[int, int]]) -> int:
        """By how much the log grew; nothing else may have changed at all."""
        after, log = self.stored(), "log-000001.jsonl"
        self.assertEqual({n: v for n, v in after.items() if n != log}, {n: v for n, v in before.items() if n != log})
        self.assertEqual(after[log][0], before[log][0])
        return after[log][1] - before[log][1]

    def test_a_thousand_peeks_through_a_server_cost_a_few_tens_of_bytes_each(self) -> None:
        ids = [self.chunk(f"chunk {i} {HARD} " + "padding " * 500) for i in range(5)]
        data, before = self.log_bytes(), self.stored()
        client = self.client()
        client.initialize()
        for i in range(1000):
            client.send({"jsonrpc": "2.0", "id": i, "method": "tools/call",
                         "params": {"name": "rlm_peek", "arguments": {"chunk_id": f"{ids[i % 5]}:1-2"}}})
            if i % 50 == 49:
                for _ in range(50):
                    self.assertNotIn("isError", client.receive()["result"])
        assert client.process.stdin
        client.process.stdin.close()
        self.assertEqual(client.process.wait(10), 0)
        self.assertLess(self.grown(before), 1000 * 80)
        self.assertTrue(self.log_bytes().startswith(data))
        self.assertEqual([v[10] for v in everything(self.places).values()], [200] * 5)

    def test_peeks_from_the_shell_cost_a_few_tens_of_bytes_each(self) -> None:
        doc_id = self.chunk("x" * 10_000 + " é")
        before = self.stored()
        for _ in range(5):
            self.assertEqual(self.cli("peek", doc_id).returncode, 0)
        for _ in range(200):  # the same without starting Python anew
            self.call("rlm_peek", chunk_id=doc_id)
        self.assertLess(self.grown(before), 205 * 80)
        self.assertEqual(everything(self.places)[doc_id][10], 205)

    def test_looking_for_things_writes_nothing(self) -> None:
        for i in range(5):
            self.chunk(f"chunk {i} é")
        before = self.stored()
        for command in (("search", "chunk"), ("grep", "chunk"), ("list-chunks",), ("status",), ("recall",),
                        ("retention-preview",)):
            self.assertEqual(self.cli(*command).returncode, 0)
        self.assertEqual(self.grown(before), 0)


class TwoServersTest(TempHome):
    def test_each_server_sees_the_others_writes_on_its_next_call_also_across_a_compact(self) -> None:
        clients = [self.client(), self.client()]
        for client in clients:
            client.initialize()
        steps: list[Callable[[], object]] = [lambda: self.cli("compact"), lambda: None,
                                             lambda: self.cli("retention-run"), lambda: None]
        for i in range(8):
            one, other = clients[i % 2], clients[1 - i % 2]
            doc_id = one.text("rlm_chunk", content=f"chunk {i} marker{i}x {HARD}").split()[0]
            self.assertIn(f"marker{i}x", other.text("rlm_peek", chunk_id=doc_id))
            steps[i % 4]()
            self.assertIn(doc_id, one.text("rlm_search", query=f"marker{i}x"))
            self.assertIn(doc_id, other.text("rlm_grep", pattern=f"marker{i}x"))
            self.assertIn(f"{i + 1}", other.text("rlm_list_chunks", limit=1) + one.text("rlm_status"))


if __name__ == "__main__":
    unittest.main()
