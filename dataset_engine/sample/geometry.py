"""From the canonical canvas to the aligned image: pose, five points, similarity and maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dataset_engine.sample.fields import MARGIN, SIZE, Field, resize, sample
from dataset_engine.sample.identity import Bone, Identity
from dataset_engine.sample.shape import Motion, coarse, motion, mouth_corners, moved_relief
from dataset_engine.sample.shot import Expression, Pose, Shot

TEMPLATE = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ],
    np.float64,
)  # FFHQ at 512: eyes, nose tip, mouth corners, image left first
ROUNDS = 9  # the relief is gentle enough that the error shrinks by half in each round


def rotation(pose: Pose) -> Field:
    """3x3 turning head axes (x right, y down, z to the viewer) into camera axes."""
    a, b, c = np.radians([pose.yaw, pose.pitch, pose.roll])
    yaw = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    pitch = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    roll = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(roll @ yaw @ pitch, np.float32)


def similarity(source: Field, target: Field) -> Field:
    """The least-squares similarity [2, 3] carrying points [N, 2] onto points [N, 2]."""
    p, q = np.asarray(source, np.float64), np.asarray(target, np.float64)
    pc, qc = p - p.mean(0), q - q.mean(0)
    a = (pc * qc).sum()
    b = (pc[:, 0] * qc[:, 1] - pc[:, 1] * qc[:, 0]).sum()
    matrix = np.array([[a, -b], [b, a]]) / (pc**2).sum()
    return np.asarray(np.hstack([matrix, (q.mean(0) - matrix @ p.mean(0))[:, None]]))


@dataclass(frozen=True)
class Geometry:
    """One shot's geometry.

    Attributes:
        project: [2, 4]; canonical (x, y, z, 1) to image px.
        turn: 3x3, head axes to camera axes.
        five_points: float32 [5, 2] image px; their best similarity to the template is identity.
        z: relief [288, 288] under the expression.
        face_x: canvas px seen at each image pixel [512, 512], expression included.
        face_y: the same, rows.
        rest_x: canvas px of the resting face seen at each image pixel [512, 512].
        rest_y: the same, rows.
        motion: how the expression moved the skin.
    """

    project: Field
    turn: Field
    five_points: Field
    z: Field
    face_x: Field
    face_y: Field
    rest_x: Field
    rest_y: Field
    motion: Motion

    def place(self, points: Field) -> Field:
        """Image px [N, 2] of canonical points (x, y, z) [N, 3]."""
        return np.asarray(points @ self.project[:, :3].T + self.project[:, 3], np.float32)

    def plane(self, z: float) -> Field:
        """Affine [2, 3] from canvas px of a flat layer at depth `z` to image px."""
        m = self.project
        shift = m[:, 2] * z + m[:, 3] - m[:, :2] @ np.full(2, MARGIN, np.float32)
        return np.asarray(np.hstack([m[:, :2], shift[:, None]]), np.float32)

    def from_rest(self, layer: Field, cubic: bool = False) -> Field:
        """Carry a layer of the resting face [576, 576(, C)] into the image."""
        return sample(layer, self.rest_x, self.rest_y, cubic)

    def from_face(self, layer: Field, cubic: bool = False) -> Field:
        """Carry a layer of the moved face [576, 576(, C)] into the image."""
        return sample(layer, self.face_x, self.face_y, cubic)

    def from_coarse(self, layer: Field) -> Field:
        """Carry a coarse layer of the moved face [288, 288(, C)] into the image."""
        return sample(layer, (self.face_x - 0.5) / 2, (self.face_y - 0.5) / 2)


def geometry(identity: Identity, shot: Shot, rest: Field) -> Geometry:
    """Pose a face; `rest` is `relief(identity)`."""
    bone, expression = identity.bone, shot.expression
    move = motion(bone, expression)
    z = moved_relief(rest, expression, move)
    turn = rotation(shot.pose)
    marks = np.concatenate([_landmarks(bone, expression), np.zeros((5, 1), np.float32)], axis=1)
    marks[:, 2] = _depth(z, marks)
    centred = (marks - np.array([256, 256, 0], np.float32)) @ turn[:2].T
    fit = similarity(centred, TEMPLATE)
    linear = fit[:, :2] @ turn[:2]
    project = np.hstack([linear, (fit[:, 2] - linear[:, :2] @ np.full(2, 256.0))[:, None]])
    project = np.asarray(project, np.float32)
    face_x, face_y = _invert(project, z)
    near_x, near_y = (face_x - 0.5) / 2, (face_y - 0.5) / 2
    return Geometry(
        project=project,
        turn=turn,
        five_points=np.asarray(marks @ project[:, :3].T + project[:, 3], np.float32),
        z=z,
        face_x=face_x,
        face_y=face_y,
        rest_x=face_x - sample(move.dx, near_x, near_y),
        rest_y=face_y - sample(move.dy, near_x, near_y),
        motion=move,
    )


def _landmarks(bone: Bone, expression: Expression) -> Field:
    eyes = np.array([[256 - bone.eye_x, 240], [256 + bone.eye_x, 240], [256, bone.nose_y]])
    return np.asarray(np.concatenate([eyes, mouth_corners(bone, expression)]), np.float32)


def _depth(z: Field, points: Field) -> Field:
    x, y = coarse(points[:, :1].copy()), coarse(points[:, 1:2].copy())
    return sample(z, x, y)[:, 0] if z.ndim == 2 else z


def _invert(project: Field, z: Field) -> tuple[Field, Field]:
    """Canvas px seen at each image pixel: solve A p + b z(p) = image for p by fixed point."""
    half = SIZE // 2
    axis = np.arange(half, dtype=np.float32) * 2 + 0.5
    x, y = axis[None, :] - project[0, 3], axis[:, None] - project[1, 3]
    inverse = np.linalg.inv(project[:, :2].astype(np.float64)).astype(np.float32)
    flat_x = inverse[0, 0] * x + inverse[0, 1] * y
    flat_y = inverse[1, 0] * x + inverse[1, 1] * y
    push = inverse @ project[:, 2]
    height: Field = np.full((half, half), 60, np.float32)
    for _ in range(ROUNDS):
        px, py = flat_x - push[0] * height, flat_y - push[1] * height
        limit = np.float32(z.shape[0] - 1.01)
        cx, cy = np.clip(coarse(px), 0, limit), np.clip(coarse(py), 0, limit)
        height = sample(z, cx, cy)
    size = (SIZE, SIZE)
    return (
        resize(np.asarray(flat_x - push[0] * height + MARGIN, np.float32), size),
        resize(np.asarray(flat_y - push[1] * height + MARGIN, np.float32), size),
    )
