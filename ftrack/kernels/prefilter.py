"""Filters of images with gaps: each output pixel depends on its own finite neighbourhood only, in a fixed order of sums.

Missing pixels, and everything outside the array, count as no data: they carry no weight (normalised convolution,
Knutsson & Westin 1993). So a window of an image, cut with the filter's halo, gives the same bits as the whole image.
"""

from __future__ import annotations

import math

import numpy as np

from ftrack.kernels.compiled import compiled, making, shared

FLAT = 1e-12
"""Differences below this share of the grey value are rounding, not texture."""


def gaussian_weights(sigma: float, radius: int) -> np.ndarray:
    """Return a sampled Gaussian of ``2 * radius + 1`` taps whose sum is one; ``sigma`` 0 changes nothing."""
    offsets = np.arange(-radius, radius + 1, dtype=np.float64)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2) if sigma > 0 else (offsets == 0).astype(np.float64)
    return np.asarray(weights / weights.sum())


def slope_weights(weights: np.ndarray) -> np.ndarray:
    """Return the taps that measure the first derivative under a symmetric window; exact for straight lines."""
    offsets = np.arange(weights.size, dtype=np.float64) - weights.size // 2
    return np.asarray(offsets * weights / (offsets**2 * weights).sum())


def curvature_weights(weights: np.ndarray) -> np.ndarray:
    """Return the taps that measure the second derivative under a symmetric window: no answer to a constant, 2 to ``x**2``."""
    offsets = np.arange(weights.size, dtype=np.float64) - weights.size // 2
    taps = (offsets**2 - (offsets**2 * weights).sum()) * weights
    return np.asarray(2.0 * taps / (offsets**2 * taps).sum())


@shared
def split(image: np.ndarray, values: np.ndarray, valid: np.ndarray) -> None:
    """Part an image into its values (0 where missing) and its validity (1 or 0), both float64 (y, x)."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            known = math.isfinite(image[y, x])
            values[y, x] = image[y, x] if known else 0.0
            valid[y, x] = 1.0 if known else 0.0


@making
def convolve(plane: np.ndarray, down: np.ndarray, across: np.ndarray, out: np.ndarray) -> None:
    """Sum ``down[k] * across[l] * plane[y + k - ky, x + l - kx]`` with zeros outside.

    Parameters
    ----------
    plane : float64 (y, x)
    down, across : float64 (2 * ky + 1,), (2 * kx + 1,)
        Taps along y and x.
    out : float64 (y, x)
        Receives the sums.
    """
    height, width = plane.shape
    ky, kx = down.size // 2, across.size // 2
    line = np.zeros(width + 2 * kx)
    inner = line[kx : kx + width]
    for y in range(height):
        for x in range(width):
            inner[x] = 0.0
        for k in range(max(0, ky - y), min(down.size, height + ky - y)):
            weight, source = down[k], plane[y + k - ky]
            for x in range(width):
                inner[x] += weight * source[x]
        target = out[y]
        for x in range(width):
            target[x] = 0.0
        for k in range(across.size):
            weight, shifted = across[k], line[k : k + width]
            for x in range(width):
                target[x] += weight * shifted[x]


@making
def smooth(image: np.ndarray, weights: np.ndarray, least: float, out: np.ndarray) -> None:
    """Smooth with gaps left out: NaN where a pixel is missing or less than ``least`` of the weight is on valid pixels."""
    values, valid, share = np.empty(image.shape), np.empty(image.shape), np.empty(image.shape)
    split(image, values, valid)
    convolve(valid, weights, weights, share)
    convolve(values, weights, weights, valid)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            supported = math.isfinite(image[y, x]) and share[y, x] >= least
            out[y, x] = valid[y, x] / share[y, x] if supported else np.nan


@compiled
def highpass(image: np.ndarray, weights: np.ndarray, least: float, out: np.ndarray) -> None:
    """Take away the weighted mean of the neighbourhood.

    Parameters
    ----------
    image : float32 (y, x)
        NaN = no data.
    weights : float64 (n,)
        Taps along y and x, sum 1.
    least : float
        Share of the weight that must lie on valid pixels; NaN comes out where it does not.
    out : float32 (y, x)
        Receives the filtered image.
    """
    mean = np.empty(image.shape)
    smooth(image, weights, least, mean)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            detail = image[y, x] - mean[y, x]
            out[y, x] = 0.0 if abs(detail) < FLAT * abs(mean[y, x]) else detail


@compiled
def wallis(image: np.ndarray, weights: np.ndarray, floor: float, least: float, out: np.ndarray) -> None:
    """Bring mean and standard deviation of the neighbourhood to 0 and 1 (Wallis 1976); 0 where it is flat.

    ``floor`` (image units) is added to the deviation in quadrature; the other parameters are those of ``highpass``.
    """
    mean, square, valid, share = np.empty(image.shape), np.empty(image.shape), np.empty(image.shape), np.empty(image.shape)
    split(image, square, valid)
    convolve(valid, weights, weights, share)
    convolve(square, weights, weights, mean)
    np.multiply(square, square, valid)
    convolve(valid, weights, weights, square)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            if not math.isfinite(image[y, x]) or share[y, x] < least:
                out[y, x] = np.nan
                continue
            centre, power = mean[y, x] / share[y, x], square[y, x] / share[y, x]
            variance = power - centre * centre
            # Rounding of the two large terms leaves a variance of about 1e-15 of the power where the image is flat.
            variance = variance if variance > 1e-13 * power else 0.0
            spread = math.sqrt(variance + floor * floor)
            out[y, x] = (image[y, x] - centre) / spread if spread > 0.0 else 0.0


@making
def _respond(values: np.ndarray, valid: np.ndarray, down: np.ndarray, across: np.ndarray, mean: np.ndarray, out: np.ndarray) -> None:
    """Add to ``out`` the answer of taps of sum zero, with missing pixels taken to be at the mean of the neighbourhood."""
    answer = np.empty(values.shape)
    convolve(values, down, across, answer)
    out += answer
    convolve(valid, down, across, answer)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] -= mean[y, x] * answer[y, x]


@compiled
def laplacian(image: np.ndarray, weights: np.ndarray, curvature: np.ndarray, least: float, out: np.ndarray) -> None:
    """Sum the second derivatives along x and y under a Gaussian window (Marr & Hildreth 1980).

    ``curvature`` are the taps of the second derivative, the other parameters are those of ``highpass``.
    """
    values, valid, mean, total = np.empty(image.shape), np.empty(image.shape), np.empty(image.shape), np.zeros(image.shape)
    smooth(image, weights, least, mean)
    split(image, values, valid)
    _respond(values, valid, weights, curvature, mean, total)
    _respond(values, valid, curvature, weights, mean, total)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            out[y, x] = 0.0 if abs(total[y, x]) < FLAT * abs(mean[y, x]) else total[y, x]


@shared
def _beside(image: np.ndarray, y: int, x: int, down: int, across: int) -> tuple[float, float]:
    """Return the two neighbours on a line through a pixel; a missing one is mirrored, both missing equal the pixel."""
    height, width = image.shape
    centre = image[y, x]
    before = after = np.nan
    if 0 <= y - down < height and 0 <= x - across < width:
        before = image[y - down, x - across]
    if 0 <= y + down < height and 0 <= x + across < width:
        after = image[y + down, x + across]
    if math.isnan(before) and math.isnan(after):
        return centre, centre
    if math.isnan(before):
        return 2.0 * centre - after, after
    if math.isnan(after):
        return before, 2.0 * centre - before
    return before, after


@shared
def _ridge(image: np.ndarray, y: int, x: int, down: int, across: int) -> float:
    """Return twice the centre less its two neighbours on a line; a missing neighbour counts as the other one."""
    height, width = image.shape
    total, count = 0.0, 0
    for side in (-1, 1):
        row, column = y + side * down, x + side * across
        if 0 <= row < height and 0 <= column < width and not math.isnan(image[row, column]):
            total += image[row, column]
            count += 1
    answer = 2.0 * (image[y, x] - total / count) if count else 0.0
    return answer if abs(answer) > FLAT * abs(image[y, x]) else 0.0


@compiled
def naof(image: np.ndarray, weights: np.ndarray, least: float, out: np.ndarray) -> None:
    """Near anisotropic orientation filter (Van Wyk de Vries & Wickert 2021): sums of cosine and sine of two ridge directions.

    The cosine and sine of an angle given by two answers are the answers over their length, so no angle is computed.
    Where both answers are zero there is no direction and nothing is added. Parameters as for ``highpass``;
    ``weights`` smooth beforehand.
    """
    even = np.empty(image.shape)
    smooth(image, weights, least, even)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            if math.isnan(even[y, x]):
                out[y, x] = np.nan
                continue
            a, b = _ridge(even, y, x, 0, 1), _ridge(even, y, x, 1, 0)
            c, d = _ridge(even, y, x, 1, 1), _ridge(even, y, x, 1, -1)
            straight, diagonal = math.sqrt(a * a + b * b), math.sqrt(c * c + d * d)
            total = (a + b) / straight if straight > 0.0 else 0.0
            total += (c + d) / diagonal if diagonal > 0.0 else 0.0
            out[y, x] = total


@shared
def _directions(image: np.ndarray, cosine: np.ndarray, sine: np.ndarray, valid: np.ndarray) -> None:
    """Find the direction of the gradient at each pixel; (0, 0) where the image is flat or missing."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            cosine[y, x] = sine[y, x] = valid[y, x] = 0.0
            if math.isnan(image[y, x]):
                continue
            left, right = _beside(image, y, x, 0, 1)
            above, below = _beside(image, y, x, 1, 0)
            across, down = right - left, below - above
            slope = math.sqrt(across * across + down * down)
            valid[y, x] = 1.0
            if slope > FLAT * abs(image[y, x]):
                cosine[y, x] = across / slope
                sine[y, x] = down / slope


@compiled
def orientation(image: np.ndarray, weights: np.ndarray, window: np.ndarray, slope: np.ndarray, least: float, out: np.ndarray) -> None:
    """Divergence of the unit gradient: the orientation of Fitch et al. (2002) as one real channel.

    Orientation correlation uses ``exp(i * angle)`` of the gradient, two channels. Their divergence, taken under a
    Gaussian window, is one real image that holds both, does not depend on contrast or brightness, keeps the
    polarity of edges and has no preferred axis. ``weights`` smooth beforehand; ``window`` and ``slope`` are the
    taps of the Gaussian and of its first derivative; the other parameters are those of ``highpass``.
    """
    even, mean = np.empty(image.shape), np.empty(image.shape)
    cosine, sine, valid, share = np.empty(image.shape), np.empty(image.shape), np.empty(image.shape), np.empty(image.shape)
    smooth(image, weights, least, even)
    _directions(even, cosine, sine, valid)
    convolve(valid, window, window, share)
    total = np.zeros(image.shape)
    for channel in range(2):
        part = cosine if channel == 0 else sine
        convolve(part, window, window, mean)
        for y in range(image.shape[0]):
            for x in range(image.shape[1]):
                mean[y, x] = mean[y, x] / share[y, x] if share[y, x] > 0.0 else 0.0
        _respond(part, valid, window if channel == 0 else slope, slope if channel == 0 else window, mean, total)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            out[y, x] = total[y, x] if valid[y, x] > 0.0 else np.nan
