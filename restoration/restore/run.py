"""Restores pictures in batches and writes them; run again after a stop, it goes on where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dataset_engine.shards.files import file_sha256
from restoration.restore.choice import Candidate, Choice, choose
from restoration.restore.faces import FaceFinder, LocatedFace, NotUsable
from restoration.restore.jobs import Job, LeftOut
from restoration.restore.networks import ARCFACE_ABSENT, FaceRestorer, similarity
from restoration.restore.outputs import Also, Made, write_outputs
from restoration.restore.report import Report, Restored, add_lines, read_lines

KEPT_REFERENCES = 64
"""How many references are held in memory, since many pictures may share one."""


@dataclass(frozen=True)
class RestoreSettings:
    """How pictures are restored."""

    batch: int = 4
    """Faces that the networks see at once."""
    same_person: float = 0.2
    """Cosine of ArcFace's embeddings from which input and reference count as one person. Two people are
    seldom above it; a badly degraded face can be under it beside its own person."""
    strict: bool = False
    """Set aside what is otherwise only noted: odd files, and references of another person."""
    also: frozenset[Also] = field(default_factory=frozenset)


@dataclass(frozen=True, eq=False)
class _Ready:
    """A picture whose face and references were found."""

    job: Job
    key: str
    face: LocatedFace
    references: list[tuple[Path, LocatedFace]]
    notes: list[str]


def restore_pictures(
    jobs: Sequence[Job],
    out: Path,
    restorer: FaceRestorer,
    find: FaceFinder,
    settings: RestoreSettings | None = None,
    *,
    left: Sequence[LeftOut] = (),
    model: str = "",
    progress: Callable[[int, int | None], None] | None = None,
) -> Report:
    """Restore every job into `out`; what cannot be used is set aside by name, and the rest goes on.

    Args:
        jobs: pictures and their references.
        out: the folder; what an earlier run made of the same files is kept.
        restorer: the networks.
        find: finds faces.
        settings: None for the defaults.
        left: what was set aside before.
        model: names the networks, so that others restore again.
        progress: is told how many pictures are done, and of how many.

    Raises:
        ValueError: other people's references are to be refused, and nobody can tell who is who.
    """
    settings = settings or RestoreSettings()
    if settings.strict and not restorer.knows_identities:
        raise ValueError(
            "--strict refuses references of other people, and ArcFace's weights, which tell people "
            "apart, are absent: put arcface.onnx into HOME/weights, or name it with --arcface"
        )
    out.mkdir(parents=True, exist_ok=True)
    run = _Run(out, restorer, find, settings, model)
    run.report.left += left
    waiting: list[_Ready] = []
    for done, job in enumerate(jobs):
        if progress is not None:
            progress(done - len(waiting), len(jobs))
        ready = run.prepare(job)
        if ready is not None:
            waiting.append(ready)
        if len(waiting) == settings.batch:
            run.restore(waiting)
            waiting = []
    if waiting:
        run.restore(waiting)
    if progress is not None:
        progress(len(jobs), len(jobs))
    run.report.write(
        out,
        model=model,
        batch=settings.batch,
        same_person=settings.same_person,
        strict=settings.strict,
        identity="compared by ArcFace" if restorer.knows_identities else ARCFACE_ABSENT,
    )
    return run.report


class _Run:
    """One run's state."""

    def __init__(
        self,
        out: Path,
        restorer: FaceRestorer,
        find: FaceFinder,
        settings: RestoreSettings,
        model: str,
    ) -> None:
        self._out, self._restorer, self._find = out, restorer, find
        self._settings, self._model = settings, model
        self._before = read_lines(out)
        self._known_references: dict[Path, LocatedFace | LeftOut] = {}
        self._told: set[Path] = set()
        self.report = Report()

    def prepare(self, job: Job) -> _Ready | None:
        """Find the faces of a job; None where it is done already or set aside."""
        try:
            key = self._key(job)
        except OSError as error:
            self._leave(job.path, "unreadable", str(error))
            return None
        before = self._before.get(job.name)
        if before is not None and before.key == key and self._still_there(before):
            self.report.restored.append(before)
            self.report.known += 1
            return None
        face = self._located(job.path)
        if isinstance(face, LeftOut):
            self.report.left.append(face)
            return None
        references, notes = [], list(face.notes)
        for path in job.references:
            found = self._reference(path)
            if isinstance(found, LeftOut):
                notes.append(f"{path.name} set aside: {found.reason}")
                if path not in self._told:
                    self._told.add(path)
                    self.report.left.append(found)
            else:
                references.append((path, found))
                notes += [f"{path.name}: {note}" for note in found.notes]
        if not references:
            self._leave(job.path, "no_reference", f"none can be used: {'; '.join(notes)}")
            return None
        return _Ready(job, key, face, references, notes)

    def restore(self, batch: list[_Ready]) -> None:
        """Choose references, restore, write."""
        degraded = self._restorer.stacked([one.face.aligned for one in batch])
        choices = list(self._choices(batch, degraded))
        used = [
            n for n, (_, _, choice) in enumerate(choices) if not self._refused(batch[n], choice)
        ]
        if not used:
            return
        chosen = [
            (batch[n].references[choices[n][2].number], choices[n][0][choices[n][2].number])
            for n in used
        ]
        masks = torch.stack([mask for _, mask in chosen])
        references = self._restorer.stacked([face.aligned for (_, face), _ in chosen])
        restored = self._restorer.restore(degraded[used], references, masks)
        finished = []
        for place, n in enumerate(used):
            (path, reference), mask = chosen[place]
            _, similarities, choice = choices[n]
            kept = np.asarray(mask[0].float().cpu().numpy() >= 0.5, np.bool_)
            made = Made(batch[n].face, reference.aligned, kept, restored[place])
            files = write_outputs(self._out, batch[n].job.name, made, self._settings.also)
            one = Restored(
                name=batch[n].job.name,
                key=batch[n].key,
                picture=str(batch[n].job.path),
                reference=str(path),
                why=choice.why,
                selected=float(kept.mean()),
                similarity=similarities[choice.number],
                notes=batch[n].notes + ([] if choice.agrees else ["perhaps another person"]),
                files=files,
            )
            finished.append(one)
        add_lines(self._out, finished)
        self.report.restored += finished

    def _choices(
        self, batch: list[_Ready], degraded: Tensor
    ) -> Iterator[tuple[Tensor, list[float | None], Choice]]:
        """Of each picture: the masks of its references, their similarities, and the choice."""
        masks = self._masks(batch, degraded)
        people = self._restorer.identities([one.face.aligned for one in batch])
        for one, person in zip(batch, people, strict=True):
            count = len(one.references)
            own, masks = masks[:count], masks[count:]
            others = self._restorer.identities([face.aligned for _, face in one.references])
            alike = [similarity(person, other) for other in others]
            candidates = [
                Candidate(path, float(mask.float().mean()), near)
                for (path, _), mask, near in zip(one.references, own, alike, strict=True)
            ]
            yield own, alike, choose(candidates, self._settings.same_person)

    def _masks(self, batch: list[_Ready], degraded: Tensor) -> Tensor:
        """RefSel's masks of all references of all pictures, one after another, by batches."""
        pairs = [
            (number, face.aligned) for number, one in enumerate(batch) for _, face in one.references
        ]
        found = []
        for start in range(0, len(pairs), self._settings.batch):
            part = pairs[start : start + self._settings.batch]
            references = self._restorer.stacked([image for _, image in part])
            found.append(self._restorer.masks(degraded[[number for number, _ in part]], references))
        return torch.cat(found)

    def _refused(self, one: _Ready, choice: Choice) -> bool:
        """Whether strictness sets it aside."""
        if not self._settings.strict:
            return False
        if not choice.agrees:
            self._leave(one.job.path, "another_person", choice.why)
            return True
        if one.notes:
            self._leave(one.job.path, "odd", "; ".join(one.notes))
            return True
        return False

    def _located(self, path: Path) -> LocatedFace | LeftOut:
        try:
            return self._find(path)
        except NotUsable as error:
            return LeftOut(path, error.reason, error.detail)
        except MemoryError:
            return LeftOut(path, "too_large", "not enough memory to read it")

    def _reference(self, path: Path) -> LocatedFace | LeftOut:
        if path not in self._known_references:
            if len(self._known_references) >= KEPT_REFERENCES:
                self._known_references.pop(next(iter(self._known_references)))
            self._known_references[path] = self._located(path)
        return self._known_references[path]

    def _leave(self, path: Path, reason: str, detail: str) -> None:
        self.report.left.append(LeftOut(path, reason, detail))

    def _key(self, job: Job) -> str:
        files = [file_sha256(path) for path in (job.path, *job.references)]
        settings = self._settings
        how = f"{settings.same_person} {settings.strict} {sorted(settings.also)} {self._model}"
        return hashlib.sha256(" ".join([*files, how]).encode()).hexdigest()

    def _still_there(self, one: Restored) -> bool:
        return all((self._out / name).is_file() for name in one.files)


def fingerprint(folder: Path) -> str:
    """Names a saved pipeline by its files' names, sizes and times, without reading gigabytes."""
    digest = hashlib.sha256()
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        state = path.stat()
        digest.update(f"{path.relative_to(folder)} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
