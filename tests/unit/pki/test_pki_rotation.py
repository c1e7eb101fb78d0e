import pytest

from pki import rotation
from pki.plan import PKIError
from pki.rotation import Situation, Stage, Step

IDLE = Situation(name="ca")
TRUSTING = Situation(name="ca", next_has_key=True)
TRUSTED = Situation(name="ca", next_has_key=True, next_is_trusted=True)
SWITCHING = Situation(name="ca", others=("old CA",), stale=("web", "api"))
SWITCHED = Situation(name="ca", others=("old CA",))
SITUATIONS = {"idle": IDLE, "trusting": TRUSTING, "trusted": TRUSTED, "switching": SWITCHING, "switched": SWITCHED}


@pytest.mark.parametrize(
    ("situation", "stage", "following"),
    [
        pytest.param(IDLE, Stage.IDLE, Step.TRUST, id="idle"),
        pytest.param(TRUSTING, Stage.TRUSTING, Step.TRUST, id="trust was interrupted"),
        pytest.param(TRUSTED, Stage.TRUSTED, Step.SWITCH, id="trusted"),
        pytest.param(SWITCHING, Stage.SWITCHED, Step.SWITCH, id="switch was interrupted"),
        pytest.param(SWITCHED, Stage.SWITCHED, Step.FINISH, id="switched"),
    ],
)
def test_stage_and_following_step(situation: Situation, stage: Stage, following: Step) -> None:
    assert rotation.stage(situation) is stage
    assert rotation.following(situation) is following


@pytest.mark.parametrize(
    ("step", "situation", "problem"),
    [
        pytest.param(Step.TRUST, "idle", "", id="trust, idle"),
        pytest.param(Step.TRUST, "trusting", "", id="trust, interrupted"),
        pytest.param(Step.TRUST, "trusted", "", id="trust, again"),
        pytest.param(Step.TRUST, "switching", "finish that rotation first, next step: switch", id="trust, switching"),
        pytest.param(Step.TRUST, "switched", "finish that rotation first, next step: finish", id="trust, switched"),
        pytest.param(Step.SWITCH, "idle", "nobody trusts a next authority of ca yet", id="switch, idle"),
        pytest.param(Step.SWITCH, "trusting", "nobody trusts a next authority of ca yet", id="switch, trusting"),
        pytest.param(Step.SWITCH, "trusted", "", id="switch, trusted"),
        pytest.param(Step.SWITCH, "switching", "", id="switch, interrupted"),
        pytest.param(Step.SWITCH, "switched", "", id="switch, again"),
        pytest.param(Step.FINISH, "idle", "", id="finish, again"),
        pytest.param(Step.FINISH, "trusting", "does not sign yet, next step: trust", id="finish, trusting"),
        pytest.param(Step.FINISH, "trusted", "does not sign yet, next step: switch", id="finish, trusted"),
        pytest.param(Step.FINISH, "switching", "web, api: still signed by the previous", id="finish, leaves left"),
        pytest.param(Step.FINISH, "switched", "", id="finish, switched"),
    ],
)
def test_steps_out_of_turn(step: Step, situation: str, problem: str) -> None:
    if not problem:
        rotation.check(step, SITUATIONS[situation])
        return
    with pytest.raises(PKIError) as caught:
        rotation.check(step, SITUATIONS[situation])
    assert problem in str(caught.value)
