"""A page on this machine: drop two photographs, see and paint the mask, restore, compare.

Gradio serves it to the loopback address only, reports nothing to anybody, and keeps what is dropped
on it in a folder that goes away with it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import uvicorn
from fastapi import FastAPI
from numpy.typing import NDArray
from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from restoration.restore.faces import FaceFinder, NotUsable
from restoration.restore.networks import FaceRestorer, similarity
from restoration.restore.pictures import at_side, mask_at

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

LOOPBACK: Final = "127.0.0.1"
SHOWN: Final = 512
"""Side, px, at which faces are shown."""
PAINT: Final = (25, 195, 125, 130)
SAME_PERSON: Final = 0.2
POLICY: Final = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; worker-src 'self' blob:; frame-ancestors 'none'"
)
"""Gradio's own page needs its inline scripts; nothing may come from, or go to, anywhere else."""
NOWHERE: Final = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
CSS: Final = (
    "footer { display: none !important } .gradio-container { max-width: 1180px !important }"
)


class Restoring:
    """What the page's buttons do."""

    def __init__(self, restorer: FaceRestorer, find: FaceFinder) -> None:
        self._restorer = restorer
        self._find = find

    def __call__(
        self, lq: str | None, reference: str | None, painted: Mask | None = None
    ) -> tuple[Image, Mask, Image, Image, Image, str]:
        """Restore one picture.

        Args:
            lq: path of the degraded picture.
            reference: path of the reference.
            painted: bool [T, T], a mask for the reference's aligned face; None lets RefSel choose.

        Returns:
            the reference's face, its mask, the face before and after, all of `SHOWN` px; the whole
            picture; and a sentence.

        Raises:
            NotUsable: a picture is not there, or no face is in it.
        """
        if not lq or not reference:
            raise NotUsable("missing", "drop a degraded photograph and a reference first")
        face, clean = self._find(Path(lq)), self._find(Path(reference))
        degraded, references = (self._restorer.stacked([one.aligned]) for one in (face, clean))
        masks = self._restorer.masks(degraded, references)
        if painted is not None:
            small = mask_at(painted, self._restorer.side)
            masks = masks.new_tensor(small.astype(np.float32))[None, None]
        (restored,) = self._restorer.restore(degraded, references, masks)
        mask = np.asarray(masks[0, 0].float().cpu().numpy() >= 0.5, np.bool_)
        said = [f"{mask.mean():.0%} of the reference is used", *face.notes, *clean.notes]
        one, other = (self._restorer.identities([it.aligned])[0] for it in (face, clean))
        alike = similarity(one, other)
        if alike is None:
            said.append("ArcFace's weights are absent: identity was not compared")
        elif alike < SAME_PERSON:
            said.append(f"similarity {alike:.2f}: perhaps another person")
        shown = [at_side(image, SHOWN) for image in (clean.aligned, face.aligned, restored)]
        whole = face.paste(restored)
        return shown[0], mask_at(mask, SHOWN), shown[1], shown[2], whole, "; ".join(said)


def layered(reference: Image, mask: Mask) -> dict[str, Any]:
    """The editor's picture: the reference below, the mask as a layer of paint, uint8 RGBA."""
    layer = np.zeros((*mask.shape, 4), np.uint8)
    layer[mask] = PAINT
    return {"background": reference, "layers": [layer], "composite": None}


def painted_mask(editor: dict[str, Any] | None) -> Mask | None:
    """What is painted in the editor, bool [H, W]; None where nothing was ever shown in it."""
    if not editor or editor.get("background") is None:
        return None
    layers = [np.asarray(layer) for layer in editor.get("layers") or ()]
    if not layers:
        return np.zeros(np.asarray(editor["background"]).shape[:2], np.bool_)
    return np.asarray(np.any([layer[..., 3] > 40 for layer in layers], axis=0), np.bool_)


def build_page(restoring: Restoring) -> Any:  # noqa: ANN401 - gradio has no types
    """The page's blocks."""
    import gradio  # noqa: PLC0415 - an optional extra

    def run(lq: str | None, reference: str | None, painted: Mask | None) -> tuple[Any, ...]:
        try:
            clean, mask, before, after, whole, said = restoring(lq, reference, painted)
        except NotUsable as error:
            said = f"{error.detail} ({error.reason})"
            raise gradio.Error(said, duration=None, print_exception=False) from error
        return layered(clean, mask), (before, after), whole, said

    def choose(lq: str | None, reference: str | None) -> tuple[Any, ...]:
        return run(lq, reference, None)

    def again(lq: str | None, reference: str | None, editor: dict[str, Any]) -> tuple[Any, ...]:
        return run(lq, reference, painted_mask(editor))

    with gradio.Blocks(title="Restore a face", analytics_enabled=False) as page:
        gradio.Markdown("# Restore a face\nPhotographs stay on this machine.")
        with gradio.Row():
            lq = _dropped(gradio, "Degraded photograph", "lq")
            reference = _dropped(gradio, "Reference: the same person, sharp", "reference")
        first = gradio.Button("Restore", variant="primary", elem_id="restore")
        said = gradio.Markdown(elem_id="said")
        editor = gradio.ImageEditor(
            label="Green is used of the reference: paint to use more, erase to use less",
            type="numpy",
            image_mode="RGBA",
            sources=(),
            transforms=(),
            layers=gradio.LayerOptions(allow_additional_layers=False),
            canvas_size=(SHOWN, SHOWN),
            height=SHOWN + 110,
            brush=gradio.Brush(
                default_size=28, colors=["#19c37d"], default_color="#19c37d", color_mode="fixed"
            ),
            eraser=gradio.Eraser(default_size=28),
            buttons=[],
            format="png",
            elem_id="editor",
        )
        second = gradio.Button("Restore with this mask", elem_id="again")
        with gradio.Row():
            slider = gradio.ImageSlider(
                label="The face before and after",
                format="png",
                interactive=False,
                elem_id="slider",
            )
            whole = gradio.Image(
                label="The whole picture",
                format="png",
                interactive=False,
                buttons=["download", "fullscreen"],
                height=SHOWN,
                elem_id="whole",
            )
        outputs = [editor, slider, whole, said]
        first.click(choose, [lq, reference], outputs)
        second.click(again, [lq, reference, editor], outputs)
    return page


def _dropped(gradio: Any, label: str, name: str) -> Any:  # noqa: ANN401
    return gradio.Image(
        label=label, type="filepath", sources=["upload"], image_mode=None, elem_id=name, height=320
    )


def application(restorer: FaceRestorer, find: FaceFinder) -> FastAPI:
    """The page as an application that answers only to this machine's own name.

    Raises:
        RuntimeError: gradio is not installed.
    """
    os.environ.update(NOWHERE)  # gradio reads it when it is imported
    try:
        import gradio  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise RuntimeError(
            f"the page needs gradio ({error}): pip install 'refstar-engine[web]'"
        ) from error
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    app.add_middleware(_Headers)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"])
    plain = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    mounted: FastAPI = gradio.mount_gradio_app(
        app,
        build_page(Restoring(restorer, find)),
        path="/",
        server_name=LOOPBACK,
        footer_links=[],
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        max_file_size="128mb",
        theme=plain,
        css=CSS,
    )
    return mounted


class _Headers:
    """ASGI middleware that keeps the page from reaching, and from being framed by, other servers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = POLICY
                headers["Referrer-Policy"] = "no-referrer"
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        await self._app(scope, receive, complete)


def serve(restorer: FaceRestorer, find: FaceFinder, port: int) -> None:
    """Serve the page on the loopback address until Ctrl-C."""
    with tempfile.TemporaryDirectory(prefix="refstar-page-") as private:
        os.environ["GRADIO_TEMP_DIR"] = private
        app = application(restorer, find)
        uvicorn.run(app, host=LOOPBACK, port=port, log_level="warning", access_log=False)
