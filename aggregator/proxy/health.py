"""Whether an endpoint deserves requests, judged by what happened to them. Pure; times are seconds of one clock."""

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 30.0

HEALTHY, LEAVING, EJECTED = 0, 1, 2


class Health:
    """An endpoint that fails is ejected until a connection to it succeeds again; trials become rarer as they fail.

    A rank orders endpoints: a higher one is used only when there is no lower one, and never not at all, since a wrong
    judgement must not make a service unreachable.
    """

    __slots__ = ("ejections", "error", "failures", "leaving_until", "trial_at")

    def __init__(self) -> None:
        self.failures = 0
        """In a row; 0 means not ejected."""
        self.ejections = 0
        """Times it was ejected, trials that failed not counted."""
        self.trial_at = 0.0
        """When to look whether an ejected endpoint is back."""
        self.leaving_until = 0.0
        self.error: BaseException | None = None
        """The latest failure."""

    def rank(self, now: float) -> int:
        if self.failures:
            return EJECTED
        return LEAVING if now < self.leaving_until else HEALTHY

    def failed(self, now: float, error: BaseException | None) -> bool:
        """Note a failure; True when it is news."""
        self.error = error
        news = not self.failures
        # Failures of requests that were under way together are one failure.
        if news or now >= self.trial_at:
            self.failures += 1
            self.trial_at = now + float(min(FIRST_SECONDS * 2 ** min(self.failures - 1, 10), LONGEST_SECONDS))
        self.ejections += news
        return news

    def passed(self) -> bool:
        """Note a connection that was made; True when that is news."""
        news = self.failures > 0
        self.failures = 0
        self.error = None
        return news

    def leaving(self, now: float, seconds: float) -> None:
        """It announced that it will go, or asked to be left alone for a while."""
        self.leaving_until = max(self.leaving_until, now + seconds)
