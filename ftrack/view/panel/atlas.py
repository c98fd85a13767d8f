"""The map of the panel: its projections, what lies behind it, and the lines of longitude and latitude."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import ipyleaflet
import numpy as np
import pyproj
import shapely.geometry
import xyzservices.providers as xyz
from ipywidgets import Layout

from ftrack.layers import Sheet


class Projection(NamedTuple):
    """One way to draw the globe.

    Its name and CRS, metres of a pixel at zoom 0, metres from the origin to the left and to the top, the CRS as ipyleaflet takes
    it, and where to begin.
    """

    name: str
    code: str
    coarsest: float
    edge: float
    crs: dict[str, Any]
    centre: tuple[float, float]
    zoom: int
    satellite: Any
    latitudes: tuple[int, int]


def _polar(code: str, definition: str, blue_marble: Any, latitudes: tuple[int, int]) -> Projection:
    edge = 4194304.0
    sides = [[-edge, -edge], [edge, edge]]
    resolutions = [16384.0 / 2**level for level in range(14)]
    crs = {"name": code, "custom": True, "proj4def": definition, "origin": [-edge, edge], "bounds": sides, "resolutions": resolutions}
    pole = latitudes[1] if latitudes[1] == 90 else latitudes[0]
    name = f"{'Arctic' if pole > 0 else 'Antarctic'} ({code})"
    return Projection(name, code, resolutions[0], edge, crs, (pole * 0.87, -42.0 if pole > 0 else 0.0), 1, blue_marble, latitudes)


_STERE = "+proj=stere +k=1 +x_0=0 +y_0=0 +ellps=WGS84 +datum=WGS84 +units=m +no_defs"
PROJECTIONS = {
    "mercator": Projection(
        "Mercator",
        "EPSG:3857",
        156543.03392804097,
        20037508.342789244,
        ipyleaflet.projections.EPSG3857,
        (60.0, -45.0),
        3,
        xyz.Esri.WorldImagery,
        (-80, 80),
    ),
    "arctic": _polar("EPSG:3413", f"{_STERE} +lat_0=90 +lat_ts=70 +lon_0=-45", xyz.NASAGIBS.BlueMarble3413, (50, 90)),
    "antarctic": _polar("EPSG:3031", f"{_STERE} +lat_0=-90 +lat_ts=-71 +lon_0=0", xyz.NASAGIBS.BlueMarble3031, (-90, -50)),
}

SIDE = 560
"""Pixels of the map that an area may fill."""

AREA, SHADE, STRONG = "#c8322b", "#5b6b7b", "#1f4e79"


class View(NamedTuple):
    """What of the globe a map shows: latitude and longitude of its middle, and its zoom."""

    lat: float
    lon: float
    zoom: int


def view_of(projection: str, bounds: tuple[float, float, float, float]) -> View:
    """Return the view that shows a box (west, south, east, north in degrees) as large as it can be."""
    chosen = PROJECTIONS[projection]
    to_map = pyproj.Transformer.from_crs("EPSG:4326", chosen.code, always_xy=True)
    low, high = chosen.latitudes
    west, south, east, north = bounds
    left, bottom, right, top = to_map.transform_bounds(west, max(south, low), east, min(north, high))
    lon, lat = to_map.transform((left + right) / 2, (bottom + top) / 2, direction="INVERSE")
    step = max((right - left) / SIDE, (top - bottom) / SIDE, chosen.coarsest / 2**17)
    return View(float(lat), float(lon), max(0, math.floor(math.log2(chosen.coarsest / step))))


def sheet_of_map(shown: ipyleaflet.Map, projection: str) -> tuple[Sheet, int] | None:
    """Return what a map shows, and its width in pixels; None before the browser has said so."""
    if not shown.pixel_bounds:
        return None
    chosen, (first, last) = PROJECTIONS[projection], shown.pixel_bounds
    step = chosen.coarsest / 2**shown.zoom
    (left, right), (top, bottom) = ((step * first[i] - chosen.edge, step * last[i] - chosen.edge) for i in (0, 1))
    return Sheet(chosen.code, left, -bottom, right, -top), round(last[0] - first[0])


def new_map(projection: str, background: str, view: View | None = None, layers: tuple[ipyleaflet.Layer, ...] = ()) -> ipyleaflet.Map:
    """Return a map; without a background it asks nobody for anything.

    Parameters
    ----------
    projection : str
        One of ``PROJECTIONS``.
    background : str
        ``satellite``, the address of map tiles with ``{z}/{x}/{y}``, or empty.
    view : View, optional
        What it shows; where the projection begins, if left out.
    layers : tuple
        What else is on it.
    """
    chosen = PROJECTIONS[projection]
    lat, lon, zoom = view or (*chosen.centre, chosen.zoom)
    behind: list[ipyleaflet.Layer] = []
    if background:
        source = chosen.satellite if background == "satellite" else background
        behind = [ipyleaflet.basemap_to_tiles(source) if background == "satellite" else ipyleaflet.TileLayer(url=source)]
    made = ipyleaflet.Map(
        crs=chosen.crs, center=(lat, lon), zoom=zoom, scroll_wheel_zoom=True, layout=Layout(flex="1 1 240px", min_height="240px"),
        layers=(*behind, graticule(chosen.latitudes), *layers), attribution_control=bool(behind),
        # While a zoom is animated, pictures are placed by all corners of a box in degrees, which is no box on a polar map.
        zoom_animation_threshold=4 if projection == "mercator" else 0,
    )  # fmt: skip
    made.add(ipyleaflet.ScaleControl(position="bottomleft", imperial=False))
    return made


def drawn(name: str, shape: shapely.Geometry) -> ipyleaflet.GeoJSON:
    """Return outlines of glaciers, or flow lines, as a layer."""
    style = {"color": STRONG if name == "outlines" else AREA, "weight": 1.2, "fillOpacity": 0.0, "interactive": False}
    data = {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(shape)}
    return ipyleaflet.GeoJSON(name=name, data=data, style=style)


def graticule(latitudes: tuple[int, int], step: int = 10) -> ipyleaflet.GeoJSON:
    """Return the meridians and parallels of a band of latitudes, every ten degrees."""
    south, north = latitudes
    up, along = np.arange(south, north + 1, 1.0), np.arange(-180.0, 181.0, 2.0)
    meridians = [np.stack([np.full(up.size, lon), up], 1) for lon in range(-180, 180, step)]
    parallels = [np.stack([along, np.full(along.size, lat)], 1) for lat in range(south, north + 1, step) if abs(lat) < 90]
    shape = {"type": "MultiLineString", "coordinates": [line.tolist() for line in (*meridians, *parallels)]}
    style = {"color": "#8a97a5", "weight": 0.6, "opacity": 0.7, "interactive": False}
    return ipyleaflet.GeoJSON(name="graticule", data={"type": "Feature", "properties": {}, "geometry": shape}, style=style)
