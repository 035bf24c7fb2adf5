"""Many items in several processes: in order, and none can stop the others."""

from __future__ import annotations

import pytest

from dataset_engine.worker_pool import mapped

DEADLY = "__import__('os')._exit(9)"


def died(item: str) -> object:
    return f"died of {item}"


def test_results_come_in_order_and_items_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []

    def items() -> object:
        for number in range(40):
            taken.append(number)
            yield f"{number} * 2"

    results = mapped(eval, items(), 1, died)  # type: ignore[arg-type]
    assert next(results) == 0
    assert len(taken) <= 5
    assert list(results) == [2 * number for number in range(1, 40)]


def test_an_item_that_kills_its_process_costs_no_other_item_anything() -> None:
    items = [str(number) for number in range(12)]
    items[5] = DEADLY
    expected = [died(item) if item == DEADLY else int(item) for item in items]
    assert list(mapped(eval, items, 1, died)) == expected


def test_an_error_of_the_work_itself_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        list(mapped(eval, ["1", "1 / 0"], 1, died))
