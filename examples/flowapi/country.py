"""Velmara: an invented country with three nested levels of regions, drawn from a fixed seed."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray

Points: TypeAlias = NDArray[np.float64]
"""A row for each point: longitude and latitude in degrees, or displacements from the country's middle."""

UNITS: Final = ("admin0", "admin1", "admin2", "admin3")
"""The spatial units of the country, from the coarsest to the finest."""

_CODE: Final = "VM"
_MIDDLE: Final = (63.2, -11.4)  # in the Indian Ocean, far from any real land
_PROVINCES, _DISTRICTS, _WARDS = 6, 24, 120
_COAST_POINTS: Final = 240


@dataclass(frozen=True)
class Region:
    """A region of one unit; `pcod` is its code, `shape` a shapely MultiPolygon."""

    pcod: str
    shape: Any

    @property
    def geometry(self) -> dict[str, Any]:
        """The shape in GeoJSON: a MultiPolygon with coordinates in degrees."""
        parts = shapely.get_parts(self.shape)
        return {"type": "MultiPolygon", "coordinates": [[_ring(part.exterior)] for part in parts]}

    @cached_property
    def centroid(self) -> dict[str, Any]:
        """The shape's centre in GeoJSON: a Point."""
        return {"type": "Point", "coordinates": [round(self.shape.centroid.x, 9), round(self.shape.centroid.y, 9)]}


@dataclass(frozen=True)
class Country:
    """The regions of each unit, and the region of each ward (a region of the finest unit).

    A region is identified by its index in `regions[unit]`; `ward_regions[unit][ward]` is such an index. `centres` are
    the centres of the wards.
    """

    regions: Mapping[str, tuple[Region, ...]]
    ward_regions: Mapping[str, NDArray[np.int64]]
    centres: Points

    @property
    def wards(self) -> int:
        """The number of wards."""
        return len(self.centres)


def draw_country(seed: int) -> Country:
    """Draw the country; the same seed gives the same one."""
    rng = np.random.default_rng(seed)
    mainland = _island(rng, middle=(0.0, 0.0), radii=(1.75, 1.15))
    islands = [
        _island(rng, middle=(1.95, -1.25), radii=(0.33, 0.2)),
        _island(rng, middle=(-1.75, 1.25), radii=(0.22, 0.15)),
        _island(rng, middle=(2.5, -0.8), radii=(0.13, 0.1)),
    ]
    wards = np.vstack([_scatter(rng, mainland, _WARDS), *[shapely.get_coordinates(i.centroid) for i in islands]])
    districts = _scatter(rng, mainland, _DISTRICTS)
    provinces = _scatter(rng, mainland, _PROVINCES)
    codes = _codes(wards, districts, provinces)
    cells = _cells(wards, shapely.union_all([mainland, *islands]))
    return _country(cells[np.argsort(codes)], np.sort(codes))


def _island(rng: np.random.Generator, *, middle: tuple[float, float], radii: tuple[float, float]) -> Any:
    """Return a polygon with a ragged coast."""
    angles = np.linspace(0, 2 * np.pi, _COAST_POINTS, endpoint=False)
    waves = np.arange(2, 25)[:, None]
    heights = rng.normal(0.33, 0.13, waves.shape) / waves**1.25
    reach = 1 + np.sum(heights * np.cos(waves * angles + rng.uniform(0, 2 * np.pi, waves.shape)), axis=0)
    return shapely.Polygon(np.array(middle) + np.array(radii) * (reach * [np.cos(angles), np.sin(angles)]).T)


def _scatter(rng: np.random.Generator, area: Any, count: int) -> Points:
    """Return `count` points inside `area`, more evenly spread than random ones."""
    points: Points = rng.uniform(-3, 3, (count * 40, 2))
    points = points[shapely.contains_xy(area, points)][:count]
    for _ in range(6):
        points = shapely.get_coordinates(shapely.centroid(_cells(points, area)))
    return points


def _cells(points: Points, area: Any) -> NDArray[np.object_]:
    """Divide `area` into the cells nearest to each of `points`, in the order of the points."""
    diagram = shapely.voronoi_polygons(shapely.MultiPoint(points), extend_to=area.buffer(1), ordered=True)
    cells: NDArray[np.object_] = shapely.intersection(shapely.get_parts(diagram), area)
    return cells


def _codes(wards: Points, districts: Points, provinces: Points) -> NDArray[np.str_]:
    """Return the code of each ward, which belongs to the nearest district, and that to the nearest province."""
    provinces = provinces[np.argsort(-provinces[:, 1])]
    province_of_district = _nearest(districts, provinces)
    district_of_ward = _nearest(wards, districts)
    counted: dict[tuple[int, ...], int] = {}
    numbers: dict[tuple[int, ...], int] = {}
    codes = []
    for ward, district in enumerate(district_of_ward):
        path = (int(province_of_district[district]), int(district), ward)
        for depth in (1, 2, 3):
            if path[:depth] not in numbers:
                numbers[path[:depth]] = counted[path[: depth - 1]] = counted.get(path[: depth - 1], 0) + 1
        first, second, third = (numbers[path[:depth]] for depth in (1, 2, 3))
        codes.append(f"{_CODE} {first} {second:02} {third:02}")
    return np.array(codes)


def _nearest(points: Points, others: Points) -> NDArray[np.int64]:
    """Return the index of the nearest of `others` for each point."""
    nearest: NDArray[np.int64] = np.linalg.norm(points[:, None] - others[None], axis=2).argmin(axis=1)
    return nearest


def _country(cells: NDArray[np.object_], codes: NDArray[np.str_]) -> Country:
    """Combine wards into the regions of the coarser units."""
    regions: dict[str, tuple[Region, ...]] = {}
    ward_regions: dict[str, NDArray[np.int64]] = {}
    for depth, unit in enumerate(UNITS):
        names, places = np.unique([" ".join(code.split()[: depth + 1]) for code in codes], return_inverse=True)
        shapes = [_drawn(shapely.union_all(cells[places == place])) for place in range(len(names))]
        regions[unit] = tuple(Region(str(name), shape) for name, shape in zip(names, shapes, strict=True))
        ward_regions[unit] = places
    centres = shapely.get_coordinates(shapely.centroid([region.shape for region in regions["admin3"]]))
    return Country(MappingProxyType(regions), MappingProxyType(ward_regions), centres)


def _drawn(shape: Any) -> Any:
    """Bend straight borders into winding ones, equally for the regions that share them, and move the shape."""
    bent = shapely.transform(shapely.segmentize(shape, 0.03), _bend)
    return shapely.MultiPolygon([part for part in shapely.get_parts(bent) if part.area > 1e-5])


def _bend(points: Points) -> Points:
    """Displace points smoothly, by far less than the distance between two borders."""
    across, along = points[:, ::-1], points
    swing = np.zeros_like(points)
    for length, height in ((0.9, 0.04), (0.21, 0.009), (0.07, 0.0025)):
        swing += height * np.sin(2 * np.pi * across / length + 3 * along)
    return points + swing + _MIDDLE


def _ring(ring: Any) -> list[list[float]]:
    return np.round(shapely.get_coordinates(ring), 9).tolist()  # type: ignore[no-any-return]
