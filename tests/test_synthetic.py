"""The simulated images move as their truth says: checked with a plain least-squares measurement of the grey values."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyproj
import pystac
import pytest
import rasterio
import shapely
from scipy.ndimage import map_coordinates

from ftrack.errors import Stop
from ftrack.scenes import find_scenes
from ftrack.synthetic import (
    TINY,
    Archive,
    ArchiveSettings,
    moving_pair,
    open_archive,
    sheared_pair,
    shifted_pair,
    simulate_archive,
)
from ftrack.synthetic.glacier import Glacier
from ftrack.synthetic.texture import sample, smooth_noise, spline_of


def measured_offset(reference: np.ndarray, secondary: np.ndarray, rounds: int = 4) -> np.ndarray:
    """Return (dx, dy) between two small images, by least squares on the grey values with gain and offset unknown."""
    rows, columns = np.mgrid[6 : reference.shape[0] - 6, 6 : reference.shape[1] - 6].astype(float)
    inner = reference[6:-6, 6:-6].astype(float).ravel()
    found = np.zeros(2)

    def at(x: float, y: float) -> np.ndarray:
        where = [rows + found[1] + y, columns + found[0] + x]
        return map_coordinates(secondary.astype(float), where, order=5, mode="mirror")

    for _ in range(rounds):
        slope_x, slope_y = (at(0.05, 0) - at(-0.05, 0)) / 0.1, (at(0, 0.05) - at(0, -0.05)) / 0.1
        columns_of_fit = [slope_x.ravel(), slope_y.ravel(), inner, np.ones(inner.size)]
        solved = np.linalg.lstsq(np.stack(columns_of_fit, axis=1), at(0, 0).ravel(), rcond=None)[0]
        found = found - solved[:2]
    return found


def carried_back(secondary: np.ndarray, truth, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the secondary read where the truth says that the features of (x, y) are."""
    dx, dy = truth(x, y)
    return map_coordinates(secondary.astype(float), [y + dy - 0.5, x + dx - 0.5], order=5, mode="mirror")


def test_a_shift_moves_features_right_and_down():
    pair = shifted_pair((96, 128), (3.0, -2.0), seed=4)
    assert np.allclose(pair.secondary[20:60, 30:90], pair.reference[22:62, 27:87], atol=1e-5)


@pytest.mark.parametrize("shift", [(0.37, -0.21), (-0.5, 0.5)])
def test_a_shift_is_exact_between_pixels(shift):
    pair = shifted_pair((128, 128), shift, seed=1)
    assert np.abs(measured_offset(pair.reference, pair.secondary) - shift).max() < 2e-4


def test_noise_is_a_share_of_the_texture_and_differs_between_the_images():
    still = shifted_pair((256, 256), (0, 0), seed=2)
    noisy = shifted_pair((256, 256), (0, 0), noise=0.3, seed=2)
    added = [noisy.reference - still.reference, noisy.secondary - still.secondary]
    assert still.reference.std() == pytest.approx(1, abs=1e-3)
    assert [a.std() for a in added] == pytest.approx([0.3, 0.3], rel=0.02)
    assert abs(np.corrcoef(added[0].ravel(), added[1].ravel())[0, 1]) < 0.02


def test_sheared_images_are_one_texture_where_the_truth_carries_it():
    pair = sheared_pair((256, 256), noise=0, changed=0, ramp=0, seed=3)
    y, x = np.mgrid[32.5:224, 32.5:224]
    back = carried_back(pair.secondary, pair.truth, x, y)
    assert np.abs(back - pair.reference[32:224, 32:224]).max() < 1e-2
    assert 11.5 < np.hypot(*pair.truth(128, 128)) < 12.5
    assert np.hypot(*pair.truth(128, 2)) < 0.1
    for top, left in ((8, 8), (68, 88), (118, 28)):
        chip = (slice(top, top + 40), slice(left, left + 40))
        assert np.abs(measured_offset(pair.reference[32:224, 32:224][chip], back[chip])).max() < 1e-3


def test_changed_ground_has_the_asked_share_and_another_texture():
    pair = sheared_pair((512, 512), noise=0, changed=0.06, ramp=0, seed=3)
    y, x = np.mgrid[40.5:472, 40.5:472]
    changed = pair.changed(x, y)
    back, here = carried_back(pair.secondary, pair.truth, x, y), pair.reference[40:472, 40:472]
    assert 0.03 < changed.mean() < 0.09
    assert abs(np.corrcoef(back[changed], here[changed])[0, 1]) < 0.1
    assert np.corrcoef(back[~changed], here[~changed])[0, 1] > 0.99


def test_any_smooth_field_moves_the_ground_and_a_folding_one_is_refused():
    def field(x, y):
        return 2 * np.sin(np.asarray(y) / 20) + 0.02 * np.asarray(x), np.cos(np.asarray(x) / 25) + 0 * np.asarray(y)

    pair = moving_pair((160, 160), field, seed=5)
    y, x = np.mgrid[20.5:140, 20.5:140]
    assert np.abs(carried_back(pair.secondary, pair.truth, x, y) - pair.reference[20:140, 20:140]).max() < 5e-3
    with pytest.raises(Stop, match="folds the ground"):
        moving_pair((64, 64), lambda x, y: (3 * np.sin(x), 0 * y))


def test_the_same_seed_gives_the_same_pair():
    one, two, other = (sheared_pair((64, 64), seed=s) for s in (1, 1, 2))
    assert np.array_equal(one.secondary, two.secondary)
    assert not np.array_equal(one.secondary, other.secondary)


def test_the_cubic_spline_is_scipys():
    spline = spline_of(smooth_noise((40, 60), 1.5, 0), 3)
    x, y = np.random.default_rng(0).uniform(-100, 200, (2, 30, 7))
    expected = map_coordinates(spline, [y - 0.5, x - 0.5], order=3, mode="grid-wrap", prefilter=False)
    assert np.allclose(sample(spline, x, y, 3), expected, atol=1e-12)


GLACIER = Glacier(400, 600, 1.5)


def test_the_closed_form_of_the_paths_agrees_with_integrating_the_velocity():
    x, y, days = np.random.default_rng(1).uniform([[0], [0], [-60]], [[600], [400], [60]], (3, 500))
    at, step = np.array([x, y]), days / 300
    for _ in range(300):
        first = np.array(GLACIER.velocity(*at))
        second = np.array(GLACIER.velocity(*(at + step / 2 * first)))
        third = np.array(GLACIER.velocity(*(at + step / 2 * second)))
        fourth = np.array(GLACIER.velocity(*(at + step * third)))
        at = at + step / 6 * (first + 2 * second + 2 * third + fourth)
    assert np.abs(np.array(GLACIER.carry(x, y, days)) - at).max() < 1e-6
    assert np.abs(at - (x, y)).max() > 60


def test_the_highest_speed_is_as_asked_and_rock_stands_still():
    y, x = np.mgrid[0:400.0, 0:600.0]
    speed = np.hypot(*GLACIER.velocity(x, y))
    assert speed.max() == pytest.approx(1.5, rel=1e-3)
    assert speed[GLACIER.is_rock(x, y)].max() == 0
    assert 0.2 < GLACIER.is_rock(x, y).mean() < 0.5


CALM = {"noise": 0, "cloud": 0, "illumination": 0, "swath_edges": 0, "memory": None}


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Return an archive that only moves."""
    settings = ArchiveSettings(shape=(320, 320), scenes=3, days=8, max_speed=1200, seed=7, **CALM)
    return simulate_archive(tmp_path_factory.mktemp("calm"), settings)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Return the small archive for tests, with some cloud and a swath edge."""
    return simulate_archive(tmp_path_factory.mktemp("tiny"), TINY)


def pixels_of(archive: Archive, index: int, asset: str = "nir") -> np.ndarray:
    with rasterio.open(archive.folder / f"{archive.scenes[index].id}_{asset}.tif") as image:
        return image.read(1)


def map_places(archive: Archive, columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    settings = archive.settings
    return settings.left + columns * settings.resolution, settings.top - rows * settings.resolution


def test_rock_shows_the_difference_of_the_geolocation_errors(calm):
    y, x = np.mgrid[0.5:320, 0.5:320]
    rock = calm.rock(*map_places(calm, x, y))
    top, left = next((r, c) for r in range(0, 272, 8) for c in range(0, 272, 8) if rock[r : r + 48, c : c + 48].all())
    chip = (slice(top, top + 48), slice(left, left + 48))
    for first, second in ((0, 1), (0, 2), (1, 2)):
        ids = calm.scenes[first].id, calm.scenes[second].id
        found = measured_offset(pixels_of(calm, first)[chip], pixels_of(calm, second)[chip])
        assert np.abs(found - calm.pair_shift(*ids)).max() < 0.003
        assert np.abs(calm.pair_shift(*ids)).max() > 0.05
        here = map_places(calm, x[chip], y[chip])
        assert np.abs(calm.true_displacement(*ids, *here)).max() < 1e-12


@pytest.mark.parametrize(("first", "second"), [(0, 1), (0, 2), (2, 1)])
def test_ice_is_where_the_truth_carries_it(calm, first, second):
    ids = calm.scenes[first].id, calm.scenes[second].id
    shift = calm.pair_shift(*ids)
    reference, secondary = pixels_of(calm, first), pixels_of(calm, second)
    largest = 0.0
    for top in range(24, 264, 24):
        for left in (40, 136, 232):
            y, x = np.mgrid[top + 0.5 : top + 36, left + 0.5 : left + 36]
            dx, dy = calm.true_displacement(*ids, *map_places(calm, x, y))
            back = carried_back(secondary, lambda x, y, dx=dx, dy=dy: (dx + shift[0], dy + shift[1]), x, y)
            chip = reference[top : top + 36, left : left + 36]
            assert np.abs(measured_offset(chip, back)).max() < 0.005
            largest = max(largest, np.abs(dx).max())
    assert largest > 1.5


def test_the_displacement_belongs_to_what_the_reference_shows(calm):
    ids = calm.scenes[0].id, calm.scenes[1].id
    shift = calm.scene_shift(ids[0])
    column, row = np.float64(160.0), np.float64(92.0)
    shown = map_places(calm, column + shift[0], row + shift[1])
    days = calm.scenes[1].flow_day - calm.scenes[0].flow_day
    moved = np.array(calm.glacier.carry(column, row, days)) - (column, row)
    assert np.allclose(calm.true_displacement(*ids, *shown), moved, atol=1e-9)


def test_velocity_is_ground_metres_per_year_east_and_north(calm):
    x, y = map_places(calm, np.array([160.0, 40.0]), np.array([150.0, 160.0]))
    scale = pyproj.Proj(32622).get_factors(*pyproj.Transformer.from_crs(32622, 4326, always_xy=True).transform(x, y)).meridional_scale
    before, after = (calm.scenes[i] for i in (0, 1))
    dx, dy = calm.true_displacement(before.id, after.id, x, y)
    vx, vy = calm.true_pair_velocity(before.id, after.id, x, y)
    assert np.allclose(vx, dx * 10 / scale / 8 * 365.25, rtol=1e-12)
    assert np.allclose(vy, -dy * 10 / scale / 8 * 365.25, rtol=1e-12)
    assert (vx < -300).all() and (np.abs(scale - 1) > 1e-4).all()
    middle = calm.true_velocity(x, y, before.time + timedelta(days=4))
    assert np.allclose(middle[0], vx, rtol=0.02)


def test_ice_is_fastest_in_july(calm):
    x, y = map_places(calm, np.float64(160), np.float64(160))
    speed = [np.hypot(*calm.true_velocity(x, y, datetime(2021, month, 19, tzinfo=UTC))) for month in range(1, 13)]
    assert np.argmax(speed) == 6
    assert max(speed) / min(speed) == pytest.approx(1.3 / 0.7, rel=0.01)
    assert calm.true_velocity(x, y, np.datetime64("2021-07-19T00:00:00")) == calm.true_velocity(x, y, datetime(2021, 7, 19, tzinfo=UTC))


def test_ice_slowly_changes_its_look_and_rock_does_not(tmp_path):
    archive = simulate_archive(
        tmp_path, ArchiveSettings(**{**CALM, "memory": 90, "shift": 0, "max_speed": 0, "scenes": 3, "days": 45, "shape": (256, 256)})
    )
    first, middle, last = (pixels_of(archive, i).astype(float) for i in range(3))
    y, x = np.mgrid[0.5:256, 0.5:256]
    rock = np.abs(archive.glacier.flow_line(x, y)) > 1.4
    ice = (slice(112, 144), slice(20, 230))
    assert np.corrcoef(first[ice].ravel(), middle[ice].ravel())[0, 1] == pytest.approx(np.cos(np.pi / 4), abs=0.1)
    assert abs(np.corrcoef(first[ice].ravel(), last[ice].ravel())[0, 1]) < 0.2
    assert np.array_equal(first[rock], last[rock])


def test_the_images_are_cloud_optimised_and_in_range(tiny):
    for index, scene in enumerate(tiny.scenes):
        for asset, dtype, size, step in (("nir", "uint16", 256, 10), ("scl", "uint8", 128, 20)):
            with rasterio.open(tiny.folder / f"{scene.id}_{asset}.tif") as image:
                assert image.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
                assert (image.dtypes[0], image.shape, image.nodata) == (dtype, (size, size), 0)
                assert image.crs == "EPSG:32622"
                assert image.transform[:6] == (step, 0, 540000, 0, -step, 7680000)
        seen = pixels_of(tiny, index)
        clear = pixels_of(tiny, index, "scl").repeat(2, 0).repeat(2, 1)
        assert np.percentile(seen[(clear == 5) | (clear == 11)], 1) > 1000
        assert np.percentile(seen[(clear == 5) | (clear == 11)], 99) < 6500


def test_cloud_and_swath_edge_are_where_the_archive_says(tiny):
    y, x = np.mgrid[1.0:256:2, 1.0:256:2]
    here = map_places(tiny, x, y)
    cut = 0
    for index, scene in enumerate(tiny.scenes):
        classes = pixels_of(tiny, index, "scl")
        cloud, inside = tiny.cloud(scene.id, *here), tiny.inside(scene.id, *here)
        assert not (np.isin(classes, (8, 9)) & ~cloud).sum() > 0.002 * classes.size
        assert ((cloud & inside) & ~np.isin(classes, (8, 9, 0))).any() or not cloud.any()
        assert (~inside == (classes == 0)).mean() > 0.98
        rock = tiny.rock(*map_places(tiny, x - scene.shift[0], y - scene.shift[1]))
        sure = (classes == 5) | (classes == 11)
        assert (rock == (classes == 5))[sure].mean() > 0.98
        cut += (pixels_of(tiny, index) == 0).mean() > 0.02
    assert cut == 1
    assert 0.02 < np.mean([tiny.cloud(s.id, *here).mean() for s in tiny.scenes]) < 0.2


def test_clear_keeps_its_distance_from_cloud_edge_and_frame(tiny):
    scene = max(tiny.scenes, key=lambda s: s.cloud).id
    y, x = np.mgrid[0.5:256, 0.5:256]
    hidden = tiny.cloud(scene, *map_places(tiny, x, y)) | ~tiny.inside(scene, *map_places(tiny, x, y))
    rows, columns = np.mgrid[8:256:16, 8:256:16]
    found = tiny.clear(scene, *map_places(tiny, columns + 0.5, rows + 0.5), reach=12)
    expected = np.array(
        [
            [min(r, c, 255 - r, 255 - c) >= 12 and not hidden[max(r - 12, 0) : r + 13, max(c - 12, 0) : c + 13].any() for c in columns[0]]
            for r in rows[:, 0]
        ]
    )
    assert np.array_equal(found, expected)
    assert 0.1 < found.mean() < 0.9


def test_the_collection_is_stac(tiny):
    collection = pystac.Collection.from_file(str(tiny.collection))
    items = list(collection.get_items())
    assert [item.id for item in items] == [scene.id for scene in tiny.scenes]
    times = [item.datetime for item in items]
    assert times == sorted(times) and times == [scene.time for scene in tiny.scenes]
    assert collection.extent.temporal.intervals == [[times[0], times[-1]]]
    for item, scene in zip(items, tiny.scenes, strict=True):
        assert item.properties["proj:code"] == "EPSG:32622"
        assert item.properties["platform"] == scene.platform
        assert 0 <= item.properties["eo:cloud_cover"] <= 100
        assert shapely.box(*item.bbox).covers(shapely.geometry.shape(item.geometry))
        assert shapely.geometry.shape(item.geometry).exterior.is_ccw
        assert Path(item.assets["nir"].get_absolute_href()).exists()
        raw = json.loads((tiny.folder / f"{item.id}.json").read_text())
        assert raw["stac_version"] == "1.1.0"
        assert raw["assets"]["scl"]["proj:shape"] == [128, 128]


def test_the_search_finds_every_scene_and_names_its_image_as_the_archive_does(tiny):
    found = find_scenes(str(tiny.collection))
    assert [(s.id, s.image_id, s.platform, s.time) for s in found] == [(s.id, s.image_id, s.platform, s.time) for s in tiny.scenes]
    assert [s.orbit for s in found] == [f"R{s.orbit:03d}" for s in tiny.scenes]
    assert found[0].assets["nir"].crs == tiny.crs
    assert tiny.scene_shift(found[1].image_id) == tiny.scene_shift(found[1].id)


def test_the_outlines_are_the_rock_and_the_ice(tiny):
    to_map = pyproj.Transformer.from_crs(4326, 32622, always_xy=True)

    def read(path: Path) -> shapely.Geometry:
        outlines = shapely.from_geojson(path.read_text())
        return shapely.transform(shapely.union_all(outlines), lambda c: np.column_stack(to_map.transform(c[:, 0], c[:, 1])))

    rock, ice = read(tiny.rock_outline), read(tiny.glacier_outline)
    y, x = np.mgrid[2.0:255:4, 2.0:255:4]
    px, py = map_places(tiny, x, y)
    inside = shapely.contains_xy(rock, px, py)
    assert (inside == tiny.rock(px, py)).mean() > 0.999
    assert (shapely.contains_xy(ice, px, py) == ~tiny.rock(px, py)).mean() > 0.999
    assert 0.1 < inside.mean() < 0.6


def test_the_same_settings_give_the_same_bytes_and_another_seed_does_not(tiny, tmp_path):
    again = simulate_archive(tmp_path / "again", TINY)
    names = sorted(path.name for path in tiny.folder.iterdir())
    assert names == sorted(path.name for path in again.folder.iterdir())
    assert all((tiny.folder / name).read_bytes() == (again.folder / name).read_bytes() for name in names)
    other = simulate_archive(tmp_path / "other", TINY.model_copy(update={"seed": 1}))
    assert not np.array_equal(pixels_of(tiny, 0), pixels_of(other, 0))


def test_a_whole_archive_is_used_again_and_another_is_not_overwritten(tiny):
    image = tiny.folder / f"{tiny.scenes[0].id}_nir.tif"
    written = image.stat().st_mtime_ns
    assert simulate_archive(tiny.folder, TINY) == tiny == open_archive(tiny.folder)
    assert image.stat().st_mtime_ns == written
    with pytest.raises(Stop, match="other settings"):
        simulate_archive(tiny.folder, ArchiveSettings(seed=5))


def test_a_half_written_archive_is_written_again(tmp_path):
    settings = ArchiveSettings(shape=(64, 64), scenes=1, max_speed=100)
    archive = simulate_archive(tmp_path, settings)
    (tmp_path / "archive.json").unlink()
    archive.collection.write_text("{")
    with pytest.raises(Stop, match="holds no simulated archive"):
        open_archive(tmp_path)
    simulate_archive(tmp_path, settings)
    assert json.loads(archive.collection.read_text())["type"] == "Collection"
    assert not list(tmp_path.glob("*.part"))


def test_mistakes_are_named(tiny, tmp_path):
    with pytest.raises(Stop, match="did you mean"):
        tiny.scene_shift(tiny.scenes[0].id + "x")
    with pytest.raises(Stop, match="set memory to at most 52 days"):
        simulate_archive(tmp_path, ArchiveSettings(max_speed=11000))
    with pytest.raises(Stop, match="even and at least 64"):
        simulate_archive(tmp_path, ArchiveSettings(shape=(255, 256)))
    assert not list(tmp_path.iterdir())
    assert tiny.scene_at(tiny.scenes[2].time + timedelta(hours=3)) == tiny.scenes[2]
