"""Where the parts find each other by default; needs the standard library alone."""

from __future__ import annotations

CONTROLLER_PORT = 21001
WORKER_PORT = 21002
API_PORT = 21003
PAGE_PORT = 7860
CONTROLLER_ADDRESS = f"http://127.0.0.1:{CONTROLLER_PORT}"
