"""The pages themselves: grid, history, progress, sign-in, and the files that they load."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader
from pydantic import BaseModel, ConfigDict, Field

from annotator.review.access import Access
from annotator.review.brush_page import NoBrushPageError
from annotator.review.showing import Key
from annotator.review.tokens import UnfitNameError, checked_name
from dataset_engine.store import Store
from dataset_engine.store.review_queries import Order, pair_history, rounds_proposed
from dataset_engine.store.tables import now
from dataset_engine.taxonomy import Conflict, Status

FILES = {
    "pages.css": "text/css",
    "common.js": "text/javascript",
    "grid.js": "text/javascript",
    "outbox.js": "text/javascript",
    "history.js": "text/javascript",
    "progress.js": "text/javascript",
    "charts.js": "text/javascript",
    "sign-in.js": "text/javascript",
}
# the digits that tick a conflict in the labelling page, too
CONFLICT_KEYS = dict(zip(Conflict, "34567890", strict=True))


class SignIn(BaseModel):
    """What the sign-in form sends: a link, or a name and, where it is asked for, the password."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(default="", max_length=200)
    password: str = Field(default="", max_length=1000)
    link: str = Field(default="", max_length=2000)


def page_routes(
    store: Store, access: Access, brush_page: Callable[[str], str], target: int
) -> APIRouter:
    """The pages for people.

    Args:
        store: the store.
        access: who may see them.
        brush_page: gives the labelling page of a pair.
        target: reviewed masks that the work aims at.
    """
    router = APIRouter(default_response_class=HTMLResponse)
    web = _Web(access)

    def visitor(request: Request) -> None:
        try:
            access.may_look(request)
        except HTTPException as error:
            if error.status_code != 401:
                raise
            there = f"/sign-in?next={quote(request.url.path)}"
            raise HTTPException(303, headers={"Location": there}) from error

    pages = APIRouter(dependencies=[Depends(visitor)])

    @router.get("/")
    def home() -> Response:
        """Send the browser on to the grid."""
        return RedirectResponse("/review", 303)

    @pages.get("/review")
    def grid(request: Request) -> Response:
        """The page on which people accept and reject proposals."""
        with store.reading() as session:
            rounds = rounds_proposed(session)
        return web.page(
            request, "grid.html", rounds=rounds, statuses=list(Status), orders=list(Order)
        )

    @pages.get("/pairs/{key}")
    def history(request: Request, key: Key) -> Response:
        """The page of one pair: its pictures, and every decision on it."""
        with store.reading() as session:
            found = pair_history(session, key)
        if found is None:
            raise HTTPException(404, f"there is no pair {key}")
        return web.page(request, "history.html", history=found)

    @pages.get("/progress")
    def progress(request: Request) -> Response:
        """The page that shows how far the work has come."""
        return web.page(request, "progress.html", target=target)

    @pages.get("/review/brush/{key}")
    def brush(request: Request, key: Key) -> Response:
        """Send the browser to the pair's task in Label Studio, to paint there."""
        try:
            return RedirectResponse(brush_page(key), 303)
        except NoBrushPageError as error:
            return web.page(request, "message.html", 404, message=str(error))

    @router.get("/favicon.ico")
    def no_icon() -> Response:
        """Nothing: browsers ask for an icon by themselves."""
        return Response(status_code=204)

    @router.get("/sign-in")
    def sign_in_page(request: Request) -> Response:
        """The page on which a reviewer gives a name, and the password where one is needed."""
        access.check_host(request)
        return web.page(request, "sign-in.html", needs_password=not access.open_here)

    @router.get("/review/static/{version}/{name}")
    def static(version: str, name: str) -> Response:  # noqa: ARG001 - another version, another address
        """A script or a style of the pages, at an address of its own for each version."""
        if name not in FILES:
            raise HTTPException(404, "there is no such file")
        headers = {"Cache-Control": "public, max-age=604800, immutable"}
        return Response(web.file(name), media_type=FILES[name], headers=headers)

    router.include_router(pages)
    return router


def session_routes(access: Access) -> APIRouter:
    """`POST /session` begins a session, `POST /session/end` ends it."""
    router = APIRouter(dependencies=[Depends(access.may_change)])

    @router.post("/session")
    def begin(request: Request, response: Response, form: SignIn) -> dict[str, str]:
        """Begin a session, by a sign-in link, or by a name and the password."""
        if form.link:
            name = access.signer.link_name(form.link, now())
            if name is None:
                raise HTTPException(403, "this link is not valid any more: ask for a new one")
        else:
            try:
                name = checked_name(form.name)
            except UnfitNameError as error:
                raise HTTPException(422, str(error)) from error
            if not access.open_here and not access.check_password(request, form.password):
                raise HTTPException(403, "that is not the password")
        access.begin(request, response, name)
        return {"name": name}

    @router.post("/session/end")
    def end(response: Response) -> dict[str, str]:
        """End the session."""
        access.end(response)
        return {}

    return router


class _Web:
    """Templates and files, and who is asking."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._templates = Environment(
            loader=PackageLoader("annotator.review", "web"), autoescape=True, trim_blocks=True
        )
        self._templates.filters["person"] = _person
        self._files = {
            name: files("annotator.review.web").joinpath(name).read_bytes() for name in FILES
        }
        whole = hashlib.sha256(b"".join(self._files.values())).hexdigest()
        self._version = whole[:12]

    def file(self, name: str) -> bytes:
        return self._files[name]

    def page(self, request: Request, template: str, status: int = 200, **shown: Any) -> Response:  # noqa: ANN401 - for the template
        html = self._templates.get_template(template).render(
            shown,
            name=self._access.reviewer(request) or "",
            token=self._access.page_token(request),
            version=self._version,
            conflicts=CONFLICT_KEYS,
            open_here=self._access.open_here,
        )
        return HTMLResponse(html, status)


def _person(actor: str) -> str:
    """How an event's actor is called on a page."""
    called = actor.removeprefix("review:")
    return called.replace("label-studio:", "Label Studio user ")
