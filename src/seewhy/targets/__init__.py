"""What about the output is explained: a class, a probability, a similarity, a region, any scalar.

A target is a small frozen description. `bind` looks at the outputs of the clean pass and freezes what is
asked (which class of which picture), so that masked or noisy inputs are later asked the same question.
"""

from seewhy.targets.base import BoundTarget, ClassLike, Target
from seewhy.targets.classes import Classes, Contrast, Logit, LogProbability, Predicted, Probability, Top
from seewhy.targets.parse import TargetLike, as_target, parse_target
from seewhy.targets.values import Direction, Function, Pixels, Regression, Similarity

__all__ = [
    "BoundTarget",
    "ClassLike",
    "Classes",
    "Contrast",
    "Direction",
    "Function",
    "LogProbability",
    "Logit",
    "Pixels",
    "Predicted",
    "Probability",
    "Regression",
    "Similarity",
    "Target",
    "TargetLike",
    "Top",
    "as_target",
    "parse_target",
]
