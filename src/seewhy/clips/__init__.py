"""Clips: where, and in which frames, a network that reads several frames looks."""

from seewhy.clips.attention import ClipAttention
from seewhy.clips.average import FrameAverage
from seewhy.clips.reading import Footage, read_clips
from seewhy.clips.result import ClipExplanation
from seewhy.clips.strip import save_animation, strip

__all__ = [
    "ClipAttention",
    "ClipExplanation",
    "Footage",
    "FrameAverage",
    "read_clips",
    "save_animation",
    "strip",
]
