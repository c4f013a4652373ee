"""Scripted models: an HTTP server on loopback that speaks as Ollama, OpenAI and Anthropic do, and plays a function."""
from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Conversation = Sequence[tuple[str, str]]  # role and text, as rlm has it


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
    message = {"type": "message", "content": [], "stop_reason": None,
               "usage": {"input_tokens": n_in - 1, "cache_read_input_tokens": 1, "output_tokens": 1}}
    n_out = {"output_tokens": tokens(text)}
    if not stream:
        blocks = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": text}]
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

            do_GET = do_POST

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *_: None  # type: ignore[method-assign] # a client that was killed sends half
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answers one request."""
        body = json.loads(handler.rfile.read(int(handler.headers.get("content-length") or 0)) or b"{}")
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self.lock:
            self.requests.append({"path": handler.path, "headers": headers, "body": body})
            step = self.next.pop(0) if self.next else None
        if callable(step):
            step(handler)
            return
        if step:
            status, headers, data = step
            self.send(handler, status, headers, data)
            return
        said = [(m["role"], m["content"]) for m in body["messages"]]
        said = [("system", body["system"]), *said] if "system" in body else said
        text, stream = self.model(said), bool(body.get("stream"))
        events = list(SHAPES[handler.path](text, tokens("".join(part for _, part in said)), stream))
        prefix = "data: " if stream and handler.path != "/api/chat" else ""
        data = "".join(f"{prefix}{json.dumps(event)}\n{prefix and chr(10)}" for event in events)
        data += "data: [DONE]\n\n" * (prefix != "" and "completions" in handler.path)
        self.send(handler, 200, {"content-type": "text/event-stream" if prefix else "application/json"}, data.encode())

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
