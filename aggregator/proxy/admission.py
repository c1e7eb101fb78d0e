"""How many requests may be served at a time, and how many of them for one user. Pure.

A user may hold at most `r` times as many seats as are free, where `r` = share / (100 - share). With a share of 75 % a
user who is alone gets three quarters of the seats; n greedy users get 3 / (1 + 3n) of them each and leave 1 / (1 + 3n)
free, so that whoever holds none finds one, however long the others keep theirs. Nobody waits: a queue would only delay
the refusal while seats are held for long, and whoever is refused is told to come again in a second.
"""

from weakref import WeakValueDictionary

READ_ONLY_VERBS = frozenset(("get", "list", "watch"))


class Seats:
    """The seats of one kind of requests. `share` is the percentage of them that one user may take."""

    __slots__ = ("_flows", "dropped", "free", "free_weight", "limit", "own_weight")

    def __init__(self, limit: int, share: int = 100) -> None:
        if limit < 1 or not 1 <= share <= 100:
            raise ValueError("a limit is at least 1, a share from 1 to 100")
        self.limit = limit
        self.free = limit
        # A user with everything but one seat may still take the last one: no more than the limit itself.
        self.own_weight, self.free_weight = (100 - share, share) if share < 100 else (1, limit)
        self.dropped = 0
        """Requests that got no seat."""
        self._flows: WeakValueDictionary[str, Flow] = WeakValueDictionary()

    @property
    def taken(self) -> int:
        return self.limit - self.free

    def flow(self, user: str) -> "Flow":
        """The user's account. The same one for as long as anybody holds it, so that it is never counted twice."""
        found = self._flows.get(user)
        if found is None:
            found = self._flows[user] = Flow(self)
        return found


class Flow:
    """What one user holds of the seats of one kind."""

    __slots__ = ("__weakref__", "_seats", "held")

    def __init__(self, seats: Seats) -> None:
        self._seats = seats
        self.held = 0

    def take(self) -> bool:
        """Take a seat, to be given back with `leave`. False: there is none for this user now."""
        seats = self._seats
        free = seats.free
        if self.held * seats.own_weight >= free * seats.free_weight:
            seats.dropped += 1
            return False
        seats.free = free - 1
        self.held += 1
        return True

    def leave(self) -> None:
        self._seats.free += 1
        self.held -= 1


class Admission:
    """The seats of requests that change something and of those that only read; no limit where it is 0."""

    def __init__(self, *, mutating: int, read_only: int, share: int) -> None:
        self.mutating = Seats(mutating, share) if mutating else None
        self.read_only = Seats(read_only, share) if read_only else None

    def flow(self, verb: str, user: str) -> Flow | None:
        """The account that a request of this verb is counted in; None when such requests are not limited."""
        seats = self.read_only if verb in READ_ONLY_VERBS else self.mutating
        return seats.flow(user) if seats is not None else None

    def kinds(self) -> tuple[tuple[str, Seats], ...]:
        """The limited kinds by the names that the originals' metrics give them."""
        pairs = (("mutating", self.mutating), ("readOnly", self.read_only))
        return tuple((name, seats) for name, seats in pairs if seats is not None)
