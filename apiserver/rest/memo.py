"""Doing work once for arguments that many share."""

from collections.abc import Callable
from typing import Generic, TypeVar

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")


class Memo(Generic[_Argument, _Result]):
    """A function that remembers its results for the last few arguments, told apart by identity, not by value.

    So an argument may be anything that is not changed, and looking it up costs nothing. What is remembered keeps its
    argument alive: meant for short-lived things that many readers get at about the same time.
    """

    def __init__(self, function: Callable[[_Argument], _Result], size: int = 32) -> None:
        self._function = function
        self._size = size
        self._known: dict[int, tuple[_Argument, _Result]] = {}

    def __call__(self, argument: _Argument) -> _Result:
        # An id is not used again while its object is alive, and here it is.
        known = self._known.get(id(argument))
        if known is not None:
            return known[1]
        result = self._function(argument)
        if len(self._known) >= self._size:
            del self._known[next(iter(self._known))]
        self._known[id(argument)] = (argument, result)
        return result
