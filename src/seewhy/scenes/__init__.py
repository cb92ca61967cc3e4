"""Pictures whose truth is known to the pixel, drawn from a seed."""

from seewhy.scenes.clips import Clip, Clips
from seewhy.scenes.houses import Houses
from seewhy.scenes.pairs import Pairs
from seewhy.scenes.scene import CLASSES, Scene, Scenes
from seewhy.scenes.watermark import Watermark

__all__ = ["CLASSES", "Clip", "Clips", "Houses", "Pairs", "Scene", "Scenes", "Watermark"]
