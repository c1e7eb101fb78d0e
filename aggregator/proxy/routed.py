"""What becomes of a request once it is decided, over HTTP/1.1 and HTTP/2 alike."""

from math import inf

from aggregator.proxy.answers import too_many_requests
from aggregator.proxy.decide import Forward, Reply
from aggregator.proxy.headers import RequestHead
from aggregator.proxy.paced import PacedBody
from aggregator.proxy.plane import seconds_allowed


class RoutedRequest(PacedBody):
    """An exchange that knows where it goes. Plain requests do not come here: their `Plan` says it all."""

    __slots__ = ()

    def _answer(self, answer: Reply) -> None:
        self.target = answer.target
        self.route_name = answer.route
        self._counters = self.plane.metrics.route(answer.route)
        self.reply(answer)

    def _take_seat(self, forward: Forward, head: RequestHead) -> bool:
        """Whether the request may be sent on now; it has been answered otherwise."""
        flow = self.plane.flow(forward)
        if flow is None or (head.upgrade and head.wants_upgrade):
            return True
        if flow.take():
            self.flow = flow
            return True
        self._answer(too_many_requests(forward.target, forward.route.name))
        return False

    def _routed(self, forward: Forward) -> None:
        """The request goes to a route: count it there, and give it that route's time."""
        route, target = forward.route, forward.target
        metrics = self.plane.metrics
        self.target = target
        self.route_name = route.name
        self.remote = not route.local
        self._counters = metrics.route(route.name)
        if target.long_running:
            self.long_running = True
            metrics.long_running += 1
            self.deadline = inf
        else:
            self._expire_at(self._began + seconds_allowed(forward))
        self._end = self.deadline
