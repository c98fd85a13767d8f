"""The simulated archive and its truth: how far, and how fast, everything moved, free of any measurement."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyproj
from scipy.ndimage import maximum_filter

from ftrack.errors import Stop
from ftrack.schema import DAYS_PER_YEAR
from ftrack.settings import nearest
from ftrack.synthetic.collection import collection_of, write_outlines, write_scene, write_text
from ftrack.synthetic.glacier import Glacier
from ftrack.synthetic.scene import THIN, ArchiveSettings, SceneFacts, draw_image, draw_scenes, has_data, make_glacier, opacity_at, season_at
from ftrack.synthetic.texture import Array

FACTS = "archive.json"


def simulate_archive(folder: str | Path, settings: ArchiveSettings | None = None) -> Archive:
    """Write scenes of a fast outlet glacier, with their STAC collection, into a folder.

    The same settings give the same bytes. A folder that already holds this archive is used as it is; one that
    was left half written is written again.

    Parameters
    ----------
    folder : path
        Where the files go; it is made if need be.
    settings : ArchiveSettings, optional
        What to simulate.

    Returns
    -------
    Archive
        The files and the truth.

    Raises
    ------
    Stop
        The folder holds another archive, or the settings are impossible (see `check_settings`).
    """
    settings = settings or ArchiveSettings()
    folder = Path(folder)
    if (folder / FACTS).exists():
        archive = open_archive(folder)
        if archive.settings != settings:
            raise Stop(f"{folder} holds a simulated archive with other settings; choose another folder or delete this one")
        return archive
    check_settings(settings)
    folder.mkdir(parents=True, exist_ok=True)
    items = [write_scene(folder, settings, scene, *draw_image(settings, scene)) for scene in draw_scenes(settings)]
    write_outlines(folder, settings, make_glacier(settings))
    write_text(folder / "collection.json", collection_of(settings, items))
    write_text(folder / FACTS, settings.model_dump(mode="json"))
    return Archive(folder, settings)


def check_settings(settings: ArchiveSettings) -> None:
    """Raise ``Stop`` where the settings cannot make images of which the truth is right.

    Ice that keeps its look while it travels far is sheared, in the margins, to detail finer than the pixels.
    """
    if any(side % 2 or side < 64 for side in settings.shape):
        raise Stop(f"shape: {settings.shape} is not possible; rows and columns must be even and at least 64")
    speed = settings.max_speed / settings.resolution / DAYS_PER_YEAR * (1 + settings.season)
    kept = (settings.scenes - 1) * settings.days if settings.memory is None else settings.memory
    longest = 0.2 * min(settings.shape) / speed if speed > 0 else np.inf
    if kept > longest:
        fault = f"max_speed: ice that keeps its look for {kept:g} days is sheared beyond recognition at {settings.max_speed:g} m/yr"
        raise Stop(f"{fault}; set memory to at most {np.floor(longest):g} days, lower max_speed, or make the scenes larger")


def open_archive(folder: str | Path) -> Archive:
    """Return the archive that `simulate_archive` wrote into a folder.

    Raises
    ------
    Stop
        There is no whole archive in the folder.
    """
    facts = Path(folder) / FACTS
    if not facts.exists():
        raise Stop(f"{folder} holds no simulated archive ({FACTS} is missing); make one with simulate_archive")
    return Archive(Path(folder), ArchiveSettings.read(json.loads(facts.read_text()), str(facts)))


@dataclass(frozen=True)
class Archive:
    """A simulated archive in a folder, and its truth.

    Places are map coordinates (x, y) in the archive's CRS, any shapes that broadcast. A place in an image is where the
    image shows it, geolocation error included. Scenes are named by the ids of their
    STAC items or of their images (passes), as pairs and cubes name them.
    """

    folder: Path
    settings: ArchiveSettings

    @property
    def collection(self) -> Path:
        """The STAC collection."""
        return self.folder / "collection.json"

    @property
    def rock_outline(self) -> Path:
        """GeoJSON of the ground that never moves, in longitude and latitude."""
        return self.folder / "rock.geojson"

    @property
    def glacier_outline(self) -> Path:
        """GeoJSON of the ground that moves, in longitude and latitude."""
        return self.folder / "glacier.geojson"

    @property
    def crs(self) -> str:
        """CRS of the images."""
        return f"EPSG:{self.settings.epsg}"

    @cached_property
    def scenes(self) -> tuple[SceneFacts, ...]:
        """What was drawn for every scene, by time."""
        return draw_scenes(self.settings)

    @cached_property
    def glacier(self) -> Glacier:
        """The flow."""
        return make_glacier(self.settings)

    def scene(self, scene_id: str) -> SceneFacts:
        """Return what was drawn for a scene, named by its item or by its image."""
        for scene in self.scenes:
            if scene_id in (scene.id, scene.image_id):
                return scene
        raise Stop(f"the archive has no scene {scene_id!r}; {nearest(scene_id, [s.id for s in self.scenes])}")

    def scene_at(self, time: datetime | np.datetime64) -> SceneFacts:
        """Return what was drawn for the scene taken closest to a time (UTC)."""
        day = self._day(time)
        return min(self.scenes, key=lambda scene: abs(scene.day - day))

    def scene_shift(self, scene_id: str) -> tuple[float, float]:
        """Return the geolocation error (dx, dy) of a scene, px, + = right, down."""
        return self.scene(scene_id).shift

    def pair_shift(self, reference: str, secondary: str) -> tuple[float, float]:
        """Return the displacement (dx, dy) of still ground between two scenes, px, + = right, down."""
        before, after = self.scene_shift(reference), self.scene_shift(secondary)
        return after[0] - before[0], after[1] - before[1]

    def true_displacement(self, reference: str, secondary: str, x: Array, y: Array) -> tuple[Array, Array]:
        """Return how far the ground moved between two scenes, geolocation errors left out.

        Parameters
        ----------
        reference, secondary : str
            Item or image ids.
        x, y : ndarray
            Where the reference shows the feature.

        Returns
        -------
        dx, dy : ndarray
            px, + = right, down. Add `pair_shift` for what the two images show. NaN where the ice runs more than two
            widths out of the scene.
        """
        before, after = self.scene(reference), self.scene(secondary)
        column, row = self._on_ground(x, y, before)
        to_column, to_row = self.glacier.carry(column, row, after.flow_day - before.flow_day)
        return to_column - column, to_row - row

    def true_pair_velocity(self, reference: str, secondary: str, x: Array, y: Array) -> tuple[Array, Array]:
        """Return the mean velocity (vx, vy) between two scenes of what the reference shows at (x, y).

        Ground metres per year, + = east, north of the grid.
        """
        dx, dy = self.true_displacement(reference, secondary, x, y)
        days = self.scene(secondary).day - self.scene(reference).day
        return self._per_year(dx / days, dy / days, x, y)

    def true_velocity(self, x: Array, y: Array, time: datetime | np.datetime64) -> tuple[Array, Array]:
        """Return the velocity (vx, vy) of the ground at its true place and at a time (UTC).

        Ground metres per year, + = east, north of the grid.
        """
        season = season_at(self.settings, self._day(time))
        u, v = self.glacier.velocity(*self._pixels(x, y))
        return self._per_year(season * u, season * v, x, y)

    def rock(self, x: Array, y: Array) -> Array:
        """Return True where the ground never moves."""
        return self.glacier.is_rock(*self._pixels(x, y))

    def cloud(self, scene_id: str, x: Array, y: Array) -> Array:
        """Return True where a scene has cloud, also where it is too thin for the mask to know."""
        return np.asarray(opacity_at(self.settings, self.scene(scene_id), *self._pixels(x, y)) > THIN)

    def inside(self, scene_id: str, x: Array, y: Array) -> Array:
        """Return True where a scene has data: within its edges and its swath."""
        return has_data(self.settings, self.scene(scene_id), *self._pixels(x, y))

    def clear(self, scene_id: str, x: Array, y: Array, reach: int = 0) -> Array:
        """Return True where a scene has data and no cloud anywhere within ``reach`` px to all four sides."""
        height, width = self.settings.shape
        scene = self.scene(scene_id)
        rows, columns = np.ogrid[0.5 - reach : height + reach, 0.5 - reach : width + reach]
        hidden = ~has_data(self.settings, scene, columns, rows) | (opacity_at(self.settings, scene, columns, rows) > THIN)
        column, row = self._pixels(*np.broadcast_arrays(x, y))
        at = [np.floor(v + reach).astype(int) for v in (row, column)]
        known = (at[0] >= 0) & (at[0] < hidden.shape[0]) & (at[1] >= 0) & (at[1] < hidden.shape[1])
        if reach:
            hidden = maximum_filter(hidden, size=2 * reach + 1, mode="constant", cval=True)
        row_inside, column_inside = (np.clip(v, 0, side - 1) for v, side in zip(at, hidden.shape, strict=True))
        return np.asarray(known & ~hidden[row_inside, column_inside])

    def _day(self, time: datetime | np.datetime64) -> float:
        """Return a time (UTC) as days since the first scene."""
        known = pd.Timestamp(time)
        known = known.tz_localize(UTC) if known.tzinfo is None else known
        return float((known - pd.Timestamp(self.scenes[0].time)) / pd.Timedelta(days=1))

    def _pixels(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Return map coordinates as pixel corners of an image."""
        step = self.settings.resolution
        return (np.asarray(x, float) - self.settings.left) / step, (self.settings.top - np.asarray(y, float)) / step

    def _on_ground(self, x: Array, y: Array, scene: SceneFacts) -> tuple[Array, Array]:
        """Return the true place, in pixel corners, of what a scene shows at (x, y)."""
        column, row = self._pixels(x, y)
        return column - scene.shift[0], row - scene.shift[1]

    def _per_year(self, dx: Array, dy: Array, x: Array, y: Array) -> tuple[Array, Array]:
        """Return px per day, right and down, as ground metres per year, east and north of the grid."""
        x, y = np.broadcast_arrays(x, y)
        crs = pyproj.CRS(self.settings.epsg)
        lon, lat = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True).transform(x, y)
        scale = pyproj.Proj(crs).get_factors(lon, lat).meridional_scale
        rate = self.settings.resolution * DAYS_PER_YEAR / np.asarray(scale)
        return dx * rate, -dy * rate
