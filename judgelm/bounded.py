"""Templates, which may be anybody's, with a bound on their time."""

from __future__ import annotations

import threading
from collections.abc import Callable

from judgelm.errors import one_line
from judgelm.threads import raise_in

_MOST_S = 10


class Bounded:
    """Runs what may have no end, one call at a time, in a thread of its own that is ended when it takes too long."""

    def __init__(self, name: str, what: str) -> None:
        self.name = name
        self.what = what
        """what it is given"""
        self._free = threading.Lock()

    def run(self, call: Callable[[], str]) -> str:
        """What it returns. Raises ValueError where it takes too long, and in one line for whatever it raises."""
        if not self._free.acquire(timeout=_MOST_S):
            raise ValueError(f"{self.name} is still at work on other {self.what}")
        found: list[str] = []
        failed: list[str] = []

        def work() -> None:
            try:
                found.append(call())
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a template can raise whatever it likes
                failed.append(one_line(str(error))[:300] or type(error).__name__)
            finally:
                self._free.release()

        thread = threading.Thread(target=work, name=self.name, daemon=True)
        thread.start()
        thread.join(_MOST_S)
        if thread.is_alive():
            # raised between two steps of the template, which cannot catch it
            raise_in(thread, SystemExit)
            raise ValueError(f"{self.name} takes too long, or writes too much")
        if failed:
            raise ValueError(f"{self.name} refuses these {self.what}: {failed[0]}")
        return found[0]
