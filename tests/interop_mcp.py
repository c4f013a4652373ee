"""The server as the official `mcp` client drives it, in both eras; needs that package, so it is run by name only."""
from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Sequence
from typing import Any

import anyio
from mcp import Client, MCPError, StdioServerParameters

from tests.support import HARD, RLM

# How the client opens: with initialize; by server/discover; without asking, in the stateless version.
MODES = {"legacy": "2025-11-25", "auto": "2026-07-28", "2026-07-28": "2026-07-28"}
RUNAWAY, BAIT = "(a+)+$", "a" * 60 + "! " + HARD
# Arguments for a call of every tool, in an order that works; ID and INSIGHT stand for ids given before.
CALLS: Sequence[tuple[str, dict[str, Any], str]] = (
    ("rlm_remember", {"content": f"We deploy on Fridays {HARD}", "category": "decision", "tags": "é,b"}, "remembered"),
    ("rlm_remember", {"content": "We keep uv", "because": "é", "rejected": "pip: slow", "evidence": "a look"}, "(rejected)"),
    ("rlm_recall", {"query": "deploy", "limit": 3}, f"We deploy on Fridays {HARD}"),
    ("rlm_chunk", {"content": BAIT, "summary": "bait 日本", "project": "interop", "domain": "tests"}, "saved"),
    ("rlm_peek", {"chunk_id": "ID"}, BAIT),
    ("rlm_grep", {"pattern": "a{50}", "limit": "5"}, "1. ["),
    ("rlm_grep", {"pattern": "quotted", "fuzzy": True}, "1. ["),
    ("rlm_search", {"query": "日本語", "include_insights": False}, "1. ["),
    ("rlm_list_chunks", {}, "bait 日本"),
    ("rlm_sessions", {"project": "interop"}, "1 chunk"),
    ("rlm_domains", {}, "tests: 1 chunk"),
    ("rlm_retention_preview", {}, "Would archive 0 chunks"),
    ("rlm_retention_run", {"archive": True}, "Archived 0 chunks"),
    ("rlm_restore", {"chunk_id": "ID"}, "active already"),
    ("rlm_capture", {"summary": "mended the deploy é", "task_type": "bugfix", "outcome": "success"}, "captured"),
    ("rlm_feedback", {"ids": "ID", "rating": "helpful"}, "helpful"),
    ("rlm_link", {"members": "ID a , INSIGHT b", "label": "supports", "weight": 0.5}, "supports"),
    ("rlm_review", {}, ""), ("rlm_review", {"action": "promote", "apply": True}, "Nothing to promote"),
    ("rlm_forget", {"insight_id": "INSIGHT"}, "forgotten"),
    ("rlm_status", {}, "1 chunk"),
    ("rlm_load", {"content": "one é\ntwo\n", "name": "numbers"}, "numbers loaded"),
    ("rlm_inspect", {"name": "numbers"}, "2 lines"),
    ("rlm_split", {"name": "numbers", "strategy": "lines", "size": 1}, "2 parts"),
    ("rlm_filter", {"name": "numbers", "pattern": "two", "output": "twos"}, "1 line"),
    ("rlm_results", {"name": "numbers", "action": "store", "key": "#1", "value": "seen"}, "#1"),
    ("rlm_exec", {"code": "len(context)", "contexts": "numbers"}, "= 10"),
    ("rlm_query", {"question": "what is two?", "refs": "numbers"}, "one é"),
    ("rlm_run", {"question": "what is three?", "refs": "numbers", "max_calls": 5}, "what is three?"),
    ("rlm_trace", {}, "what is three?"),
)


def text_of(result: Any) -> str:
    """The text of a tool result, blocks joined."""
    return "\n".join(block.text for block in result.content)


class InteropTest(unittest.IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        self.home = tempfile.mkdtemp(prefix="rlm interop é ")
        self.addCleanup(shutil.rmtree, self.home, ignore_errors=True)

    def configure(self) -> None:
        """Chooses a model that says what it is told."""
        os.makedirs(os.path.join(self.home, "rlm"))
        with open(os.path.join(self.home, "rlm", "config.json"), "w", encoding="utf-8") as file:
            file.write('{"provider": "command", "command": "cat"}')

    def client(self, mode: str = "auto", **options: Any) -> Client:
        """A client that starts a server on the test's own store."""
        env = {"HOME": self.home, "RLM_HOME": os.path.join(self.home, "rlm"), "RLM_PROJECT": "interop"}
        server = StdioServerParameters(command=sys.executable, args=[RLM, "serve"], env=env, cwd=self.home)
        return Client(server, mode=mode, **options)

    async def test_each_way_to_connect_gives_its_version_and_the_instructions(self) -> None:
        for mode, version in MODES.items():
            with self.subTest(mode=mode):
                async with self.client(mode) as client:
                    self.assertEqual(client.protocol_version, version)
                    tools = (await client.list_tools()).tools
                    self.assertEqual(len(tools), len({name for name, _, _ in CALLS}))
                    if mode != "2026-07-28":  # there, nothing was asked
                        self.assertIn("rlm_search", client.instructions or "")
                        assert client.server_info
                        self.assertEqual(client.server_info.name, "rlm")

    async def test_every_tool_works_in_each_era(self) -> None:
        for mode in MODES:
            with self.subTest(mode=mode):
                self.home = tempfile.mkdtemp(prefix="rlm interop é ")
                self.addCleanup(shutil.rmtree, self.home, ignore_errors=True)
                self.configure()
                async with self.client(mode) as client:
                    listed = {tool.name for tool in (await client.list_tools()).tools}
                    self.assertEqual({name for name, _, _ in CALLS}, listed)
                    ids = {"ID": "", "INSIGHT": ""}
                    for name, arguments, wanted in CALLS:
                        sent = {key: " ".join(ids.get(word, word) for word in value.split(" "))
                                if isinstance(value, str) else value for key, value in arguments.items()}
                        result = await client.call_tool(name, sent)
                        self.assertFalse(result.is_error, text_of(result))
                        self.assertIn(wanted, text_of(result), name)
                        if name in ("rlm_chunk", "rlm_remember"):
                            ids["ID" if name == "rlm_chunk" else "INSIGHT"] = text_of(result).split()[0]
                    peeked = await client.call_tool("rlm_peek", {"chunk_id": ids["ID"]})
                    self.assertEqual(peeked.content[0].text, BAIT)

    async def test_failures_are_results_and_unknown_tools_are_errors(self) -> None:
        for mode in MODES:
            async with self.client(mode) as client:
                refused = await client.call_tool("rlm_remember", {"content": "x", "category": "wish"})
                self.assertTrue(refused.is_error)
                self.assertIn("decision, fact, preference", text_of(refused))
                unknown = await client.call_tool("rlm_status", {"verbose": True})
                self.assertTrue(unknown.is_error)
                with self.assertRaises(MCPError) as caught:
                    await client.call_tool("rlm_nothing", {})
                self.assertEqual(caught.exception.error.code, -32602)

    async def test_parallel_calls_are_all_answered(self) -> None:
        async with self.client() as client:
            writes = [client.call_tool("rlm_chunk", {"content": f"parallel {i} {HARD}"}) for i in range(20)]
            saved = [text_of(result).split()[0] for result in await asyncio.gather(*writes)]
            self.assertEqual(len(set(saved)), 20)
            reads = [client.call_tool("rlm_peek", {"chunk_id": chunk_id}) for chunk_id in saved]
            reads += [client.call_tool("rlm_search", {"query": f"parallel {i}"}) for i in range(20)]
            reads += [client.call_tool("rlm_grep", {"pattern": f"(l+)+e. {i}"}) for i in range(5)]
            results = await asyncio.gather(*reads)
            self.assertFalse(any(result.is_error for result in results))
            self.assertEqual({result.content[0].text for result in results[:20]},
                             {f"parallel {i} {HARD}" for i in range(20)})

    async def test_progress_reaches_the_callback_and_the_regex_its_deadline(self) -> None:
        for mode in MODES:
            async with self.client(mode) as client:
                await client.call_tool("rlm_chunk", {"content": BAIT})
                os.makedirs(os.path.join(self.home, "rlm"), exist_ok=True)
                with open(os.path.join(self.home, "rlm", "config.json"), "w", encoding="utf-8") as file:
                    file.write('{"grep_timeout_s": 1}')
                seen: list[float] = []

                async def progress(done: float, *_: Any, seen: list[float] = seen) -> None:
                    seen.append(done)

                result = await client.call_tool("rlm_grep", {"pattern": RUNAWAY}, progress_callback=progress)
                self.assertTrue(result.is_error)
                self.assertIn("stopped after 1 s", text_of(result))
                self.assertGreaterEqual(len(seen), 2)
                self.assertEqual(seen, sorted(set(seen)))

    async def test_a_cancelled_call_leaves_the_session_usable(self) -> None:
        for mode in MODES:
            async with self.client(mode) as client:
                await client.call_tool("rlm_chunk", {"content": BAIT})
                began = time.monotonic()
                running = anyio.Event()

                async def progress(*_: Any, running: anyio.Event = running) -> None:
                    running.set()

                async def cancel_when_running(scope: anyio.CancelScope, running: anyio.Event = running) -> None:
                    await running.wait()
                    scope.cancel()

                with anyio.CancelScope() as scope:
                    async with anyio.create_task_group() as group:
                        group.start_soon(cancel_when_running, scope)
                        await client.call_tool("rlm_grep", {"pattern": RUNAWAY}, progress_callback=progress)
                self.assertTrue(scope.cancelled_caught)
                self.assertIn("1 chunk", text_of(await client.call_tool("rlm_status", {})))
                self.assertLess(time.monotonic() - began, 4.5)  # not the regex's deadline

    async def test_what_is_no_text_comes_back_as_text(self) -> None:
        for mode in MODES:
            async with self.client(mode) as client:
                env = {**os.environ, "HOME": self.home, "RLM_HOME": os.path.join(self.home, "rlm")}
                subprocess.run([sys.executable, RLM, "chunk", "-"], input=b"kumquat caf\xe9 au lait", env=env, check=True,
                               stdout=subprocess.DEVNULL)
                await client.call_tool("rlm_chunk", {"content": "kumquat \0 too"})
                for name, arguments in (("rlm_grep", {"pattern": "kumquat"}), ("rlm_search", {"query": "kumquat"})):
                    text = text_of(await client.call_tool(name, arguments))
                    self.assertIn("caf\ufffd au lait", text)
                    self.assertIn("kumquat \ufffd too", text)

    async def test_two_clients_share_the_memory(self) -> None:
        async with self.client("legacy") as one, self.client("auto") as two:
            for i, (writer, reader) in enumerate([(one, two), (two, one), (one, two)]):
                await writer.call_tool("rlm_remember", {"content": f"shared {i} {HARD}"})
                self.assertIn(f"shared {i} {HARD}", text_of(await reader.call_tool("rlm_recall", {"limit": 1})))

    async def test_the_client_closes_without_having_to_kill(self) -> None:
        for mode in MODES:
            client = self.client(mode)
            async with client:
                await client.call_tool("rlm_grep", {"pattern": "(x+)+é"})  # has a process of its own
                began = time.monotonic()
            self.assertLess(time.monotonic() - began, 1.5)  # the client waits two seconds before it sends a signal


if __name__ == "__main__":
    unittest.main()
