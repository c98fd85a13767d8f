"""Lazy stacks: the images of many passes along time, on one grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
import pyproj
import stackstac
import xarray as xr
from pydantic import Field, model_validator
from stackstac.rio_env import LayeredEnv

from ftrack.errors import Stop
from ftrack.grid import Bounds, Grid, place
from ftrack.lattice import Frame, GridSettings, choose_grid, file_of, frames_of, outline_of
from ftrack.rasters import GDAL_SETTINGS, check_href
from ftrack.reader import ExactWarpReader, Image, Layer, Quality
from ftrack.scenes import group_images
from ftrack.settings import Settings, nearest, option
from ftrack.sources import SourceSettings
from ftrack.stac import Scene, asset_of, key_of, number_of

__all__ = ["GridSettings", "MaskSettings", "StackSettings", "choose_grid", "open_stack"]

PRESETS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "scl": ("values", (0, 1, 3, 8, 9, 10)),
    "qa_pixel": ("bits", (0, 1, 2, 3, 4)),
    "fmask": ("bits", (1, 2, 3)),
}
"""What is dropped of well-known masks: no data, saturated, cloud shadow, clouds and cirrus. Snow and ice stay."""

Chunks = int | tuple[int, int | tuple[int, ...], int | tuple[int, ...]]


class MaskSettings(Settings):
    """Which pixels are dropped because a quality mask says that they are unusable."""

    asset: str = option("auto", "the mask's asset, such as scl or qa_pixel; auto = whichever of these a scene has, if any")
    values: tuple[int, ...] | None = option(None, "classes that are dropped; null = the usual ones of the asset")
    bits: tuple[Annotated[int, Field(ge=0, le=31)], ...] | None = option(
        None, "bits of which none may be set; null = the usual ones of the asset"
    )
    grow: int = option(0, "what is dropped grows by this much in every direction", unit="px", ge=0, le=256)

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, given: Any) -> Any:
        return {"asset": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.values is None and self.bits is None and self.asset != "auto" and _preset_name(self.asset) not in PRESETS:
            hint = nearest(self.asset, [*PRESETS, "auto"])
            raise ValueError(f"what {self.asset!r} means is not known: give values (classes to drop) or bits; {hint}")
        if self.asset == "auto" and (self.values is not None or self.bits is not None):
            raise ValueError("values and bits belong to one mask: name its asset")
        return self


class StackSettings(SourceSettings):
    """How pixels are read."""

    resampling: Literal["sinc", "cubic", "bilinear", "nearest"] = option(
        "sinc", "how pixels are interpolated where a scene is not on the grid; sinc (8 x 8 pixels) shifts and blurs least"
    )
    rescale: bool = option(False, "apply scale and offset of the metadata; matching does not need it")


def open_stack(
    scenes: Sequence[Scene],
    *,
    asset: str,
    area: Any = None,
    grid: Grid | GridSettings | None = None,
    mask: MaskSettings | str | None = None,
    chunks: Chunks = 512,
    settings: StackSettings | None = None,
) -> xr.DataArray:
    """Return the images of scenes as a lazy stack on one grid.

    Scenes of one pass (with the same ``image_id``) become one image: where several have data the first in order of id wins.
    Scenes whose pixels are those of the grid are read bit for bit; others are interpolated at exact positions.
    Values are as stored. Where the scenes of one pass have different offsets or scales (processed by different baselines),
    offsets are applied and all have the scale of the first. Pixels are NaN where there are no data: where the metadata, else
    the file, else the habit of Sentinel-2 and Landsat (0) say so, where the mask drops them, and beyond the scenes.
    Nothing but headers is read, and those only where the metadata do not say where pixels lie.

    Parameters
    ----------
    scenes : sequence of Scene
        From ``find_scenes``.
    asset : str
        Which file of a scene.
    area : optional
        See ``ftrack.read_area``; not used if ``grid`` is a ``Grid``.
    grid : Grid or GridSettings, optional
        The exact pixels to return, which may reach beyond the scenes, or what ``choose_grid`` shall heed.
    mask : MaskSettings or str, optional
        Quality mask; a name stands for the usual classes of that mask, ``"auto"`` for the one that the scenes have.
    chunks : int or tuple
        Side of chunks in pixels, one image each; or chunks along time, y and x, each a size or all sizes. -1 is the whole length.
    settings : StackSettings, optional
        How pixels are read.

    Returns
    -------
    xr.DataArray
        float32 (time, y, x), pixel centres in ``y`` and ``x``, ordered by time; coordinates along time: ``image``, ``platform``,
        ``orbit``, ``scene_ids`` (separated by spaces). Computing raises ``Retry`` or ``Stop`` if a file cannot be read: an error
        never becomes NaN.

    Raises
    ------
    Stop
        There are no scenes, no such asset, no CRS, no overlap, or a file may not be read.
    Retry
        A header cannot be read.
    """
    settings = settings or StackSettings()
    if not scenes:
        raise Stop("there are no scenes to stack")
    exact = grid if isinstance(grid, Grid) else choose_grid(scenes, asset, area, grid, settings.access)
    masking = MaskSettings(asset=mask) if isinstance(mask, str) else mask
    groups = sorted(group_images(scenes).items(), key=lambda entry: (min(s.time for s in entry[1]), entry[0]))
    frames = dict(zip([scene.id for scene in scenes], frames_of(scenes, asset, settings.access), strict=True))
    images = [_image(sorted(members, key=lambda s: s.id), asset, frames, exact, masking, settings) for _, members in groups]
    times = [min(scene.time for scene in members).astimezone(UTC).replace(tzinfo=None) for _, members in groups]
    stack = xr.DataArray(
        _pixels(images, times, exact, chunks),
        dims=("time", "y", "x"),
        coords={
            "time": pd.DatetimeIndex(times).as_unit("ns"),
            "image": ("time", _strings(image for image, _ in groups)),
            "platform": ("time", _strings(members[0].platform for _, members in groups)),
            "orbit": ("time", _strings(members[0].orbit for _, members in groups)),
            "scene_ids": ("time", _strings(" ".join(sorted(s.id for s in members)) for _, members in groups)),
        },
        name=asset,
    )
    placed: xr.DataArray = place(stack, exact)
    return placed


def _strings(values: Any) -> np.ndarray:
    return np.array(list(values), dtype=object)


def _pixels(images: Sequence[Image], times: Sequence[Any], grid: Grid, chunks: Chunks) -> Any:
    """Return the dask array of stackstac, (time, y, x), whose reader gets an image where an href is expected."""
    epsg = pyproj.CRS(grid.crs).to_epsg()
    if epsg is None:
        raise Stop(
            f"the CRS of the grid has no EPSG code, which stackstac needs; choose one that has, for instance EPSG:3413 ({grid.crs[:60]})"
        )
    items = [
        {
            "id": str(number),
            "properties": {"datetime": f"{time:%Y-%m-%dT%H:%M:%S.%fZ}", "proj:epsg": epsg, "proj:bbox": tuple(grid.bounds)},
            "assets": {"pixels": {"href": image}},
        }
        for number, (image, time) in enumerate(zip(images, times, strict=True))
    ]
    along = (1, chunks, chunks) if isinstance(chunks, int) else chunks
    stack = stackstac.stack(
        items,
        assets=["pixels"],
        epsg=epsg,
        resolution=grid.resolution,
        bounds=tuple(grid.bounds),
        snap_bounds=False,
        chunksize=(along[0], 1, along[1], along[2]),
        dtype=np.dtype("float32"),
        fill_value=np.float32("nan"),
        rescale=False,
        sortby_date=False,
        xy_coords=False,
        properties=False,
        band_coords=False,
        gdal_env=LayeredEnv(always=GDAL_SETTINGS),
        errors_as_nodata=(),
        reader=ExactWarpReader,
    )
    if stack.shape != (len(images), 1, grid.height, grid.width):
        raise Stop(f"stackstac made a stack of shape {stack.shape} for a grid of {grid.height} by {grid.width} pixels")
    return stack.data[:, 0]


def _image(
    members: Sequence[Scene], asset: str, frames: Mapping[str, Frame], grid: Grid, mask: MaskSettings | None, settings: StackSettings
) -> Image:
    """Return what the reader needs to know of one pass; its scenes are in order of id."""
    layers = []
    for scene, (gain, bias) in zip(members, _calibrations(members, asset, settings.rescale), strict=True):
        file = file_of(scene, asset)
        check_href(file, settings.access)
        layers.append(
            Layer(file=file, gain=gain, bias=bias, quality=_quality(scene, mask, settings), extent=_extent(frames[scene.id], grid))
        )
    return Image(layers=tuple(layers), resampling=settings.resampling, access=settings.access)


def _extent(frame: Frame, grid: Grid) -> Bounds | None:
    """Return the box that a file covers, with a margin for what the metadata round."""
    outline = outline_of(frame, grid.crs)
    if outline.is_empty:
        return None
    margin = 4 * max(frame.resolution, grid.resolution)
    left, bottom, right, top = outline.bounds
    return Bounds(left - margin, bottom - margin, right + margin, top + margin)


def _calibrations(members: Sequence[Scene], asset: str, rescale: bool) -> list[tuple[float, float]]:
    """Return gain and bias of every scene of a pass: 1 and 0, unless asked for or unless the scenes differ."""
    said = [(asset_of(scene, asset).scale, _offset(scene, asset)) for scene in members]
    if rescale:
        return said
    if len(set(said)) == 1:
        return [(1.0, 0.0)] * len(said)
    first = said[0][0]
    return [(scale / first, round(offset / first, 6)) for scale, offset in said]


def _offset(scene: Scene, asset: str) -> float:
    """Return what has to be added to scaled values, as far as it has not been added already."""
    properties = scene.item.get("properties", {})
    if any(key.endswith(":boa_offset_applied") and value for key, value in properties.items()):
        return 0.0
    found = asset_of(scene, asset)
    baseline = number_of(properties.get("s2:processing_baseline"))
    if found.offset or found.scale != 1.0 or baseline is None or not scene.platform.startswith("sentinel-2"):
        return found.offset
    # Since baseline 04.00 stored values are 1000 too high, which archives without scale and offset do not say.
    return -1000.0 if baseline >= 4 else 0.0


def _quality(scene: Scene, mask: MaskSettings | None, settings: StackSettings) -> Quality | None:
    """Return the mask of a scene, or None if there is none."""
    name = _mask_of(scene, mask)
    if mask is None or name is None:
        return None
    values, bits = mask.values, mask.bits
    if values is None and bits is None:
        kind, numbers = PRESETS[_preset_name(name)]
        values, bits = (numbers, ()) if kind == "values" else ((), numbers)
    file = file_of(scene, name)
    check_href(file, settings.access)
    return Quality(file=file, values=tuple(values or ()), bits=sum(1 << bit for bit in set(bits or ())), grow=mask.grow)


def _mask_of(scene: Scene, mask: MaskSettings | None) -> str | None:
    """Return the name of the mask of a scene, None if there is none."""
    if mask is None or mask.asset != "auto":
        return mask.asset if mask else None
    return next((key for preset in PRESETS for key in scene.assets if _preset_name(key) == preset), None)


def lean_scene(scene: Scene, asset: str, mask: MaskSettings | None) -> Scene:
    """Return a scene with nothing but the files that a stack reads: catalogues name dozens."""
    keys = sorted({key_of(scene, name) for name in (asset, _mask_of(scene, mask)) if name is not None})
    item = {**scene.item, "assets": {key: scene.item["assets"][key] for key in keys}, "links": []}
    return replace(scene, assets={key: scene.assets[key] for key in keys}, item=item)


def _preset_name(asset: str) -> str:
    return asset.casefold().removesuffix(".tif")
