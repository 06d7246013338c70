"""The page of labels as a server of this process."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Mapping, Sequence

from judgelm.labelling import LabelSettings, People, invite, open_labelling
from judgelm.serve.hosts import ip_of, read_hosts
from judgelm.serve.label.app import create_app
from judgelm.serve.servers import is_private, listen, log_to_stderr, run_server, url_of
from judgelm.serve.settings import LABEL_PORT

_OPEN = "whoever reaches this page may label under any name; --people gives each person a link of their own"


def serve_labels(
    settings: LabelSettings, host: str = "127.0.0.1", port: int = LABEL_PORT, allowed_hosts: Sequence[str] = ()
) -> None:
    """Show the page until a signal comes; what people say is kept as they say it.

    Raises InputError for rows, names or an output that cannot be used, and for a port that is taken.
    """
    hosts = read_hosts(allowed_hosts, host)
    with open_labelling(settings) as labelling, listen(host, port) as listening:
        people = invite(settings)
        log_to_stderr()
        if people.is_open and not is_private(listening):
            print(f"judgelm: {_OPEN}", file=sys.stderr)
        address = _address(host, listening)
        done = sum(bool(labelling.votes.on(row)) for row in labelling.rows)
        print(f"{len(labelling.rows)} rows, {done} with labels; they go to {labelling.output}")
        for line in _links(address, people, labelling.votes.path.name):
            print(line)
        sys.stdout.flush()
        # systemd and Docker stop a service with SIGTERM
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            run_server(create_app(labelling, people, hosts), listening, access_log=False)
        except KeyboardInterrupt:
            print("judgelm: the page has ended; the same command goes on", file=sys.stderr)


def _address(host: str, listening: socket.socket) -> str:
    """Where others find it: on all addresses, by this machine's name."""
    port = listening.getsockname()[1]
    ip = ip_of(host.strip("[]"))
    return url_of(socket.gethostname() if ip is not None and ip.is_unspecified else host, port)


def _links(address: str, people: People, votes: str) -> list[str]:
    tokens: Mapping[str, str] = people.tokens
    width = max(map(len, tokens), default=0)
    links = [f"{name:<{width}}  {address}/#{token}" for name, token in tokens.items()]
    return [*(links or [f"page  {address}/"]), f"votes are kept in {votes} as they are given; Ctrl-C ends the page"]
