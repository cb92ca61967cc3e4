"""See why a convolutional network decides what it decides.

The names below are imported when they are first used, so that `import seewhy` needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from seewhy.artifact import Artifact as Artifact
    from seewhy.cancellation import cancellable as cancellable
    from seewhy.check import check_explainer as check_explainer
    from seewhy.clips import ClipAttention as ClipAttention
    from seewhy.embedding.bank import WeightBank as WeightBank
    from seewhy.embedding.decomposition import decompose as decompose
    from seewhy.embedding.embedding_grad_cam import EmbeddingGradCAM as EmbeddingGradCAM
    from seewhy.embedding.gallery import Gallery as Gallery
    from seewhy.embedding.losses import ContrastiveLoss as ContrastiveLoss
    from seewhy.embedding.losses import NTXent as NTXent
    from seewhy.embedding.losses import SetSimilarity as SetSimilarity
    from seewhy.embedding.losses import TextDirection as TextDirection
    from seewhy.embedding.losses import TripletLoss as TripletLoss
    from seewhy.embedding.mining import Mining as Mining
    from seewhy.embedding.proxies import ProxyAnchor as ProxyAnchor
    from seewhy.embedding.proxies import ProxyNCA as ProxyNCA
    from seewhy.embedding.transfer_cam import TransferCAM as TransferCAM
    from seewhy.embedding.triplets import Triplets as Triplets
    from seewhy.errors import SeewhyError as SeewhyError
    from seewhy.evaluation.average_drop import AverageDrop as AverageDrop
    from seewhy.evaluation.bbox_share import BboxShare as BboxShare
    from seewhy.evaluation.energy_pointing_game import EnergyPointingGame as EnergyPointingGame
    from seewhy.evaluation.energy_pointing_game import GridPointing as GridPointing
    from seewhy.evaluation.entropy import Entropy as Entropy
    from seewhy.evaluation.increase_in_confidence import IncreaseInConfidence as IncreaseInConfidence
    from seewhy.evaluation.infidelity import Infidelity as Infidelity
    from seewhy.evaluation.insertion_deletion import Deletion as Deletion
    from seewhy.evaluation.insertion_deletion import Insertion as Insertion
    from seewhy.evaluation.insertion_deletion import InsertionDeletion as InsertionDeletion
    from seewhy.evaluation.localisation_error import LocalisationError as LocalisationError
    from seewhy.evaluation.max_box_acc import MaxBoxAcc as MaxBoxAcc
    from seewhy.evaluation.max_box_acc import MaxBoxAccV2 as MaxBoxAccV2
    from seewhy.evaluation.max_sensitivity import MaxSensitivity as MaxSensitivity
    from seewhy.evaluation.metric import Metric as Metric
    from seewhy.evaluation.occlusion_correlation import OcclusionCorrelation as OcclusionCorrelation
    from seewhy.evaluation.planted_truth import PlantedTruth as PlantedTruth
    from seewhy.evaluation.planted_truth import planted_truth as planted_truth
    from seewhy.evaluation.pointing_game import PointingGame as PointingGame
    from seewhy.evaluation.px_ap import PxAP as PxAP
    from seewhy.evaluation.randomisation import Randomisation as Randomisation
    from seewhy.evaluation.randomisation import randomise as randomise
    from seewhy.evaluation.relative_stability import RelativeStability as RelativeStability
    from seewhy.evaluation.result import compare as compare
    from seewhy.evaluation.road import ROAD as ROAD
    from seewhy.evaluation.seed_stability import SeedStability as SeedStability
    from seewhy.evaluation.sparseness import Sparseness as Sparseness
    from seewhy.explainers.ablation_cam import AblationCAM as AblationCAM
    from seewhy.explainers.base import Explainer as Explainer
    from seewhy.explainers.base import explain_all as explain_all
    from seewhy.explainers.base import make as make
    from seewhy.explainers.cam import CAM as CAM
    from seewhy.explainers.crisp_mask import CrispMask as CrispMask
    from seewhy.explainers.deconvolution import Deconvolution as Deconvolution
    from seewhy.explainers.eigen_cam import EigenCAM as EigenCAM
    from seewhy.explainers.eigen_grad_cam import EigenGradCAM as EigenGradCAM
    from seewhy.explainers.grad_cam import GradCAM as GradCAM
    from seewhy.explainers.grad_cam_plus_plus import GradCAMPlusPlus as GradCAMPlusPlus
    from seewhy.explainers.gradient import Gradient as Gradient
    from seewhy.explainers.group_cam import GroupCAM as GroupCAM
    from seewhy.explainers.guided_backprop import GuidedBackprop as GuidedBackprop
    from seewhy.explainers.guided_grad_cam import GuidedGradCAM as GuidedGradCAM
    from seewhy.explainers.hires_cam import HiResCAM as HiResCAM
    from seewhy.explainers.input_x_gradient import InputXGradient as InputXGradient
    from seewhy.explainers.integrated_grad_cam import IntegratedGradCAM as IntegratedGradCAM
    from seewhy.explainers.integrated_gradients import IntegratedGradients as IntegratedGradients
    from seewhy.explainers.l2_caf import L2CAF as L2CAF
    from seewhy.explainers.layer_cam import LayerCAM as LayerCAM
    from seewhy.explainers.layer_integrated_gradients import (
        LayerIntegratedGradients as LayerIntegratedGradients,
    )
    from seewhy.explainers.lrp import LRP as LRP
    from seewhy.explainers.occlusion import Occlusion as Occlusion
    from seewhy.explainers.rise import RISE as RISE
    from seewhy.explainers.rsi_grad_cam import RSIGradCAM as RSIGradCAM
    from seewhy.explainers.salient_relevance import SalientRelevance as SalientRelevance
    from seewhy.explainers.score_cam import ScoreCAM as ScoreCAM
    from seewhy.explainers.smooth_grad import SmoothGrad as SmoothGrad
    from seewhy.explainers.x_grad_cam import XGradCAM as XGradCAM
    from seewhy.explanation import Cost as Cost
    from seewhy.explanation import Explanation as Explanation
    from seewhy.network.load import load as load
    from seewhy.network.network import Network as Network
    from seewhy.network.preprocess import Preprocess as Preprocess
    from seewhy.saliency import ContextAwareSaliency as ContextAwareSaliency
    from seewhy.scenes import Clips as Clips
    from seewhy.scenes import Houses as Houses
    from seewhy.scenes import Pairs as Pairs
    from seewhy.scenes import Scenes as Scenes
    from seewhy.scenes import Watermark as Watermark
    from seewhy.targets import Classes as Classes
    from seewhy.targets import Contrast as Contrast
    from seewhy.targets import Direction as Direction
    from seewhy.targets import Logit as Logit
    from seewhy.targets import LogProbability as LogProbability
    from seewhy.targets import Pixels as Pixels
    from seewhy.targets import Predicted as Predicted
    from seewhy.targets import Probability as Probability
    from seewhy.targets import Regression as Regression
    from seewhy.targets import Similarity as Similarity
    from seewhy.targets import Target as Target
    from seewhy.targets import Top as Top
    from seewhy.truth import Truth as Truth

_PLACES = {
    "artifact": ["Artifact"],
    "cancellation": ["cancellable"],
    "check": ["check_explainer"],
    "clips": ["ClipAttention"],
    "embedding.bank": ["WeightBank"],
    "embedding.decomposition": ["decompose"],
    "embedding.embedding_grad_cam": ["EmbeddingGradCAM"],
    "embedding.gallery": ["Gallery"],
    "embedding.losses": ["ContrastiveLoss", "NTXent", "SetSimilarity", "TextDirection", "TripletLoss"],
    "embedding.mining": ["Mining"],
    "embedding.proxies": ["ProxyAnchor", "ProxyNCA"],
    "embedding.transfer_cam": ["TransferCAM"],
    "embedding.triplets": ["Triplets"],
    "errors": ["SeewhyError"],
    "evaluation.average_drop": ["AverageDrop"],
    "evaluation.bbox_share": ["BboxShare"],
    "evaluation.energy_pointing_game": ["EnergyPointingGame", "GridPointing"],
    "evaluation.entropy": ["Entropy"],
    "evaluation.increase_in_confidence": ["IncreaseInConfidence"],
    "evaluation.infidelity": ["Infidelity"],
    "evaluation.insertion_deletion": ["Deletion", "Insertion", "InsertionDeletion"],
    "evaluation.localisation_error": ["LocalisationError"],
    "evaluation.max_box_acc": ["MaxBoxAcc", "MaxBoxAccV2"],
    "evaluation.max_sensitivity": ["MaxSensitivity"],
    "evaluation.metric": ["Metric"],
    "evaluation.occlusion_correlation": ["OcclusionCorrelation"],
    "evaluation.pointing_game": ["PointingGame"],
    "evaluation.px_ap": ["PxAP"],
    "evaluation.randomisation": ["Randomisation", "randomise"],
    "evaluation.relative_stability": ["RelativeStability"],
    "evaluation.result": ["compare"],
    "evaluation.road": ["ROAD"],
    "evaluation.seed_stability": ["SeedStability"],
    "evaluation.sparseness": ["Sparseness"],
    "evaluation.planted_truth": ["PlantedTruth", "planted_truth"],
    "explainers.base": ["Explainer", "explain_all", "make"],
    "explainers.cam": ["CAM"],
    "explainers.eigen_cam": ["EigenCAM"],
    "explainers.grad_cam": ["GradCAM"],
    "explainers.grad_cam_plus_plus": ["GradCAMPlusPlus"],
    "explainers.hires_cam": ["HiResCAM"],
    "explainers.layer_cam": ["LayerCAM"],
    "explainers.x_grad_cam": ["XGradCAM"],
    "explainers.ablation_cam": ["AblationCAM"],
    "explainers.crisp_mask": ["CrispMask"],
    "explainers.deconvolution": ["Deconvolution"],
    "explainers.eigen_grad_cam": ["EigenGradCAM"],
    "explainers.gradient": ["Gradient"],
    "explainers.group_cam": ["GroupCAM"],
    "explainers.guided_backprop": ["GuidedBackprop"],
    "explainers.guided_grad_cam": ["GuidedGradCAM"],
    "explainers.input_x_gradient": ["InputXGradient"],
    "explainers.integrated_grad_cam": ["IntegratedGradCAM"],
    "explainers.integrated_gradients": ["IntegratedGradients"],
    "explainers.l2_caf": ["L2CAF"],
    "explainers.layer_integrated_gradients": ["LayerIntegratedGradients"],
    "explainers.lrp": ["LRP"],
    "explainers.occlusion": ["Occlusion"],
    "explainers.rise": ["RISE"],
    "explainers.rsi_grad_cam": ["RSIGradCAM"],
    "explainers.salient_relevance": ["SalientRelevance"],
    "explainers.score_cam": ["ScoreCAM"],
    "explainers.smooth_grad": ["SmoothGrad"],
    "explanation": ["Cost", "Explanation"],
    "network.load": ["load"],
    "network.network": ["Network"],
    "network.preprocess": ["Preprocess"],
    "saliency": ["ContextAwareSaliency"],
    "scenes": ["Clips", "Houses", "Pairs", "Scenes", "Watermark"],
    "targets": [
        "Classes", "Contrast", "Direction", "LogProbability", "Logit", "Pixels", "Predicted", "Probability",
        "Regression", "Similarity", "Target", "Top",
    ],
    "truth": ["Truth"],
}  # fmt: skip
_MODULES = {name: module for module, names in _PLACES.items() for name in names}

__all__ = ["__version__", *sorted(_MODULES)]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'seewhy' has no attribute {name!r}")
    return getattr(import_module(f"seewhy.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
