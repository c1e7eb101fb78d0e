"""Where an APIService must not lead: addresses that mean this machine, its link, or nobody in particular.

Whoever may write an ExternalName chooses what the aggregator connects to, with the aggregator's client certificate and
from its place in the network (server-side request forgery). Private networks stay allowed: services live there.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_KINDS: Final[tuple[tuple[str, tuple[_Network, ...]], ...]] = tuple(
    (kind, tuple(ipaddress.ip_network(text) for text in texts))
    for kind, texts in (
        # Before link-local, which one of them is. Each is the one that a large cloud answers credentials at.
        (
            "instance metadata",
            ("169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254"),
        ),
        ("loopback", ("127.0.0.0/8", "::1")),
        ("link-local", ("169.254.0.0/16", "fe80::/10")),
        ("unspecified", ("0.0.0.0/8", "::")),
        ("multicast", ("224.0.0.0/4", "ff00::/8")),
        ("broadcast", ("255.255.255.255",)),
    )
)
_NAT64: Final = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
_LOW_32_BITS: Final = 0xFFFFFFFF


class EgressRefused(OSError):
    """The policy forbids an address; the text says which and why, fit for a condition and for a client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """Which addresses may be dialled. Asked after a name is resolved, with the very address that is dialled then."""

    enforced: bool = True
    networks: tuple[_Network, ...] = ()
    """Allowed whatever they are."""
    hosts: frozenset[str] = frozenset()
    """Names that may resolve to anything; lower case, without a final dot."""

    @classmethod
    def allowing(cls, allowed: Iterable[str]) -> "Egress":
        """Enforced but for these networks, addresses and names; what is no network is a name."""
        networks: list[_Network] = []
        hosts: list[str] = []
        for text in allowed:
            try:
                networks.append(ipaddress.ip_network(text, strict=False))
            except ValueError:
                hosts.append(_canonical(text))
        return cls(networks=tuple(networks), hosts=frozenset(hosts))

    def trusts(self, host: str) -> bool:
        """Whether no address of this host needs to be looked at."""
        return not self.enforced or _canonical(host) in self.hosts

    def refusal(self, address: str) -> str:
        """Why an IP address must not be dialled; empty when it may, and for what is no IP address."""
        if not self.enforced:
            return ""
        try:
            outer = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return ""
        for meant in (outer, *_embedded(outer)):
            kind = _kind(meant)
            if kind and not any(one in network for one in (outer, meant) for network in self.networks):
                return f"address {address} is forbidden by the egress policy: {kind} addresses are not allowed"
        return ""

    def permitted(self, host: str, addresses: Sequence[str]) -> list[str]:
        """Those addresses of a host that may be dialled. EgressRefused when it has some but none of them may."""
        if self.trusts(host):
            return list(addresses)
        allowed = [address for address in addresses if not self.refusal(address)]
        if addresses and not allowed:
            raise EgressRefused(self.refusal(addresses[0]))
        return allowed


UNRESTRICTED: Final = Egress(enforced=False)


async def addresses(host: str, port: int, egress: Egress) -> list[str]:
    """The permitted addresses of a host; empty for one that the policy trusts, which needs no look.

    Raises EgressRefused, and what a lookup raises: socket.gaierror, UnicodeError.
    """
    if egress.trusts(host):
        return []
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    found = [str(info[4][0]) for info in infos if info[0] in (socket.AF_INET, socket.AF_INET6)]
    return egress.permitted(host, list(dict.fromkeys(found)))


def _canonical(host: str) -> str:
    return host.lower().removesuffix(".")


def _kind(address: _Address) -> str:
    for kind, networks in _KINDS:
        if any(address in network for network in networks):
            return kind
    return ""


def _embedded(address: _Address) -> Iterator[_Address]:
    """IPv4 addresses that packets to an IPv6 address may end up at."""
    if not isinstance(address, ipaddress.IPv6Address):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    low = int(address) & _LOW_32_BITS
    if any(address in network for network in _NAT64) or (address in _COMPATIBLE and low > 1):
        yield ipaddress.IPv4Address(low)
