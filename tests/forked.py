"""Scripts of the project as processes of their own, forked from one that has imported the heavy libraries once.

What they do from then on is what `python SCRIPT` does: arguments, environment, output, signals and exit codes are
their own. Imports are most of the time that a command takes in a test. `Forked` is for who starts a script, `python()`
an interpreter for who needs the path of one: a shell script, or a command that starts others.

python forked.py MODULE..

is the process that others are forked from. It listens on the socket that is its standard input.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import gc
import importlib
import marshal
import os
import runpy
import select
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 1200
"""what is waited for that may take long on a slow machine: against hanging alone, as no test is one of speed"""
PLACE = "JUDGELM_TESTS_FORK_FROM"
"""variable of the folder whose sockets lead to who forks"""
IMPORTED = (
    *("judgelm.train.settings", "judgelm.train.trainer", "judgelm.train.model", "judgelm.engine.hf.engine"),
    *("datasets", "peft", "safetensors.torch", "torch.distributed.fsdp", "fastapi", "uvicorn", "httpx"),
)
"""none of these reads the environment when it is imported, or a child says so to it"""
_PARTING_S = 60
"""seconds that the end of a process may take"""
_NUMBER = struct.Struct("<i")
_CLIENT = """#!{python} -IS
import marshal, os, signal, socket, sys
words = sys.argv[1:]
if not words or (words[0][0] == "-" and words[0] not in ("-m", "-c")):
    os.execv({python!r}, [{python!r}, *words])
asked = marshal.dumps((words, dict(os.environ), os.getcwd(), sys.argv[0]))
fork = socket.socket(socket.AF_UNIX)
fork.connect({path!r})
socket.send_fds(fork, [len(asked).to_bytes(4, "little")], [0, 1, 2])
fork.sendall(asked)
for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(kind) != signal.SIG_IGN:
        signal.signal(kind, lambda number, _: fork.send(bytes([number])))
fork.recv(4, socket.MSG_WAITALL)
status = int.from_bytes(fork.recv(4, socket.MSG_WAITALL) or b"\\1\\0\\0\\0", "little")
if os.WIFSIGNALED(status):
    signal.signal(os.WTERMSIG(status), signal.SIG_DFL) if os.WTERMSIG(status) != signal.SIGKILL else None
    os.kill(os.getpid(), os.WTERMSIG(status))
os._exit(os.WEXITSTATUS(status))
"""
"""an interpreter that has what it is given done by a fork: signals go there, and its end ends the fork"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def start() -> Path:
    """The folder of sockets; what this process starts afterwards finds it in the environment."""
    if PLACE not in os.environ:
        folder = tempfile.mkdtemp(prefix="judgelm-")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"{folder}/all")
            listening.listen(64)
            command = [sys.executable, __file__, *IMPORTED]
            forking = subprocess.Popen(command, cwd=ROOT, stdin=listening.fileno(), stdout=subprocess.DEVNULL)
        client = Path(folder, "python")
        client.write_text(_CLIENT.format(python=sys.executable, path=f"{folder}/all"), encoding="utf-8")
        client.chmod(0o755)
        os.environ[PLACE] = folder

        def end() -> None:
            forking.terminate()
            forking.wait()
            shutil.rmtree(folder, ignore_errors=True)

        atexit.register(end)
    return Path(os.environ[PLACE])


def python() -> str:
    """The path of an interpreter that has imported everything: one that is forked, see above."""
    return str(start() / "python")


def _who_forks(more: Sequence[str]) -> str:
    """The socket of whoever has imported these modules too."""
    place = start() / "all"
    if more:
        other = place.with_name(f"{os.getpid()}-{'-'.join(more)}")
        if not other.exists():
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(str(other))
                listening.listen(64)
                own = (listening.fileno(), 2, 2)
                _ask(str(place), [__file__, *more], os.environ, ROOT, own)
        place = other
    return str(place)


def _ask(place: str, words: Sequence[str], environment: Mapping[str, str], cwd: Path, files: Sequence[int]) -> int:
    """Have it done there; the file descriptor on which pid and, in the end, status come."""
    asked = marshal.dumps((list(words), dict(environment), str(cwd), sys.executable))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(place)
        socket.send_fds(connection, [_NUMBER.pack(len(asked))], list(files))
        connection.sendall(asked)
        return connection.detach()


class Forked:
    """`python COMMAND` in an environment and a folder, its output appended to files; used as a `subprocess.Popen`.

    What several processes need beside what all have, such as gradio, is named in `imported` and imported once for all.
    """

    def __init__(
        self,
        command: Sequence[object],
        environment: Mapping[str, str],
        stdout: Path,
        stderr: Path,
        cwd: Path = ROOT,
        imported: Sequence[str] = (),
    ) -> None:
        self.args = [str(word) for word in command]
        self.returncode: int | None = None
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        files = [os.open(os.devnull, os.O_RDONLY), *(os.open(file, flags) for file in (stdout, stderr))]
        self._connection = _ask(_who_forks(imported), self.args, environment, cwd, files)
        for file in files:
            os.close(file)
        self.pid = self._read()

    def _read(self) -> int:
        said = os.read(self._connection, _NUMBER.size)
        assert said, "who forks has ended: its words stand above"
        return int(_NUMBER.unpack(said)[0])

    def fileno(self) -> int:
        """It can be read from when the process has ended."""
        return self._connection

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, kind: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, kind)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self], (), (), timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = os.waitstatus_to_exitcode(self._read())
            os.close(self._connection)
        return self.returncode


def run_forked(
    command: Sequence[object],
    environment: Mapping[str, str],
    ranks: int = 1,
    cwd: Path = ROOT,
    imported: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """`python COMMAND` to its end; several ranks are told of one another, and ended together, as by torchrun.

    The exit code of several ranks is 1 where one of them failed.
    """
    common = {**environment, "MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port())}
    with tempfile.TemporaryDirectory() as folder:
        stdout, stderr = (Path(folder) / name for name in ("stdout", "stderr"))
        processes: list[Forked] = []
        for rank in range(ranks):
            number, count = str(rank), str(ranks)
            own = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
            variables = common | own if ranks > 1 else environment
            processes.append(Forked(command, variables, stdout, stderr, cwd, imported))
        end = time.monotonic() + PATIENCE_S
        while pending := [process for process in processes if process.returncode is None]:
            ended = select.select(pending, (), (), max(0, end - time.monotonic()))[0]
            codes = [process.wait() for process in ended]
            if not ended or any(codes):
                for left in pending:
                    left.terminate()
            assert ended, f"{command} ran for more than {PATIENCE_S} s"
        texts = [file.read_text(encoding="utf-8", errors="replace") for file in (stdout, stderr)]
    codes = [process.returncode or 0 for process in processes]
    return subprocess.CompletedProcess(
        [str(word) for word in command], codes[0] if ranks == 1 else int(any(codes)), *texts
    )


class Forking:
    """Forks for whoever connects, tells of the end, and ends what nobody waits for any more."""

    def __init__(self, listening: socket.socket) -> None:
        self.listening = listening
        self.children: dict[socket.socket, tuple[int, int]] = {}
        """connection -> pid and a file descriptor that tells of its end"""
        self.waiting = selectors.DefaultSelector()
        self.waiting.register(listening, selectors.EVENT_READ, None)

    def run(self) -> None:
        """As long as there is a parent."""
        parent = os.getppid()
        while os.getppid() == parent:
            for key, _ in self.waiting.select(5):
                if key.data is None:
                    self.fork(self.listening.accept()[0])
                elif key.fileobj == key.data:
                    self.hear(key.data)
                else:
                    self.end(key.data)
        self.kill()

    def fork(self, connection: socket.socket) -> None:
        head, files, _, _ = socket.recv_fds(connection, _NUMBER.size, 3)
        try:
            asked = marshal.loads(connection.recv(_NUMBER.unpack(head)[0], socket.MSG_WAITALL))
        except (OSError, EOFError, ValueError, struct.error):
            # killed while it asked
            for file in files:
                os.close(file)
            return connection.close()
        pid = os.fork()
        if pid == 0:
            self.waiting.close()
            for one in (self.listening, connection, *self.children):
                one.close()
            for _, ending in self.children.values():
                os.close(ending)
            _be(files, *asked)
        for file in files:
            os.close(file)
        self.children[connection] = pid, os.pidfd_open(pid)
        for readable in (connection, self.children[connection][1]):
            self.waiting.register(readable, selectors.EVENT_READ, connection)
        self.say(connection, pid)

    def hear(self, connection: socket.socket) -> None:
        """A signal is sent on; the end of who asked is that of the fork."""
        try:
            kinds = connection.recv(64)
        except OSError:
            kinds = b""
        for kind in kinds or bytes([signal.SIGKILL]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.children[connection][0], kind)
        if not kinds:
            self.waiting.unregister(connection)

    def end(self, connection: socket.socket) -> None:
        pid, ending = self.children.pop(connection)
        self.waiting.unregister(ending)
        os.close(ending)
        _, status = os.waitpid(pid, 0)
        self.say(connection, status)
        with contextlib.suppress(KeyError):
            self.waiting.unregister(connection)
        connection.close()

    def say(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(_NUMBER.pack(number))

    def kill(self) -> None:
        for pid, _ in self.children.values():
            os.kill(pid, signal.SIGKILL)


def _be(files: Sequence[int], words: list[str], environment: dict[str, str], cwd: str, executable: str) -> NoReturn:
    """That process, from its beginning to its end."""
    code = 1
    try:
        _take(files, "PYTHONUNBUFFERED" in environment)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(environment)
        # found once, before the environment was this one
        tempfile.tempdir = None
        sys.executable = executable
        sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path not in sys.path]
        os.chdir(cwd)
        code = _execute(words, environment)
    except BaseException:  # noqa: BLE001 as Python does with whatever nobody caught
        traceback.print_exc()
    finally:
        _end(code)


def _take(files: Sequence[int], unbuffered: bool) -> None:
    """For standard input, output and error. Those of Python have found out already what the files before them can."""
    for number, (file, name) in enumerate(zip(files, ("stdin", "stdout", "stderr"), strict=True)):
        os.dup2(file, number)
        os.close(file)
        before = getattr(sys, name)
        opened = os.fdopen(number, "r" if name == "stdin" else "w", encoding=before.encoding, errors=before.errors,
                           closefd=False)  # fmt: skip
        opened.reconfigure(line_buffering=name == "stderr" or os.isatty(number), write_through=unbuffered)
        setattr(sys, name, opened)
        setattr(sys, f"__{name}__", opened)


def _end(code: int) -> NoReturn:
    """As Python ends, of which a fork does nothing by itself."""

    def give_up() -> None:
        faulthandler.dump_traceback(file=2)
        os._exit(code)

    # two ranks part, and once in many runs one of them stays at the door
    late = threading.Timer(_PARTING_S, give_up)
    late.daemon = True
    late.start()
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        if code == -signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        os._exit(code)


def _execute(words: list[str], environment: Mapping[str, str]) -> int:
    """The exit code of Python."""
    if "HF_DATASETS_CACHE" in environment:
        import datasets

        # read when it was imported
        datasets.config.HF_DATASETS_CACHE = Path(environment["HF_DATASETS_CACHE"])
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        elif words[0] == "-c":
            sys.argv = ["-c", *words[2:]]
            exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
            return 1
        return int(error.code or 0) & 0xFF
    except KeyboardInterrupt:
        traceback.print_exc()
        return -signal.SIGINT
    return 0


def main() -> None:
    listening = socket.socket(fileno=os.dup(0))
    # nobody who is forked reads from it
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # Ctrl-C is for who has started the tests
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in sys.argv[1:]:
        importlib.import_module(name)
    # a collection in a child would write into half a million objects, and so copy the memory that it shares with us
    gc.collect()
    gc.freeze()
    forking = Forking(listening)

    def stop(*_: Any) -> None:
        forking.kill()
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    forking.run()


if __name__ == "__main__":
    main()
