"""Results as files that others read: series and profiles as tables and NetCDF, maps as cloud-optimised GeoTIFF."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import rasterio.shutil
import xarray as xr

from ftrack.errors import Stop
from ftrack.grid import grid_of
from ftrack.means import velocity_of
from ftrack.settings import nearest

VELOCITIES = ("v", "v_error", "vx", "vx_error", "vy", "vy_error")
EXTRA = ("count", "status", "acquisition_date_img1", "acquisition_date_img2", "image_id_img1", "image_id_img2")
BANDS: tuple[str, ...] = ("vx", "vy", "v", "vx_error", "vy_error", "v_error", "count")
SEASON = (*BANDS, "dv_dt", "dv_dt_error", "v_amp", "v_amp_error", "v_phase", "v_phase_error", "outlier_percent", "fit_flag")
"""Bands of a map of what `ftrack.seasonal_fit` has found."""

KEPT = ("title", "run_id", "author", "institution", "source", "references", "url")
"""Attributes of a cube that go into the tags of its maps."""

BLOCK = 512
"""Pixels along the side of a block of a GeoTIFF; larger maps get overviews."""


def series_table(data: xr.Dataset) -> pd.DataFrame:
    """Return a series or a profile as a table, in the columns in which ITS_LIVE gives its series, and some more behind them.

    Parameters
    ----------
    data : Dataset
        What `ftrack.point_series` or `ftrack.profile` has read.

    Raises
    ------
    Stop
        It is neither.
    """
    along = next((name for name in ("mid_date", "distance") if data.sizes.keys() == {name}), None)
    if along is None or any(name not in data for name in VELOCITIES):
        raise Stop("a table is made of a series or a profile; read one with ftrack.point_series or ftrack.profile")
    columns: dict[str, Any] = {"mid_date" if along == "mid_date" else "distance [km]": data[along].values}
    columns |= {name: np.broadcast_to(data[name].values, data.sizes[along]) for name in ("lat", "lon") if name in data.coords}
    if along == "distance":
        columns |= {f"{name} [m]": data[name].values for name in ("x", "y")}
    columns |= {f"{name} [m/yr]": data[name].values for name in VELOCITIES}
    if "date_dt" in data:
        columns["date_dt [days]"] = data["date_dt"].values
    columns |= {name: data[f"{name}_img1"].values for name in ("mission", "satellite") if f"{name}_img1" in data}
    if "epsg" in data.attrs:
        columns["epsg"] = np.full(data.sizes[along], data.attrs["epsg"])
    return pd.DataFrame({**columns, **{name: data[name].values for name in EXTRA if name in data}})


def write_series(data: xr.Dataset, path: str | Path) -> Path:
    """Write a series or a profile into a file and return its path.

    Parameters
    ----------
    data : Dataset
        What `ftrack.point_series` or `ftrack.profile` has read.
    path : str or path
        ``.csv``, ``.parquet`` (needs pyarrow) or ``.nc`` (NetCDF, classic format).

    Raises
    ------
    Stop
        The suffix is none of these, pyarrow is missing, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".csv", ".nc", ".parquet"):
        raise Stop(f"{path.name}: a series is written as .csv, .nc or .parquet; {nearest(path.suffix, ('.csv', '.nc', '.parquet'))}")
    table = series_table(data)
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise Stop("Parquet needs the package pyarrow: pip install 'ftrack[parquet]', or write .csv")
    with _whole(path) as new:
        if path.suffix == ".csv":
            table.to_csv(new, index=False, date_format="%Y-%m-%d %H:%M:%S.%f")
        elif path.suffix == ".parquet":
            table.to_parquet(new, index=False, engine="pyarrow")
        else:
            _classic(data).to_netcdf(new, format="NETCDF3_CLASSIC", engine="scipy")
    return path


def _classic(data: xr.Dataset) -> xr.Dataset:
    """Return a dataset in the few types that every NetCDF reader knows."""
    made = data.copy()
    for name, values in data.variables.items():
        if values.dtype.kind == "M":
            made[name].encoding = {"dtype": "float64", "units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian"}
        elif values.dtype.kind == "u" or values.dtype == np.int64:
            made[name] = data[name].astype(np.int32)
        elif values.dtype.kind == "O":
            made[name] = data[name].astype(str)
    return made


def write_map(cube: xr.Dataset, path: str | Path, pair: int | str | Any | None = None, *, dates: Any = None, filled: bool = False) -> Path:
    """Write the velocity of a pair, or the median over pairs, as a cloud-optimised GeoTIFF and return its path.

    The bands are ``vx``, ``vy``, ``v``, their errors (m/yr) and ``count``, float32 with NaN where there is nothing; of what
    `ftrack.seasonal_fit` has found, trend, season and their errors follow.

    Parameters
    ----------
    cube : Dataset
        A cube, a single map, or what `ftrack.seasonal_fit` has found, with a CRS.
    path : str or path
        The ``.tif``.
    pair, dates, filled
        As in `ftrack.means.velocity_of`.

    Raises
    ------
    Stop
        There is no such pair, the cube has no CRS, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise Stop(f"{path.name}: a map is written as .tif")
    grid, bands = grid_of(cube), BANDS
    if "v_amp" in cube:
        bands, told = SEASON, f"mean, trend and season of {cube.attrs['pairs']} pairs, mean of {cube.attrs['reference_date']}"
        shown = cube[list(SEASON)].load().assign_attrs(shown=told)
    else:
        shown = velocity_of(cube, pair, dates=dates, filled=filled)
    profile = {
        "driver": "GTiff", "dtype": "float32", "nodata": np.nan, "count": len(bands), "height": grid.height, "width": grid.width,
        "crs": grid.crs, "transform": grid.transform, "tiled": True, "BIGTIFF": "IF_SAFER",
    }  # fmt: skip
    tags = {name: str(cube.attrs[name]) for name in KEPT if cube.attrs.get(name)}
    with _whole(path) as new, TemporaryDirectory(dir=new.parent) as folder:
        plain = Path(folder) / "plain.tif"
        with rasterio.open(plain, "w", **profile) as made:
            made.update_tags(**tags, shown=shown.attrs["shown"], units="meter/year", map_scale_corrected="1", velocity_frame="ground")
            for number, name in enumerate(bands, 1):
                units = "1" if name == "count" else shown[name].attrs.get("units", "meter/year")
                made.write(shown[name].values.astype(np.float32), number)
                made.set_band_description(number, name)
                made.set_band_unit(number, units)
                made.update_tags(number, units=units)
        # An overview of means of speeds would be faster than the ice.
        rasterio.shutil.copy(plain, new, driver="COG", COMPRESS="DEFLATE", PREDICTOR="YES", BLOCKSIZE=BLOCK, OVERVIEW_RESAMPLING="NEAREST")
    return path


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Give a path to write to that becomes the file when all is written; what was there before stays until then."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent, prefix=".ftrack-") as folder:
            new = Path(folder) / path.name
            yield new
            new.replace(path)
    except (OSError, rasterio.errors.RasterioError) as error:
        raise Stop(f"{path} cannot be written: {error}") from None
