"""Small pictures of scenes, read like all their other pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from rasterio.enums import Resampling

from ftrack.lattice import file_of
from ftrack.rasters import use_file
from ftrack.sources import Access
from ftrack.stac import Scene

SIDE = 320


def read_quicklook(scene: Scene, asset: str, access: Access | None = None, side: int = SIDE) -> np.ndarray:
    """Return an asset of a scene thinned to a small picture: float32 (y, x), 0 to 1 from dark to bright, NaN = no data.

    Overviews of the file are used where it has any. Darkest and brightest hundredth are cut off.

    Raises
    ------
    Stop, Retry
        The file may not, or cannot, be read; see ``ftrack.rasters.use_file``.
    """
    file = file_of(scene, asset)

    def thinned(dataset: Any) -> np.ndarray:
        factor = max(1.0, max(dataset.shape) / side)
        shape = tuple(max(1, round(n / factor)) for n in dataset.shape)
        values = dataset.read(1, out_shape=shape, resampling=Resampling.average).astype(np.float32)
        said = next((v for v in (file.nodata, dataset.nodata, file.usual_nodata) if v is not None), None)
        values[values == said] = np.nan
        return np.asarray(values)

    values = use_file(file, access or Access(), thinned)
    if not np.isfinite(values).any():
        return values
    low, high = np.nanpercentile(values, (1, 99))
    return np.asarray(np.clip((values - low) / max(high - low, 1e-6), 0, 1))
