"""Questions that another server has to answer: asked once, however many requests wait for the answer."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from apimachinery.authorization import Authorizer, Decision, Undecided
from apimachinery.identity import User
from apimachinery.request_info import RequestInfo
from apiserver import logs

_REST_SECONDS = 1.0
_AT_ONCE = 64
"""Questions under way; more wait for their turn. Anybody can make us ask, by inventing tokens."""

log = logs.get("auth")


class Later:
    """An answer under way; what it was is found in the cache of whoever asked."""

    __slots__ = ("_callbacks", "_known")

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []
        self._known = False

    def when_known(self, callback: Callable[[], None]) -> None:
        if self._known:
            asyncio.get_running_loop().call_soon(callback)
        else:
            self._callbacks.append(callback)

    def known(self) -> None:
        """The answer is there: let everybody go on, each on its own turn of the loop."""
        self._known = True
        loop = asyncio.get_running_loop()
        for callback in self._callbacks:
            loop.call_soon(callback)
        self._callbacks.clear()


class Questions:
    """Runs the asking; owns its tasks. `ask` joins a question that is under way."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._asking: dict[Any, Later] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def ask(self, key: Any, work: Callable[[], Coroutine[Any, Any, None]]) -> Later:
        """Start `work`, unless it runs for this key already. It keeps the answer itself, failures included."""
        later = self._asking.get(key)
        if later is None:
            later = self._asking[key] = Later()
            task = asyncio.get_running_loop().create_task(self._run(key, later, work), name=self._name)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return later

    async def _run(self, key: Any, later: Later, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            async with self._slots:
                await work()
        except Exception as error:
            # Nothing was kept, so those who wait will ask again: a moment of rest keeps that from becoming a storm.
            log.exception("question failed", error=repr(error))
            await asyncio.sleep(_REST_SECONDS)
        finally:
            self._asking.pop(key, None)
            later.known()

    async def stop(self) -> None:
        """Give up what is under way; those who wait are let go."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def settled(undecided: Undecided) -> None:
    """Wait until the question can be asked again."""
    known = asyncio.Event()
    undecided.when_known(known.set)
    await known.wait()


async def decided(authorizer: Authorizer, user: User, info: RequestInfo) -> Decision:
    """What the authorizer says in the end."""
    while not isinstance(decision := authorizer.authorize(user, info), Decision):
        await settled(decision)
    return decision
