"""The shape of API objects in this code base."""

from typing import Any

Object = dict[str, Any]
"""An API object as decoded JSON. Objects handed out by a store are shared: never mutate one, copy first."""
