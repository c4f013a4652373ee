"""The MCP server, in raw JSON-RPC over real pipes: both eras, hostile input, long calls, limits, and how it ends."""
from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest
from collections.abc import Callable, Iterator
from typing import Any

from tests.support import HARD, RLM, ROOT, McpClient, TempHome, rlm, started

LEGACY = ("2024-11-05", "2025-06-18", "2025-11-25")
PREFIX = "io.modelcontextprotocol/"
# What Claude Code 2.1.329 was recorded to send with every request of the stateless era.
META = {
    PREFIX + "protocolVersion": "2026-07-28",
    PREFIX + "clientInfo": {"name": "claude-code", "title": "Claude Code", "version": "2.1.329",
                            "description": "Anthropic's agentic coding tool",
                            "websiteUrl": "https://claude.com/claude-code"},
    PREFIX + "clientCapabilities": {"roots": {"listChanged": True}, "elicitation": {"form": {}, "url": {}}},
}
# Takes 2**60 steps on the bait, in one call of `re`.
RUNAWAY, BAIT = "(a+)+$", "a" * 60 + "! " + HARD
# May run long, so it runs in a process of its own; harmless on any text.
CAREFUL = "(x+)+é"
EXIT_S = 3.0  # the goal is 0.3 s; the rest is for a loaded machine
HAS_PROC = os.path.isdir("/proc/self/task")
IMPORTED = "import sys; sys.path.insert(0, {root!r}); import os, rlm\n{patch}\nsys.exit(rlm.main(['serve']))"
CACHE: dict[str, str] = {}  # the environment that lets servers share compiled code


def setUpModule() -> None:
    """Has servers and their searches keep compiled code in a folder of our own: they start three times as fast."""
    folder = tempfile.mkdtemp(prefix="rlm test cache ")
    unittest.addModuleCleanup(shutil.rmtree, folder, ignore_errors=True)
    CACHE.update(PYTHONPYCACHEPREFIX=folder, PYTHONDONTWRITEBYTECODE="")


def line(method: str, wanted: object = None, **params: Any) -> bytes:
    """A JSON-RPC line; a notification when *wanted*, the id, is None."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if wanted is not None:
        message["id"] = wanted
    if params:
        message["params"] = params
    return json.dumps(message).encode() + b"\n"


def call_line(wanted: object, name: str, token: object = None, **arguments: Any) -> bytes:
    """A tools/call line, with a progress token unless that is None."""
    meta = {} if token is None else {"_meta": {"progressToken": token}}
    return line("tools/call", wanted, name=name, arguments=arguments, **meta)


def cancel_line(wanted: object) -> bytes:
    """A cancellation as Claude Code sends it."""
    return line("notifications/cancelled", requestId=wanted, reason="AbortError: user-cancel")


def text_of(result: Any) -> str:
    """The text of a tool result, blocks joined."""
    return "\n".join(block["text"] for block in result["content"])


def processes() -> Iterator[tuple[int, int]]:
    """Every running process and its parent; zombies are not running."""
    if not HAS_PROC:
        shown = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, check=True).stdout
        for row in shown.decode().splitlines():
            pid, parent, state = row.split()[:3]
            if not state.startswith("Z"):
                yield int(pid), int(parent)
        return
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                state, parent = file.read().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                yield int(name), int(parent)


def children(client: McpClient) -> set[int]:
    """The processes that the server has started."""
    return {pid for pid, parent in processes() if parent == client.process.pid}


def is_running(pid: int) -> bool:
    """Whether that process is there and no zombie."""
    return any(known == pid for known, _ in processes())


def status_fields(pid: int, name: str) -> int:
    """The sum of a number in /proc over the threads of a process."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended meanwhile
            with open(f"/proc/{pid}/task/{task}/status", encoding="utf-8") as file:
                total += int(re.findall(rf"(?m)^{name}:\s+(\d+)", file.read())[0])
    return total


class McpTest(TempHome):
    """A test case that starts servers, and ends them as a client does."""

    def session(self, version: str = "2025-11-25", patch: str = "", env: dict[str, str] | None = None) -> McpClient:
        """A session, opened unless *version* is "", with a server that imports rlm and then runs *patch*."""
        command = [sys.executable, "-S", "-c", IMPORTED.format(root=ROOT, patch=patch)]
        return self.opened(self.client(command=command, env={**CACHE, **(env or {})}), version)

    def script(self, version: str = "2025-11-25") -> McpClient:
        """A session with `rlm.py serve`, as a client starts it."""
        return self.opened(self.client(command=[sys.executable, RLM, "serve"], env=CACHE), version)

    def opened(self, client: McpClient, version: str) -> McpClient:
        """The client, its session opened unless *version* is ""."""
        self.addCleanup(self.end, client)
        if version:
            client.initialize(version)
        return client

    @staticmethod
    def end(client: McpClient) -> None:
        """Asks the server to end."""
        client.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            client.process.wait(5)

    def configure(self, **settings: Any) -> None:
        """Writes config.json."""
        os.makedirs(self.places.home, exist_ok=True)
        with open(self.places.config(), "w", encoding="utf-8") as file:
            json.dump(settings, file)

    def eventually(self, condition: Callable[[], Any], what: str, timeout_s: float = 30) -> None:
        """Waits for something that cannot be awaited."""
        until = time.monotonic() + timeout_s
        while not condition():
            self.assertLess(time.monotonic(), until, what)
            time.sleep(0.005)

    def rest(self, client: McpClient) -> list[Any]:
        """What the server still says until it closes stdout."""
        found = []
        with contextlib.suppress(EOFError):
            while True:
                found.append(client.receive())
        self.assertEqual(client.buffer, b"")
        return found

    def finish(self, client: McpClient) -> list[Any]:
        """Closes stdin; what the server still says before it ends, which it must do silently with code 0."""
        assert client.process.stdin and client.process.stderr
        client.process.stdin.close()
        found = self.rest(client)
        self.assertEqual((client.process.wait(10), client.process.stderr.read()), (0, b""))
        return found

    def runaway(self, client: McpClient, wanted: object = "slow") -> None:
        """Starts a runaway regex under that id and waits until it is running."""
        client.send_raw(call_line(wanted, "rlm_grep", token="t", pattern=RUNAWAY))
        while True:
            message = client.receive()
            if message.get("method") == "notifications/progress":
                return
            client.others.append(message)

    def error(self, message: Any, code: int, wanted: object) -> dict[str, Any]:
        """Checks that the message is that error for that id; the error."""
        self.assertEqual((message.get("jsonrpc"), message.get("id")), ("2.0", wanted), message)
        self.assertNotIn("result", message)
        self.assertEqual(message["error"]["code"], code, message)
        self.assertTrue(message["error"]["message"])
        return dict(message["error"])


class HandshakeTest(McpTest):
    def test_initialize_answers_each_known_version_with_itself(self) -> None:
        clients = [self.session(""), self.session("")]  # the second versions come in a process that has served
        for client, version in zip(clients * 2, LEGACY):
            result = client.initialize(version)
            self.assertEqual(result["protocolVersion"], version)
            self.assertEqual(result["capabilities"], {"tools": {}})
            self.assertEqual(result["serverInfo"]["name"], "rlm")
            self.assertEqual(result["serverInfo"]["version"], rlm.__version__)
            self.assertNotIn("resultType", result)

    def test_initialize_answers_unknown_versions_and_the_stateless_one_with_the_newest_handshake_version(self) -> None:
        client = self.session("")
        for version in ("2026-07-28", "2025-03-26", "2099-01-01", "1999-01-01", "", "2025-11-25 "):
            self.assertEqual(client.initialize(version)["protocolVersion"], "2025-11-25")
        with_meta = client.request("initialize", {"protocolVersion": "2026-07-28", "_meta": META})
        self.assertEqual(with_meta["result"]["protocolVersion"], "2025-11-25")
        self.assertNotIn("resultType", with_meta["result"])

    def test_initialize_without_a_version_is_an_error(self) -> None:
        client = self.session("")
        for params in ({}, {"protocolVersion": 20251125}, {"protocolVersion": None}):
            self.error(client.request("initialize", params), -32602, client.n_sent)
        client.initialize()

    def test_instructions_are_short_and_the_same_in_both_eras(self) -> None:
        client = self.session("")
        instructions = client.initialize()["instructions"]
        self.assertLess(len(instructions), 1500)
        for name in ("rlm_search", "rlm_grep", "rlm_recall", "rlm_peek", "rlm_remember", "rlm_chunk", "rlm_forget"):
            self.assertIn(name, instructions)
        self.assertEqual(client.request("server/discover", {"_meta": META})["result"]["instructions"], instructions)

    def test_requests_before_and_without_initialize_are_served(self) -> None:
        client = self.session("")
        self.assertEqual(client.request("ping")["result"], {})
        self.assertEqual(len(client.request("tools/list")["result"]["tools"]), len(rlm.TOOLS))
        self.assertNotIn("isError", client.call("rlm_status"))


class StatelessTest(McpTest):
    def test_the_recorded_discovery_of_claude_code_is_answered(self) -> None:
        client = self.script("")
        client.send({"jsonrpc": "2.0", "id": "server-discover-probe-1", "method": "server/discover",
                     "params": {"_meta": META}})
        response = client.receive()
        self.assertEqual((response["jsonrpc"], response["id"]), ("2.0", "server-discover-probe-1"))
        result = response["result"]
        self.assertEqual(result["resultType"], "complete")
        self.assertEqual(result["supportedVersions"][0], "2026-07-28")
        self.assertEqual(set(result["supportedVersions"]), {"2026-07-28", *LEGACY})
        self.assertEqual(result["capabilities"], {"tools": {}})
        self.assertIs(type(result["ttlMs"]), int)
        self.assertGreaterEqual(result["ttlMs"], 0)
        self.assertIn(result["cacheScope"], ("public", "private"))
        self.assertEqual(result["_meta"][PREFIX + "serverInfo"]["name"], "rlm")
        self.assertNotIn("serverInfo", result)

    def test_list_and_call_carry_what_the_era_demands(self) -> None:
        client = self.session("")
        # In the order and form in which the client was recorded: no initialize, ids from 0.
        client.send({"method": "tools/list", "jsonrpc": "2.0", "id": 0, "params": {"_meta": META}})
        listed = client.response(0)["result"]
        self.assertEqual(listed["resultType"], "complete")
        self.assertIs(type(listed["ttlMs"]), int)
        self.assertIn(listed["cacheScope"], ("public", "private"))
        self.assertEqual(len(listed["tools"]), len(rlm.TOOLS))
        meta = {**META, "claudecode/toolUseId": "toolu_mock00000004", "progressToken": 1}
        for wanted, name, arguments in ((1, "rlm_remember", {"content": HARD}), (2, "rlm_recall", {})):
            client.send({"method": "tools/call", "jsonrpc": "2.0", "id": wanted,
                         "params": {"name": name, "arguments": arguments, "_meta": meta}})
            called = client.response(wanted)["result"]
            self.assertEqual(called["resultType"], "complete")
            self.assertNotIn("isError", called)
            self.assertNotIn("structuredContent", called)  # the client would show nothing else
            self.assertEqual(called["_meta"][PREFIX + "serverInfo"], listed["_meta"][PREFIX + "serverInfo"])
        self.assertIn(HARD, text_of(called))
        empty = {"name": "rlm_search", "arguments": {"query": " "}, "_meta": META}
        failed = client.request("tools/call", empty)["result"]
        self.assertEqual((failed["isError"], failed["resultType"]), (True, "complete"))
        self.assertEqual(client.others, [])

    def test_a_missing_or_unusable_meta_key_is_an_invalid_parameter(self) -> None:
        client, version, capabilities = self.session(""), PREFIX + "protocolVersion", PREFIX + "clientCapabilities"
        broken: list[Any] = [{k: v for k, v in META.items() if k != left_out} for left_out in (version, capabilities)]
        broken += [{**META, capabilities: value} for value in (None, [], "roots", 1)]
        broken += [{**META, version: value} for value in (20260728, ["2026-07-28"], {"v": "2026-07-28"})]
        for meta in broken:
            for method in ("server/discover", "tools/list", "tools/call"):
                with self.subTest(method=method, meta=meta):
                    params = {"name": "rlm_status", "_meta": meta}
                    self.error(client.request(method, params), -32602, client.n_sent)
        for params in ({}, {"_meta": {}}, {"_meta": []}, None):
            self.error(client.request("server/discover", params), -32602, client.n_sent)

    def test_client_info_may_be_missing(self) -> None:
        meta = {key: value for key, value in META.items() if not key.endswith("clientInfo")}
        self.assertIn("result", self.session("").request("tools/list", {"_meta": meta}))

    def test_an_unsupported_version_is_named_with_those_supported(self) -> None:
        client = self.session("")
        for requested in ("2027-01-01", "2025-11-25", "", "x" * 30_000):
            for method in ("server/discover", "tools/list", "tools/call"):
                meta = {**META, PREFIX + "protocolVersion": requested}
                error = self.error(client.request(method, {"name": "rlm_status", "_meta": meta}), -32022, client.n_sent)
                self.assertEqual(set(error["data"]["supported"]), {"2026-07-28", *LEGACY})
                self.assertEqual(error["data"]["requested"], requested)
                self.assertLess(len(error["message"]), 400)

    def test_methods_of_the_other_era_do_not_exist(self) -> None:
        client = self.session()
        for method in ("ping", "logging/setLevel", "subscriptions/listen", "resources/list", "prompts/list"):
            self.error(client.request(method, {"_meta": META}), -32601, client.n_sent)

    def test_both_eras_take_turns_in_one_process(self) -> None:
        client = self.session("2025-06-18")
        for i in range(6):
            legacy = client.call("rlm_remember", content=f"legacy {i} {HARD}")
            self.assertNotIn("resultType", legacy)
            self.assertNotIn("_meta", legacy)
            params = {"name": "rlm_recall", "arguments": {"query": f"legacy {i}"}, "_meta": META}
            modern = client.request("tools/call", params)
            self.assertEqual(modern["result"]["resultType"], "complete")
            self.assertIn(f"legacy {i} é", text_of(modern["result"]))
            self.assertNotIn("ttlMs", client.request("tools/list")["result"])
            self.assertIn("ttlMs", client.request("tools/list", {"_meta": META})["result"])
            self.assertEqual(client.request("ping")["result"], {})
        self.assertEqual(client.initialize("2024-11-05")["protocolVersion"], "2024-11-05")


class RegistryTest(McpTest):
    SIGNATURES = {
        "rlm_remember": "content category importance tags project because rejected goal evidence revisit",
        "rlm_forget": "insight_id", "rlm_status": "",
        "rlm_recall": "query category importance limit project tags kind",
        "rlm_chunk": "content summary tags project ticket domain chunk_type", "rlm_peek": "chunk_id start end",
        "rlm_grep": "pattern limit project domain fuzzy fuzzy_threshold date_from date_to entity context",
        "rlm_search": "query limit project domain date_from date_to entity include_insights explain context kind",
        "rlm_list_chunks": "limit", "rlm_sessions": "project domain limit", "rlm_domains": "",
        "rlm_retention_preview": "", "rlm_retention_run": "archive purge", "rlm_restore": "chunk_id",
        "rlm_load": "path content name glob memory", "rlm_inspect": "name preview_chars",
        "rlm_split": "name strategy size overlap pattern", "rlm_filter": "name pattern output mode",
        "rlm_results": "name action value key", "rlm_exec": "code contexts repl timeout_s",
        "rlm_run": "question refs mode run root leaf wait_s max_calls max_dollars", "rlm_trace": "run wait_s format",
        "rlm_capture": "summary task_type outcome project files tags errors_resolved merge",
        "rlm_feedback": "ids rating note", "rlm_link": "members label weight",
        "rlm_review": "action project limit apply",
        "rlm_query": "question refs provider model votes schema verify max_chars",
    }
    READ_ONLY = {"rlm_recall", "rlm_status", "rlm_peek", "rlm_grep", "rlm_search", "rlm_list_chunks", "rlm_sessions",
                 "rlm_domains", "rlm_retention_preview", "rlm_inspect", "rlm_trace"}

    def test_the_listing_is_complete_small_and_valid(self) -> None:
        client = self.session()
        for params in (None, {"_meta": META}):
            client.request("tools/list", params)
            client.send_raw(line("tools/list", "raw", **(params or {})))
            tools = client.response("raw")["result"]["tools"]
            self.assertEqual({tool["name"]: " ".join(tool["inputSchema"]["properties"]) for tool in tools},
                             self.SIGNATURES)
            for tool in tools:
                schema = tool["inputSchema"]
                self.assertEqual((schema["type"], schema["additionalProperties"]), ("object", False))
                self.assertLessEqual(set(schema.get("required", [])), set(schema["properties"]))
                self.assertLess(len(tool["description"]), 1000)
                for made in schema["properties"].values():
                    self.assertIn(made["type"], ("string", "integer", "number", "boolean"))

    def test_the_listing_line_is_under_14000_bytes_and_under_6000_for_the_first_fourteen(self) -> None:
        client = self.session()
        client.send_raw(line("tools/list", 1))
        assert client.process.stdout
        raw = client.process.stdout.readline()
        tools = json.loads(raw)["result"]["tools"]
        self.assertEqual(len(tools), len(rlm.TOOLS))
        self.assertLess(len(raw), 14_000)
        n_further = len(json.dumps(tools[14:], ensure_ascii=False, separators=(",", ":")).encode()) - 1
        self.assertLess(len(raw) - n_further, 6000)

    def test_hints_say_read_only_of_exactly_those_that_are_and_load_always_exactly_four(self) -> None:
        tools = self.session().request("tools/list")["result"]["tools"]
        hinted = {tool["name"] for tool in tools if tool["annotations"].get("readOnlyHint")}
        self.assertEqual(hinted, self.READ_ONLY)
        loaded = {tool["name"] for tool in tools if tool.get("_meta", {}).get("anthropic/alwaysLoad") is True}
        self.assertEqual(loaded, {"rlm_search", "rlm_recall", "rlm_remember", "rlm_peek"})
        destroying = {tool["name"] for tool in tools if tool["annotations"].get("destructiveHint")}
        self.assertEqual(destroying, {"rlm_forget", "rlm_retention_run"})

    def test_read_only_tools_write_no_memory(self) -> None:
        self.chunk(HARD)
        client = self.session()
        before = self.log_bytes()
        chunk_id = re.findall(r"\[(\S+)\]", client.text("rlm_list_chunks"))[0]
        arguments = {"rlm_peek": {"chunk_id": chunk_id}, "rlm_grep": {"pattern": CAREFUL}, "rlm_search": {"query": "é"}}
        for name in self.READ_ONLY:
            self.assertNotIn("isError", client.call(name, **arguments.get(name, {})), name)
        self.finish(client)
        added = self.log_bytes()[len(before):]
        self.assertEqual([json.loads(row)["k"] for row in added.splitlines()], ["use"])  # of the peek

    def test_the_listing_has_one_page(self) -> None:
        client = self.session()
        for cursor in ("", "2", 3):
            self.error(client.request("tools/list", {"cursor": cursor}), -32602, client.n_sent)


class MessageTest(McpTest):
    def test_ping_and_unknown_methods_are_answered_at_once_while_a_call_is_waiting(self) -> None:
        client = self.session()
        with rlm.Lock(self.places.lock()):
            client.send_raw(call_line("write", "rlm_remember", content=HARD))
            self.assertEqual(client.request("ping")["result"], {})
            for method in ("no/such", "resources/list", "logging/setLevel", "", "é" * 5000, "rlm_status", "__class__"):
                error = self.error(client.request(method), -32601, client.n_sent)
                self.assertLess(len(error["message"]), 200)
            self.assertEqual(client.others, [])  # the write still waits: nothing above waited for it
        self.assertNotIn("isError", client.response("write")["result"])

    def test_an_unknown_tool_is_a_protocol_error_in_both_eras(self) -> None:
        client = self.session()
        for name in ("rlm_nothing", "", "x" * 50_000, "rlm_status ", "__init__"):
            for meta in ({}, {"_meta": META}):
                error = self.error(client.request("tools/call", {"name": name, "arguments": {}, **meta}), -32602,
                                   client.n_sent)
                self.assertLess(len(error["message"]), 300)
        bad: list[Any] = [None, [], "rlm_status", {}, {"arguments": {}}, {"name": 7}, {"name": None},
                          {"name": ["rlm_status"]}, {"name": "rlm_status", "_meta": 7},
                          {"name": "rlm_status", "_meta": ["x"]}]
        for params in bad:
            with self.subTest(params=params):
                self.error(client.request("tools/call", params), -32602, client.n_sent)
        self.assertNotIn("isError", client.call("rlm_status"))

    def test_params_that_are_no_object_are_invalid(self) -> None:
        client = self.session()
        for params in ("x", 7, [1], True):
            self.error(client.request("tools/list", params), -32602, client.n_sent)

    def test_notifications_are_never_answered(self) -> None:
        client = self.session()
        for method in ("notifications/initialized", "notifications/roots/list_changed", "no/such", "ping", "tools/list",
                       "initialize", "server/discover", "notifications/cancelled", "notifications/progress"):
            for params in (None, {}, [], 7, {"requestId": None}, {"requestId": "never"}, {"requestId": {"a": [1]}},
                           {"_meta": META}):
                client.send({"jsonrpc": "2.0", "method": method, **({} if params is None else {"params": params})})
        client.send_raw(call_line(None, "rlm_remember", content="by notification"))
        client.send({"jsonrpc": "2.0", "id": 9, "result": {}})  # answers to requests that were never sent
        client.send({"jsonrpc": "2.0", "id": 9, "error": {"code": -32601, "message": "no"}})
        self.assertEqual(client.request("ping")["result"], {})
        self.assertEqual(client.others + self.finish(client), [])

    def test_ids_come_back_as_they_were(self) -> None:
        client = self.session()
        for wanted in (0, 1, -1, 2**53, 10**30, "0", "", "server-discover-probe-1", HARD, "\U0001f600", "x" * 10_000):
            for sent in (line("ping", wanted), line("no/such", wanted), call_line(wanted, "rlm_domains"),
                         call_line(wanted, "rlm_nothing")):
                client.send_raw(sent)
                answer = client.receive()
                self.assertEqual((answer["id"], type(answer["id"])), (wanted, type(wanted)))

    def test_an_unusable_id_is_an_invalid_request(self) -> None:
        client = self.session()
        for wanted in ("null", "true", "false", "[]", "[1]", "{}", '{"a":1}', "1e999", "-1e999",
                       '"\\ud800"', '"a\\u0000"'):  # of which the last two would come back as other ids
            for method in ("ping", "tools/call"):
                client.send_raw(f'{{"jsonrpc":"2.0","id":{wanted},"method":"{method}"}}\n'.encode())
                with self.subTest(id=wanted, method=method):
                    self.error(client.receive(), -32600, None)
        self.assertEqual(client.request("ping")["result"], {})

    def test_a_batch_gets_one_error_in_every_version_and_carries_nothing_out(self) -> None:
        client = self.session("")
        for version in ("", "2025-03-26", *LEGACY):
            if version:
                client.initialize(version)
            for sent in (b"[]", b"[" + call_line(1, "rlm_remember", content=HARD).strip() + b"," + line("ping", 2) + b"]"):
                client.send_raw(sent.replace(b"\n", b"") + b"\n")
                self.assertIn("one message per line", self.error(client.receive(), -32600, None)["message"])
            self.assertEqual(client.request("ping")["result"], {})
        self.assertIn("0 insights", client.text("rlm_status"))
        self.assertEqual(client.others, [])


class HostileInputTest(McpTest):
    NOT_JSON = (b"garbage", b"{", b'{"jsonrpc":"2.0","id":1,"method":"ping"', b"\xff\xfe\x00", bytes(range(1, 10)),
                b"\x00",
                b'{"jsonrpc":"2.0","id":1,"method":"ping"}{"jsonrpc":"2.0","id":2,"method":"ping"}', b"'single'",
                b'{"jsonrpc":"2.0","id":NaN,"method":"ping"}', b'{"jsonrpc":"2.0","id":-Infinity,"method":"ping"}',
                b'{"id":1,"method":"p\xc3"}', b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000,
                b"1" * 100_000, b"undefined", b"\xef\xbb\xbf{}x")
    NO_REQUEST = (b"7", b"-0.5", b"null", b"true", b'"text"', b"{}", b'{"id":1,"method":"ping"}',
                  b'{"jsonrpc":"1.0","id":1,"method":"ping"}', b'{"jsonrpc":2.0,"id":1,"method":"ping"}',
                  b'{"jsonrpc":"2.0"}', b'{"jsonrpc":"2.0","method":7,"id":1}', b"[1,2]", b"[[]]",
                  b'{"jsonrpc":"2.0","id":1,"method":null}', b'{"jsonrpc":"2.0","id":1,"method":{}}')

    def test_what_is_not_json_is_a_parse_error_and_the_server_goes_on(self) -> None:
        client = self.session()
        for sent in self.NOT_JSON:
            client.send_raw(sent + b"\n")
            with self.subTest(sent=sent[:60]):
                self.error(client.receive(), -32700, None)
        self.assertEqual(client.request("ping")["result"], {})
        self.assertEqual(self.finish(client), [])

    def test_json_that_is_no_request_is_invalid_and_the_server_goes_on(self) -> None:
        client = self.session()
        for sent in self.NO_REQUEST:
            client.send_raw(sent + b"\n")
            with self.subTest(sent=sent):
                answer = client.receive()
                self.assertEqual(answer["error"]["code"], -32600)
                self.assertIn(answer["id"], (None, 1))
        self.assertEqual(client.request("ping")["result"], {})
        self.assertEqual(self.finish(client), [])

    def test_empty_lines_and_carriage_returns_are_passed_over(self) -> None:
        client = self.session()
        client.send_raw(b"\n\r\n  \n\t\n" + line("ping", 1).strip() + b"\r\n\n   " + line("ping", 2))
        self.assertEqual([client.receive()["id"], client.receive()["id"]], [1, 2])
        self.assertEqual(self.finish(client), [])

    def test_a_message_may_come_byte_by_byte_and_many_at_once(self) -> None:
        client = self.session()
        for i in range(len(call_line("é", "rlm_remember", content=HARD))):
            client.send_raw(call_line("é", "rlm_remember", content=HARD)[i : i + 1])
        self.assertNotIn("isError", client.response("é")["result"])
        raw = json.dumps({"jsonrpc": "2.0", "id": 8, "method": "tools/call", "params": {
            "name": "rlm_recall", "arguments": {"query": "quoted 日本語"}}}, ensure_ascii=False).encode()
        client.send_raw(raw[:-30])
        client.send_raw(raw[-30:] + b"\n" + line("ping", 9) + raw[:5])
        self.assertIn(HARD, text_of(client.response(8)["result"]))
        client.send_raw(raw[5:] + b"\n")
        self.assertIn(HARD, text_of(client.response(8)["result"]))

    def test_a_line_of_20_megabytes_is_taken_and_its_content_refused(self) -> None:
        client = self.session()
        result = client.call("rlm_chunk", content="é\n" * 7_000_000)
        self.assertTrue(result["isError"])
        self.assertIn("21,000,000 bytes", text_of(result))
        client.send_raw(b"x" * 20_000_000 + b"\n")
        self.error(client.receive(), -32700, None)
        self.assertIn("0 chunks", client.text("rlm_status"))

    def test_a_line_beyond_the_limit_gets_one_error_before_it_ends_and_the_next_is_served(self) -> None:
        client = self.session(patch="rlm.MAX_LINE_BYTES = 1 << 20")
        for n_bytes in (3 << 20, (1 << 20) + 1):
            client.send_raw(b"x" * n_bytes)
            answer = client.receive()  # although the line goes on
            self.assertIn("1,048,576", self.error(answer, -32600, None)["message"])
            client.send_raw(b"x" * 5000 + b"\n" + line("ping", n_bytes))
            self.assertEqual(client.response(n_bytes)["result"], {})
        client.send_raw(line("ping", "longest").strip().ljust(1 << 20) + b"\n")
        self.assertEqual(client.response("longest")["result"], {})
        self.assertEqual(client.others, [])
        self.assertNotIn("isError", client.call("rlm_status"))

    def test_nested_arguments_and_names_are_errors_not_the_end(self) -> None:
        client = self.session()
        deep: Any = []
        for _ in range(400):
            deep = [deep]
        for arguments in ({"content": deep}, {"content": {"a": deep}}, {"deep": deep}, [deep],
                          {"content": "x", "tags": deep}):
            answer = client.request("tools/call", {"name": "rlm_remember", "arguments": arguments})
            self.assertTrue(answer["result"]["isError"])
        for params in ({"cursor": deep}, {"_meta": {PREFIX + "protocolVersion": deep}}, {"protocolVersion": deep}):
            for method in ("tools/list", "initialize", "server/discover", "notifications/x"):
                self.assertEqual(client.request(method, params)["id"], client.n_sent)
        client.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": deep}})
        self.assertEqual(client.request("ping")["result"], {})
        self.assertEqual(self.finish(client), [])

    def test_random_damage_never_ends_the_server_nor_its_json(self) -> None:
        client = self.session()
        seed = random.randrange(1 << 32)
        rng = random.Random(seed)
        good = [line("ping", 1), line("tools/list", 2, _meta=META), call_line(3, "rlm_search", token=1, query=HARD),
                call_line("4", "rlm_remember", content=HARD), line("initialize", 5, protocolVersion="2025-03-26"),
                cancel_line(3)]
        sent = []
        for _ in range(300):
            data = bytearray(rng.choice(good).strip())
            for _ in range(rng.randrange(1, 4)):
                at = rng.randrange(len(data))
                added = [rng.choice(b'{}[]":,0\\\x00\xffe-\n') for _ in range(rng.randrange(3))]
                data[at : at + rng.randrange(3)] = bytes(added)
                data = data or bytearray(b"{")
            sent.append(bytes(data))
        with self.subTest(seed=seed):
            for data in sent:
                client.send_raw(data + b"\n")
            client.send_raw(b"\n" + line("ping", "the last"))
            self.assertEqual(client.response("the last")["result"], {})
            for message in client.others + self.finish(client):
                self.assertEqual(message["jsonrpc"], "2.0")
                self.assertTrue("result" in message or "error" in message, message)
                self.assertNotEqual(message.get("error", {}).get("code"), -32603, message)


class ArgumentTest(McpTest):
    def refusal(self, client: McpClient, name: str, arguments: Any) -> str:
        """The text with which the tool refuses the arguments."""
        result = client.request("tools/call", {"name": name, "arguments": arguments})["result"]
        self.assertTrue(result.get("isError"), (name, arguments, result))
        self.assertEqual([block["type"] for block in result["content"]], ["text"])
        return text_of(result)

    def test_bad_values_are_results_that_say_what_is_accepted(self) -> None:
        client = self.session()
        rows: list[tuple[str, dict[str, Any], str]] = [
            ("rlm_remember", {"content": "x", "category": "wish"}, "decision, fact, preference, finding"),
            ("rlm_remember", {"content": "x", "importance": "huge"}, "low, medium, high, critical"),
            ("rlm_remember", {"content": " \n"}, "empty"), ("rlm_remember", {"content": "é" * 40_000}, "65,536"),
            ("rlm_remember", {"content": 7}, "`content` must be a string"), ("rlm_remember", {}, "needs `content`"),
            ("rlm_remember", {"content": None}, "needs `content`"),
            ("rlm_chunk", {"content": "x", "chunk_type": "insight"}, "rlm_remember"),
            ("rlm_chunk", {"content": "x", "chunk_type": "novel"}, "session, snapshot, debug"),
            ("rlm_recall", {"limit": 0}, "from 1 to 10,000"), ("rlm_recall", {"limit": -3}, "from 1 to 10,000"),
            ("rlm_list_chunks", {"limit": 10_001}, "from 1 to 10,000"),
            ("rlm_list_chunks", {"limit": 10**40}, "10,000"),
            ("rlm_search", {"query": "x", "limit": 1.5}, "whole number"),
            ("rlm_search", {"query": "x", "limit": "many"}, "whole number"),
            ("rlm_search", {"query": "x", "limit": True}, "whole number"),
            ("rlm_search", {"query": "x", "limit": []}, "whole number"),
            ("rlm_search", {"query": "x", "limit": 1e300}, "10,000"),
            ("rlm_search", {"query": "x", "include_insights": "maybe"}, "true or false"),
            ("rlm_search", {"query": "x", "date_from": "tomorrow"}, "2026-11-21"),
            ("rlm_search", {"query": "x", "date_from": "2026-02-30"}, "2026-11-21"),
            ("rlm_search", {"query": " "}, "empty"), ("rlm_grep", {"pattern": "x", "fuzzy_threshold": 101}, "0 to 100"),
            ("rlm_grep", {"pattern": "x", "date_from": "2026-11-22", "date_to": "2026-11-21"}, "after"),
            ("rlm_grep", {"pattern": "wörd " * 500, "fuzzy": True}, "2,000 characters"),
            ("rlm_peek", {"chunk_id": "nothing"}, "no"), ("rlm_peek", {"chunk_id": "../../etc/passwd"}, "id"),
            ("rlm_peek", {"chunk_id": "x:9-é"}, "line range"),
            ("rlm_peek", {"chunk_id": "x", "start": -1}, "0 or more"),
        ]
        for name, arguments, wanted in rows:
            with self.subTest(name=name, arguments=str(arguments)[:80]):
                self.assertIn(wanted, self.refusal(client, name, arguments))
        self.assertEqual(self.finish(client), [])

    def test_unknown_arguments_and_no_object_are_errors_that_name_the_known_ones(self) -> None:
        client = self.session()
        for name, parameters in RegistryTest.SIGNATURES.items():
            text = self.refusal(client, name, {"é\n": 1})
            self.assertIn(name, text)
            for parameter in parameters.split():
                self.assertIn(parameter, text)
        for arguments in ([], ["content"], "content", 7, True, False, 0, ""):
            with self.subTest(arguments=arguments):
                self.assertIn("an object", self.refusal(client, "rlm_status", arguments))
        self.assertNotIn("isError", client.request("tools/call", {"name": "rlm_status", "arguments": None})["result"])
        self.assertNotIn("isError", client.request("tools/call", {"name": "rlm_status"})["result"])

    def test_numbers_and_truth_values_may_be_strings(self) -> None:
        ids = [self.chunk(f"needle {i} {HARD}") for i in range(4)]
        client = self.session()
        self.assertEqual(client.text("rlm_list_chunks", limit="2").count("needle"), 2)
        self.assertEqual(client.text("rlm_list_chunks", limit=2.0).count("needle"), 2)
        self.assertNotIn("isError", client.call("rlm_grep", pattern="nedle", fuzzy="true", fuzzy_threshold="70"))
        self.assertIn(ids[0], client.text("rlm_grep", pattern="neeedle 0", fuzzy="true", fuzzy_threshold="70"))
        self.assertIn("Nothing", client.text("rlm_grep", pattern="neeedle 0", fuzzy="false"))
        peeked = client.call("rlm_peek", chunk_id=ids[3], start="1", end="2")
        self.assertEqual(peeked["content"][0]["text"], HARD.split("\n")[1])
        self.assertNotIn("isError", client.call("rlm_search", query="needle", limit=" 3 ", include_insights=0))
        self.assertNotIn("isError", client.call("rlm_remember", content="x", tags=["a", "b é"]))


class LongCallTest(McpTest):
    def setUp(self) -> None:
        super().setUp()
        self.chunk(BAIT)

    def test_a_runaway_regex_is_stopped_at_its_deadline_and_others_are_answered_meanwhile(self) -> None:
        self.configure(grep_timeout_s=0.8)
        client = self.session()
        began = time.monotonic()
        self.runaway(client)
        self.assertIn("1 chunk", client.text("rlm_status"))
        self.assertIn("1. [", client.text("rlm_search", query="quoted"))
        self.assertNotIn("isError", client.call("rlm_remember", content=HARD))
        self.assertEqual(client.request("ping")["result"], {})
        self.assertEqual([m for m in client.others if "method" not in m], [])  # all that while it was running
        result = client.response("slow")["result"]
        self.assertTrue(result["isError"])
        self.assertIn("stopped after 0.8 s", text_of(result))
        self.assertGreater(time.monotonic() - began, 0.7)
        self.assertIn("1. [", client.text("rlm_grep", pattern="a{50}"))
        self.assertEqual([m for m in self.finish(client) if "method" not in m], [])

    def test_progress_rises_strictly_and_ends_before_the_result(self) -> None:
        self.configure(grep_timeout_s=1.0)
        client = self.session()
        tokens: list[Any] = [0, "é token", True, {"t": 1}]  # none but the first two are tokens
        for i, token in enumerate(tokens):
            client.send_raw(call_line(i, "rlm_grep", token=token, pattern=RUNAWAY))
        done: dict[Any, list[Any]] = {0: [], "é token": []}
        is_over = set()
        while len(is_over) < len(tokens):
            message = client.receive()
            if "id" in message:
                self.assertTrue(message["result"]["isError"])
                is_over.add(message["id"])
                continue
            self.assertEqual((message["jsonrpc"], message["method"]), ("2.0", "notifications/progress"))
            token = message["params"]["progressToken"]
            self.assertIn(type(token), (int, str))
            self.assertNotIn(tokens.index(token), is_over)
            done[token].append(message["params"]["progress"])
        for steps in done.values():
            self.assertGreaterEqual(len(steps), 2)
            self.assertEqual(steps, sorted(set(steps)))
        self.assertEqual(self.finish(client), [])

    def test_a_long_retention_run_reports_progress_and_can_be_cancelled(self) -> None:
        slow = ("def carry_out(*plan, check, **options):\n    for _ in range(30): rlm.time.sleep(0.21); check()\n"
                "    return 0, 0\nrlm.carry_out = carry_out")
        client = self.session(patch=slow)
        client.send_raw(call_line(1, "rlm_retention_run", token="t"))
        self.assertEqual([client.receive()["params"]["progress"] for _ in range(2)], [1, 2])
        client.send_raw(cancel_line(1))
        self.assertIn("remembered", client.text("rlm_remember", content=HARD))  # it waits for the write before it
        self.assertTrue(all("method" in message for message in client.others))
        self.assertLess(len(client.others), 5)

    def test_progress_that_does_not_rise_is_not_sent(self) -> None:
        steps = ("def steps(call):\n    for done in (1, 1, 2):\n"
                 "        rlm.time.sleep(0.21); call.progress(done, 3, 'é')\n"
                 "    return rlm.Answer('done', None)\nrlm.TOOLS['rlm_status'].run = steps")
        client = self.session(patch=steps)
        client.send_raw(call_line(1, "rlm_status", token="t"))
        self.assertEqual(text_of(client.response(1)["result"]), "done")
        self.assertEqual([m["params"] for m in client.others], [
            {"progressToken": "t", "progress": done, "total": 3, "message": "é"} for done in (1, 2)])

    def test_a_cancelled_regex_is_stopped_and_never_answered(self) -> None:
        self.configure(grep_timeout_s=60)
        client = self.session()
        for wanted in (0, "é"):
            self.runaway(client, wanted)
            self.assertEqual(len(children(client)), 1)
            client.send_raw(cancel_line(wanted))
            self.eventually(lambda: not children(client), "the search is still running")
        self.assertNotIn("isError", client.call("rlm_grep", pattern=CAREFUL))
        answers = client.others + self.finish(client)
        self.assertEqual([m for m in answers if "method" not in m], [])

    def test_a_cancellation_right_behind_the_request_holds(self) -> None:
        self.configure(grep_timeout_s=0.2)
        client = self.session()
        for i in range(10):
            client.send_raw(call_line(f"gone {i}", "rlm_grep", pattern=RUNAWAY) + cancel_line(f"gone {i}"))
        # Began later and takes as long as those would have.
        self.assertTrue(client.call("rlm_grep", pattern=RUNAWAY)["isError"])
        self.assertEqual(client.others + self.finish(client), [])

    def test_a_write_cancelled_in_the_queue_is_never_carried_out(self) -> None:
        client = self.session()
        with rlm.Lock(self.places.lock()):
            client.send_raw(call_line(1, "rlm_remember", content="first é")
                            + call_line(2, "rlm_remember", content="second é")
                            + call_line(3, "rlm_recall", query="é") + cancel_line(2) + cancel_line(3) + cancel_line(77))
            client.request("ping")
        self.assertNotIn("isError", client.response(1)["result"])
        self.assertIn("remembered", client.text("rlm_remember", content="third é"))  # what was in the queue is through
        client.others.clear()  # the third call may have been answered before it was cancelled
        recalled = client.text("rlm_recall", query="é")
        self.assertIn("first é", recalled)
        self.assertNotIn("second é", recalled)
        self.assertEqual(client.others + self.finish(client), [])

    def test_calls_that_only_read_run_side_by_side(self) -> None:
        self.configure(grep_timeout_s=60)
        client = self.session()
        client.send_raw(b"".join(call_line(i, "rlm_grep", pattern=RUNAWAY) for i in range(4)))
        self.eventually(lambda: len(children(client)) == 4, "four runaway regexes do not run at once")
        client.send_raw(b"".join(cancel_line(i) for i in range(4)))
        self.eventually(lambda: not children(client), "cancelled regexes are still running")

    def test_a_regex_that_may_run_long_or_read_the_whole_store_runs_in_a_process_of_its_own(self) -> None:
        chunk_id = self.chunk(f"needle 7 {HARD}")
        counting = ("real = rlm.Server.run_elsewhere\ndef run_elsewhere(*details):\n"
                    "    print('elsewhere', file=sys.stderr, flush=True)\n    return real(*details)\n"
                    "rlm.Server.run_elsewhere = run_elsewhere")
        client = self.session(patch=counting)
        for pattern in ("needle", r"needle \d", "(needle", "needle|thread"):  # the index names their documents
            self.assertNotIn("isError", client.call("rlm_grep", pattern=pattern))
        for pattern in (r"\d", "needle +7"):
            self.assertIn(chunk_id, client.text("rlm_grep", pattern=pattern))
        self.assertEqual(children(client), set())
        assert client.process.stdin and client.process.stderr
        client.process.stdin.close()
        self.assertEqual(client.process.stderr.read(), b"elsewhere\n" * 2)

    def test_a_search_process_that_dies_costs_one_call(self) -> None:
        self.configure(grep_timeout_s=60)
        client = self.session()
        self.runaway(client)
        (busy,) = children(client)
        os.kill(busy, signal.SIGKILL)
        result = client.response("slow")["result"]
        self.assertTrue(result["isError"])
        self.assertIn("try again", text_of(result))
        self.assertNotIn("isError", client.call("rlm_grep", pattern=CAREFUL))

    def test_a_search_process_that_hangs_is_ended_soon_after_the_deadline(self) -> None:
        self.configure(grep_timeout_s=1)
        client = self.session()
        self.runaway(client)
        (search,) = children(client)
        os.kill(search, signal.SIGSTOP)  # so that its own deadline cannot ring
        result = client.response("slow")["result"]
        self.assertTrue(result["isError"])
        self.assertIn("stopped after 1 s", text_of(result))
        self.assertFalse(is_running(search))

    def test_a_search_process_ends_with_a_server_that_was_killed(self) -> None:
        self.configure(grep_timeout_s=60)
        client = self.session()
        self.runaway(client)
        (search,) = children(client)
        client.process.kill()
        client.process.wait()
        self.eventually(lambda: not is_running(search), "the search outlives its server", 5)


class OrderTest(McpTest):
    def test_a_read_does_not_wait_for_a_write_of_the_same_client(self) -> None:
        client = self.session()
        with rlm.Lock(self.places.lock()):
            client.send_raw(call_line("write", "rlm_remember", content=f"one {HARD}"))
            for name, arguments in (("rlm_recall", {"query": "one"}), ("rlm_search", {"query": "one"}),
                                    ("rlm_grep", {"pattern": CAREFUL}), ("rlm_status", {})):
                self.assertNotIn("isError", client.call(name, **arguments))
            self.assertEqual(client.others, [])
        self.assertIn("remembered", text_of(client.response("write")["result"]))

    def test_a_read_sent_after_the_answer_of_a_write_sees_it(self) -> None:
        client = self.session()
        for i in range(5):
            client.call("rlm_chunk", content=f"xx{i}é {HARD}")
            for name, arguments in (("rlm_search", {"query": f"xx{i}é"}), ("rlm_grep", {"pattern": f"xx{i}é"}),
                                    ("rlm_grep", {"pattern": f"(x+)+{i}é"})):
                self.assertIn("1. [", client.text(name, **arguments))

    def test_writes_are_done_in_the_order_they_came(self) -> None:
        client = self.session()
        client.send_raw(b"".join(call_line(i, "rlm_chunk", content=f"{i} {HARD}", project="order") for i in range(30)))
        for _ in range(30):
            client.receive()
        rows = [json.loads(row) for row in self.log_bytes().splitlines()]
        chunks = [row for row in rows if row["k"] == "chunk"]
        self.assertEqual([row["text"] for row in chunks], [f"{i} {HARD}" for i in range(30)])
        self.assertEqual([row["id"].rpartition("_")[2] for row in chunks], [f"{i + 1:03d}" for i in range(30)])

    def test_pipelined_requests_are_each_answered_once(self) -> None:
        self.chunk(f"needle {HARD}")
        client = self.session()
        kinds: list[Callable[[int], bytes]] = [
            lambda i: line("ping", i), lambda i: call_line(i, "rlm_search", query="needle"),
            lambda i: line("no/such", i), lambda i: call_line(i, "rlm_recall"),
            lambda i: call_line(i, "rlm_grep", pattern="need"),
            lambda i: call_line(i, "rlm_remember", content=f"fact {i} é"), lambda i: call_line(i, "rlm_nothing"),
            lambda i: call_line(i, "rlm_peek", chunk_id="2")]
        n_sent = 240
        client.send_raw(b"".join(kinds[i % len(kinds)](i) for i in range(n_sent)))
        self.assertEqual(sorted(client.receive()["id"] for _ in range(n_sent)), list(range(n_sent)))
        self.assertEqual(self.finish(client), [])

    def test_several_servers_see_each_others_writes_at_the_next_call(self) -> None:
        clients = [self.session() for _ in range(3)]
        for i, writer in enumerate(clients * 2):
            chunk_id = writer.text("rlm_chunk", content=f"chunk {i} {HARD}").split()[0]
            writer.call("rlm_remember", content=f"insight {i} {HARD}")
            for reader in clients:
                self.assertIn(f"chunk {i} é", reader.call("rlm_peek", chunk_id=chunk_id)["content"][0]["text"])
                self.assertIn(f"insight {i} é", reader.text("rlm_recall", query=f"insight {i}", limit=3))
                self.assertIn(chunk_id, reader.text("rlm_grep", pattern=f"chunk {i}"))
                self.assertIn(chunk_id, reader.text("rlm_search", query=f"chunk {i}", limit=20))
        forgotten = clients[0].text("rlm_remember", content="wrong").split()[0]
        self.assertIn("forgotten", clients[1].text("rlm_forget", insight_id=forgotten))
        self.assertNotIn(forgotten, clients[2].text("rlm_recall"))
        self.assertEqual(self.cli("remember", "from the shell é").returncode, 0)
        self.assertIn("from the shell é", clients[2].text("rlm_recall", limit=1))

    def test_servers_that_write_at_once_lose_nothing(self) -> None:
        clients = [self.session() for _ in range(3)]
        for n, client in enumerate(clients):
            client.send_raw(b"".join(call_line(i, "rlm_chunk", content=f"{n}-{i} {HARD}") for i in range(12)))
        ids = [text_of(client.receive()["result"]).split()[0] for client in clients for _ in range(12)]
        self.assertEqual(len(set(ids)), 36)
        for client in clients:
            self.assertEqual(len(re.findall(r"(?m)^\[", client.text("rlm_list_chunks", limit=50))), 36)


class LimitTest(McpTest):
    def sized(self, client: McpClient, name: str, **arguments: Any) -> str:
        """The text of an answer, after checking that it is within the limit and is no failure."""
        result = client.call(name, **arguments)
        text = text_of(result)
        self.assertNotIn("isError", result, text[:300])
        self.assertLessEqual(len(text), 20_000, (name, arguments))
        return text

    def read_all(self, client: McpClient, chunk_id: str, most: int = 1000) -> str:
        """A chunk's text, read as the notes say until nothing is left."""
        found, wanted = "", chunk_id
        for _ in range(most):
            result = client.call("rlm_peek", chunk_id=wanted)
            verbatim, note = (block["text"] for block in result["content"])
            self.assertLessEqual(len(verbatim) + len(note) + 1, 20_000)
            found += verbatim
            more = re.search(r"go on with (\S+)\]", note)
            if not more:
                return found
            wanted = more[1]
        return found

    def test_a_long_chunk_is_read_in_pieces_that_the_notes_lead_to(self) -> None:
        text = "".join(f"{i} é日本語😀 {'x' * (i % 90)}\r\n" for i in range(2000)) + "no newline at the end"
        client = self.session()
        chunk_id = client.text("rlm_chunk", content=text).split()[0]
        self.assertEqual(self.read_all(client, chunk_id), text)
        many = "\n" * 10_000 + "end"
        self.assertEqual(self.read_all(client, client.text("rlm_chunk", content=many).split()[0]), many)
        note = self.sized(client, "rlm_peek", chunk_id=client.text("rlm_chunk", content="é" * 30_000).split()[0])
        self.assertIn("30,000 characters", note)
        self.assertIn("rlm peek", note)

    def test_a_long_line_among_others_is_not_cut_without_a_word(self) -> None:
        client = self.session()
        chunk_id = client.text("rlm_chunk", content="first é\n" + "x" * 30_000 + "\nlast").split()[0]
        note = client.call("rlm_peek", chunk_id=f"{chunk_id}:2-3")["content"][1]["text"]
        self.assertIn("line 2 has 30,001 characters", note)
        self.assertIn(f"go on with {chunk_id}:3-3", note)

    def test_long_names_do_not_push_an_answer_over_the_limit(self) -> None:
        client = self.session()
        names = {"project": "p" * 200, "domain": "d" * 200, "ticket": "é" * 200}
        chunk_id = client.text("rlm_chunk", content="line é\n" * 9000, **names).split()[0]
        self.assertEqual(self.read_all(client, chunk_id), "line é\n" * 9000)
        text = self.sized(client, "rlm_peek", chunk_id=chunk_id)
        self.assertIn("go on with", text)

    def test_long_lists_are_cut_with_a_note(self) -> None:
        items = [{"text": f"needle {i} {HARD} " + "word " * 60, "project": f"project {i % 40}", "session": f"s{i}",
                  "domain": f"domain {i}", "summary": f"summary {i} " + "s" * 150} for i in range(300)]
        items += [{"kind": "insight", "text": f"needle {i} " + "w" * 500} for i in range(60)]
        path = os.path.join(self.home, "items.jsonl")
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(item) + "\n" for item in items)
        self.assertEqual(self.cli("import", path).returncode, 0)
        client = self.session()
        calls: list[tuple[str, dict[str, Any]]] = [
            ("rlm_list_chunks", {"limit": 10_000}), ("rlm_grep", {"pattern": "needle", "limit": 10_000}),
            ("rlm_grep", {"pattern": CAREFUL.replace("x", "e") + "|needle", "limit": 10_000}),
            ("rlm_grep", {"pattern": "neeedle", "fuzzy": True, "limit": 10_000}),
            ("rlm_search", {"query": "needle", "limit": 10_000}), ("rlm_recall", {"limit": 10_000}),
            ("rlm_recall", {"query": "needle", "limit": 10_000}), ("rlm_sessions", {"limit": 10_000})]
        for name, arguments in calls:
            with self.subTest(name=name, arguments=arguments):
                text = self.sized(client, name, **arguments)
                self.assertGreater(len(text), 15_000)
                self.assertRegex(text[-200:], r"\[cut: [\d,]+ characters in all, [\d,]+ shown; .*limit")
        for name in ("rlm_domains", "rlm_status", "rlm_retention_preview"):
            self.sized(client, name)

    def test_errors_are_within_the_limit_too(self) -> None:
        client = self.session()
        huge = "é" * 100_000
        for name, arguments in (("rlm_remember", {"content": "x", "category": huge}),
                                ("rlm_chunk", {"content": "x", huge: 1}),
                                ("rlm_peek", {"chunk_id": huge}), ("rlm_peek", {"chunk_id": "x:" + huge}),
                                ("rlm_search", {"query": "x", "date_from": huge}),
                                ("rlm_grep", {"pattern": "(" * 100_000}),
                                ("rlm_search", {"query": huge}), ("rlm_search", {"query": "x", "limit": huge})):
            with self.subTest(name=name):
                self.assertLessEqual(len(text_of(client.call(name, **arguments))), 20_000)
        raising = "def fail(call): raise rlm.RlmError('é' * 30_000)\nrlm.TOOLS['rlm_status'].run = fail"
        result = self.session(patch=raising).call("rlm_status")
        self.assertTrue(result["isError"])
        self.assertRegex(text_of(result), r"^é{19000,20000}\n\[cut: 30,000 characters in all")
        self.assertLessEqual(len(text_of(result)), 20_000)

    def test_a_pasted_text_as_query_is_not_looked_up_word_by_word(self) -> None:
        self.chunk(HARD)
        counting = ("real, seen = rlm.nearest_words, []\ndef nearest_words(*details):\n    seen.append(1)\n"
                    "    if len(seen) > 50: raise rlm.RlmError('too many')\n    return real(*details)\n"
                    "rlm.nearest_words = nearest_words")
        query = " ".join(f"unknown{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(500))
        text = self.sized(self.session(patch=counting), "rlm_recall", query=query)
        self.assertIn("Nothing matches", text)

    def test_texts_come_back_byte_for_byte(self) -> None:
        client = self.session()
        texts = [HARD, "crlf\r\nlines\r\n", "---\ntitle: no front matter\n---\nbody", "no newline at the end",
                 "\nleading",
                 "trailing   \n\n\n", "emoji \U0001f469‍\U0001f4bb é e\u0301", "bell \a escape \x1b[31m",
                 "\u2028 and \u2029 and \x85 and \x0b\x0c",
                 "\ufeffbom",
                 "lone cr\rhere", "\t tabs \t", "quote \" back \\ slash \\n", "日本語\n中文\n한국어", "x",
                 "\ufffe\uffff"]
        for text in texts:
            with self.subTest(text=text):
                chunk_id = client.text("rlm_chunk", content=text).split()[0]
                self.assertEqual(client.call("rlm_peek", chunk_id=chunk_id)["content"][0]["text"], text)
        other = self.session()  # and from the disk, in a process that has not seen them
        ids = re.findall(r"(?m)^\[(\S+)\]", client.text("rlm_list_chunks", limit=100))
        peeked = [other.call("rlm_peek", chunk_id=chunk_id)["content"][0]["text"] for chunk_id in ids]
        self.assertEqual(sorted(peeked), sorted(texts))

    def test_no_answer_holds_half_a_character_or_nul(self) -> None:
        client = self.session()
        hard = "qumran \ud83d lone \udc00 \ud83d\ude00 nul \0 end"
        wanted = "qumran \ufffd lone \ufffd \U0001f600 nul \ufffd end"
        chunk_id = client.text("rlm_chunk", content=hard, summary=hard, project=hard, tags=hard).split()[0]
        client.call("rlm_remember", content=hard)
        self.assertEqual(client.call("rlm_peek", chunk_id=chunk_id)["content"][0]["text"], wanted)
        for name, arguments in (("rlm_search", {"query": "qumran"}), ("rlm_grep", {"pattern": "qumran"}),
                                ("rlm_grep", {"pattern": "(q+)+umran"}), ("rlm_recall", {})):
            self.assertIn(wanted, client.text(name, **arguments))
        client.call("rlm_search", query=hard)
        client.request("tools/call", {"name": hard})
        client.request(hard)
        client.send_raw(call_line("p", "rlm_grep", token="\ud83d\0", pattern=RUNAWAY))
        client.response("p")
        for message in (*client.others, client.request("tools/list")):
            self.assertNotIn("\0", json.dumps(message, ensure_ascii=False).encode().decode())
        stored = hard.replace("\ud83d\ude00", "\U0001f600")  # JSON knows the two halves as one character
        self.assertEqual(self.cli("peek", chunk_id).stdout, stored.encode("utf-8", "surrogatepass"))

    def test_raw_utf8_requests_mean_the_same_as_escaped_ones(self) -> None:
        client = self.session()
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": "rlm_chunk", "arguments": {"content": HARD + "\u2028\x85"}}}
        client.send_raw(json.dumps(message, ensure_ascii=False).encode() + b"\n")
        chunk_id = text_of(client.response(1)["result"]).split()[0]
        self.assertEqual(client.call("rlm_peek", chunk_id=chunk_id)["content"][0]["text"], HARD + "\u2028\x85")

    def test_two_megabytes_of_utf8_are_kept_and_one_byte_more_is_refused(self) -> None:
        client = self.session()
        body = "".join(f"{i} é日本語😀\r\n" for i in range(100_000))
        text = body.encode()[: (2 << 20) - 8].decode("utf-8", "ignore") + "\n"
        text += "x" * ((2 << 20) - len(text.encode()))
        chunk_id = client.text("rlm_chunk", content=text).split()[0]
        self.assertTrue(text.startswith(self.read_all(client, chunk_id, most=3)))
        n_lines = text.count("\n") + 1
        last = client.call("rlm_peek", chunk_id=f"{chunk_id}:{n_lines - 300}-{n_lines}")["content"][0]["text"]
        self.assertEqual(last, text[len(text) - len(last):])
        self.assertEqual(last.count("\n"), 300)
        refused = client.call("rlm_chunk", content=text + "y")
        self.assertTrue(refused["isError"])
        self.assertIn("2,097,153 bytes; at most 2,097,152", text_of(refused))


class StoreTest(McpTest):
    def test_an_empty_home_is_read_without_making_anything(self) -> None:
        client = self.session()
        for name, arguments in (("rlm_status", {}), ("rlm_recall", {}), ("rlm_search", {"query": "é"}),
                                ("rlm_list_chunks", {}), ("rlm_grep", {"pattern": CAREFUL}), ("rlm_sessions", {}),
                                ("rlm_retention_preview", {})):
            self.assertNotIn("isError", client.call(name, **arguments), name)
        self.assertIn("id", text_of(client.call("rlm_peek", chunk_id="2026-11-21_none_001")))
        self.assertEqual(self.finish(client), [])
        self.assertFalse(os.path.exists(self.places.home))

    def test_a_store_that_cannot_be_written_is_read_and_says_why_it_is_not_written(self) -> None:
        chunk_id = self.chunk(f"needle {HARD}")
        os.unlink(self.places.lock())
        os.mkdir(self.places.lock())  # root is refused by this as well
        client = self.session()
        self.assertIn(HARD, text_of(client.call("rlm_peek", chunk_id=chunk_id)))
        self.assertIn(chunk_id, client.text("rlm_search", query="needle"))
        for name, arguments in (("rlm_remember", {"content": "x"}), ("rlm_chunk", {"content": "x"}),
                                ("rlm_retention_run", {}), ("rlm_forget", {"insight_id": chunk_id})):
            result = client.call(name, **arguments)
            if name != "rlm_retention_run":  # it has nothing to do
                self.assertTrue(result["isError"], name)
                self.assertIn(self.places.lock(), text_of(result))
        self.assertIn(chunk_id, client.text("rlm_grep", pattern="needle"))
        os.rmdir(self.places.lock())
        self.assertNotIn("isError", client.call("rlm_remember", content="it can be written again"))
        self.assertEqual(self.finish(client), [])

    def test_a_home_that_is_a_file_gives_errors_and_the_server_goes_on(self) -> None:
        blocked = os.path.join(self.home, "file é")
        with open(blocked, "w", encoding="utf-8") as file:
            file.write(HARD)
        client = self.session(env={"RLM_HOME": blocked})
        for name, arguments in (("rlm_remember", {"content": "x"}), ("rlm_status", {}), ("rlm_search", {"query": "x"})):
            result = client.call(name, **arguments)
            self.assertTrue(result["isError"], name)
            self.assertIn(blocked, text_of(result))
        self.assertEqual(client.request("ping")["result"], {})
        self.assertEqual(self.finish(client), [])

    def test_a_broken_configuration_is_reported_by_the_calls_that_need_it(self) -> None:
        os.makedirs(self.places.home)
        with open(self.places.config(), "w", encoding="utf-8") as file:
            file.write("{broken é")
        client = self.session()
        # What is never to be saved is in that file, so saving needs it too.
        for name, arguments in (("rlm_grep", {"pattern": "x"}), ("rlm_remember", {"content": HARD})):
            result = client.call(name, **arguments)
            self.assertTrue(result["isError"])
            self.assertIn("config.json", text_of(result))
        self.assertNotIn("isError", client.call("rlm_search", query="é"))

    def test_what_hooks_put_aside_is_read_by_a_server_that_has_time(self) -> None:
        path = os.path.join(self.home, "3c57c232-d4a0-4b3f-a780-c76246539c7a.jsonl")
        said = {"type": "user", "uuid": "u", "sessionId": "s", "cwd": self.home, "timestamp": "2026-11-21T07:13:49.789Z",
                "message": {"role": "user", "content": f"put aside {HARD}"}}
        with open(path, "w", encoding="utf-8") as file:
            file.write(json.dumps(said, separators=(",", ":")) + "\n")
        rlm.put_aside(self.places, path)
        os.unlink(path)
        self.assertEqual(len(rlm.spooled_files(self.places)), 1)
        client = self.script()  # the command that clients start
        self.eventually(lambda: not rlm.spooled_files(self.places), "it stays in the spool")
        self.assertIn("put aside", client.text("rlm_search", query="put aside"))

    def test_uses_are_recorded_soon_and_at_the_end(self) -> None:
        chunk_id = self.chunk(HARD)
        client = self.session()
        client.call("rlm_peek", chunk_id=chunk_id)
        self.eventually(lambda: b'"k":"use"' in self.log_bytes(), "the housekeeper records nothing")
        client.send_raw(call_line(1, "rlm_peek", chunk_id=chunk_id) + call_line(2, "rlm_peek", chunk_id=chunk_id))
        self.finish(client)
        view = self.view()
        self.assertEqual(view.doc(view.ordinal_of(chunk_id)).life.uses, 3)

    def test_who_only_reads_does_not_wait_for_one_who_writes(self) -> None:
        chunk_id = self.chunk(HARD)
        client = self.session()
        with rlm.Lock(self.places.lock()):  # another process is writing
            for i in range(3):
                client.send_raw(call_line(f"p{i}", "rlm_peek", chunk_id=chunk_id) + call_line(f"s{i}", "rlm_status")
                                + call_line(f"r{i}", "rlm_retention_preview")
                                + call_line(f"g{i}", "rlm_grep", pattern=CAREFUL))
            for _ in range(12):
                self.assertNotIn("isError", client.receive(timeout_s=5)["result"])
            client.call("rlm_status")  # meets the lock with accesses to record
        client.call("rlm_peek", chunk_id=chunk_id)
        self.assertEqual(self.finish(client), [])
        view = self.view()
        self.assertEqual(view.doc(view.ordinal_of(chunk_id)).life.uses, 4)  # none was lost meanwhile

    def test_the_housekeeper_brings_the_index_up_while_serving(self) -> None:
        client = self.session()
        n_facts = rlm.TAIL_MAX_DOCS + 5
        client.send_raw(b"".join(call_line(i, "rlm_remember", content=f"fact {i} é") for i in range(n_facts)))
        for _ in range(n_facts):
            client.receive()
        self.eventually(lambda: self.view().index.n_docs >= rlm.TAIL_MAX_DOCS, "nothing was indexed")
        self.assertIn("fact 3 é", client.text("rlm_recall", query="fact 3"))


class OutputTest(McpTest):
    def test_nothing_but_json_rpc_reaches_stdout_whatever_prints(self) -> None:
        noisy = ("def noisy(call):\n    print('stray é'); sys.stdout.flush()\n"
                 "    os.write(1, b'raw\\n'); os.system('echo child')\n"
                 "    return rlm.Answer('quiet', None)\nrlm.TOOLS['rlm_status'].run = noisy")
        client = self.session(patch=noisy)
        self.assertEqual(client.text("rlm_status"), "quiet")  # any other line would not have parsed
        assert client.process.stdin and client.process.stderr
        client.process.stdin.close()
        self.assertEqual(self.rest(client), [])
        printed = client.process.stderr.read().decode()
        for word in ("stray é", "raw", "child"):
            self.assertIn(word, printed)

    def test_a_bug_in_a_tool_is_an_internal_error_and_the_server_goes_on(self) -> None:
        client = self.session(patch="rlm.TOOLS['rlm_status'].run = lambda call: 1 // 0")
        for _ in range(3):
            self.assertIn("ZeroDivisionError", self.error(client.request("tools/call", {"name": "rlm_status"}), -32603,
                                                          client.n_sent)["message"])
        self.assertNotIn("isError", client.call("rlm_recall"))

    def test_a_failure_of_the_housekeeper_does_not_end_it(self) -> None:
        failing = ("real, failures = rlm.append_uses, [RuntimeError('é')]\n"
                   "def append_uses(*details):\n    if failures: raise failures.pop()\n    real(*details)\n"
                   "rlm.append_uses = append_uses")
        chunk_id = self.chunk(HARD)
        client = self.session(patch=failing)
        client.call("rlm_peek", chunk_id=chunk_id)
        assert client.process.stderr
        self.assertIn(b"RuntimeError", client.process.stderr.readline())  # the fault landed
        client.call("rlm_peek", chunk_id=chunk_id)
        self.eventually(lambda: b'"k":"use"' in self.log_bytes(), "the housekeeper has gone")

    def test_stdout_is_utf8_whatever_the_locale(self) -> None:
        for locale in ("C", "tr_TR.ISO-8859-9"):
            client = self.session(env={"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"})
            chunk_id = client.text("rlm_chunk", content=f"{locale} {HARD}").split()[0]
            self.assertEqual(client.call("rlm_peek", chunk_id=chunk_id)["content"][0]["text"], f"{locale} {HARD}")

    def test_a_wire_that_does_not_block_is_written_whole(self) -> None:
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        process = started("serve", stdin=subprocess.PIPE, stdout=writing, stderr=subprocess.PIPE, cwd=self.home)
        os.close(writing)
        assert process.stdin and process.stderr
        process.stdin.write(b"".join(line("tools/list", i) for i in range(40)))
        process.stdin.flush()
        self.eventually(lambda: waiting(reading) > 50_000, "nothing is written")
        with open(reading, "rb") as file:
            self.assertEqual([json.loads(file.readline())["id"] for _ in range(40)], list(range(40)))
            process.stdin.close()
            self.assertEqual((file.read(), process.wait(10), process.stderr.read()), (b"", 0, b""))
        process.stderr.close()


def waiting(fd: int) -> int:
    """How many bytes can be read from the pipe."""
    return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0])


class EndTest(McpTest):
    def ends(self, client: McpClient, how: int, slack_s: float = EXIT_S) -> list[Any]:
        """Ends the server by a signal, or by end of input for 0; what it still said. Checks that it ends well."""
        assert client.process.stdin and client.process.stderr
        searches, began = children(client), time.monotonic()
        if how:
            client.process.send_signal(how)
        else:
            client.process.stdin.close()
        code = client.process.wait(10)
        self.assertLess(time.monotonic() - began, slack_s)
        found = self.rest(client)
        self.assertEqual((code, client.process.stderr.read()), (0, b""))
        for search in searches:
            self.eventually(lambda pid=search: not is_running(pid), "the search was left behind", 5)
        return found

    def test_an_idle_server_ends_at_once_on_eof_and_signals(self) -> None:
        for how in (0, signal.SIGINT, signal.SIGTERM):
            client = self.script()
            client.call("rlm_remember", content=HARD)
            client.call("rlm_grep", pattern=CAREFUL)
            self.assertEqual(self.ends(client, how), [])

    def test_a_signal_ends_a_server_at_once_while_a_regex_runs_away_and_leaves_no_process(self) -> None:
        self.chunk(BAIT)
        self.configure(grep_timeout_s=60)
        for how in (signal.SIGINT, signal.SIGTERM):
            client = self.session()
            self.runaway(client)
            self.assertEqual(len(children(client)), 1)
            self.assertEqual([m for m in self.ends(client, how) if "method" not in m], [])

    def test_a_signal_ends_a_server_at_once_while_a_write_waits_for_the_lock(self) -> None:
        for how in (signal.SIGINT, signal.SIGTERM):
            client = self.session()
            with rlm.Lock(self.places.lock()):
                client.send_raw(call_line(1, "rlm_remember", content=HARD) + line("ping", 2))
                client.response(2)
                self.assertEqual(self.ends(client, how), [])

    def test_a_signal_ends_a_server_that_still_answers_what_was_asked_before_the_end_of_input(self) -> None:
        client = self.session()
        with rlm.Lock(self.places.lock()):
            client.send_raw(call_line(1, "rlm_remember", content=HARD) + line("ping", 2))
            assert client.process.stdin
            client.process.stdin.close()
            client.response(2)
            self.assertEqual(self.ends(client, signal.SIGTERM), [])

    def test_both_signals_in_a_row_as_claude_code_sends_them(self) -> None:
        client = self.script()
        client.process.send_signal(signal.SIGINT)
        client.process.send_signal(signal.SIGTERM)
        client.process.send_signal(signal.SIGINT)
        self.assertEqual(self.ends(client, signal.SIGTERM), [])

    def test_a_signal_ends_a_server_whose_client_does_not_read(self) -> None:
        answered_by_main = b"".join(line("tools/list", i) for i in range(60))
        answered_by_threads = b"".join(call_line(i, "rlm_status") for i in range(400))
        for requests, how in ((answered_by_main, signal.SIGINT), (answered_by_main, signal.SIGTERM),
                              (answered_by_threads, signal.SIGTERM)):
            client = self.session()
            client.send_raw(requests)
            assert client.process.stdout
            fd = client.process.stdout.fileno()
            # Each message begins a page of the pipe's sixteen, and leaves what is over of its last one empty.
            self.eventually(lambda pipe=fd: waiting(pipe) > 30_000, "the pipe is not full")
            began = time.monotonic()
            client.process.send_signal(how)
            self.assertEqual(client.process.wait(10), 0)
            self.assertLess(time.monotonic() - began, EXIT_S)

    def test_a_client_that_has_gone_ends_the_server(self) -> None:
        self.chunk(BAIT)
        self.configure(grep_timeout_s=60)
        client = self.session()
        self.runaway(client)
        searches = children(client)
        assert client.process.stdout and client.process.stderr
        client.process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            client.send_raw(line("ping", 1))
        self.assertEqual((client.process.wait(EXIT_S), client.process.stderr.read()), (0, b""))
        for search in searches:
            self.eventually(lambda pid=search: not is_running(pid), "the search was left behind", 5)

    def test_what_was_asked_before_eof_is_answered_however_much_and_slow_it_is(self) -> None:
        self.chunk(f"needle {HARD}")
        client = self.session()
        n_writes = 300
        asked = [call_line(i, "rlm_remember", content=f"fact {i} é") for i in range(n_writes)]
        for i in range(40):
            asked.append(call_line(f"r{i}", "rlm_search", query="needle") + line("ping", f"p{i}"))
        asked += [call_line(f"g{i}", "rlm_grep", pattern=CAREFUL) for i in range(4)]
        asked.append(call_line("last", "rlm_recall").strip())  # without a newline
        with rlm.Lock(self.places.lock()):  # the writes cannot even begin before the input has ended
            client.send_raw(b"".join(asked))
            assert client.process.stdin
            client.process.stdin.close()
            answers = [client.response("last")]
        answers += client.others + self.rest(client)
        self.assertEqual(sorted(str(m["id"]) for m in answers), sorted(
            ["last", *map(str, range(n_writes)), *(f"{kind}{i}" for kind in "rp" for i in range(40)),
             *(f"g{i}" for i in range(4))]))
        self.assertFalse([m for m in answers if m.get("result", {}).get("isError")])
        self.assertIn(f"{n_writes} insights", self.cli("status").stdout.decode())

    def test_a_runaway_regex_is_answered_after_the_end_of_input(self) -> None:
        self.chunk(BAIT)
        self.configure(grep_timeout_s=0.5)
        client = self.session()
        client.send_raw(call_line(1, "rlm_grep", pattern=RUNAWAY))
        (answer,) = self.finish(client)
        self.assertIn("stopped after 0.5 s", text_of(answer["result"]))

    def test_eof_in_the_middle_of_a_line_ends_the_server(self) -> None:
        for cut in (line("ping", 1)[:-3], b"\xe3\x81", b"[" * 5000):
            client = self.session()
            client.send_raw(cut)
            self.assertLessEqual({m["error"]["code"] for m in self.finish(client)}, {-32700})

    def test_eof_before_anything_was_asked_ends_the_server(self) -> None:
        self.assertEqual(self.ends(self.script(""), 0, 5), [])

    def test_an_acknowledged_write_is_there_after_kill_nine(self) -> None:
        client = self.session()
        for i in range(5):
            client.call("rlm_remember", content=f"fact {i} {HARD}")
        client.process.kill()
        client.process.wait()
        self.assertIn("5 insights", self.cli("status").stdout.decode())


class ScriptTest(McpTest):
    @unittest.skipUnless(HAS_PROC, "needs /proc")
    def test_a_server_started_as_a_script_keeps_no_syntax_tree_in_memory(self) -> None:
        client = self.script()
        with open(f"/proc/{client.process.pid}/cmdline", "rb") as file:
            self.assertIn(b"SourceFileLoader", file.read())

    def test_it_works_from_a_file_of_any_name(self) -> None:
        folder = os.path.join(self.home, "it's \"日本\" é {}")
        os.makedirs(folder)
        path = shutil.copy(RLM, os.path.join(folder, "rlm-2 é"))
        for locale in ("C", "C.UTF-8"):
            client = self.opened(self.client(command=[sys.executable, path, "serve"], env={**CACHE, "LC_ALL": locale}),
                                 "2025-11-25")
            self.assertNotIn("isError", client.call("rlm_grep", pattern=CAREFUL))

    def test_modules_in_the_project_do_not_shadow_those_we_import(self) -> None:
        for name in ("rlm", "json", "queue", "select", "signal", "threading", "subprocess", "random", "zlib"):
            with open(os.path.join(self.home, name + ".py"), "w", encoding="utf-8") as file:
                file.write("raise SystemExit('the project shadows é')\n")
        for client in (self.script(), self.opened(self.client(
                command=[sys.executable, "-I", RLM, "serve"], env={**CACHE, "PYTHONPATH": "."}), "2025-11-25")):
            self.assertNotIn("isError", client.call("rlm_grep", pattern=CAREFUL))


@unittest.skipUnless(HAS_PROC, "needs /proc")
class ResourceTest(McpTest):
    def test_an_idle_server_does_nothing_at_all(self) -> None:
        self.chunk(HARD)
        clients, last = [self.script(), self.session(), self.script("")], [-1]
        for client in clients[:2]:
            client.call("rlm_search", query="quoted")
            client.call("rlm_grep", pattern=CAREFUL)
        pids = {pid for client in clients for pid in (client.process.pid, *children(client))}
        self.assertEqual(len(pids), 3)

        def is_settled() -> bool:
            time.sleep(0.6)  # longer than any pause
            before, last[0] = last[0], sum(status_fields(pid, "voluntary_ctxt_switches") for pid in pids)
            return before == last[0]

        self.eventually(is_settled, "a thread keeps waking up")
        self.assertEqual(clients[0].request("ping")["result"], {})
        self.assertFalse(is_settled())  # a wake-up does show in these numbers

    def test_hundreds_of_calls_cost_neither_memory_nor_files(self) -> None:
        chunk_id = self.chunk(f"needle {HARD}" + "word é\n" * 200)
        client = self.session()

        def round_of_calls(n_calls: int, start: int) -> None:
            kinds: list[Callable[[int], bytes]] = [
                lambda i: call_line(i, "rlm_search", query=f"needle {i}"),
                lambda i: call_line(i, "rlm_peek", chunk_id=chunk_id),
                lambda i: call_line(i, "rlm_grep", pattern="needle"),
                lambda i: call_line(i, "rlm_grep", pattern=CAREFUL),
                lambda i: call_line(i, "rlm_recall", query="fact"), lambda i: call_line(i, "rlm_retention_run"),
                lambda i: call_line(i, "rlm_remember", content=f"fact {i} é"),
                lambda i: call_line(i, "rlm_list_chunks"),
                lambda i: call_line(i, "rlm_search", query=""), lambda i: line("ping", i)]
            for i in range(start, start + n_calls, 20):
                client.send_raw(b"".join(kinds[j % len(kinds)](j) for j in range(i, i + 20)))
                for _ in range(20):
                    client.receive()

        def used() -> tuple[int, int]:
            folder = f"/proc/{client.process.pid}"
            rss_kb = int(re.findall(rb"(?m)^VmRSS:\s+(\d+)", rlm.read_file(folder + "/status"))[0])
            return rss_kb, len(os.listdir(folder + "/fd"))

        round_of_calls(120, 0)
        rss_kb, n_files = used()
        round_of_calls(240, 120)
        after_kb, n_files_after = used()
        self.assertLess(after_kb - rss_kb, 4_000)
        self.assertLessEqual(n_files_after, n_files + 8)
        self.assertLess(len(os.listdir(f"/proc/{client.process.pid}/task")), 40)


if __name__ == "__main__":
    unittest.main()
