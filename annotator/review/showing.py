"""What the pages fetch: pairs of the grid, and pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Response

from annotator.review.access import Access
from annotator.review.byte_cache import ByteCache
from annotator.review.merging import Merge, merged
from annotator.review.pictures import (
    card_jpeg,
    difference_jpeg,
    face_jpeg,
    merged_jpeg,
    over_jpeg,
    overlap,
)
from dataset_engine.store import BlobError, Store
from dataset_engine.store.review_queries import (
    Answer,
    Card,
    Filters,
    Order,
    PairFaces,
    Place,
    answers_that_differ,
    count_review,
    pair_faces,
    review_page,
)
from dataset_engine.taxonomy import Conflict, Status

KEPT_BYTES = 128 * 2**20
"""Pictures in memory: about 8,000 cards."""
# what a picture shows is named in its address, so it never changes
FOR_LONG = "private, max-age=604800, immutable"

Key = Annotated[str, Path(max_length=40)]
Hash = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


def filters(
    *,
    status: Annotated[list[Status] | None, Query()] = None,
    round_number: Annotated[int | None, Query(alias="round", ge=0, lt=2**31)] = None,
    lowest: Annotated[float | None, Query(ge=0, le=1)] = None,
    highest: Annotated[float | None, Query(ge=0, le=1)] = None,
    conflict: Conflict | Literal["none"] | None = None,
    identity: Annotated[str, Query(max_length=120)] = "",
    order: Order = Order.UNCERTAIN,
) -> Filters:
    """The filters that an address names."""
    return Filters(
        tuple(status or ()), round_number, lowest, highest, conflict, identity.strip(), order
    )


def card_routes(store: Store, access: Access) -> APIRouter:
    """`GET /review/cards` and `/review/count`: a page of pairs, and how many there are in all."""
    router = APIRouter(dependencies=[Depends(access.may_look)])

    @router.get("/review/cards")
    def cards(
        chosen: Annotated[Filters, Depends(filters)],
        after: Annotated[str | None, Query(max_length=60)] = None,
    ) -> dict[str, Any]:
        """One page of pairs, filtered and in order, and where the next page begins."""
        with store.reading() as session:
            page = review_page(session, chosen, _place(after))
            open_ones = [card.key for card in page if card.status is Status.ADJUDICATE]
            answers = answers_that_differ(session, open_ones)
        value, row = page[-1].place if page else (0.0, 0)
        return {
            "cards": [_card(card, answers.get(card.key, ())) for card in page],
            "next": f"{value!r}:{row}",
        }

    @router.get("/review/count")
    def count(chosen: Annotated[Filters, Depends(filters)]) -> dict[str, int]:
        """How many pairs these filters leave."""
        with store.reading() as session:
            return {"pairs": count_review(session, chosen)}

    return router


def picture_routes(store: Store, access: Access) -> APIRouter:
    """`GET /pictures/KEY/…`: pictures of one pair, and of masks that this pair has had."""
    router = APIRouter(prefix="/pictures/{key}", dependencies=[Depends(access.may_look)])
    kept = ByteCache(KEPT_BYTES)

    def picture(name: tuple[str, ...], make: Callable[[PairFaces], bytes], *masks: str) -> Response:
        def made() -> bytes:
            return make(_faces(store, name[0], *masks))

        try:
            data = kept.get((*name, *masks), made)
        except (BlobError, ValueError) as error:
            raise HTTPException(404, str(error)) from error
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": FOR_LONG})

    @router.get("/card/none.jpg")
    def bare_card(key: Key) -> Response:
        """Ground truth and reference side by side, without a mask."""
        return picture(
            (key, "card"), lambda one: card_jpeg(store, one.gt, one.ref, one.region, None)
        )

    @router.get("/card/{mask}.jpg")
    def card(key: Key, mask: Hash) -> Response:
        """Ground truth and reference side by side, with a mask of this pair over the reference."""
        return picture(
            (key, "card"), lambda one: card_jpeg(store, one.gt, one.ref, one.region, mask), mask
        )

    @router.get("/gt.jpg")
    def ground_truth(key: Key) -> Response:
        """The aligned ground truth."""
        return picture((key, "gt"), lambda one: face_jpeg(store, one.gt))

    @router.get("/ref.jpg")
    def reference(key: Key) -> Response:
        """The aligned reference."""
        return picture((key, "ref"), lambda one: face_jpeg(store, one.ref))

    @router.get("/mask/{mask}.jpg")
    def masked(key: Key, mask: Hash) -> Response:
        """A mask of this pair over the reference."""
        return picture((key, "mask"), lambda one: over_jpeg(store, one.ref, one.region, mask), mask)

    @router.get("/merged/{how}/{first}/{second}.jpg")
    def merged_masks(key: Key, how: Merge, first: Hash, second: Hash) -> Response:
        """The union or the intersection of two masks of this pair, over the reference."""

        def make(one: PairFaces) -> bytes:
            mask = merged(store.mask(first), store.mask(second), how)
            return merged_jpeg(store, one.ref, one.region, mask)

        return picture((key, "merged", how), make, first, second)

    @router.get("/difference/{first}/{second}.jpg")
    def difference(key: Key, first: Hash, second: Hash) -> Response:
        """Where two masks of this pair differ, over the reference."""

        def make(one: PairFaces) -> bytes:
            return difference_jpeg(store, one.ref, store.mask(first), store.mask(second))

        return picture((key, "difference"), make, first, second)

    @router.get("/difference/{first}/{second}.json")
    def difference_numbers(key: Key, first: Hash, second: Hash) -> dict[str, float]:
        """How much two masks of this pair differ: IoU, and the pixels of only one of them."""
        _faces(store, key, first, second)
        one, two = store.mask(first), store.mask(second)
        return {
            "iou": overlap(one, two),
            "first_only": int((one & ~two).sum()),
            "second_only": int((two & ~one).sum()),
        }

    return router


def _faces(store: Store, key: str, *masks: str) -> PairFaces:
    """What pictures of a pair are made of; a mask of another pair is not found."""
    with store.reading() as session:
        faces = pair_faces(session, key)
    if faces is None:
        raise HTTPException(404, f"there is no pair {key}")
    for mask in masks:
        if mask not in faces.masks:
            raise HTTPException(404, f"pair {key} has never had the mask {mask}")
    return faces


def _place(after: str | None) -> Place | None:
    if after is None:
        return None
    value, _, row = after.partition(":")
    try:
        return float(value), int(row)
    except ValueError as error:
        raise HTTPException(422, f"{after!r} is not where a page ended") from error


def _card(card: Card, answers: Sequence[Answer]) -> dict[str, Any]:
    return {
        "key": card.key,
        "identity": card.identity,
        "split": card.split,
        "status": card.status,
        "mask": card.mask_sha256,
        "proposed": card.proposed,
        "conflicts": card.conflicts,
        "score": card.score,
        "round": card.round,
        "model": card.model_version,
        "actor": card.actor,
        "answers": [
            {
                "mask": one.mask_sha256,
                "actor": one.actor,
                "status": one.status,
                "conflicts": one.conflicts,
            }
            for one in answers
        ],
    }
