"""Threads that end when they should."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

_T = TypeVar("_T")


def raise_in(thread: threading.Thread, error: type[BaseException]) -> None:
    """Raise an error in another thread, between two of its steps in Python."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(error))


def in_a_passing_thread(call: Callable[[], _T]) -> _T:
    """What it returns or raises, from a thread that ends with it, so that of those that go on only one has helpers on a
    CPU. A Ctrl-C meanwhile ends the call, not this wait alone: Python must not end while a thread computes.

    Each thread that ever computed keeps its own helpers, and where all together are more than the cores, libgomp lets
    each sleep after a product instead of waiting for the next.
    """
    found: Future[_T] = Future()

    def work() -> None:
        try:
            found.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            found.set_exception(error)

    thread = threading.Thread(target=work, name="passing", daemon=True)
    try:
        thread.start()
        return found.result()
    except BaseException as error:
        if not found.done():
            raise_in(thread, type(error))
            wait([found])
        raise
