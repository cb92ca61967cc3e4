"""The bundled retriever of clips: what its card says is so, and its training is what made it."""

import json
from importlib.resources import files

import numpy as np
import pytest
import torch

import seewhy
from seewhy.clips import ClipAttention
from seewhy.errors import LoadError
from seewhy.evaluation.retrieval import ranking
from seewhy.scenes import Clips
from seewhy.zoo import train_clip_retriever
from seewhy.zoo.train_clip_retriever import Recipe, as_input, block, facts

WEIGHTS = files("seewhy.zoo") / "weights"
CARD = json.loads((WEIGHTS / "demo-clip-retriever.json").read_text(encoding="utf-8"))
TINY = Recipe(individuals=16, views=2, epochs=1, batch=8, steps=4, together=4)


@pytest.fixture(scope="module")
def unseen():
    """Forty individuals that nobody used before, and the clips as the network takes them."""
    clips = Clips(40, 2, seed=53)
    pixels, named = block(clips, slice(None))
    return clips, as_input(torch.from_numpy(pixels)), named


def test_it_is_small_and_has_its_cards() -> None:
    size = (WEIGHTS / "demo-clip-retriever.safetensors").stat().st_size
    assert size <= 300_000
    text = (WEIGHTS / "demo-clip-retriever.md").read_text(encoding="utf-8")
    assert f"{size:,} bytes" in text
    for name in ("recall_at_1", "recall_at_5", "mean_average_precision"):
        assert f"{CARD['figures'][name]:.3f}" in text
    assert CARD["frames"] == Clips.frames
    assert CARD["input_size"] == [3, 64, 64]


def test_it_finds_individuals_that_nobody_used_before(unseen) -> None:
    """Of forty individuals: fewer than the card's 240, so no harder, but for two standard errors."""
    clips, pixels, _ = unseen
    module = seewhy.load("demo-clip-retriever", offline=True).module.eval()
    with torch.no_grad():
        ranked = ranking(module(pixels), torch.arange(len(clips)) // 2)
    assert ranked.recall(1) >= CARD["figures"]["recall_at_1"] - 0.11


def test_the_frames_that_show_the_individual_get_most_of_the_joint_budget(unseen) -> None:
    _, pixels, named = unseen
    shows = torch.from_numpy(named[:16:2, :, 0] >= 0)
    found = ClipAttention()(seewhy.load("demo-clip-retriever"), pixels[:16:2])

    own = (found.weights * shows).sum(1)
    assert own.median() > 2 * shows.float().mean()
    assert found.layer == "frames"
    assert found.order == "(BF)"


def test_a_search_from_all_frames_alone_can_miss_the_frame_that_decides() -> None:
    """Things that pass by after the individual have a slope towards them, the individual beside them has none."""
    clip = Clips(12, 1, seed=77)[4]
    pixels = as_input(torch.from_numpy(np.stack([[frame.pixels for frame in clip.frames]])))
    network, deciding = seewhy.load("demo-clip-retriever"), torch.tensor(clip.deciding)

    once, again = (ClipAttention(restarts=each)(network, pixels).weights[0] for each in (False, True))
    assert once[deciding].sum() < 0.1
    assert again[deciding].sum() > 0.9


def test_facts_name_what_the_deciding_frames_show(unseen) -> None:
    clips, _, named = unseen
    clip = clips[3]
    assert (named[3, :, 0] >= 0).tolist() == list(clip.deciding)
    assert facts(clip.frames[clip.deciding.index(False)].truth) == [-1] * 5


def test_untrained_it_is_another_network_and_classes_are_refused() -> None:
    torch.manual_seed(0)
    random = seewhy.load("demo-clip-retriever", weights="random")
    assert random.digest != seewhy.load("demo-clip-retriever").digest
    with pytest.raises(LoadError, match="it has no classes"):
        seewhy.load("demo-clip-retriever", weights="random", classes=["a", "b"])


def test_the_same_seed_trains_the_same_weights() -> None:
    clips = Clips(TINY.individuals, TINY.views, seed=1)
    drawn = train_clip_retriever.Drawn(*map(torch.from_numpy, block(clips, slice(None))))
    one, other = (train_clip_retriever.fit(drawn, TINY, lambda line: None).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    torch.manual_seed(TINY.seed)
    untrained = train_clip_retriever.ClipRetriever(64).state_dict()
    for name in ("frames.stem.0.weight", "memory.weight_hh_l0", "embedding.weight"):
        assert not torch.equal(one[name], untrained[name])


def test_the_command_trains_writes_and_measures(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(
        train_clip_retriever,
        "figures",
        lambda module, measure=train_clip_retriever.figures: measure(module, 4),
    )
    train_clip_retriever.main(
        ["--out", str(tmp_path), "--individuals", "24", "--epochs", "1", "--steps", "2"]
    )

    assert "memory, step 2 of 2" in capsys.readouterr().out
    made = json.loads((tmp_path / "demo-clip-retriever.json").read_text())
    assert made.keys() == CARD.keys()
    assert made["figures"].keys() == CARD["figures"].keys()
    own = seewhy.load("demo-clip-retriever", weights=tmp_path / "demo-clip-retriever.safetensors")
    assert own.digest != seewhy.load("demo-clip-retriever").digest


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_training_again_gives_the_same_recall_within_three_points(tmp_path) -> None:
    train_clip_retriever.main(["--out", str(tmp_path)])

    found = json.loads((tmp_path / "demo-clip-retriever.json").read_text())["figures"]
    assert found["recall_at_1"] == pytest.approx(CARD["figures"]["recall_at_1"], abs=0.03)
