"""The loopback provider's HTTP: reading requests, sending answers, streams and trouble."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from ai_ledger.testing import answers, anthropic, chat, responses
from ai_ledger.testing.answers import Body, Event
from ai_ledger.testing.behaviour import Behaviour

if TYPE_CHECKING:
    from ai_ledger.testing.provider import Provider, Server

_Whole = Callable[[Body, Behaviour], Body]
_Events = Callable[[Body, Behaviour], Iterator[Event]]

ENDPOINTS: Final[dict[str, tuple[_Whole, _Events | None]]] = {
    "/chat/completions": (chat.chat_completion, chat.chat_events),
    "/completions": (answers.text_completion, answers.text_completion_events),
    "/embeddings": (answers.embeddings, None),
    "/responses": (responses.response, responses.response_events),
    "/images/generations": (answers.image, answers.image_events),
    "/images/edits": (answers.image, answers.image_events),
    "/images/variations": (answers.image, None),
    "/audio/transcriptions": (answers.transcription, answers.transcription_events),
    "/audio/translations": (answers.transcription, None),
    "/moderations": (answers.moderation, None),
    "/messages": (anthropic.message, anthropic.message_events),
}
SPEECH: Final = "/audio/speech"
MODELS: Final = ("gpt-4o", "gpt-4o-mini", "qwen-plus", "qwen-max", "deepseek-chat")

_ERROR_TYPES: Final = {
    400: ("invalid_request_error", None, "Bad request."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", "forbidden", "You may not do this."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist."),
    409: ("conflict", "conflict", "The resource was changed meanwhile."),
    422: ("invalid_request_error", None, "Unprocessable."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached."),
    500: ("server_error", None, "The server had an error."),
    503: ("server_error", "overloaded", "The engine is overloaded."),
}


class Handler(BaseHTTPRequestHandler):
    """One connection: requests one after another until either side hangs up."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024  # head and body leave in one packet; streams flush each chunk

    def do_GET(self) -> None:
        """Models; nothing else is read with GET."""
        self._answer()

    def do_POST(self) -> None:
        """Everything else."""
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: tests read `Provider.requests`."""

    @property
    def _provider(self) -> Provider:
        return cast("Server", self.server).provider

    def _answer(self) -> None:
        from ai_ledger.testing.provider import Request

        parts = urlsplit(self.path)
        path = unquote(parts.path).rstrip("/")
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        body = _body_of(raw, self.headers.get("content-type") or "")
        if body is None:
            self._send_error(Behaviour(status=400, message="The body is not JSON."), path)
            return
        if "model" not in body and "/deployments/" in path:
            body["model"] = path.partition("/deployments/")[2].partition("/")[0]
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, path, dict(parse_qsl(parts.query)), headers, body, raw)
        behaviour = self._provider.received(request)
        if behaviour.delay and self._provider.closing.wait(behaviour.delay):
            self.close_connection = True
            return
        if behaviour.hang_up:
            self._cut()
        elif behaviour.status >= 400:
            self._send_error(behaviour, path)
        elif behaviour.refuses_stream_options and "stream_options" in body:
            message = "Unrecognized request argument supplied: stream_options"
            self._send_error(Behaviour(status=400, message=message), path, "stream_options")
        else:
            self._succeed(path, body, behaviour)

    def _succeed(self, path: str, body: Body, behaviour: Behaviour) -> None:
        if path.endswith("/models") and self.command == "GET":
            self._send_json(answers.models(MODELS), behaviour)
            return
        if path.endswith(SPEECH):
            self._send_stream(_speech(behaviour), behaviour, "audio/mpeg")
            return
        # The longest one first: /chat/completions ends with /completions as well.
        name = next((end for end in sorted(ENDPOINTS, key=len)[::-1] if path.endswith(end)), None)
        if name is None or self.command != "POST":
            message = f"Invalid URL ({self.command} {path})"
            self._send_error(Behaviour(status=404, message=message), path)
            return
        whole, events = ENDPOINTS[name]
        if events is not None and body.get("stream") in (True, "true"):
            done = name.endswith("/completions") and not behaviour.no_done
            stream = _troubled(_encoded(events(body, behaviour), done), behaviour, name)
            self._send_stream(stream, behaviour, "text/event-stream; charset=utf-8")
        elif name.startswith("/audio/") and body.get("response_format") in ("text", "srt", "vtt"):
            self._send(200, behaviour.text.encode() + b"\n", "text/plain; charset=utf-8", behaviour)
        else:
            self._send_json(whole(body, behaviour), behaviour)

    def _send_error(self, behaviour: Behaviour, path: str, param: str | None = None) -> None:
        self._send_json(
            error_body(behaviour, path, param),
            behaviour,
            status=behaviour.status,
            headers={"retry-after-ms": "1"},
        )

    def _send_json(
        self,
        body: Body,
        behaviour: Behaviour,
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> None:
        data = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
        self._send(status, data, "application/json", behaviour, headers)

    def _send(
        self,
        status: int,
        data: bytes,
        kind: str,
        behaviour: Behaviour,
        headers: dict[str, str] | None = None,
    ) -> None:
        data = data if behaviour.body is None else behaviour.body
        extra = dict(headers or {})
        if behaviour.gzip:
            import gzip

            data = gzip.compress(data)
            extra["content-encoding"] = "gzip"
        self._head(
            status, {"content-type": kind, "content-length": str(len(data))}, behaviour, extra
        )
        half = len(data) // 2
        if behaviour.drop_after is not None:
            self.wfile.write(data[:half])
            self._cut()
            return
        if behaviour.stall_after is not None:
            self.wfile.write(data[:half])
            self._stall(behaviour)
            data = data[half:]
        self.wfile.write(data)
        self.wfile.flush()

    def _send_stream(self, stream: Iterator[bytes], behaviour: Behaviour, kind: str) -> None:
        if behaviour.body is not None:
            stream = iter([behaviour.body])
        self._head(200, {"content-type": kind, "transfer-encoding": "chunked"}, behaviour)
        self.wfile.flush()
        for number, data in enumerate(stream):
            if number == behaviour.drop_after:
                self._cut()
                return
            if number == behaviour.stall_after:
                self._stall(behaviour)
            if number and behaviour.pace:
                self._provider.closing.wait(behaviour.pace)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _head(
        self,
        status: int,
        usual: dict[str, str],
        behaviour: Behaviour,
        extra: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        wanted = {"x-request-id": answers.new_response_id("req_"), **usual, **(extra or {})}
        wanted |= {name.lower(): value for name, value in behaviour.headers.items()}
        for name, value in wanted.items():
            self.send_header(name, value)
        self.end_headers()

    def _stall(self, behaviour: Behaviour) -> None:
        self.wfile.flush()
        self._provider.closing.wait(behaviour.stall)

    def _cut(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def error_body(behaviour: Behaviour, path: str, param: str | None = None) -> Body:
    """The error that *behaviour* means, in the shape of the API that *path* belongs to."""
    kind, code, message = _ERROR_TYPES.get(behaviour.status, ("server_error", None, "An error."))
    message = behaviour.message or message
    if path.endswith("/messages"):
        return {"type": "error", "error": {"type": kind, "message": message}}
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _encoded(events: Iterator[Event], done: bool) -> Iterator[bytes]:
    for name, data in events:
        head = f"event: {name}\n" if name else ""
        text = f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n"
        yield text.encode("utf-8", "surrogatepass")
    if done:
        yield b"data: [DONE]\n\n"


def _troubled(stream: Iterator[bytes], behaviour: Behaviour, name: str) -> Iterator[bytes]:
    for number, data in enumerate(stream):
        if number == behaviour.garbage_after:
            yield b'data: {"id": "chatcmpl-\n\n'
        if number == behaviour.error_after:
            failed = Behaviour(status=500, message=behaviour.message)
            error = json.dumps(_event_error(failed, name))
            yield (
                f"data: {error}\n\n"
                if "completions" in name
                else f"event: error\ndata: {error}\n\n"
            ).encode()
            return
        yield data


def _event_error(behaviour: Behaviour, name: str) -> Body:
    body = error_body(behaviour, name)
    if name != "/responses":
        return body
    inner = body["error"]
    return {
        "type": "error",
        "code": inner["type"],
        "message": inner["message"],
        "param": None,
        "sequence_number": 0,
    }


def _speech(behaviour: Behaviour) -> Iterator[bytes]:
    for _ in range(behaviour.chunks or 4):
        yield b"\xff\xfb\x90\x00" + bytes(124)


def _body_of(raw: bytes, kind: str) -> Body | None:
    if kind.startswith("multipart/"):
        return _form_of(raw, kind)
    try:
        body: Any = json.loads(raw) if raw else {}
    except ValueError:
        return None
    return body if isinstance(body, dict) else None  # pyright: ignore[reportUnknownVariableType]


def _form_of(raw: bytes, kind: str) -> Body:
    from email.parser import BytesParser

    message = BytesParser().parsebytes(b"content-type: " + kind.encode() + b"\r\n\r\n" + raw)
    fields: Body = {}
    for part in message.walk():
        name = part.get_param("name", header="content-disposition")
        if isinstance(name, str):
            content: Any = part.get_payload(decode=True)
            fields[name] = part.get_filename() or content.decode("utf-8", "replace")
    return fields
