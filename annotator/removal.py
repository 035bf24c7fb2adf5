"""Taking a removed person's tasks out of Label Studio, as far as it can be reached."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from annotator.connection import LabelStudioError
from annotator.intake import HOME_SERVER
from annotator.label_studio import LabelStudio
from annotator.workplace import access_token, open_address
from dataset_engine.settings import Settings

Task = tuple[str, int, int, str]
"""Server (see `AnnotationProject.server`), project, task, and key of the pair that it shows."""


def remove_tasks(
    home: Path,
    settings: Settings,
    tasks: Sequence[Task],
    *,
    client: Callable[[str, str], LabelStudio] = LabelStudio,
) -> tuple[set[str], str]:
    """Delete tasks with all that people painted on them.

    A server that was set up anew counts from 1 again, so that a task's number alone says nothing: only
    what shows the very pair is deleted.

    Args:
        home: the home, whose own Label Studio may be running.
        settings: where Label Studio is otherwise.
        tasks: what is to go; those of other servers are left alone.
        client: makes the client of a server, from its URL and a token.

    Returns:
        The keys of the pairs that the server shows no longer, and why others are left, if any are.
    """
    here = settings.label_studio_url or HOME_SERVER
    projects: dict[int, set[str]] = defaultdict(set)
    for server, project, _, key in tasks:
        if server == here:
            projects[project].add(key)
    gone: set[str] = set()
    elsewhere = sorted({task[0] for task in tasks} - {here})
    problem = f"tasks on {', '.join(elsewhere)} are not of this server" if elsewhere else ""
    if not projects:
        return gone, problem
    url = settings.label_studio_url or open_address(home)
    if url is None:
        return gone, "Label Studio is not running: start it with `engine annotate`"
    try:
        with client(url, access_token(settings, home)) as studio:
            for project, keys in sorted(projects.items()):
                gone |= _remove(studio, project, keys)
    except LabelStudioError as error:
        problem = str(error)
    return gone, problem


def remove_bodies(home: Path, tasks: Sequence[Task]) -> int:
    """Delete the webhooks about these tasks that wait, or were set aside; gives how many."""
    numbers = {(project, task) for _, project, task, _ in tasks}
    keys = {key for _, _, _, key in tasks}
    gone = 0
    for path in [*(home / "inbox").glob("*.json"), *(home / "inbox" / "refused").glob("*.json")]:
        try:
            text = path.read_text(errors="replace")
            body = json.loads(text)
        except (OSError, ValueError):
            continue
        if any(key in text for key in keys) or not numbers.isdisjoint(_numbers(body)):
            path.unlink(missing_ok=True)
            gone += 1
    return gone


def _numbers(body: object) -> Iterator[tuple[object, object]]:
    """Project and task of each annotation in a webhook's body."""
    if not isinstance(body, dict) or not isinstance(project := body.get("project"), dict):
        return
    annotations = body.get("annotations")
    for one in [body.get("annotation"), *(annotations if isinstance(annotations, list) else ())]:
        if isinstance(one, dict) and all(
            isinstance(n, int) for n in (one.get("task"), project.get("id"))
        ):
            yield project["id"], one["task"]


def _remove(studio: LabelStudio, project: int, keys: set[str]) -> set[str]:
    """Delete a project's tasks that show these pairs; gives the pairs that it shows no longer."""
    if studio.project_made_at(project) is None:
        return keys
    for key, task in studio.task_ids(project).items():
        if key in keys:
            studio.delete_task(task)
    return keys - studio.task_ids(project).keys()
