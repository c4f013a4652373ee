"""Scripted models: an HTTP server on loopback that speaks as Ollama, OpenAI and Anthropic do, and plays a function."""
from __future__ import annotations

import json
import os
import re
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Conversation = Sequence[tuple[str, str]]  # role and text, as rlm has it


def text_of(content: Any) -> str:
    """The text of a message, which Claude Code sends in blocks."""
    return content if isinstance(content, str) else "\n".join(b["text"] for b in content if "text" in b)


def tokens(text: str) -> int:
    """What these models take a text's length for."""
    return max(1, len(text) // 4)


def ollama(text: str, n_in: int, stream: bool) -> Iterator[dict[str, Any]]:
    """The objects of an answer as Ollama gives it."""
    if stream:
        for part in (text[:5], text[5:]):
            yield {"message": {"role": "assistant", "content": part}, "done": False}
    yield {"message": {"role": "assistant", "content": "" if stream else text}, "done": True, "done_reason": "stop",
           "prompt_eval_count": n_in, "eval_count": tokens(text)}


def openai(text: str, n_in: int, stream: bool) -> Iterator[dict[str, Any]]:
    """The objects of an answer as OpenAI gives it."""
    usage = {"prompt_tokens": n_in, "completion_tokens": tokens(text)}
    if not stream:
        yield {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage}
        return
    for part in (text[:5], text[5:]):
        yield {"choices": [{"delta": {"content": part}, "finish_reason": None}], "usage": None}
    yield {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": None}
    yield {"choices": [], "usage": usage}


def anthropic(text: str, n_in: int, stream: bool) -> Iterator[dict[str, Any]]:
    """The objects of an answer as Anthropic gives it."""
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
               "usage": {"input_tokens": n_in - 1, "cache_read_input_tokens": 1, "output_tokens": 1}}
    n_out = {"output_tokens": tokens(text)}
    if not stream:
        blocks = [{"type": "thinking", "thinking": "hm", "signature": ""}, {"type": "text", "text": text}]
        yield {**message, "content": blocks, "stop_reason": "end_turn", "usage": {**message["usage"], **n_out}}
        return
    yield {"type": "message_start", "message": message}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    for part in (text[:5], text[5:]):
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": part}}
    yield {"type": "ping"}
    yield {"type": "content_block_stop", "index": 0}
    yield {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": n_out}
    yield {"type": "message_stop"}


SHAPES = {"/api/chat": ollama, "/v1/chat/completions": openai, "/v1/messages": anthropic}


class ModelServer:
    """A server whose answers a function gives: conversation -> text. Close it when done.

    What it is told to do next (`server.next`) comes before that: a (status, headers, body), or a function that gets
    the request's handler.
    """

    def __init__(self, model: Callable[[Conversation], str]) -> None:
        self.model = model
        self.requests: list[dict[str, Any]] = []  # path, headers (lower case), body
        self.next: list[Any] = []
        self.n_now = self.most_at_once = 0
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                with server.lock:
                    server.n_now += 1
                    server.most_at_once = max(server.most_at_once, server.n_now)
                try:
                    server.answer(self)
                finally:
                    with server.lock:
                        server.n_now -= 1

            do_GET = do_HEAD = do_POST

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *_: None  # type: ignore[method-assign] # a client that was killed sends half
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answers one request."""
        path = handler.path.partition("?")[0]
        body = json.loads(handler.rfile.read(int(handler.headers.get("content-length") or 0)) or b"{}")
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self.lock:
            self.requests.append({"path": path, "headers": headers, "body": body})
            step = self.next.pop(0) if self.next else None
        if not (body or step):  # given up before it was sent
            return
        if path not in SHAPES and not step:
            self.send(handler, 404, {}, b"{}")
            return
        if callable(step):
            step(handler)
            return
        if step:
            status, headers, data = step
            self.send(handler, status, headers, data)
            return
        said = [(m["role"], text_of(m["content"])) for m in body["messages"]]
        said = [("system", text_of(body["system"])), *said] if "system" in body else said
        text, stream = self.model(said), bool(body.get("stream"))
        events = list(SHAPES[path](text, tokens("".join(part for _, part in said)), stream))
        is_sse = stream and path != "/api/chat"
        form = "{1}\n" if not is_sse else "event: {0}\ndata: {1}\n\n" if "messages" in path else "data: {1}\n\n"
        data = "".join(form.format(event.get("type"), json.dumps(event)) for event in events)
        data += "data: [DONE]\n\n" * (is_sse and "completions" in path)
        self.send(handler, 200, {"content-type": "text/event-stream" if is_sse else "application/json"}, data.encode())

    @staticmethod
    def send(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], data: bytes) -> None:
        """Sends a response; whoever asked may have gone."""
        try:
            handler.send_response(status)
            for name, value in {"content-length": str(len(data)), **headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(data)
        except OSError:
            pass

    def last(self) -> dict[str, Any]:
        """The last request's body."""
        return dict(self.requests[-1]["body"])

    def close(self) -> None:
        """Ends the server."""
        self.http.shutdown()
        self.http.server_close()


def stand_in(folder: str) -> str:
    """Makes a program that speaks as Claude Code does and asks the model at ANTHROPIC_BASE_URL; its path."""
    path = os.path.join(folder, "stand in claude")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\nexec "{sys.executable}" -S "{os.path.abspath(__file__)}" "$@"\n')
    os.chmod(path, 0o700)
    return path


def speak_as_claude(words: Sequence[str]) -> None:
    """What that program does: lines of JSON in and out, a conversation that /clear ends, mentions that read files."""
    options = dict(zip(words, words[1:]))

    def tell(**event: Any) -> None:
        print(json.dumps(event), flush=True)

    said: list[dict[str, str]] = []
    for line in sys.stdin:
        text = text_of(json.loads(line)["message"]["content"])
        tell(type="system", subtype="init", pid=os.getpid())
        if text == "/clear":
            said = said if os.environ.get("STAND_IN_REMEMBERS") else []
            tell(type=os.environ.get("STAND_IN_CLEARED", "conversation_reset"))
            tell(type="result", subtype="success", is_error=False, result="", usage={"input_tokens": 0})
            continue
        if text.startswith("/"):
            tell(type="result", subtype="success", is_error=False, result="a command", usage={})
            continue
        if os.environ.get("STAND_IN_READS") or not os.environ.get("CLAUDE_CODE_DISABLE_FILE_MENTIONS"):
            for path in filter(os.path.isfile, re.findall(r"(?:^|\s)@(.+)$", text)):
                with open(path, encoding="utf-8") as file:
                    text += file.read()
        said.append({"role": "user", "content": text})
        body = {"model": options["--model"], "messages": said, "system": options["--system-prompt"],
                "max_tokens": int(os.environ["CLAUDE_CODE_MAX_OUTPUT_TOKENS"])}
        request = urllib.request.Request(os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages", json.dumps(body).encode(),
                                         {"x-words": json.dumps(words), "x-child": os.environ.get("RLM_CHILD", ""),
                                          "x-pid": str(os.getpid()), "x-folder": os.getcwd()})
        try:
            with urllib.request.urlopen(request) as response:
                message = json.load(response)
        except urllib.error.HTTPError as error:
            tell(type="system", subtype="api_retry", error_status=error.code)
            tell(type="result", subtype="success", is_error=True, api_error_status=error.code,
                 result="API Error: " + error.read().decode(), usage={})
            continue
        answer = text_of(message["content"])
        said.append({"role": "assistant", "content": answer})
        tell(type="assistant", message={"model": "m", "content": message["content"]})
        tell(type="result", subtype="success", is_error=False, result=answer, usage=message["usage"],
             stop_reason=message["stop_reason"])


if __name__ == "__main__":
    speak_as_claude(sys.argv[1:])
