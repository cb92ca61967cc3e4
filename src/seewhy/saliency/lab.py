"""From sRGB to CIE L*a*b*."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

# IEC 61966-2-1: the linear primaries in CIE XYZ. White is their sum, so greys have exactly no colour.
_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
_BREAK = 6 / 29  # CIE 15: below its cube the cube root goes over into a line


def lab(pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    """CIE L*a*b* (CIE 15, white of the display) of sRGB pictures in [0, 1].

    Returns:
        Lightness in [0, 100], green to red, blue to yellow.
    """
    linear = torch.where(pictures <= 0.04045, pictures / 12.92, ((pictures + 0.055) / 1.055) ** 2.4)
    primaries = torch.tensor(_XYZ, dtype=pictures.dtype, device=pictures.device)
    primaries = primaries / primaries.sum(1, keepdim=True)
    xyz = torch.einsum("ij,bjhw->bihw", primaries, linear)
    x, y, z = torch.where(xyz > _BREAK**3, xyz ** (1 / 3), xyz / (3 * _BREAK**2) + 4 / 29).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)
