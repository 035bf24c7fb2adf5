"""What the engine asks of Label Studio; every call brings about a state, and may be repeated."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
import label_studio_sdk
from label_studio_sdk.core.api_error import ApiError
from label_studio_sdk.types import ImportApiRequest, LseTask, PredictionRequest

from annotator.connection import Connection, LabelStudioError, refused_token
from annotator.project_form import project_settings
from annotator.secrets import SERVICE_USER

SECRET_HEADER = "X-Refstar-Secret"  # noqa: S105 - the name of a header
WEBHOOK_ACTIONS = (
    "ANNOTATION_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATIONS_DELETED",
)
BACKEND_TITLE = "RefSTAR proposals"
BATCH = 250
"""Tasks or predictions in one import; with masks about 8 MB."""
PAGE = 200
"""Tasks in one page of a listing."""
ATTEMPTS = 3
"""How often missing predictions are sent before the import is given up."""
OVERLAP = timedelta(seconds=5)
"""How far before ``since`` changes are asked for: a task is saved a moment after its annotation."""

# Label Studio applies the list of wanted fields to the tasks and to their annotations alike; leaving
# out the predictions, which are most of a task's bytes, makes a full listing four times faster.
_ANNOTATION_FIELDS = (
    *("id", "task", "project", "result", "was_cancelled", "lead_time", "parent_prediction"),
    *("completed_by", "updated_by", "created_at", "updated_at"),
)

Item = TypeVar("Item")
Progress = Callable[[int], None]
"""Called with the number of items that were done since the last call."""


@dataclass(frozen=True)
class TaskData:
    """A pair as a task shows it.

    Attributes:
        pair: the engine's name of the pair; one task per project and pair.
        gt: URL of the ground truth image, see `image_url`.
        ref: URL of the reference image.
    """

    pair: str
    gt: str
    ref: str


@dataclass(frozen=True)
class PredictionData:
    """A proposal as a task's prediction.

    Attributes:
        task: Label Studio's task id.
        model_version: version of the model; one prediction per task and version.
        score: place of the task in the labelling stream, lowest first; Label Studio drops a prediction
            whose score is not in [0, 1] without a word.
        result: regions, see `annotator.results.proposal_result`.
    """

    task: int
    model_version: str
    score: float
    result: Sequence[Mapping[str, Any]]


def image_url(relative: str) -> str:
    """URL of a local file, for a path relative to the server's document root."""
    return f"/data/local-files/?d={quote(relative)}"


class LabelStudio:
    """Label Studio as the engine uses it, through its SDK.

    All methods raise `LabelStudioUnavailable` when the server cannot be reached and
    `LabelStudioError` when it refuses.

    Args:
        url: base URL of the server.
        token: legacy API token or personal access token.
        transport: replaces the network in tests.

    Attributes:
        url: base URL of the server.
    """

    def __init__(
        self, url: str, token: str, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self._connection = Connection(self.url, transport=transport)
        self._mended: set[str] = set()
        try:
            self._sdk = label_studio_sdk.LabelStudio(
                # Without the slash, personal tokens are renewed outside of a path prefix.
                base_url=f"{self.url}/",
                api_key=token,
                httpx_client=self._connection,
                # The SDK repeats POSTs too, which can import a batch twice.
                max_retries=0,
            )
        except ApiError as error:  # a personal token that has expired
            raise refused_token(self.url) from error

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def project_made_at(self, project: int) -> datetime | None:
        """When the server made a project, or None where there is no such project."""
        found = self._sdk.projects.list(ids=str(project))
        for one in islice(found, found.response.count):
            if one.id == project:
                made_at: datetime | None = one.created_at
                return made_at
        return None

    def ensure_project(self, title: str, number: int | None = None) -> int:
        """The id of the project, made or brought to the engine's settings.

        Args:
            title: title of a project that is made, or looked for.
            number: id of the project where it is known: people may have given it another title.

        Returns:
            Label Studio's project id.
        """
        wanted = project_settings()
        found = self._sdk.projects.list(
            **({"title": title} if number is None else {"ids": str(number)})
        )
        # Without a count, the SDK asks for pages until one is refused.
        for project in islice(found, found.response.count):
            if project.title == title if number is None else project.id == number:
                self._mend(project)
                return int(project.id)
        return int(self._sdk.projects.create(title=title, **wanted).id)

    def mend_project(self, project: int) -> tuple[str, ...]:
        """Bring a project to the engine's settings.

        Returns:
            What was found changed since this client was made, by Label Studio's names.
        """
        self._mend(self._sdk.projects.get(project))
        mended, self._mended = tuple(sorted(self._mended)), set()
        return mended

    def _mend(self, project: Any) -> None:  # noqa: ANN401 - the SDK has several types for it
        wanted = project_settings()
        changed = {k: v for k, v in wanted.items() if getattr(project, k) != v}
        if changed:
            self._sdk.projects.update(project.id, **changed)
            self._mended |= set(changed)

    def people(self) -> frozenset[int]:
        """Ids of the server's users."""
        return frozenset(int(user.id) for user in self._sdk.users.list())

    def ensure_storage(self, project: int, path: Path) -> int:
        """Allow the project's tasks to show the files below a folder of the server's machine.

        Nothing is synchronised; the folder must lie below the server's document root.

        Returns:
            Label Studio's storage id.
        """
        folder = str(path)
        storages = self._sdk.import_storage.local
        for storage in storages.list(project=project):
            if storage.path == folder:
                return int(storage.id)
        made = storages.create(project=project, path=folder, use_blob_urls=True, title="images")
        return int(made.id)

    def ensure_webhook(self, project: int, url: str, secret: str) -> int:
        """Have the project's annotation events posted, with the secret, to exactly one address.

        Label Studio adds a webhook of its own, without the secret, for every ML backend, at the
        backend's ``/webhook``; if that is this address it becomes this webhook, so that no event
        comes twice.

        Returns:
            Label Studio's webhook id.
        """
        wanted = {
            "url": url,
            "headers": {SECRET_HEADER: secret},
            "send_payload": True,
            "send_for_all_actions": False,
            "is_active": True,
            "actions": list(WEBHOOK_ACTIONS),
        }
        webhooks = self._sdk.webhooks
        hooks = webhooks.list(project=str(project))
        ours = [h for h in hooks if h.url == url or SECRET_HEADER in (h.headers or {})]
        if not ours:
            return int(webhooks.create(project=project, **wanted).id)
        first, *others = sorted(hook.id for hook in ours)
        webhooks.update(first, **wanted)
        for other in others:
            webhooks.delete(other)
        return int(first)

    def ensure_backend(
        self, project: int, url: str, password: str | None = None, *, interactive: bool = False
    ) -> int:
        """Connect the project to the pre-annotation service, which must be running.

        Call `ensure_webhook` afterwards too when the service's address may have changed.

        Args:
            project: Label Studio's project id.
            url: the service's base URL.
            password: what Label Studio sends along with each request; None for nothing.
            interactive: whether clicks in the labelling page are sent to the service.

        Returns:
            Label Studio's ML backend id.
        """
        wanted = {
            "project": project,
            "url": url,
            "title": BACKEND_TITLE,
            "is_interactive": interactive,
        }
        if password is not None:
            wanted |= {"auth_method": "BASIC_AUTH", "basic_auth_user": SERVICE_USER}
            wanted["basic_auth_pass"] = password  # never told back, so it is always set anew
        for backend in self._sdk.ml.list(project=project):
            if backend.url == url or backend.title == BACKEND_TITLE:
                if any(getattr(backend, name, None) != value for name, value in wanted.items()):
                    self._sdk.ml.update(backend.id, **wanted)
                return int(backend.id)
        return int(self._sdk.ml.create(**wanted).id)

    def set_model_version(self, project: int, version: str) -> None:
        """Have this version's predictions shown in the labelling stream.

        Label Studio accepts only a version of which it has a prediction.
        """
        self._sdk.projects.update(project, model_version=version)

    def clock(self) -> datetime:
        """What time it is for the server, to the second: its changes carry its own times."""
        return self._connection.server_time()

    def task_count(self, project: int) -> int:
        """How many tasks a project has."""
        return int(self._sdk.projects.get(project).task_number or 0)

    def set_done(self, task: int, done: bool) -> None:
        """Have a task offered to annotators no more, or again; nothing else about it changes."""
        self._sdk.tasks.update(
            str(task), request_options={"additional_body_parameters": {"is_labeled": done}}
        )

    def set_overlap(self, task: int, people: int) -> None:
        """Have a task offered to so many people, once each."""
        self._sdk.tasks.update(
            str(task), request_options={"additional_body_parameters": {"overlap": people}}
        )

    def task_ids(self, project: int) -> dict[str, int]:
        """Task ids of the project's pairs, by pair; tasks without a pair are left out."""
        found: dict[str, int] = {}
        for task in self._tasks(project, include=("id", "data"), page=1000):
            pair = task.data.get("pair")
            if isinstance(pair, str):
                found.setdefault(pair, int(task.id))
        return found

    def import_tasks(
        self,
        project: int,
        tasks: Sequence[TaskData],
        progress: Progress | None = None,
        answers: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    ) -> list[int]:
        """Make the tasks that are not there yet.

        Args:
            project: Label Studio's project id.
            tasks: the tasks.
            progress: told how many are done.
            answers: annotations that new tasks come with, by pair.

        Returns:
            Task ids, in the order of the tasks given.
        """
        known = self.task_ids(project)
        missing = {task.pair: task for task in tasks if task.pair not in known}
        if progress:
            progress(len(tasks) - len(missing))
        for batch in _batches(list(missing.values())):
            request = [
                ImportApiRequest(
                    data=asdict(task), annotations=[*map(dict, (answers or {}).get(task.pair, ()))]
                )
                for task in batch
            ]
            self._sdk.projects.import_tasks(project, request=request)
            if progress:
                progress(len(batch))
        if missing:
            known = self.task_ids(project)
        lost = [task.pair for task in tasks if task.pair not in known]
        if lost:
            raise LabelStudioError(
                f"{len(lost)} of {len(tasks)} tasks are not in project {project} after their"
                f" import (first: {lost[0]}); run the same command again"
            )
        return [known[task.pair] for task in tasks]

    def import_predictions(
        self,
        project: int,
        predictions: Sequence[PredictionData],
        progress: Progress | None = None,
    ) -> int:
        """Store the predictions whose task has none of that version, and see that they are there.

        Label Studio can answer that all is stored when it is not, so every batch is read back, and
        what is missing is sent again.

        Returns:
            How many were stored now; the others were there.

        Raises:
            LabelStudioError: some are missing after three attempts.
        """
        stored = 0
        for batch in _batches(predictions):
            missing = self._missing(project, batch)
            for _ in range(ATTEMPTS):
                if not missing:
                    break
                self._sdk.projects.import_predictions(
                    project, request=[PredictionRequest(**vars(p)) for p in missing]
                )
                before, missing = len(missing), self._missing(project, missing)
                stored += before - len(missing)
            if missing:
                raise LabelStudioError(
                    f"{len(missing)} of {len(batch)} predictions are not stored after {ATTEMPTS}"
                    f" attempts (first: task {missing[0].task}); look at Label Studio's log, then"
                    " run the same command again"
                )
            if progress:
                progress(len(batch))
        return stored

    def delete_task(self, task: int) -> None:
        """Delete a task, with its annotations and predictions."""
        self._sdk.tasks.delete(task)

    def task(self, task: int) -> dict[str, Any]:
        """A whole task, with its data, annotations and predictions."""
        found: dict[str, Any] = self._sdk.tasks.get(task).dict()
        return found

    def changed_tasks(
        self, project: int, since: datetime | None = None, only: Collection[int] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Tasks with all their annotations; an annotation that is not there any more was deleted.

        Args:
            project: Label Studio's project id.
            since: only tasks annotated, changed or bereft of an annotation after this moment (and a
                few seconds before it); all tasks otherwise.
            only: only these tasks.

        Yields:
            Tasks with ``id``, ``data``, ``is_labeled`` (whether they are offered no more) and
            ``annotations``, by ascending id.
        """
        names = ("id", "data", "is_labeled", "annotations")
        include = (*names[1:], *_ANNOTATION_FIELDS)
        for task in self._tasks(project, include=include, page=PAGE, since=since, only=only):
            yield {name: getattr(task, name) for name in names}

    def annotations(self, project: int, since: datetime | None = None) -> Iterator[dict[str, Any]]:
        """Annotations of `changed_tasks`, skips included, as a webhook would carry them."""
        for task in self.changed_tasks(project, since):
            yield from task["annotations"]

    def submit_annotation(
        self,
        task: int,
        result: Sequence[Mapping[str, Any]],
        lead_time: float,
        parent_prediction: int | None = None,
    ) -> dict[str, Any]:
        """Submit an annotation as the token's user.

        Args:
            task: Label Studio's task id.
            result: regions and choices, see `annotator.results.review_result`.
            lead_time: seconds that it took.
            parent_prediction: id of the prediction it began from.

        Returns:
            The annotation as stored.
        """
        stored: dict[str, Any] = self._sdk.annotations.create(
            task, result=list(result), lead_time=lead_time, parent_prediction=parent_prediction
        ).dict()
        return stored

    def _missing(self, project: int, predictions: Sequence[PredictionData]) -> list[PredictionData]:
        versions = self._versions(project, {prediction.task for prediction in predictions})
        return [p for p in predictions if p.model_version not in versions.get(p.task, ())]

    def _versions(self, project: int, tasks: Collection[int]) -> dict[int, set[str]]:
        """Model versions of the predictions that tasks have."""
        found = self._tasks(
            project, include=("id", "predictions_model_versions"), page=BATCH, only=tasks
        )
        return {
            task.id: {v.strip() for v in task.predictions_model_versions.split(",")}
            for task in found
        }

    def _tasks(
        self,
        project: int,
        *,
        include: Sequence[str],
        page: int,
        since: datetime | None = None,
        only: Collection[int] | None = None,
    ) -> Iterator[LseTask]:
        """Tasks by ascending id; each page begins after the last id, so that none is missed."""
        last = 0
        while True:
            filters = [_filter("id", "greater", "Number", last)]
            if since is not None:
                moment = (since - OVERLAP).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
                filters.append(_filter("updated_at", "greater", "Datetime", moment))
            query: dict[str, Any] = {
                "filters": {"conjunction": "and", "items": filters},
                "ordering": ["tasks:id"],
            }
            if only is not None:
                query["selectedItems"] = {"all": False, "included": sorted(only)}
            tasks = self._sdk.tasks.list(
                project=project,
                fields="all",
                include=",".join(include),
                resolve_uri=False,
                page_size=page,
                query=json.dumps(query, separators=(",", ":")),
            ).items
            yield from tasks
            if len(tasks) < page:
                return
            last = tasks[-1].id


def _filter(column: str, operator: str, kind: str, value: str | int) -> dict[str, str | int]:
    name = f"filter:tasks:{column}"
    return {"filter": name, "operator": operator, "type": kind, "value": value}


def _batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
