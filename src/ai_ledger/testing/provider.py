"""A provider on loopback: OpenAI-compatible over real HTTP, with trouble on request."""

from __future__ import annotations

import socket
import threading
from collections import deque
from dataclasses import dataclass
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import Any, Self

from ai_ledger.testing.answers import Body
from ai_ledger.testing.behaviour import Behaviour


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    method: str
    path: str
    """Without the query."""
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    body: Body
    """The JSON object, or the fields of a form with file names in place of files."""
    raw: bytes


@dataclass(frozen=True)
class _Rule:
    model: str | None
    path: str | None
    behaviour: Behaviour

    def fits(self, path: str, model: object) -> bool:
        return (self.model is None or self.model == model) and (
            self.path is None or path.endswith(self.path)
        )


class Provider:
    """
    An HTTP server for tests, on a free port of 127.0.0.1, with threads of its own.

    It answers ``/chat/completions``, ``/completions``, ``/embeddings``,
    ``/responses``, ``/images/…``, ``/audio/…``, ``/moderations``, ``/models``,
    the same below Azure's ``/openai/deployments/{name}``, and Anthropic's
    ``/messages``, streamed where the real ones can be::

        with Provider() as provider:
            client = OpenAI(base_url=provider.base_url, api_key="sk-test")
            provider.next(status=429, times=2)     # the SDK tries again
            provider.on(model="slow", delay=5.0)
            client.chat.completions.create(model="gpt-4o", messages=[...])
            assert len(provider.requests) == 3

    Token counts follow `tokens_of`: one for every four characters begun.

    Args:
        **behaviour: The fields of `Behaviour` for all requests without another rule.
    """

    def __init__(self, **behaviour: Any) -> None:
        self.default = self._made_with = Behaviour(**behaviour)
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._once: deque[_Rule] = deque()
        self._rules: list[_Rule] = []
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self.closing = threading.Event()
        """Set when the provider stops; ends every delay and stall at once."""

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``: what Azure's client takes as ``azure_endpoint``."""
        if self._server is None:
            raise RuntimeError("the provider is not running: use it in a with block")
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def base_url(self) -> str:
        """``http://127.0.0.1:PORT/v1``."""
        return f"{self.url}/v1"

    @property
    def requests(self) -> list[Request]:
        """What has arrived so far, oldest first; attempts of the SDK count one by one."""
        with self._lock:
            return list(self._requests)

    def next(
        self,
        *,
        times: int = 1,
        for_model: str | None = None,
        path: str | None = None,
        **fields: Any,
    ) -> None:
        """
        Answer the next request that fits in this way, once.

        Repeated calls queue up; what does not fit is left for later requests.

        Args:
            times: For this many requests.
            for_model: Only requests for this model.
            path: Only requests whose path ends so.
            **fields: Those of `Behaviour`.
        """
        rule = _Rule(for_model, path, Behaviour(**fields))
        with self._lock:
            self._once.extend([rule] * times)

    def on(self, model: str | None = None, *, path: str | None = None, **fields: Any) -> None:
        """
        Answer every request for *model*, or whose path ends with *path*, in this way.

        The newest rule that fits counts; `next` goes before it.

        Args:
            model: The model asked for.
            path: The end of the path.
            **fields: Those of `Behaviour`. ``model`` (the one that answers)
                is written ``served_model`` here.
        """
        if "served_model" in fields:
            fields["model"] = fields.pop("served_model")
        with self._lock:
            self._rules.append(_Rule(model, path, Behaviour(**fields)))

    def reset(self) -> None:
        """Forget all rules and requests; behave again as it was made to."""
        with self._lock:
            self.default = self._made_with
            self._once.clear()
            self._rules.clear()
            self._requests.clear()

    def received(self, request: Request) -> Behaviour:
        """Note *request* and say how to answer it. For the server's threads."""
        model = request.body.get("model")
        with self._lock:
            self._requests.append(request)
            for rule in self._once:
                if rule.fits(request.path, model):
                    self._once.remove(rule)
                    return rule.behaviour
            for rule in reversed(self._rules):
                if rule.fits(request.path, model):
                    return rule.behaviour
        return self.default

    def start(self) -> Self:
        """Begin to listen. ``with Provider() as provider`` does it too."""
        self.closing.clear()
        self._server = Server(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="loopback-provider", daemon=True
        )
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop listening and cut every connection. Harmless when repeated."""
        server, thread = self._server, self._thread
        if server is None or thread is None:
            return
        self.closing.set()
        server.shutdown()
        server.cut_connections()
        server.server_close()
        thread.join()
        self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Server(ThreadingMixIn, TCPServer):
    """The socket and the threads of a `Provider`."""

    # Not http.server.HTTPServer: it asks the name service for its own name, which
    # takes seconds on machines without one.
    allow_reuse_address = True
    request_queue_size = 128
    daemon_threads = True

    def __init__(self, provider: Provider) -> None:
        from ai_ledger.testing.http import Handler

        self.provider = provider
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def cut_connections(self) -> None:
        """Wake every thread that waits for its client's next request."""
        with self._open_lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the client was faster

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up in the middle of everything here: that is what tests are for."""
        import sys

        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)
