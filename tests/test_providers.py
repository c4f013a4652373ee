"""Providers: what goes out, what comes back, what is tried again, what is refused, and that nothing is left behind."""
from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest
from collections.abc import Callable
from typing import Any
from unittest import mock

from tests.models import Conversation, ModelServer, stand_in
from tests.support import HARD, RLM, InProcess, bytecode, rlm

KEY = "sk-test-0123456789abcdefghij"
SHAPES = {"ollama": "/api/chat", "openai": "/v1/chat/completions", "anthropic": "/v1/messages"}


def never() -> None:
    """The check of a call that nobody gives up."""


class GivenUp(Exception):
    """What a check raises."""


def after(seconds: float) -> Callable[[], None]:
    """A check that gives up after that time."""
    until = time.monotonic() + seconds

    def check() -> None:
        if time.monotonic() > until:
            raise GivenUp

    return check


def echo(said: Conversation) -> str:
    return "you said: " + said[-1][1]


class ProviderTest(InProcess):
    def setUp(self) -> None:
        super().setUp()
        for patch in (mock.patch.dict(os.environ), mock.patch.object(rlm, "FIRST_PAUSE_S", 0.05)):
            patch.start()
            self.addCleanup(patch.stop)
        os.environ.pop("http_proxy", None)

    def server(self, model: Callable[[Conversation], str] = echo) -> ModelServer:
        server = ModelServer(model)
        self.addCleanup(server.close)
        return server

    def config(self, **values: Any) -> None:
        rlm.write_config(self.places, {**rlm.read_config(self.places),
                                       **{key.replace("_url", ".url"): value for key, value in values.items()}})

    def provider(self, name: str, server: ModelServer, **more: Any) -> rlm.Provider:
        """The provider with a key, at that server."""
        os.environ.update(OPENAI_API_KEY=KEY, ANTHROPIC_API_KEY=KEY)
        self.config(**{f"{name}.url": server.url}, **more)
        return rlm.provider_for(self.places, provider=name, model="m1")

    def ask(self, provider: rlm.Provider, text: str = "hello", **options: Any) -> rlm.Reply:
        return provider.ask([("user", text)], options.get("max_tokens", 100), options.get("check", never))

    def refused(self, provider: rlm.Provider, kind: type = rlm.ProviderError, **options: Any) -> str:
        with self.assertRaises(kind) as caught:
            self.ask(provider, **options)
        self.assertIs(type(caught.exception), kind)
        if provider.name in ("openai", "anthropic"):  # the others have none
            self.assertNotIn(KEY, str(caught.exception))
        return str(caught.exception)


class HttpTest(ProviderTest):
    def test_each_shape_carries_a_conversation_whole_and_tells_tokens(self) -> None:
        said = [("system", "Be short. " + HARD), ("user", "one"), ("assistant", "1"), ("user", "two " + HARD)]
        for name, path in SHAPES.items():
            for max_tokens in (50, rlm.MAX_REPLY_TOKENS + 1):  # the longer one is streamed
                with self.subTest(name, max_tokens=max_tokens):
                    heard: list[Conversation] = []
                    server = self.server(lambda messages, heard=heard: heard.append(messages) or echo(messages))
                    reply = self.provider(name, server).ask(said, max_tokens, never)
                    self.assertEqual((reply.text, reply.stop), ("you said: two " + HARD, "end"))
                    self.assertEqual(heard, [said])
                    self.assertEqual(reply.n_in, sum(len(text) for _, text in said) // 4)
                    self.assertEqual(reply.n_out, len(reply.text) // 4)
                    request = server.requests[-1]
                    self.assertEqual(request["path"], path)
                    self.assertEqual(request["body"]["model"], "m1")
                    self.assertEqual(request["body"]["stream"], max_tokens > 50)
                    self.assertIn(max_tokens, (request["body"].get("max_tokens"),
                                               request["body"].get("options", {}).get("num_predict")))
                    sent = request["headers"]
                    key = {"openai": "authorization", "anthropic": "x-api-key"}.get(name, "")
                    self.assertEqual([n for n, value in sent.items() if KEY in value], [key] if key else [])

    def test_why_a_model_stopped_is_told(self) -> None:
        bodies = {
            "ollama": b'{"message": {"content": "x"}, "done": true, "done_reason": "length", "prompt_eval_count": 5}',
            "openai": b'{"choices": [{"message": {"content": "x"}, "finish_reason": "length"}]}',
            "anthropic": b'{"content": [{"type": "text", "text": "x"}], "stop_reason": "max_tokens", "usage": {}}'}
        for name, body in bodies.items():
            server = self.server()
            provider = self.provider(name, server)
            server.next += [(200, {}, body)]
            self.assertEqual(self.ask(provider).stop, "length", name)
        server.next += [(200, {}, body.replace(b"max_tokens", b"refusal"))]
        self.assertEqual(self.ask(provider).stop, "refused")

    def test_tokens_that_nobody_counted_are_estimated(self) -> None:
        server = self.server()
        provider = self.provider("openai", server)
        server.next += [(200, {}, b'{"choices": [{"message": {"content": "four words are here"}}]}')]
        reply = self.ask(provider, "x" * 400)
        self.assertEqual((reply.n_in, reply.n_out), (100, 5))

    def test_busy_servers_are_asked_again_after_the_pause_that_they_want(self) -> None:
        for name in SHAPES:
            with self.subTest(name):
                server = self.server()
                provider = self.provider(name, server)
                server.next += [(429, {"retry-after": "0.5"}, b'{"error": {"message": "slow down"}}')]
                began_s, checks = time.monotonic(), [0]
                self.assertEqual(self.ask(provider, check=lambda c=checks: c.append(1)).text, "you said: hello")
                self.assertGreater(time.monotonic() - began_s, 0.5)
                self.assertGreater(len(checks), 4)
                self.assertEqual(len(server.requests), 2)

    def test_a_server_that_fails_again_and_again_is_an_error_that_says_how_often(self) -> None:
        server = self.server()
        provider = self.provider("anthropic", server)
        server.next += [(529, {"retry-after": "0"}, b'{"error": {"message": "Overloaded"}}')] * 9
        said = self.refused(provider)
        self.assertEqual(len(server.requests), rlm.MAX_TRIES)
        self.assertIn("529, Overloaded; tried 5 times", said)

    def test_a_pause_beyond_all_patience_is_an_error_at_once(self) -> None:
        server = self.server()
        provider = self.provider("openai", server)
        for wanted in ("3600", "inf"):
            server.next += [(429, {"retry-after": wanted}, b"")]
            self.assertIn("wants a pause of", self.refused(provider))

    def test_what_no_later_call_can_mend_ends_at_once_and_says_what_to_do(self) -> None:
        for status, body, words in (
                (401, b'{"error": {"message": "bad key %s"}}' % KEY.encode(), "check the key"),
                (403, b'{"error": "no"}', "check the key"), (404, b'{"error": "model \'m1\' not found"}', "model 'm1'"),
                (402, b"{}", "check account"), (429, b'{"error": {"code": "insufficient_quota"}}', "check account"),
                (400, b'{"error": {"message": "Your credit balance is too low"}}', "credit balance")):
            for name in SHAPES:
                with self.subTest(name, status=status):
                    server = self.server()
                    provider = self.provider(name, server)
                    server.next += [(status, {}, body)]
                    self.assertIn(words, self.refused(provider, rlm.ProviderRefused))
                    self.assertEqual(len(server.requests), 1)

    def test_a_request_that_is_wrong_is_not_sent_again(self) -> None:
        server = self.server()
        provider = self.provider("openai", server)
        server.next += [(400, {}, b'{"error": {"message": "maximum context length is 8192 tokens"}}')]
        self.assertIn("400, maximum context length", self.refused(provider))
        self.assertEqual(len(server.requests), 1)

    def test_no_redirect_is_followed_so_neither_key_nor_text_goes_elsewhere(self) -> None:
        other = self.server()
        for status in (301, 302, 303, 307, 308):
            server = self.server()
            provider = self.provider("openai", server)
            server.next += [(status, {"location": other.url + "/v1/chat/completions"}, b"")]
            said = self.refused(provider, rlm.ProviderRefused)
            self.assertIn(f"redirects to {other.url}", said)
            self.assertIn("rlm config openai.url", said)
        self.assertEqual(other.requests, [])

    def test_bodies_that_are_no_answer_are_errors_that_show_them(self) -> None:
        whole = b'{"choices": [{"delta": {"content": "half an ans"}, "finish_reason": null}]}'
        for body, words in ((b"<html>hello</html>", "<html>"), (b"", "nothing"), (b"[1, 2]", "[1, 2]"),
                            (b'{"choices": 5}', "choices"), (b"\xff\x00{", "something else"), (b"[" * 50_000, "[[["),
                            (b'{"error": {"message": "out of memory"}}', "out of memory"), (b"data: " + whole, "broke off"),
                            (b"data: " + whole + b'\n\ndata: {"error": "worker died"}', "worker died")):
            for name in SHAPES:
                with self.subTest(name, body=body[:30]):
                    server = self.server()
                    provider = self.provider(name, server)
                    server.next += [(200, {}, body)]
                    said = self.refused(provider)
                    if name == "openai":
                        self.assertIn(words, said)

    def test_a_huge_body_is_not_read_whole(self) -> None:
        server = self.server()
        provider = self.provider("openai", server)
        server.next += [(200, {}, b"x" * 3000)]
        with mock.patch.object(rlm, "MAX_REPLY_BYTES", 2000):
            self.assertIn("over 2.0 KB", self.refused(provider))

    def test_a_connection_that_breaks_is_tried_again(self) -> None:
        server = self.server()
        provider = self.provider("ollama", server)
        server.next += [lambda handler: handler.connection.shutdown(2),
                        (200, {"content-length": "5000"}, b'{"message"')]
        self.assertEqual(self.ask(provider).text, "you said: hello")
        self.assertEqual(len(server.requests), 3)

    def test_a_silent_connection_is_given_up_after_a_time_and_not_asked_again(self) -> None:
        server = self.server()
        provider = self.provider("openai", server)
        server.next += [lambda handler: time.sleep(2)]
        with mock.patch.object(rlm, "SILENCE_S", 0.3):
            self.assertIn("timed out; check", self.refused(provider))
        self.assertEqual(len(server.requests), 1)

    def test_an_address_at_which_nobody_listens_is_told_with_what_to_do(self) -> None:
        server = ModelServer(echo)
        provider = self.provider("ollama", server)
        server.close()
        self.assertIn("ollama serve", self.refused(provider, rlm.ProviderRefused))

    def test_a_call_is_given_up_within_moments_and_its_connection_ends(self) -> None:
        gone = threading.Event()

        def silent(handler: Any) -> None:
            handler.connection.settimeout(10)
            if handler.connection.recv(1) == b"":
                gone.set()

        for name in SHAPES:
            with self.subTest(name):
                server = self.server()
                provider = self.provider(name, server)
                server.next += [silent]
                gone.clear()
                began_s = time.monotonic()
                with self.assertRaises(GivenUp):
                    self.ask(provider, check=after(0.3))
                self.assertLess(time.monotonic() - began_s, 2)
                self.assertTrue(gone.wait(5))

    def test_a_call_that_nobody_wants_sends_nothing(self) -> None:
        server = self.server()
        with self.assertRaises(GivenUp):
            self.ask(self.provider("openai", server), check=after(-1))
        self.assertEqual(server.requests, [])

    def test_many_threads_ask_one_provider(self) -> None:
        server = self.server(lambda said: time.sleep(0.1) or echo(said))
        provider, answers = self.provider("openai", server), {}
        threads = [threading.Thread(target=lambda n=n: answers.update({n: self.ask(provider, f"q{n}").text}))
                   for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(answers, {n: f"you said: q{n}" for n in range(12)})
        self.assertGreater(server.most_at_once, 4)

    def test_ollama_gets_its_window_and_a_prompt_that_was_cut_is_an_error(self) -> None:
        server = self.server()
        provider = self.provider("ollama", server, window_tokens=4000)
        self.ask(provider)
        self.assertEqual(server.last()["options"]["num_ctx"], 4000)
        self.assertIs(server.last()["truncate"], False)
        for n_read in (4000, 20):
            server.next += [(200, {}, b'{"message": {"content": "x"}, "done": true, "prompt_eval_count": %d}' % n_read)]
            said = self.refused(provider, text="word " * 2800)
            self.assertIn(f"cut to {n_read:,} tokens", said)
            self.assertIn("rlm config window_tokens", said)
        sent = len(server.requests)
        self.assertIn("window 4,000", self.refused(provider, text="word " * 4000))
        self.assertEqual(len(server.requests), sent)

    def test_lone_surrogates_and_control_characters_go_out_as_valid_text(self) -> None:
        for name in SHAPES:
            self.assertEqual(self.ask(self.provider(name, self.server()), "a\ud800b\0c").text, "you said: a?b\0c")

    def test_loopback_is_never_asked_through_a_proxy_and_other_addresses_are(self) -> None:
        server, proxy = self.server(), self.server()
        os.environ["http_proxy"] = proxy.url
        self.ask(self.provider("openai", server))
        self.assertEqual((len(server.requests), proxy.requests), (1, []))
        proxy.next += [(200, {}, b'{"choices": [{"message": {"content": "through"}}]}')]
        self.config(openai_url="http://models.invalid/v1")
        self.assertEqual(self.ask(rlm.provider_for(self.places, provider="openai", model="m1")).text, "through")
        self.assertEqual(proxy.requests[-1]["path"], "http://models.invalid/v1/chat/completions")

    def test_addresses_are_taken_as_people_write_them(self) -> None:
        whole = {
            "ollama": {"": "http://127.0.0.1:11434/api/chat", "0.0.0.0": "http://127.0.0.1:11434/api/chat",
                       ":8080": "http://127.0.0.1:8080/api/chat", "gpu.lan:7": "http://gpu.lan:7/api/chat",
                       "https://x.org/o/": "https://x.org/o/api/chat"},
            "openai": {"": "https://api.openai.com/v1/chat/completions",
                       "http://127.0.0.1:1234": "http://127.0.0.1:1234/v1/chat/completions",
                       "https://openrouter.ai/api/v1/": "https://openrouter.ai/api/v1/chat/completions"},
            "anthropic": {"": "https://api.anthropic.com/v1/messages"}}
        for name, rows in whole.items():
            for written, url in rows.items():
                self.config(**{f"{name}.url": written})
                provider = rlm.provider_for(self.places, provider=name, model="m")
                self.assertEqual(provider.address.geturl(), url)  # type: ignore[attr-defined]
        for wrong in ("ftp://x", "http://", "http://x:port", "http://[x"):
            self.config(openai_url=wrong)
            with self.assertRaisesRegex(rlm.UsageError, "openai.url"):
                rlm.provider_for(self.places, provider="openai", model="m")


class ProgramTest(ProviderTest):
    def wait_for(self, is_so: Callable[[], bool], limit_s: float = 10) -> None:
        until = time.monotonic() + limit_s
        while not is_so():
            self.assertLess(time.monotonic(), until)
            time.sleep(0.02)

    def killed(self, name: str, is_ready: Callable[[], bool]) -> None:
        """Kills a process that asked the provider, when it is so far."""
        code = f"import rlm, time; p = rlm.provider_for(rlm.Places(), provider='{name}'); " \
            "p.ask([('user', 'x')], 9, lambda: None); time.sleep(60)"
        process = subprocess.Popen([sys.executable, "-S", "-c", code], env={**os.environ, **bytecode()})
        try:
            self.wait_for(is_ready)
        finally:
            process.kill()
            process.wait()

    def assert_ended(self, mark: str) -> None:
        """The processes with the ids in the file end within moments."""
        for pid in rlm.read_file(mark).split():
            def has_ended(pid: int = int(pid)) -> bool:
                try:
                    os.kill(pid, 0)
                except ProcessLookupError:
                    return True
                return ") Z" in rlm.small_text(f"/proc/{pid}/stat")

            self.wait_for(has_ended, 3)


class CommandTest(ProgramTest):
    def command(self, *words: str) -> rlm.Provider:
        self.config(command=shlex.join(words))
        return rlm.provider_for(self.places, provider="command")

    def python(self, code: str) -> rlm.Provider:
        return self.command(sys.executable, "-S", "-c", code)

    def test_the_prompt_goes_in_and_what_is_printed_is_the_answer(self) -> None:
        provider = self.python("import os, sys; print(os.environ['RLM_CHILD'], sys.stdin.read().upper())")
        self.assertEqual(self.ask(provider, "straße 日本").text, "1 STRASSE 日本")
        said = [("system", "sys"), ("user", "one"), ("assistant", "1"), ("user", "two")]
        self.assertEqual(provider.ask(said, 9, never).text, "1 SYS\n\n[USER]\nONE\n\n[ASSISTANT]\n1\n\n[USER]\nTWO\n\n"
                                                            "[ASSISTANT]")
        self.config(command="echo a{model}b 'c d'")
        self.assertEqual(self.ask(rlm.provider_for(self.places, provider="command", model="x y")).text, "ax yb c d")

    def test_megabytes_go_both_ways_and_a_program_that_reads_nothing_still_answers(self) -> None:
        provider = self.python("import sys; text = sys.stdin.read(); sys.stderr.write(text); print(text)")
        self.assertEqual(self.ask(provider, "x" * 3_000_000).text, "x" * 3_000_000)
        self.assertEqual(self.ask(self.command("echo", "no"), "x" * 3_000_000).text, "no")

    def test_what_is_wrong_with_a_program_is_told(self) -> None:
        self.assertIn("exit code 3, oh no", self.refused(self.python("import sys; sys.stderr.write('oh no'); sys.exit(3)")))
        for words in (("/no/such/program",), ("/",)):
            self.assertIn("rlm config command", self.refused(self.command(*words), rlm.ProviderRefused))
        for line in ("", "echo 'open"):
            self.config(command=line)
            provider = rlm.provider_for(self.places, provider="command")
            self.assertIn("rlm config command", self.refused(provider, rlm.ProviderRefused))
        with mock.patch.object(rlm, "MAX_REPLY_BYTES", 2000):
            self.assertIn("over 2.0 KB", self.refused(self.command("yes")))

    def test_a_program_that_is_given_up_ends_with_what_it_started(self) -> None:
        mark = os.path.join(self.home, "pids")
        provider = self.command("sh", "-c", f"sleep 60 & echo $! $$ > '{mark}'; wait")
        began_s = time.monotonic()
        with self.assertRaises(GivenUp):
            self.ask(provider, check=after(0.5))
        self.assertLess(time.monotonic() - began_s, 2.5)
        self.assert_ended(mark)

    def test_a_program_ends_when_we_are_killed(self) -> None:
        mark = os.path.join(self.home, "pids")
        self.command("sh", "-c", f"trap '' TERM HUP INT; sleep 60 & echo $! $$ > '{mark}'; wait")
        self.killed("command", lambda: rlm.read_file(mark).endswith(b"\n"))
        self.assert_ended(mark)


class ClaudeTest(ProgramTest):
    def setUp(self) -> None:
        super().setUp()
        self.models = self.server()
        os.environ["ANTHROPIC_BASE_URL"] = self.models.url
        self.config(**{"claude.program": stand_in(self.home)})

    def claude(self) -> rlm.Provider:
        provider = rlm.provider_for(self.places, "fast", "claude")
        self.addCleanup(provider.close)
        return provider

    def pids(self) -> list[str]:
        """The worker that each request came from."""
        return [request["headers"]["x-pid"] for request in self.models.requests]

    def test_a_worker_answers_one_question_after_another_and_each_sees_only_its_own(self) -> None:
        provider = self.claude()
        for n in range(4):
            reply = self.ask(provider, f"question {n} {HARD}")
            self.assertEqual(reply.text, f"you said: question {n} {HARD}")
            self.assertGreater(reply.n_in, 3)
            self.assertEqual([m["content"] for m in self.models.last()["messages"]], [f"question {n} {HARD}"])
        self.assertEqual(len(set(self.pids())), 1)

    def test_a_worker_has_no_tools_no_settings_a_bounded_answer_and_an_empty_folder(self) -> None:
        self.claude().ask([("system", "Be short."), ("user", "x")], 77, never)
        request = self.models.requests[-1]
        words = " ".join(rlm.json.loads(request["headers"]["x-words"]))
        for option in ("--tools  ", "--safe-mode", "--strict-mcp-config", "--no-session-persistence", "--model haiku",
                       "--system-prompt Be short."):
            self.assertIn(option, words)
        self.assertEqual((request["body"]["max_tokens"], request["headers"]["x-child"]), (77, "1"))
        self.assertEqual(os.listdir(request["headers"]["x-folder"]), [])

    def test_a_conversation_goes_on_in_its_worker_with_the_new_message_only(self) -> None:
        self.models.model = lambda said: echo(said) + "\n"
        provider = self.claude()
        said = [("system", "s"), ("user", "one")]
        for text in ("two", "three"):
            said += [("assistant", provider.ask(said, 9, never).text.rstrip()), ("user", text)]
        self.assertEqual(provider.ask(said, 9, never).text, "you said: three\n")
        self.assertEqual([m["content"].strip() for m in self.models.last()["messages"]], [text for _, text in said[1:]])
        self.assertEqual(len(set(self.pids())), 1)
        changed = [*said[:2], ("assistant", "what nobody said"), ("user", "four")]
        provider.ask(changed, 9, never)  # what was dropped from it must be gone
        self.assertEqual([m["content"] for m in self.models.last()["messages"]],
                         ["[user]\none\n\n[assistant]\nwhat nobody said\n\n[user]\nfour\n\n[assistant]\n"])

    def test_many_threads_have_a_worker_each(self) -> None:
        provider, answers = self.claude(), {}
        threads = [threading.Thread(target=lambda n=n: answers.update({n: self.ask(provider, f"q{n}").text}))
                   for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(answers, {n: f"you said: q{n}" for n in range(3)})

    def test_of_idle_workers_those_used_last_are_kept(self) -> None:
        provider = self.claude()
        provider.n_parallel = 2
        for system in "abcbc":
            provider.ask([("system", system), ("user", "x")], 9, never)
        pids = self.pids()
        self.assertEqual((len(set(pids)), pids[1:3]), (3, pids[3:]))
        self.assertEqual(len(provider.free), 2)  # type: ignore[attr-defined]

    def test_nothing_in_a_text_is_a_command_or_a_mention_of_the_client(self) -> None:
        provider = self.claude()
        for text in ("/clear", "/compact all", "/etc/hosts", "see @/etc/passwd and @/etc/hosts"):
            self.assertEqual(self.ask(provider, text).text.replace("\n", ""), "you said: " + text)

    def test_where_clearing_is_not_proven_or_workers_are_off_each_question_has_a_process(self) -> None:
        for case in ("another event", "off"):
            provider = self.claude()
            os.environ["STAND_IN_CLEARED"] = "something" if case == "another event" else "conversation_reset"
            self.config(**{"claude.workers": case != "off"})
            self.models.requests.clear()
            for n in range(2):
                self.assertEqual(self.ask(provider, f"q{n}").text, f"you said: q{n}")
            self.assertEqual(len(set(self.pids())), 2, case)

    def test_a_worker_that_died_while_nobody_asked_is_replaced(self) -> None:
        provider = self.claude()
        self.ask(provider)
        os.kill(int(self.pids()[0]), signal.SIGKILL)
        self.wait_for(lambda: provider.free[0].process.poll() is not None)  # type: ignore[attr-defined]
        self.assertEqual(self.ask(provider, "again").text, "you said: again")

    def test_errors_of_the_client_are_told_and_a_missing_login_ends_at_once(self) -> None:
        provider = self.claude()
        for status, kind, words in ((500, rlm.ProviderError, "API Error: oh"), (401, rlm.ProviderRefused, "log in"),
                                    (404, rlm.ProviderRefused, "API Error")):
            self.models.next += [(status, {}, b"oh")]
            self.assertIn(words, self.refused(provider, kind))
        self.assertEqual(self.ask(provider, "after").text, "you said: after")
        self.config(**{"claude.program": "/no/such"})
        with self.assertRaisesRegex(rlm.ProviderRefused, "claude.program"):
            self.claude()
        self.config(**{"claude.program": "/bin/echo"})
        self.assertIn("claude ended: exit code 0", self.refused(self.claude()))

    def test_doctor_proves_that_a_question_sees_nothing_of_another_and_asks_only_when_told(self) -> None:
        code, said = self.main("doctor", "--provider", "claude")
        self.assertEqual((code, self.models.requests), (0, []))
        self.assertIn("with --spend: 2 calls to claude/haiku", said)
        code, said = self.main("doctor", "--provider", "claude", "--spend")
        self.assertEqual((code, len(self.models.requests)), (0, 2), said)
        self.assertIn("nothing of the first question was in the second", said)
        for fault in ("STAND_IN_REMEMBERS", "STAND_IN_READS"):
            with mock.patch.dict(os.environ, {fault: "1"}):
                code, said = self.main("doctor", "--provider", "claude", "--spend")
            self.assertEqual(code, 1, said)
            self.assertIn("saw more than itself", said)
            self.assertIn("rlm config claude.workers off", said)
        self.config(**{"claude.workers": False})
        self.assertEqual(self.main("doctor", "--provider", "claude", "--spend")[0], 0)
        self.models.model = lambda said: ""
        self.assertIn("an answer is empty", self.main("doctor", "--provider", "claude", "--spend")[1])

    def test_idle_workers_end(self) -> None:
        with mock.patch.object(rlm, "IDLE_S", 0.1):
            self.ask(self.claude())
        mark = os.path.join(self.home, "pids")
        rlm.replace_file(mark, self.pids()[0].encode())
        self.assert_ended(mark)

    def test_workers_idle_and_at_work_end_when_we_are_killed_or_give_up(self) -> None:
        mark = os.path.join(self.home, "pids")
        slow = lambda handler: time.sleep(20)  # noqa: E731
        for at_work in (False, True):
            self.models.requests.clear()
            self.models.next += [slow] * at_work
            self.killed("claude", lambda: bool(self.models.requests))
            rlm.replace_file(mark, self.pids()[0].encode())
            self.assert_ended(mark)
        self.models.requests.clear()
        self.models.next += [slow]
        with self.assertRaises(GivenUp):
            self.ask(self.claude(), check=after(1))
        rlm.replace_file(mark, self.pids()[0].encode())
        self.assert_ended(mark)


class ChoiceTest(ProviderTest):
    def choice(self, *arguments: str, **named: str) -> str:
        provider = rlm.provider_for(self.places, *arguments, **named)
        return f"{provider.name}/{provider.model}"

    def test_without_a_choice_the_way_to_choose_and_the_way_without_one_are_told(self) -> None:
        os.environ.update(OPENAI_API_KEY=KEY, ANTHROPIC_API_KEY=KEY, OLLAMA_HOST="127.0.0.1")  # found is not chosen
        with mock.patch.object(socket, "socket", side_effect=AssertionError), self.assertRaises(rlm.NotFound) as caught:
            rlm.provider_for(self.places, "fast")
        for word in ("rlm config provider claude", "ollama", "rlm-leaf"):
            self.assertIn(word, str(caught.exception))

    def test_the_nearest_choice_counts_call_environment_tier_settings(self) -> None:
        os.environ["ANTHROPIC_API_KEY"] = KEY
        self.config(provider="anthropic")
        self.assertEqual(self.choice("fast"), "anthropic/claude-haiku-5-5")
        self.assertEqual(self.choice("powerful"), "anthropic/claude-opus-5-5")
        self.assertEqual(self.choice(model="powerful"), "anthropic/claude-opus-5-5")
        self.config(model="own")
        self.assertEqual(self.choice("fast"), "anthropic/own")
        self.config(**{"tier.fast": "openai/meta/llama-3", "tier.powerful": "big"})
        self.assertEqual(self.choice("fast"), "openai/meta/llama-3")
        self.assertEqual(self.choice("powerful"), "anthropic/big")
        self.assertEqual(self.choice("balanced"), "anthropic/own")
        self.assertEqual(self.choice("fast", provider="anthropic"), "anthropic/own")
        os.environ["RLM_MODEL"] = "ollama/qwen3:8b"
        self.assertEqual(self.choice("fast"), "ollama/qwen3:8b")
        os.environ.update(RLM_PROVIDER="ollama", RLM_MODEL="qwen3:8b")
        self.assertEqual(self.choice("fast"), "ollama/qwen3:8b")
        self.assertEqual(self.choice("fast", provider="anthropic"), "anthropic/own")
        self.assertEqual(self.choice("fast", model="other"), "ollama/other")
        self.assertEqual(self.choice(model="anthropic/x"), "anthropic/x")

    def test_what_is_unknown_or_missing_is_told_with_what_there_is(self) -> None:
        for named, words in (({"provider": "gemini"}, "anthropic, openai"), ({"tier": "huge"}, "fast, balanced")):
            with self.assertRaisesRegex(rlm.UsageError, words):
                self.choice(**named)
        with self.assertRaisesRegex(rlm.NotFound, "rlm config model"):
            self.choice(provider="ollama")
        os.environ["OPENAI_API_KEY"] = "sk-\nx"
        with self.assertRaisesRegex(rlm.ProviderRefused, "OPENAI_API_KEY"):
            self.choice(provider="openai", model="m")

    def test_a_program_that_answers_as_a_model_cannot_ask_models_through_us(self) -> None:
        words = [sys.executable, "-S", RLM, "doctor", "--provider", "command", "--spend"]
        self.config(provider="command", command=shlex.join(words))
        code, said = self.main("doctor", "--spend")
        self.assertEqual(code, 1)
        self.assertIn("exit code 1", said)
        with mock.patch.dict(os.environ, RLM_CHILD="1"), self.assertRaisesRegex(rlm.ProviderRefused, "as a model"):
            self.choice(provider="ollama", model="m")

    def test_a_model_without_a_price_has_none_and_one_with_a_price_costs(self) -> None:
        provider = rlm.provider_for(self.places, provider="ollama", model="m=1:8b")
        self.assertIsNone(rlm.price_of(self.places, provider, 1, 1))
        self.assertEqual(self.main("config", "prices", "other=9/9, ollama/m=1:8b=1/5")[0], 0)
        self.assertEqual(rlm.price_of(self.places, provider, 1_000_000, 200_000), 2.0)
        self.config(prices=["m=1:8b=cheap"])
        with self.assertRaisesRegex(rlm.UsageError, "MODEL=IN/OUT"):
            rlm.price_of(self.places, provider, 1, 1)

    def test_doctor_makes_one_small_call_and_tells_what_is_wrong(self) -> None:
        server = self.server(lambda said: "yes")
        self.provider("openai", server, model="m1")
        code, said = self.main("doctor", "--provider", "openai", "--spend")
        self.assertEqual((code, len(server.requests)), (0, 1))
        self.assertRegex(said, r"ok +provider: 1 call to openai/m1 in .* tokens read, 1 written")
        server.next += [(401, {}, b"")]
        self.assertEqual(self.main("doctor", "--provider", "openai", "--spend")[0], 1)
        self.assertIn("no provider is chosen", self.main("doctor", "--spend")[1])
        self.assertIn("anthropic, openai", self.main("doctor", "--provider", "gemini")[1])

    def test_settings_of_text_are_kept_as_written(self) -> None:
        self.assertEqual(self.main("config", "command", " llm -m '{model}' ")[0], 0)
        self.assertEqual(rlm.setting(self.places, "command"), "llm -m '{model}'")
        self.assertEqual(self.main("config", "provider", "two\nlines")[0], 2)
        self.assertEqual(self.main("config", "openai.key", "GROQ_API_KEY")[0], 0)
        for wrong in (KEY, "a b"):
            code, said = self.main("config", "openai.key", wrong)
            self.assertEqual(code, 2)
            self.assertIn("name of an environment variable", said)
        self.assertNotIn(KEY, rlm.read_file(self.places.config()).decode())


if __name__ == "__main__":
    unittest.main()
