"""A limit on wrong passwords, an address and all addresses together, in bounded memory.

What is counted is the client's address as the server sees it: behind a proxy that the server was not
told to trust, all people share the proxy's. IPv6 addresses count by their /64, which one house has.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from threading import Lock

TRIES = 10
"""Wrong passwords of one address that are listened to in a minute."""
TRIES_OF_ALL = 100
"""Wrong passwords of all addresses together that are listened to in a minute."""
WINDOW_S = 60.0
ADDRESSES = 10_000
"""Addresses that are remembered; the one that was wrong the longest ago goes first."""


class SignInLimit:
    """Counts wrong passwords.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._all: deque[float] = deque(maxlen=TRIES_OF_ALL)
        self._by_address: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = Lock()

    def check(self, address: str, is_right: Callable[[], bool]) -> bool | None:
        """Whether a password is right; None where it is not even looked at, since too many were wrong.

        One at a time: nobody gets more tries by asking at once.
        """
        with self._lock:
            now = self._clock()
            place = _place(address)
            own = self._by_address.get(place, deque(maxlen=TRIES))
            for wrong in (own, self._all):
                if len(wrong) == wrong.maxlen and wrong[0] > now - WINDOW_S:
                    return None
            if is_right():
                return True
            own.append(now)
            self._all.append(now)
            self._by_address[place] = own
            self._by_address.move_to_end(place)
            if len(self._by_address) > ADDRESSES:
                self._by_address.popitem(last=False)
            return False


def _place(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return "other"
    if ip.version == 6 and ip.ipv4_mapped is None:
        return str(ipaddress.ip_network(f"{ip}/64", strict=False))
    return str(ip.ipv4_mapped or ip) if ip.version == 6 else str(ip)
