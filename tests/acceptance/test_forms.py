"""Resident forms on the real box: one that is not there is made by whoever needs it first, and kept."""

import shutil

import pytest

pytestmark = pytest.mark.acceptance


def test_a_form_that_was_lost_is_made_again_by_the_process_that_serves_its_base(new_house, starters):
    if starters is None:
        pytest.skip("the starter models cannot be pulled from here")
    forms = new_house.home / "resident"
    before = {path.name for path in forms.iterdir()}
    shutil.rmtree(forms)
    assert new_house("up").returncode == 0
    with new_house.client() as box:
        assert len(box.run("minilm", "hello").vector) == 384
    made = {path.name for path in forms.iterdir()}
    assert len(made) == 1
    assert made < before
