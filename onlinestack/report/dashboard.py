"""The page of a run while it goes on: served to this machine only, read-only, in a thread."""

from __future__ import annotations

import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from onlinestack.report.history import ReportError
from onlinestack.report.page import page, update
from onlinestack.report.recorder import Recorder

__all__ = ["Dashboard"]

HOST = "127.0.0.1"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, recorder: Recorder) -> None:
        self.recorder = recorder
        self.making = threading.Lock()
        self.made = (-1, b"")
        super().__init__((HOST, port), _Handler)

    def news(self) -> tuple[int, bytes]:
        """Return the newest content and its number, made once for all who ask."""
        with self.making:
            number = self.recorder.news
            if number != self.made[0]:
                history = self.recorder.history()
                content = {} if history is None else update(history)
                self.made = number, json.dumps(content).encode()
            return self.made


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with the page, or with what is new in it."""
        if not self._ours():
            self.send_error(HTTPStatus.FORBIDDEN)
        elif self.path == "/":
            self._send("text/html; charset=utf-8", page(None, live=True).encode())
        elif self.path == "/news.json":
            number, content = self.server.news()
            tag = f'"{number}"'
            if self.headers.get("If-None-Match") == tag:
                self.send_response(HTTPStatus.NOT_MODIFIED)
                self.send_header("ETag", tag)
                self.end_headers()
            else:
                self._send("application/json", content, tag)
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _ours(self) -> bool:
        """Tell whether the page was asked for by its own address, not by another site's name."""
        name = (self.headers.get("Host") or "").rpartition(":")[0]
        return name in (HOST, "localhost")

    def _send(self, kind: str, content: bytes, tag: str | None = None) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if tag is not None:
            self.send_header("ETag", tag)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: standard error is the run's."""


class Dashboard:
    """Serves the page of a run on 127.0.0.1 for as long as a block lasts.

    Parameters
    ----------
    recorder
        Keeps the history of the run.
    port
        Where; 0 for any that is free.

    Attributes
    ----------
    address
        Of the page.

    Raises
    ------
    ReportError
        Where the port is taken, or may not be used.

    Examples
    --------
    >>> from onlinestack.terminal import QuietReport
    >>> with Dashboard(Recorder(QuietReport()), 0) as dashboard:
    ...     print(dashboard.address.rpartition(":")[0])
    http://127.0.0.1
    """

    def __init__(self, recorder: Recorder, port: int) -> None:
        try:
            self._server = _Server(port, recorder)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ReportError(
                f"the dashboard can not use port {port} ({reason.lower()}): give another with "
                "--port, or 0 for any free one"
            ) from None
        self.address = f"http://{HOST}:{self._server.server_address[1]}/"

    def __enter__(self) -> Dashboard:
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="dashboard", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
