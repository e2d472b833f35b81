"""Token buckets, counted exactly."""

NS_PER_S = 1_000_000_000


class TokenBucket:
    """Holds one second's worth of tokens and starts full; a rate of 0 is no limit."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._billionths = rate * NS_PER_S
        self._refilled_ns: int | None = None

    def refill(self, now_ns: int) -> None:
        """Add what time has brought since the last refill."""
        if self._refilled_ns is not None and now_ns > self._refilled_ns:
            gained = (now_ns - self._refilled_ns) * self._rate
            self._billionths = min(self._billionths + gained, self._rate * NS_PER_S)
        self._refilled_ns = max(now_ns, self._refilled_ns or 0)

    def has(self, tokens: int) -> bool:
        """Return whether *tokens* are there to take."""
        return self._rate == 0 or self._billionths >= tokens * NS_PER_S

    def take(self, tokens: int) -> None:
        """Take *tokens* that are there."""
        if self._rate > 0:
            self._billionths -= tokens * NS_PER_S
