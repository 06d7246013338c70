"""Under which names a server may be called, and whose pages may post to it."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from judgelm.errors import InputError

IP = ipaddress.IPv4Address | ipaddress.IPv6Address

_ORIGIN = re.compile(r"(https?)://([^/?#@]+)")
_USUAL_PORT = {"https": ":443", "http": ":80"}
_NETLOC = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^\s:/@\\?#\[\]]+))(?::([0-9]{0,5}))?")


@dataclass(frozen=True, slots=True)
class Hosts:
    """The names under which a server may be called: a web page that lets its own name point here is refused.

    Loopback addresses and `localhost` are always among them, and on a server that listens on all addresses every one
    that is written as a number.
    """

    own: frozenset[str]
    given: frozenset[str]
    """by the user; pages of these hosts may post. "*" is every host, "*.example.com" all below example.com"""
    any_ip: bool

    def allows(self, netloc: str) -> bool:
        """Whether a Host header names this server."""
        host = _host_of(netloc)
        if host is None:
            return "*" in self.given
        address = ip_of(host)
        if address is not None and (self.any_ip or address.is_loopback):
            return True
        return host in self.own or self.names(host)

    def allows_page(self, origin: str, netloc: str) -> bool:
        """Whether a page of that origin may post to the server that it calls by this Host header."""
        sent = _netloc_of(origin)
        page, called = _NETLOC.fullmatch(sent), _NETLOC.fullmatch(netloc)
        if page is None or called is None or _host_of(sent) != _host_of(netloc):
            return False
        # a proxy in front may leave out the port that it was called by
        usual = "443" if origin.lower().startswith("https:") else "80"
        return not called[3] or called[3] == (page[3] or usual)

    def names_page(self, origin: str) -> bool:
        host = _host_of(_netloc_of(origin))
        return host is not None and self.names(host)

    def names(self, host: str) -> bool:
        above = (f"*{host[place:]}" for place, letter in enumerate(host) if letter == ".")
        return host in self.given or "*" in self.given or any(name in self.given for name in above)


def read_hosts(given: Sequence[str], *listened: str) -> Hosts:
    """Of --allowed-hosts and of what a server listens on. Raises InputError for what is no host."""
    named = set()
    for name in given:
        host = _host_of(name.removeprefix("*."))
        if host is None:
            raise InputError(f"--allowed-hosts {name}: expected a host such as judge.example.com")
        named.add(f"*.{host}" if name.startswith("*.") else host)
    own = {"localhost"}
    for name in listened:
        own.add(name.strip("[]").lower())
        with contextlib.suppress(OSError, UnicodeError):
            own |= {str(entry[4][0]) for entry in socket.getaddrinfo(name.strip("[]"), None)}
    ips = {ip_of(name) for name in own - {"localhost"}}
    if any(ip is not None and not ip.is_loopback for ip in ips):
        own.add(socket.gethostname().lower())
    return Hosts(frozenset(own), frozenset(named), any(ip is not None and ip.is_unspecified for ip in ips))


def read_origins(given: Sequence[str]) -> frozenset[str]:
    """Of --allow-origin, as browsers write them. Raises InputError for what is no origin."""
    found = set()
    for origin in given:
        match = _ORIGIN.fullmatch(origin.lower())
        if origin != "*" and (match is None or _host_of(match[2]) is None):
            raise InputError(f"--allow-origin {origin}: expected an origin such as https://app.example.com, or *")
        # browsers leave out the usual port
        found.add(origin if match is None else match[0].removesuffix(":").removesuffix(_USUAL_PORT[match[1]]))
    return frozenset(found)


def ip_of(host: str) -> IP | None:
    """The address that is written there, an IPv4 one within IPv6 as itself."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def same_machine(one: IP, other: IP) -> bool:
    """Whether a worker there may speak for one that is here."""
    return one == other or (one.is_loopback and other.is_loopback)


def _netloc_of(origin: str) -> str:
    """ "host:port" of an Origin header; empty for one that is no address, as "null"."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _host_of(netloc: str) -> str | None:
    """The host of "host:port", in one form; None for what is no such thing."""
    match = _NETLOC.fullmatch(netloc)
    if match is None:
        return None
    address = ip_of(match[1] or match[2])
    if address is not None:
        return str(address)
    return None if match[1] else match[2].lower().removesuffix(".") or None
