"""The stages of replacing an authority, and what each step may do. Pure.

    idle ──trust──▶ trusted ──switch──▶ switched ──finish──▶ idle
         (the next authority is      (it signs, every leaf     (the previous one is
          trusted beside this one)    is signed by it)          trusted no more)

Between two steps every server and client needs the time to load the new bundle; certificates of both authorities are
good in all stages, so nothing fails meanwhile. The stage is read from the files; there is no other record of it.
"""

import enum
from dataclasses import dataclass

from pki.plan import PKIError


class Step(enum.Enum):
    TRUST = "trust"
    SWITCH = "switch"
    FINISH = "finish"


class Stage(enum.Enum):
    IDLE = "idle"
    TRUSTING = "trusting"
    """`trust` was interrupted."""
    TRUSTED = "trusted"
    SWITCHED = "switched"
    """The next authority signs; `switch` may have been interrupted before every leaf was signed by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the files of an authority and of what it signed tell."""

    name: str
    next_has_key: bool = False
    next_is_trusted: bool = False
    """The certificate of the next authority is in the bundle and belongs to the next key."""
    others: tuple[str, ...] = ()
    """Common names of the certificates in the bundle that do not belong to the key, the next authority's apart."""
    stale: tuple[str, ...] = ()
    """Names of leaves that the authority has not signed with its present key."""


def stage(situation: Situation) -> Stage:
    if situation.next_has_key:
        return Stage.TRUSTED if situation.next_is_trusted else Stage.TRUSTING
    return Stage.SWITCHED if situation.others else Stage.IDLE


def following(situation: Situation) -> Step:
    """The step that brings the rotation forward."""
    match stage(situation):
        case Stage.IDLE | Stage.TRUSTING:
            return Step.TRUST
        case Stage.TRUSTED:
            return Step.SWITCH
        case Stage.SWITCHED:
            return Step.SWITCH if situation.stale else Step.FINISH


def check(step: Step, situation: Situation) -> None:
    """PKIError when the step is out of turn. A step that was done already may be done again: it changes nothing."""
    name, now = situation.name, stage(situation)
    if step is Step.TRUST:
        if now is Stage.SWITCHED:
            raise PKIError(
                f"{name}.crt still trusts {', '.join(situation.others)}: finish that rotation first, "
                f"next step: {following(situation).value}"
            )
    elif step is Step.SWITCH:
        if now in (Stage.IDLE, Stage.TRUSTING):
            raise PKIError(f"nobody trusts a next authority of {name} yet, next step: trust")
    elif now in (Stage.TRUSTING, Stage.TRUSTED):
        raise PKIError(f"the next authority of {name} does not sign yet, next step: {following(situation).value}")
    elif now is Stage.SWITCHED and situation.stale:
        raise PKIError(
            f"{', '.join(situation.stale)}: still signed by the previous authority of {name}, next step: switch"
        )
