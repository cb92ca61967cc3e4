"""Label randomisation: the training, and what is said where it failed."""

import json

import pytest
import torch

from seewhy.errors import InputError, SeewhyError
from seewhy.evaluation.likeness import MEASURES
from seewhy.zoo.label_randomisation import label_randomisation
from seewhy.zoo.train import Recipe

TINY = Recipe(scenes=16, epochs=2, batch=8, mirror=False)


def test_both_networks_are_explained_for_the_same_class_of_the_same_pictures() -> None:
    state = torch.random.get_rng_state()
    said = []
    found = label_randomisation(
        ["grad-cam", "gradient"], pictures=5, recipe=TINY, least=0, batch=3, say=said.append
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len(said) == 2
    assert found.methods == ("grad-cam", "gradient")
    assert 0 <= found.accuracy <= 1
    assert found.kept < 0.5
    assert len(found.labels) == 5
    for measure in MEASURES:
        assert found.similarities["gradient"][measure].shape == (1, 5, 1)
        assert found.floors["gradient"][measure].shape == (3, 5, 1)
    read = json.loads(json.dumps(found.to_json()))
    assert read["methods"]["gradient"]["spearman"]["compared"] == 5
    assert "16 scenes with permuted labels" in str(found)
    assert "| grad-cam, *different pictures* |" in str(found)


def test_a_training_that_did_not_take_is_an_error() -> None:
    with pytest.raises(SeewhyError, match=r"right on .*% of its 16 training scenes, and 90% are wanted"):
        label_randomisation(["grad-cam"], pictures=2, recipe=TINY)


def test_wrong_settings_are_told() -> None:
    with pytest.raises(InputError, match="pictures from 1 to the recipe's 16"):
        label_randomisation(["grad-cam"], pictures=17, recipe=TINY)
    with pytest.raises(InputError, match="8 scenes for a step"):
        label_randomisation(["grad-cam"], pictures=2, recipe=Recipe(scenes=4, batch=8))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_labels_dealt_at_random_are_learned_by_heart_and_change_the_maps() -> None:
    found = label_randomisation(["grad-cam", "gradient"])
    assert found.accuracy >= 0.9
    assert found.dies("gradient")
    assert found.estimate("grad-cam").value < 0.5
