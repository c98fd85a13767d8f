"""Enhance images before matching: interchangeable filters that respect gaps and do not depend on tiles."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Protocol

import numpy as np
from pydantic import Field, field_validator

from ftrack.errors import Stop
from ftrack.kernels import prefilter as kernels
from ftrack.settings import Settings, option

LEAST_SUPPORT = 0.2
"""Share of a filter's weight that must lie on valid pixels: the corner of an image passes, a lone pixel does not."""

WINDOW = 1.0
"""Sigma (px) of the window under which the orientation filter takes its divergence."""


class ImageFilter(Protocol):
    """A prefilter of one's own needs these two and works everywhere the built-in ones do."""

    @property
    def halo(self) -> int:
        """Pixels needed on every side of a pixel."""

    def filter(self, image: np.ndarray) -> np.ndarray:
        """Return the filtered image, float32 (y, x), NaN where there is no data."""


class NoFilter(Settings):
    """Match the images as they are."""

    kind: Literal["none"] = option("none", "no filter")

    @property
    def halo(self) -> int:
        """Pixels needed on every side of a pixel."""
        return 0

    def filter(self, image: np.ndarray) -> np.ndarray:
        """Return the image."""
        return image


class HighPass(Settings):
    """Gaussian high-pass: takes away shading, haze and snow brightness that is wider than the texture."""

    kind: Literal["highpass"] = option("highpass", "Gaussian high-pass")
    sigma: float = option(3.0, "width of the Gaussian that is taken away", unit="px", ge=0.5, le=100.0)

    @property
    def halo(self) -> int:
        """Pixels needed on every side of a pixel."""
        return math.ceil(3.0 * self.sigma)

    def filter(self, image: np.ndarray) -> np.ndarray:
        """Return the image less its local mean."""
        out = np.empty(image.shape, np.float32)
        kernels.highpass(image, kernels.gaussian_weights(self.sigma, self.halo), LEAST_SUPPORT, out)
        return out


class LaplacianOfGaussian(Settings):
    """Laplacian of Gaussian: keeps texture of one width."""

    kind: Literal["log"] = option("log", "Laplacian of Gaussian")
    sigma: float = option(1.5, "width of the Gaussian", unit="px", ge=0.5, le=50.0)

    @property
    def halo(self) -> int:
        """Pixels needed on every side of a pixel."""
        return math.ceil(4.0 * self.sigma)

    def filter(self, image: np.ndarray) -> np.ndarray:
        """Return the Laplacian of the smoothed image, in image units per square pixel."""
        out = np.empty(image.shape, np.float32)
        weights = kernels.gaussian_weights(self.sigma, self.halo)
        kernels.laplacian(image, weights, kernels.curvature_weights(weights), LEAST_SUPPORT, out)
        return out


class Wallis(Settings):
    """Wallis filter: local mean 0 and local standard deviation 1, so faint texture counts like strong texture."""

    kind: Literal["wallis"] = option("wallis", "Wallis filter")
    width: int = option(21, "side of the window, odd", unit="px", ge=3, le=301)
    floor: float = option(0.0, "deviation added in quadrature, so that noise is not raised", unit="image units", ge=0.0)

    @field_validator("width")
    @classmethod
    def _odd(cls, width: int) -> int:
        if width % 2 == 0:
            raise ValueError("the width must be odd")
        return width

    @property
    def halo(self) -> int:
        """Pixels needed on every side of a pixel."""
        return self.width // 2

    def filter(self, image: np.ndarray) -> np.ndarray:
        """Return the image in local standard deviations from the local mean."""
        out = np.empty(image.shape, np.float32)
        kernels.wallis(image, np.full(self.width, 1.0 / self.width), self.floor, LEAST_SUPPORT, out)
        return out


class NAOF(Settings):
    """Near anisotropic orientation filter: ridge directions only, blind to contrast."""

    kind: Literal["naof"] = option("naof", "near anisotropic orientation filter")
    sigma: float = option(1.0, "smoothing beforehand; 0 = the filter as published, which noise upsets", unit="px", ge=0.0, le=20.0)

    @property
    def halo(self) -> int:
        """Pixels needed on every side of a pixel."""
        return math.ceil(3.0 * self.sigma) + 1

    def filter(self, image: np.ndarray) -> np.ndarray:
        """Return the sum of cosines and sines of two ridge directions, -2.83 to 2.83."""
        out = np.empty(image.shape, np.float32)
        kernels.naof(image, kernels.gaussian_weights(self.sigma, self.halo - 1), LEAST_SUPPORT, out)
        return out


class Orientation(Settings):
    """Gradient orientation as one real channel (divergence of the unit gradient): blind to contrast and brightness."""

    kind: Literal["orientation"] = option("orientation", "gradient orientation")
    sigma: float = option(0.7, "smoothing beforehand", unit="px", ge=0.0, le=20.0)

    @property
    def halo(self) -> int:
        """Pixels needed on every side of a pixel."""
        return math.ceil(3.0 * self.sigma) + 1 + math.ceil(4.0 * WINDOW)

    def filter(self, image: np.ndarray) -> np.ndarray:
        """Return the divergence of the direction of the gradient, per pixel."""
        out = np.empty(image.shape, np.float32)
        window = kernels.gaussian_weights(WINDOW, math.ceil(4.0 * WINDOW))
        weights = kernels.gaussian_weights(self.sigma, math.ceil(3.0 * self.sigma))
        kernels.orientation(image, weights, window, kernels.slope_weights(window), LEAST_SUPPORT, out)
        return out


Prefilter = Annotated[
    NoFilter | HighPass | LaplacianOfGaussian | Wallis | NAOF | Orientation,
    Field(discriminator="kind"),
]
"""Any of the built-in prefilters, told apart by ``kind``."""


def filter_image(image: np.ndarray, settings: ImageFilter) -> np.ndarray:
    """Filter one image.

    Parameters
    ----------
    image : (y, x)
        NaN = no data. What lies outside counts as no data too.
    settings : ImageFilter
        One of the prefilters of this module, or one's own.

    Returns
    -------
    float32 (y, x)
        NaN where the image is NaN and where a pixel has too few valid pixels around it. A pixel that is
        ``settings.halo`` or more from the edge has the same bits whatever lies beyond the halo.

    Raises
    ------
    Stop
        The image is not two-dimensional.
    """
    if image.ndim != 2:
        raise Stop(f"a prefilter takes one image (y, x); this array has shape {image.shape}: filter image by image")
    if not image.size:
        return np.empty(image.shape, np.float32)
    return settings.filter(np.ascontiguousarray(image, np.float32))
