from __future__ import annotations

import csv
import inspect
import json
import os
import pickle
import socket
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from seewhy.errors import InputError, LoadError, MissingExtraError
from seewhy.network import load as loading
from seewhy.network import sources
from seewhy.network.checkpoint import read_classes
from seewhy.network.images import stream
from seewhy.network.load import Loaded, import_torchvision, load, register_loader
from seewhy.network.network import Network
from seewhy.network.preprocess import Preprocess

DATA = Path(os.environ.get("SEEWHY_DATA", "../shared/data")).resolve()
CARD = {
    "architecture": "py:toys:toy",
    "num_classes": 4,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "input_size": [3, 16, 16],
    "crop_pct": 1.0,
    "interpolation": "bilinear",
}
OWN = Preprocess(resize=9, crop=(8, 8), mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))


def toy(num_classes=2):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(784, num_classes))
    module.num_classes = num_classes
    return module


MORE_TOYS = """
def whole():
    return Network(toy(), classes=["no", "yes"], head="sigmoid", notes=["a note"])

def breaks():
    import no_such_package

ready = toy()
number = 3
"""


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """The current folder, empty but for a module `toys.py`."""
    imports = "from torch import nn\nfrom seewhy.network.network import Network\n"
    (tmp_path / "toys.py").write_text(imports + inspect.getsource(toy) + MORE_TOYS)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("toys", None)


@pytest.fixture
def weights(toys):
    """Weights of a toy with four classes, beside their card."""
    torch.manual_seed(0)
    save_file(toy(4).state_dict(), toys / "net.safetensors")
    (toys / "net.json").write_text(json.dumps(CARD))
    return toys / "net.safetensors"


@pytest.fixture
def no_network(monkeypatch):
    """Using a socket fails the test, even where the code that tried takes the error."""
    used = []

    def refuse(*args, **kwargs):
        used.append(args)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield
    assert not used


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """A folder that holds the caches of torch.hub and huggingface_hub, both empty."""
    from huggingface_hub import constants

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def same(module: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, state[name].to(value)) for name, value in module.state_dict().items())


def test_a_factory_in_the_current_folder_is_called(toys):
    network = load("py:toys:toy")
    assert isinstance(network.module, nn.Sequential)
    assert (network.name, network.preprocess, network.classes) == ("py:toys:toy", None, None)
    assert not network.module.training
    assert str(toys) not in sys.path


def test_a_factory_may_give_a_network_whose_settings_are_kept(toys):
    network = load("py:toys:whole", preprocess=OWN)
    assert (network.classes, network.head, network.preprocess) == (("no", "yes"), "sigmoid", OWN)
    assert "a note" in network.notes


def test_a_module_that_is_there_already_is_taken_as_it_is(toys):
    assert load("py:toys:ready").module is sys.modules["toys"].ready


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("py:toys:toi", "did you mean toy"),
        ("py:toyz:toy", "did you mean toys"),
        ("py:toys", "py:my_models:build"),
        ("py:toys:number", "int"),
        ("resnet18", "timm:resnet18 or torchvision:resnet18"),
        ("tim:resnet18", "did you mean timm"),
        ("torchvision:resnet19", "resnet18"),
        ("torchvision:resnet18.IMAGENET1K_V9", "IMAGENET1K_V1"),
        ("timm:resnet188", "resnet18"),
        ("timm:resnet18.imagenet", "resnet18.tv_in1k"),
        ("hf:./nowhere", "config.json"),
        ("file:nowhere.safetensors", "nowhere.safetensors"),
    ],
)
def test_names_that_do_not_exist_are_answered_with_close_ones(toys, spec, says):
    with pytest.raises(LoadError, match=says):
        load(spec, weights="random" if spec.startswith("timm") else None, offline=True)


def test_an_import_that_fails_within_a_factory_is_not_taken_for_a_missing_factory(toys):
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        load("py:toys:breaks")


def test_a_factory_is_not_asked_for_random_weights(toys):
    with pytest.raises(LoadError, match="untrained"):
        load("py:toys:toy", weights="random")


def test_others_register_names_of_their_own(monkeypatch):
    monkeypatch.setattr(loading, "_LOADERS", dict(loading._LOADERS))
    asked = []

    def mine(request):
        asked.append(request)
        return Loaded(toy(3), OWN, ["a", "b", "c"], 3)

    register_loader("mine", mine)
    network = load("mine", offline=True)
    assert (network.classes, network.preprocess) == (("a", "b", "c"), OWN)
    assert (asked[0].name, asked[0].weights, asked[0].offline) == ("", "pretrained", True)
    with pytest.raises(LoadError, match="mine"):
        register_loader("mine", mine)


def test_a_card_beside_the_weights_gives_classes_and_preprocessing(weights):
    network = load("py:toys:toy", weights=weights)
    assert network.module[3].out_features == 4
    assert network.preprocess == Preprocess.from_card(CARD)
    torch.manual_seed(0)
    assert same(network.module, toy(4).state_dict())


def test_preprocessing_that_is_given_wins_over_the_card(weights):
    assert load("py:toys:toy", weights=weights, preprocess=OWN).preprocess == OWN
    assert load("py:toys:toy", weights=weights, preprocess=OWN.model_dump()).preprocess == OWN


def test_a_file_with_a_card_needs_no_other_name(weights):
    network = load(f"file:{weights}")
    assert (network.name, network.preprocess) == (f"file:{weights}", Preprocess.from_card(CARD))


@pytest.mark.parametrize(
    ("card", "says"),
    [
        (None, "is missing"),
        ({"architecture": "my own net"}, "my own net"),
        ({"num_classes": 4}, "no architecture"),
        ({"architecture": "file:net.safetensors"}, "file:net"),
    ],
)
def test_a_file_whose_card_names_no_architecture_says_what_the_card_says(weights, card, says):
    weights.with_suffix(".json").unlink()
    if card is not None:
        weights.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(LoadError, match=f"{says}.*py:my_models:net"):
        load(f"file:{weights}")


def test_a_card_that_cannot_be_read_is_named(weights):
    weights.with_suffix(".json").write_text("{")
    with pytest.raises(LoadError, match=r"net\.json"):
        load("py:toys:toy", weights=weights)


def test_class_names_set_the_size_of_the_head(toys):
    network = load("torchvision:squeezenet1_1", weights="random", classes=["cat", "dog", "bird"])
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
    assert network.classes == ("cat", "dog", "bird")


def test_class_names_of_another_number_than_the_card_are_refused(weights):
    with pytest.raises(LoadError, match=r"2 names.*num_classes 4"):
        load("py:toys:toy", weights=weights, classes=["a", "b"])


def test_class_names_of_another_number_than_trained_outputs_are_refused(toys):
    with pytest.raises(LoadError, match="2 outputs, not the 3"):
        load("py:toys:toy", classes=["a", "b", "c"])


@pytest.mark.parametrize("nest", [(), ("state_dict",), ("model",), ("checkpoint", "model_state_dict")])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_checkpoints_are_unwrapped(toys, nest, prefix):
    torch.manual_seed(1)
    state = toy().state_dict()
    saved: dict = {prefix + name: value for name, value in state.items()}
    for name in reversed(nest):
        saved = {name if name != "checkpoint" else "state_dict": saved, "epoch": 3}
    torch.save(saved, toys / "net.pth")
    assert same(load("py:toys:toy", weights="net.pth").module, state)


def test_half_precision_files_load_into_float32(toys):
    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in toy().state_dict().items()
    }
    save_file(state, toys / "net.safetensors")
    module = load("py:toys:toy", weights="net.safetensors").module
    assert {value.dtype for value in module.parameters()} == {torch.float32}
    assert same(module, state)


def test_batch_counters_may_be_missing(toys):
    state = toy().state_dict()
    del state["1.num_batches_tracked"]
    save_file(state, toys / "net.safetensors")
    assert load("py:toys:toy", weights="net.safetensors").module[1].num_batches_tracked == 0


def test_wrong_keys_are_listed(toys):
    state = toy().state_dict()
    state["extra.weight"] = state.pop("0.bias")
    state["3.weight"] = torch.zeros(5, 784)
    save_file(state, toys / "net.safetensors")
    with pytest.raises(LoadError) as caught:
        load("py:toys:toy", weights="net.safetensors")
    for part in ("1 missing: 0.bias", "1 unexpected: extra.weight", "3.weight (5, 784) for (2, 784)"):
        assert part in str(caught.value)


class Bomb:
    """Unpickling it would write a file."""

    def __reduce__(self):
        return (exec, ("open('exploded', 'w').close()",))


@pytest.mark.parametrize("what", ["module", "bomb", "plain pickle"])
def test_a_pickle_is_refused_with_the_way_out(toys, what):
    if what == "plain pickle":
        Path("net.bin").write_bytes(pickle.dumps(Bomb()))
    else:
        torch.save(toy() if what == "module" else {"state_dict": Bomb()}, "net.bin")
    with pytest.raises(LoadError, match=r"net\.bin is a pickle.*safetensors\.torch\.save_file"):
        load("py:toys:toy", weights="net.bin")
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("net.pth", b"hello", "not a weights file"),
        ("net.safetensors", b"hello", "not a weights file"),
        ("net.h5", b"hello", ".safetensors"),
        ("gone.pth", None, "no weights file"),
    ],
)
def test_a_file_that_holds_no_weights_is_named(toys, name, content, says):
    if content is not None:
        (toys / name).write_bytes(content)
    with pytest.raises(LoadError, match=says):
        load("py:toys:toy", weights=name)


def test_a_file_of_other_things_than_tensors_says_what_it_holds(toys):
    torch.save({"epoch": 3, "losses": [1.0]}, toys / "net.pth")
    with pytest.raises(LoadError, match="epoch, losses"):
        load("py:toys:toy", weights="net.pth")


CLASS_FILES = {
    "lines.txt": "tench\ngold fish\nshark\n",
    "list.json": '["tench", "gold fish", "shark"]',
    "pairs.json": '[["n1", "tench"], ["n2", "gold fish"], ["n3", "shark"]]',
    "index.json": '{"2": "shark", "0": "tench", "1": "gold fish"}',
    "index_pairs.json": '{"0": ["n1", "tench"], "1": ["n2", "gold fish"], "2": ["n3", "shark"]}',
    "to_index.json": '{"shark": 2, "tench": 0, "gold fish": 1}',
    "names.csv": "name\ntench\ngold fish\nshark\n",
    "plain.csv": "tench\ngold fish\nshark\n",
    "index.csv": "index,name\n1,gold fish\n0,tench\n2,shark\n",
    "last_index.csv": "name,index\ngold fish,1\ntench,0\nshark,2\n",
    "wnid.csv": "0,n1,tench\n1,n2,gold fish\n2,n3,shark\n",
    "unnumbered.csv": "n1,tench\nn2,gold fish\nn3,shark\n",
    "titled.csv": "wnid,name\nn1,tench\nn2,gold fish\nn3,shark\n",
    "own_title.csv": "number,words\n0,tench\n1,gold fish\n2,shark\n",
}


@pytest.mark.parametrize("name", CLASS_FILES)
def test_class_names_are_read_from_every_usual_file(tmp_path, name):
    (tmp_path / name).write_text(CLASS_FILES[name])
    assert read_classes(tmp_path / name) == ("tench", "gold fish", "shark")


def test_commas_of_rows_of_several_lengths_are_between_synonyms(tmp_path):
    (tmp_path / "names.csv").write_text("tench, Tinca tinca\ngoldfish\nshark, great white, man-eater\n")
    assert read_classes(tmp_path / "names.csv") == (
        "tench, Tinca tinca",
        "goldfish",
        "shark, great white, man-eater",
    )


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.json", '{"0": "a", "2": "b"}', "0 to 1"),
        ("a.json", "3", "list of names"),
        ("a.json", "{", "cannot be read"),
        ("a.txt", "a\n\nb\n", "entry 1"),
        ("a.txt", "", "list of names"),
        ("a.csv", "", "cannot be read"),
        ("a.xml", "", ".csv"),
        ("a.json", '["a", 3]', "entry 1"),
    ],
)
def test_class_files_that_leave_gaps_are_refused(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(LoadError, match=says):
        read_classes(tmp_path / name)


def test_torchvision_networks_know_imagenet_and_their_own_preprocessing():
    network = load("torchvision:squeezenet1_1", weights="random", offline=True)
    assert (len(network.classes), network.classes[0]) == (1000, "tench")
    assert (network.preprocess.resize, network.preprocess.crop) == (256, (224, 224))
    assert "untrained weights" in network.notes


def test_torchvisions_builders_that_warn_are_built_in_silence():
    assert load("torchvision:googlenet", weights="random").classes[1] == "goldfish"


def test_trained_torchvision_weights_are_read_from_the_cache_as_tensors_only(caches, no_network):
    import_torchvision()
    from torchvision import models

    torch.manual_seed(3)
    state = models.squeezenet1_1(num_classes=1000).state_dict()
    entry = models.SqueezeNet1_1_Weights.DEFAULT
    file = caches / "torch" / "checkpoints" / entry.url.rsplit("/", 1)[-1]
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    assert same(load("torchvision:squeezenet1_1", offline=True).module, state)
    torch.save(Bomb(), file)
    with pytest.raises(LoadError, match="is a pickle"):
        load("torchvision:squeezenet1_1", offline=True)
    assert "get_state_dict" not in vars(models.SqueezeNet1_1_Weights)


def test_timm_networks_know_imagenet_and_their_own_preprocessing(no_network):
    network = load("timm:resnet10t", weights="random", offline=True)
    assert network.classes[0] == "tench, Tinca tinca"
    assert (network.preprocess.resize, network.preprocess.crop) == (201, (176, 176))
    assert load("timm:resnet10t", weights="random", classes=["a", "b"]).classes == ("a", "b")


def test_trained_timm_weights_are_read_from_the_cache(caches, no_network):
    import_torchvision()
    import timm

    torch.manual_seed(3)
    state = timm.create_model("resnet10t").state_dict()
    repository = caches / "hub" / "models--timm--resnet10t.c3_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    (repository / "snapshots" / ("a" * 40)).mkdir(parents=True)
    save_file(state, repository / "snapshots" / ("a" * 40) / "model.safetensors")
    for offline in (True, False):
        assert same(load("timm:resnet10t", offline=offline).module, state)


@pytest.mark.parametrize(
    ("spec", "missing"),
    [
        ("torchvision:squeezenet1_1", r"squeezenet1_1-[0-9a-f]+\.pth"),
        ("timm:resnet10t", "model.safetensors or pytorch_model.bin of timm/resnet10t.c3_in1k"),
        ("hf:microsoft/resnet-18", "config.json of microsoft/resnet-18"),
    ],
)
def test_offline_names_the_file_that_is_missing_and_touches_no_network(caches, no_network, spec, missing):
    with pytest.raises(LoadError, match=f"offline.*{missing}"):
        load(spec, offline=True)


@pytest.mark.parametrize("spec", ["torchvision:squeezenet1_1", "timm:resnet10t", "hf:microsoft/resnet-18"])
def test_a_failed_download_says_what_works_without(caches, monkeypatch, spec):
    def refuse(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between huggingface_hub's attempts
    with pytest.raises(LoadError, match=f"{spec} could not be fetched.*weights=FILE"):
        load(spec)


@pytest.fixture(scope="module")
def huggingface_folder(tmp_path_factory):
    """A tiny trained classifier as `save_pretrained` writes it."""
    import_torchvision()
    from transformers import ConvNextImageProcessor, ResNetConfig, ResNetForImageClassification

    folder = tmp_path_factory.mktemp("hf")
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3
    )
    config.id2label = {0: "cat", 1: "dog", 2: "bird"}
    torch.manual_seed(5)
    ResNetForImageClassification(config).save_pretrained(folder)
    ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.875).save_pretrained(folder)
    return folder


def test_a_transformers_folder_gives_names_and_preprocessing(huggingface_folder, no_network):
    from transformers import ResNetForImageClassification

    network = load(f"hf:{huggingface_folder}", offline=True)
    assert (network.classes, network.head) == (("cat", "dog", "bird"), "auto")
    assert (network.preprocess.resize, network.preprocess.crop) == (73, (64, 64))
    assert not network.module.training
    assert same(network.module, ResNetForImageClassification.from_pretrained(huggingface_folder).state_dict())


def test_a_multi_label_transformers_network_has_sigmoid_outputs(huggingface_folder, tmp_path):
    for file in huggingface_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"problem_type": "multi_label_classification"}))
    assert load(f"hf:{tmp_path}", offline=True).head == "sigmoid"


def test_transformers_weights_without_a_trained_head_are_refused(huggingface_folder, tmp_path):
    from safetensors.torch import load_file

    for file in huggingface_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    kept = {name: value for name, value in state.items() if not name.startswith("classifier")}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LoadError, match=r"no trained weights for classifier"):
        load(f"hf:{tmp_path}", offline=True)


def test_an_untrained_transformers_network_takes_other_classes(huggingface_folder):
    network = load(f"hf:{huggingface_folder}", weights="random", classes=["a", "b"], offline=True)
    assert network(torch.zeros(1, 3, 64, 64)).logits.shape == (1, 2)


@pytest.mark.parametrize(
    ("spec", "package", "extra"),
    [
        ("torchvision:resnet18", "torchvision", "models"),
        ("timm:resnet18", "timm", "models"),
        ("hf:a/b", "transformers", "hf"),
    ],
)
def test_a_missing_package_names_the_extra_that_brings_it(monkeypatch, spec, package, extra):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package}.*seewhy\[{extra}\]"):
        load(spec, weights="random", offline=True)


def test_torchvision_is_imported_as_it_is_where_its_operators_load(monkeypatch, caplog):
    marker = ModuleType("torchvision")
    monkeypatch.setattr(sources.importlib, "import_module", lambda name: marker)
    assert import_torchvision() is marker
    assert not caplog.records


def test_torchvisions_operators_are_declared_where_only_they_are_missing_and_that_is_said(
    monkeypatch, caplog
):
    marker, declared, attempts = ModuleType("torchvision"), [], []

    class Library:
        def __init__(self, *named):
            self.named = named

        def define(self, schema):
            declared.append((*self.named, schema.partition("(")[0]))

    def needs_operators(name):
        attempts.append(name)
        if not declared:
            raise RuntimeError("operator torchvision::nms does not exist")
        return marker

    monkeypatch.setattr(sources.importlib, "import_module", needs_operators)
    monkeypatch.setattr(torch.library, "Library", Library)
    monkeypatch.setattr(sources, "_schemas", [])
    assert import_torchvision() is marker
    assert declared == [("torchvision", "DEF", "nms"), ("torchvision", "DEF", "qnms")]
    assert (len(attempts), len(caplog.records)) == (2, 1)


def test_other_errors_of_torchvisions_import_are_not_hidden(monkeypatch):
    def fails(name):
        raise RuntimeError("something else is broken")

    monkeypatch.setattr(sources.importlib, "import_module", fails)
    with pytest.raises(RuntimeError, match="something else"):
        import_torchvision()


def test_a_card_with_half_of_the_preprocessing_is_refused(weights):
    weights.with_suffix(".json").write_text(json.dumps({"num_classes": 4, "input_size": [3, 16, 16]}))
    with pytest.raises(InputError, match="mean, std, crop_pct, interpolation"):
        load("py:toys:toy", weights=weights)


def test_real_weights_recognise_real_photographs():
    file, folder = DATA / "weights" / "imagenet_torchvision_mobilenet_v2.safetensors", DATA / "imagenet-val"
    if not file.is_file() or not folder.is_dir():
        pytest.skip(f"no {file} or {folder}; set SEEWHY_DATA")
    network = load("torchvision:mobilenet_v2", weights=file, classes=folder / "classes.json", offline=True)
    assert network.preprocess == Preprocess(resize=256, crop=(224, 224), mean=(0.5,) * 3, std=(0.5,) * 3)
    with (folder / "labels.csv").open() as table:
        labels = {row["image"]: int(row["class_index"]) for row in csv.DictReader(table)}
    asked = sorted(labels)[::10]
    right = 0
    for batch in stream([next(folder.rglob(name)) for name in asked], network.preprocess, 25):
        assert not batch.failed
        truth = torch.tensor([labels[Path(path).name] for path in batch.paths])
        right += int((network(batch.pixels).argmax(1) == truth).sum())
    assert right / len(asked) >= 0.65  # 0.771 over all thousand


def test_the_same_card_loads_by_file_and_gives_the_same_network():
    file = DATA / "weights" / "imagenet_torchvision_squeezenet1_0.safetensors"
    if not file.is_file():
        pytest.skip(f"no {file}; set SEEWHY_DATA")
    by_file, by_name = load(f"file:{file}"), load("torchvision:squeezenet1_0", weights=file)
    assert isinstance(by_file, Network)
    assert same(by_file.module, by_name.module.state_dict())
    assert by_file.preprocess.crop == (227, 227)
    assert by_file.classes[0] == "tench"
