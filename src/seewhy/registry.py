"""Names of everything that can be asked for by name, with what a listing shows, readable without torch.

Built-in explainers are listed here; a package of your own adds one through the entry point group
`seewhy.explainers`, whose name is the method's name and whose value is its class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from seewhy.errors import InputError

if TYPE_CHECKING:
    from seewhy.evaluation.metric import Metric
    from seewhy.explainers.base import Explainer

ENTRY_POINTS = "seewhy.explainers"

# Networks that come with the package: what `load` takes -> the function that brings it.
LOADERS = {
    "demo": "seewhy.zoo.demo:load_demo",
    "demo-shortcut": "seewhy.zoo.demo:load_demo_shortcut",
    "demo-retriever": "seewhy.zoo.demo:load_demo_retriever",
    "demo-clip-retriever": "seewhy.zoo.demo:load_demo_clip_retriever",
    "demo-houses": "seewhy.zoo.demo:load_demo_houses",
}


@dataclass(frozen=True)
class Entry:
    """What is known of a method before it is imported.

    Attributes:
        name: the registry name, as used on the command line.
        path: `module:Class`.
        title: the name that the paper uses.
        paper: authors, year.
        needs: what a network must have.
        cost: per picture and target, in forwards of the network.
        requires: a setting without which it explains nothing; empty where the defaults do.
    """

    name: str
    path: str
    title: str = ""
    paper: str = ""
    needs: str = ""
    cost: str = ""
    requires: str = ""


_TRUNK_AND_HEAD = "1 forward + 1 head backward"
_ANY = "a layer with feature maps"
_PIXELS = "a target that can be differentiated down to the pixels"
_FULL = "1 forward + 1 backward"

_EXPLAINERS = (
    Entry("cam", "seewhy.explainers.cam:CAM", "CAM", "Zhou et al., CVPR 2016",
          "global average pooling and one linear layer after the layer", _TRUNK_AND_HEAD),
    Entry("grad-cam", "seewhy.explainers.grad_cam:GradCAM", "Grad-CAM", "Selvaraju et al., ICCV 2017", _ANY,
          _TRUNK_AND_HEAD),
    Entry("grad-cam++", "seewhy.explainers.grad_cam_plus_plus:GradCAMPlusPlus", "Grad-CAM++",
          "Chattopadhyay et al., WACV 2018", _ANY, _TRUNK_AND_HEAD),
    Entry("x-grad-cam", "seewhy.explainers.x_grad_cam:XGradCAM", "XGrad-CAM", "Fu et al., BMVC 2020", _ANY,
          _TRUNK_AND_HEAD),
    Entry("hires-cam", "seewhy.explainers.hires_cam:HiResCAM", "HiResCAM", "Draelos and Carin, 2020", _ANY,
          _TRUNK_AND_HEAD),
    Entry("layer-cam", "seewhy.explainers.layer_cam:LayerCAM", "LayerCAM", "Jiang et al., IEEE TIP 2021", _ANY,
          _TRUNK_AND_HEAD),
    Entry("eigen-cam", "seewhy.explainers.eigen_cam:EigenCAM", "EigenCAM", "Muhammad and Yeasin, IJCNN 2020", _ANY,
          "1 forward"),
    Entry("eigen-grad-cam", "seewhy.explainers.eigen_grad_cam:EigenGradCAM", "Eigen-GradCAM",
          "Gildenblat, pytorch-grad-cam, 2021", _ANY, _TRUNK_AND_HEAD),
    Entry("ablation-cam", "seewhy.explainers.ablation_cam:AblationCAM", "Ablation-CAM",
          "Desai and Ramaswamy, WACV 2020", _ANY, "as grad-cam where the head is affine, else 1 replay per channel"),
    Entry("score-cam", "seewhy.explainers.score_cam:ScoreCAM", "Score-CAM", "Wang et al., CVPR workshop 2020", _ANY,
          "1 forward per channel"),
    Entry("group-cam", "seewhy.explainers.group_cam:GroupCAM", "Group-CAM", "Zhang et al., 2021", _ANY,
          "34 forwards + 1 head backward"),
    Entry("integrated-grad-cam", "seewhy.explainers.integrated_grad_cam:IntegratedGradCAM", "Integrated Grad-CAM",
          "Sattarzadeh et al., ICASSP 2021", _ANY, "52 forwards + 50 head backwards"),
    Entry("rsi-grad-cam", "seewhy.explainers.rsi_grad_cam:RSIGradCAM", "RSI-Grad-CAM", "Lucas et al., ISVC 2022", _ANY,
          "52 forwards + 51 head backwards"),
    Entry("layer-integrated-gradients", "seewhy.explainers.layer_integrated_gradients:LayerIntegratedGradients",
          "Layer Integrated Gradients", "after Sundararajan et al., ICML 2017", _ANY,
          "2 forwards + 51 head replays + 50 head backwards"),
    Entry("l2-caf", "seewhy.explainers.l2_caf:L2CAF", "L2-CAF", "Taha et al., ECCV 2020", _ANY,
          "1 forward where the head is affine, else 10 to 300 head replays and backwards too"),
    Entry("rise", "seewhy.explainers.rise:RISE", "RISE", "Petsiuk et al., BMVC 2018", "nothing but outputs",
          "1 forward per mask, 4,000 by default"),
    Entry("occlusion", "seewhy.explainers.occlusion:Occlusion", "Occlusion", "Zeiler and Fergus, ECCV 2014",
          "nothing but outputs", "1 forward per window, 625 by default at 224 pixels"),
    Entry("crisp-mask", "seewhy.explainers.crisp_mask:CrispMask", "Crisp mask", "Godi et al., BMVC 2018", _PIXELS,
          "at most 452 forwards + 450 backwards"),
    Entry("gradient", "seewhy.explainers.gradient:Gradient", "Gradient", "Simonyan et al., ICLR workshop 2014", _PIXELS,
          _FULL),
    Entry("input-x-gradient", "seewhy.explainers.input_x_gradient:InputXGradient", "Input x Gradient",
          "Shrikumar et al., 2016", _PIXELS, _FULL),
    Entry("integrated-gradients", "seewhy.explainers.integrated_gradients:IntegratedGradients",
          "Integrated Gradients", "Sundararajan et al., ICML 2017", _PIXELS, "32 forwards + 32 backwards"),
    Entry("smooth-grad", "seewhy.explainers.smooth_grad:SmoothGrad", "SmoothGrad", "Smilkov et al., 2017",
          "what the smoothed method needs", "50 times the smoothed method"),
    Entry("lrp", "seewhy.explainers.lrp:LRP", "LRP", "Bach et al., PLOS ONE 2015", "operations that have a rule",
          _FULL),
    Entry("salient-relevance", "seewhy.explainers.salient_relevance:SalientRelevance", "Salient Relevance",
          "Li et al., 2017", "operations that have a rule", _FULL + ", and seconds of saliency"),
    Entry("guided-backprop", "seewhy.explainers.guided_backprop:GuidedBackprop", "Guided Backprop",
          "Springenberg et al., ICLR workshop 2015", "ReLUs", _FULL),
    Entry("deconvolution", "seewhy.explainers.deconvolution:Deconvolution", "Deconvolution",
          "Zeiler and Fergus, ECCV 2014", "ReLUs", _FULL),
    Entry("guided-grad-cam", "seewhy.explainers.guided_grad_cam:GuidedGradCAM", "Guided Grad-CAM",
          "Selvaraju et al., ICCV 2017", "a layer with feature maps, and ReLUs", "2 forwards + 2 backwards"),
    Entry("embedding-grad-cam", "seewhy.embedding.embedding_grad_cam:EmbeddingGradCAM",
          "Grad-CAM for embedding networks", "Chen et al., WACV 2020", _ANY, _TRUNK_AND_HEAD),
    Entry("transfer-cam", "seewhy.embedding.transfer_cam:TransferCAM", "Transferred Grad-CAM",
          "Chen et al., WACV 2020", "a bank of weights of this very network", "1 forward", "bank"),
)  # fmt: skip

_NOBODY = "a control: it knows nothing of the decision"

_CONTROLS = (
    Entry("random-map", "seewhy.evaluation.controls:RandomMap", "Random map", _NOBODY, "nothing", "1 forward"),
    Entry("centred-gaussian", "seewhy.evaluation.controls:CentredGaussian", "Centred Gaussian", _NOBODY, "nothing",
          "1 forward"),
    Entry("centre-pixel", "seewhy.evaluation.controls:CentrePixel", "Centre pixel", _NOBODY, "nothing", "1 forward"),
    Entry("constant", "seewhy.evaluation.controls:ConstantMap", "Constant map", _NOBODY, "nothing", "1 forward"),
    Entry("mean-activation", "seewhy.evaluation.controls:MeanActivation", "Mean activation", _NOBODY, _ANY,
          "1 forward"),
)  # fmt: skip

_MAPS, _TWO = "nothing", "2 forwards"

_METRICS = (
    Entry("pointing-game", "seewhy.evaluation.pointing_game:PointingGame", "Pointing game",
          "Zhang et al., IJCV 2018", "objects", _MAPS),
    Entry("energy-pointing-game", "seewhy.evaluation.energy_pointing_game:EnergyPointingGame",
          "Energy-based pointing game", "Wang et al., CVPR workshop 2020", "objects", _MAPS),
    Entry("grid-pointing", "seewhy.evaluation.energy_pointing_game:GridPointing", "Grid pointing",
          "Boehle et al., CVPR 2021", "mosaics", _MAPS),
    Entry("bbox-share", "seewhy.evaluation.bbox_share:BboxShare", "Bounding box share",
          "Arras et al., Information Fusion 2022", "objects", _MAPS),
    Entry("max-box-acc", "seewhy.evaluation.max_box_acc:MaxBoxAcc", "MaxBoxAcc", "Choe et al., CVPR 2020", "boxes",
          _MAPS),
    Entry("max-box-acc-v2", "seewhy.evaluation.max_box_acc:MaxBoxAccV2", "MaxBoxAccV2", "Choe et al., TPAMI 2022",
          "boxes", _MAPS),
    Entry("px-ap", "seewhy.evaluation.px_ap:PxAP", "PxAP", "Choe et al., CVPR 2020", "objects", _MAPS),
    Entry("localisation-error", "seewhy.evaluation.localisation_error:LocalisationError", "Localisation error",
          "Zhou et al., CVPR 2016", "boxes", _MAPS),
    Entry("sparseness", "seewhy.evaluation.sparseness:Sparseness", "Sparseness", "Chalasani et al., ICML 2020", "",
          _MAPS),
    Entry("entropy", "seewhy.evaluation.entropy:Entropy", "Entropy", "Bhatt et al., IJCAI 2020", "", _MAPS),
    Entry("insertion", "seewhy.evaluation.insertion_deletion:Insertion", "Insertion", "Petsiuk et al., BMVC 2018",
          "", "29 forwards at 224 pixels"),
    Entry("deletion", "seewhy.evaluation.insertion_deletion:Deletion", "Deletion", "Petsiuk et al., BMVC 2018", "",
          "29 forwards at 224 pixels"),
    Entry("insertion-deletion", "seewhy.evaluation.insertion_deletion:InsertionDeletion", "Insertion - deletion",
          "Zhang et al., 2021", "", "58 forwards at 224 pixels"),
    Entry("average-drop", "seewhy.evaluation.average_drop:AverageDrop", "Average drop",
          "Chattopadhyay et al., WACV 2018", "", _TWO),
    Entry("increase-in-confidence", "seewhy.evaluation.increase_in_confidence:IncreaseInConfidence",
          "Increase in confidence", "Chattopadhyay et al., WACV 2018", "", _TWO),
    Entry("road", "seewhy.evaluation.road:ROAD", "ROAD", "Rong et al., ICML 2022", "", "19 forwards"),
    Entry("occlusion-correlation", "seewhy.evaluation.occlusion_correlation:OcclusionCorrelation",
          "Occlusion correlation", "Zeiler and Fergus, ECCV 2014", "", "197 forwards at 224 pixels"),
    Entry("infidelity", "seewhy.evaluation.infidelity:Infidelity", "Infidelity", "Yeh et al., NeurIPS 2019", "",
          "101 forwards"),
    Entry("max-sensitivity", "seewhy.evaluation.max_sensitivity:MaxSensitivity", "Max-sensitivity",
          "Yeh et al., NeurIPS 2019", "", "11 times the method"),
    Entry("relative-stability", "seewhy.evaluation.relative_stability:RelativeStability", "Relative input stability",
          "Agarwal et al., 2022", "", "11 times the method"),
    Entry("seed-stability", "seewhy.evaluation.seed_stability:SeedStability", "Seed stability", "our own", "",
          "3 times the method"),
)  # fmt: skip


def explainers() -> Iterator[Entry]:
    """All methods: built in, then those that installed packages bring."""
    yield from _EXPLAINERS
    known = {entry.name for entry in _EXPLAINERS}
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        if point.name not in known:
            yield Entry(point.name, point.value)


def controls() -> Iterator[Entry]:
    """Maps that know nothing, for the tables of evaluations; methods of their own, but nobody's explanation."""
    yield from _CONTROLS


def explainer(name: str) -> type[Explainer]:
    """The class of a method or control.

    Raises:
        InputError: no method has this name; the message lists the nearest.
    """
    found: type[Explainer] = _named("method", name, (*explainers(), *controls()))
    return found


def metrics() -> Iterator[Entry]:
    """All metrics; `needs` is what a picture's truth must hold, `cost` what a picture and target take."""
    yield from _METRICS


def metric(name: str) -> type[Metric]:
    """The class of a metric.

    Raises:
        InputError: no metric has this name; the message lists the nearest.
    """
    found: type[Metric] = _named("metric", name, metrics())
    return found


def numbered(names: Iterable[str]) -> list[str]:
    """What things that stand side by side are called: the second of one name is `name#2`."""
    found: list[str] = []
    for name in names:
        count = sum(each.partition("#")[0] == name for each in found)
        found.append(f"{name}#{count + 1}" if count else name)
    return found


def _named(kind: str, name: str, entries: Iterable[Entry]) -> Any:
    """What the entry of a name stands for, or an error that lists the nearest names."""
    known = {entry.name: entry for entry in entries}
    if name not in known:
        close = get_close_matches(name, known, n=3, cutoff=0.4) or list(known)
        raise InputError(f"no {kind} is called {name!r}; did you mean {', '.join(close)}?")
    return imported(known[name].path)


def imported(path: str) -> Any:
    """What `module:name` names."""
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)
