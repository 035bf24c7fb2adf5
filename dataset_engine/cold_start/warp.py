"""Brings the ground truth onto the reference's pixels, triangle by triangle of the mesh.

A mask lies on the reference's pixels, so it is the ground truth that is moved: the comparison is the
same as with the reference on the ground truth, and no mask has to be moved back.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

_MESH: Final = 468
"""Points of the mesh without the irises, which move by themselves."""


def piecewise_affine(
    gt: NDArray[np.float32], reference: NDArray[np.float32], side: int
) -> NDArray[np.float32]:
    """Where each pixel of the reference lies on the ground truth.

    Args:
        gt: mesh of the ground truth, float32 [478, 2] (x, y) px of an image `side` px wide.
        reference: mesh of the reference, in the same unit.
        side: side of the images, px.

    Returns:
        float32 [side, side, 2], (x, y) px on the ground truth; -1 outside the mesh.
    """
    corners = _triangles(reference[:_MESH], side)
    owner = np.full((side, side), -1, np.int16)
    for number, triangle in enumerate(np.rint(reference[corners] * 16).astype(np.int32)):
        _fill(owner, triangle, number)
    # affine maps of all triangles at once: solve [x y 1] A = gt for each
    homogeneous = np.concatenate(
        [reference[corners], np.ones((len(corners), 3, 1), np.float32)], axis=2
    ).astype(np.float64)
    maps = np.linalg.solve(homogeneous, gt[corners].astype(np.float64)).astype(np.float32)
    rows, columns = np.nonzero(owner >= 0)
    chosen = maps[owner[rows, columns]]
    points = np.stack([columns, rows, np.ones_like(rows)], axis=1).astype(np.float32)
    found = np.full((side, side, 2), -1, np.float32)
    found[rows, columns] = np.einsum("ni,nij->nj", points, chosen)
    return found


def _fill(owner: NDArray[np.int16], triangle: NDArray[np.int32], number: int) -> None:
    cv2.fillConvexPoly(owner, triangle, number, lineType=cv2.LINE_8, shift=4)


def _triangles(points: NDArray[np.float32], side: int) -> NDArray[np.int64]:
    """Corners [N, 3] of the Delaunay triangles of the points that lie in the picture."""
    plane = cv2.Subdiv2D((-side, -side, 3 * side, 3 * side))
    index: dict[tuple[float, float], int] = {}
    for number, (x, y) in enumerate(points.tolist()):
        if -side <= x < 2 * side and -side <= y < 2 * side:
            index[x, y] = number
            plane.insert((x, y))
    found = [
        [index.get((x0, y0), -1), index.get((x1, y1), -1), index.get((x2, y2), -1)]
        for x0, y0, x1, y1, x2, y2 in np.asarray(plane.getTriangleList()).tolist()
    ]
    every = np.array(found, np.int64).reshape(-1, 3)
    corners = every[(every >= 0).all(axis=1)]
    first = points[corners[:, 1]] - points[corners[:, 0]]
    second = points[corners[:, 2]] - points[corners[:, 0]]
    area = np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])
    return np.asarray(corners[area > 1e-2])  # closed lips give triangles without an inside
