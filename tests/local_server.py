"""A server of the tests' own in a thread, whatever it answers."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class LocalServer(ThreadingHTTPServer):
    """Serves while its `with` lasts: closed without an end of its loop it would ask a closed socket for ever."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, handler: Any) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.root = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: Any) -> None:
        """A client that went away is no news."""


class QuietHandler(BaseHTTPRequestHandler):
    # else the body of each answer waits 40 ms for the head to be acknowledged
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        """Not on the terminal."""
