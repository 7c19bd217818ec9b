"""From which addresses a user may call: single addresses, networks, and wildcards such as ``10.1.*.*``.

Pure text in, answer out; knows neither users nor requests. A pattern is checked and put into one spelling when it
is stored, so that two lists can be compared; one that is not understood later matches nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network


def address_allowed(address: str, patterns: Sequence[str]) -> bool:
    """Whether a list admits an address. An empty list admits all; what cannot be read is not admitted."""
    if not patterns:
        return True
    try:
        client = _client(address)
    except ValueError:
        return False
    return any(_matches(client, pattern) for pattern in patterns)


def check_pattern(text: str) -> str:
    """The one spelling of a pattern: an address, or a network as ``address/bits``. Raises a telling ``ValueError``."""
    network = _network(text)
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _client(address: str) -> IPv4Address | IPv6Address:
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed


def _matches(client: IPv4Address | IPv6Address, pattern: str) -> bool:
    try:
        return client in _network(pattern)
    except ValueError:
        return False


def _network(text: str) -> IPv4Network | IPv6Network:
    written = _without_wildcards(text) if "*" in text else text
    if "%" in written:
        raise ValueError(f"{text!r}: an address with a zone means something only on one machine")
    try:
        network = ip_network(written, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no address, no network (10.1.0.0/16) and no wildcard (10.1.*.*)") from None
    if str(network.network_address) != str(ip_address(written.partition("/")[0])):
        raise ValueError(f"{text!r} names an address inside a network; write {network} for the network")
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError(f"{text!r}: write an IPv4 address as IPv4")
    return network


def _without_wildcards(text: str) -> str:
    """``10.1.*.*`` as ``10.1.0.0/16``."""
    octets = text.split(".")
    fixed = [octet for octet in octets if octet != "*"]
    if len(octets) != 4 or octets[: len(fixed)] != fixed or any("*" in octet for octet in fixed):
        raise ValueError(f"{text!r}: a wildcard stands for whole last parts of an IPv4 address, as in 10.1.*.*")
    return ".".join(fixed + ["0"] * (4 - len(fixed))) + f"/{8 * len(fixed)}"
