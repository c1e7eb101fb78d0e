"""How many connections each client address has."""


class Addresses:
    """Places by address. Keeps nothing when there is no limit."""

    __slots__ = ("_addresses", "_counts", "_most")

    def __init__(self, most: int) -> None:
        """`most` per address; 0 is no limit."""
        self._most = most
        self._counts: dict[str, int] = {}
        self._addresses: dict[object, str] = {}

    def take(self, connection: object, address: str) -> bool:
        """Give a connection a place, if there is one; `leave` gives it back."""
        if not self._most:
            return True
        count = self._counts.get(address, 0)
        if count >= self._most:
            return False
        self._counts[address] = count + 1
        self._addresses[connection] = address
        return True

    def leave(self, connection: object) -> None:
        """Give the place back, if there is one."""
        address = self._addresses.pop(connection, None)
        if address is not None:
            left = self._counts[address] - 1
            if left:
                self._counts[address] = left
            else:
                del self._counts[address]
