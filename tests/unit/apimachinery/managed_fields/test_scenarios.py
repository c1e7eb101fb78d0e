"""Ownership as stories: see `scenario` for the language."""

from pathlib import Path

import pytest

from apimachinery.managed_fields import compare
from tests.unit.apimachinery.managed_fields import scenario
from tests.unit.apimachinery.managed_fields.scenario import Scenario

_FILES = sorted(Path(__file__).parent.glob("*.yaml"))
_SCENARIOS = [pytest.param(one, id=f"{file.stem}-{one.name}") for file in _FILES for one in scenario.load(file)]


@pytest.mark.parametrize("story", _SCENARIOS)
def test_scenario(story: Scenario) -> None:
    world = scenario.run(story)
    assert world.live == story.object
    assert compare.equal(world.live, story.object)
    assert scenario.owners_of(world) == scenario.expected_owners(story)


def test_names_are_unique() -> None:
    names = [parameter.id for parameter in _SCENARIOS]
    assert len(names) == len(set(names)) > 100
