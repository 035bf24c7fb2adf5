"""The dataset card of a version: README.md in the hub's manner, with example pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from dataset_engine.shards.counts import (
    ANNOTATOR,
    CONFLICT,
    CONSENT,
    IDENTITIES,
    LICENCE,
    MODEL,
    ROUND,
    SCENARIO,
    SOURCE,
    STATUS,
    TRIPLETS,
    Table,
)
from dataset_engine.shards.errors import IDENTITY_LEAK, MASK_OUTSIDE_REGION, NEAR_DUPLICATE
from dataset_engine.shards.pictures import draw_examples, write_picture
from dataset_engine.shards.plan import Plan, Planned
from dataset_engine.taxonomy import Scenario, Split

CARD: Final = "README.md"
PICTURES: Final = "card"
_ROWS: Final = 2
_NAMES: Final = {Scenario.GLASSES_PATTERNS: "glasses and patterns"}

# The identifiers that the hub knows and that images come under; any other is "other" with a name.
_HUB_LICENCE: Final = re.compile(
    r"apache-2\.0|mit|unlicense|openrail|cc|cc0-1\.0|c-uda|pddl|odc-by|odbl|"
    r"cc-by(-sa|-nc|-nd|-nc-sa|-nc-nd)?-(2\.0|2\.5|3\.0|4\.0)"
)

_INTRODUCTION: Final = """\
Triplets (I, I_ref, M) for reference selection in face restoration (RefSTAR). I is the ground truth and
I_ref a reference, two aligned 512x512 RGB images of one identity. M lies on the reference's pixels: 1
where its texture is consistent with the ground truth and may be transferred, 0 at a conflict, hair or
background. Degraded inputs I_LQ are made on the fly and are not stored."""

_EXAMPLES: Final = """\
## Examples

Ground truth, reference, and M over the reference: green may be transferred, red is a conflict inside
the face region, dark is outside it."""

_USE: Final = """\
## Use

The shards are WebDataset tars. A sample `KEY` has the members `KEY.gt.jpg`, `KEY.ref.jpg`,
`KEY.mask.png` (M, 1 bit), `KEY.gt.region.png` and `KEY.ref.region.png` (the face regions of both
images) and `KEY.json` (identity, conflicts, scenarios, status, round,
annotator, model version, five points, perceptual hashes, source, licence, consent).

```python
from dataset_engine.shards import RefSelShards

samples = RefSelShards("this folder", "train")  # random access by offset, nothing is extracted
gt, reference, mask = samples[0].gt, samples[0].reference, samples[0].mask
```

`webdataset.WebDataset` and `datasets.load_dataset("webdataset", ...)` read the same files.
`index.json` holds every member's offset and SHA-256, `manifest.json` the parents of this version and
the keys that it adds, removes and changes."""


def write_card(
    folder: Path,
    version: str,
    plan: Plan,
    *,
    agreement: Mapping[str, float],
    allowed: Mapping[str, int],
) -> list[Path]:
    """Write the card and its pictures into a version's folder; gives the files written.

    Args:
        folder: the version's folder.
        version: its name.
        plan: what it holds.
        agreement: what was compared -> the annotators' agreement; may be empty.
        allowed: refusals that were let through by name -> how many cases.
    """
    (folder / PICTURES).mkdir(exist_ok=True)
    pictures: dict[Scenario | None, Path] = {}
    for scenario, examples in _examples(plan).items():
        picture = draw_examples(examples)
        if picture is not None:
            pictures[scenario] = folder / PICTURES / f"{scenario or 'consistent'}.jpg"
            write_picture(pictures[scenario], picture)
    card = folder / CARD
    card.write_text(_text(version, plan, agreement, allowed, pictures), encoding="utf-8")
    return [card, *pictures.values()]


def _examples(plan: Plan) -> dict[Scenario | None, list[Planned]]:
    """The first samples of each scenario by split and key, of different identities where there are."""
    wanted: list[Scenario | None] = [Scenario(name) for name in plan.counts.table(SCENARIO)]
    if not wanted:
        wanted = [None]
    chosen: dict[Scenario | None, dict[str, Planned]] = {scenario: {} for scenario in wanted}
    missing = set(wanted)
    for split in Split:
        for row in plan.split_rows(split):
            if not missing:
                break
            planned = plan.planned(row)
            fields = planned.fields()
            for scenario in map(Scenario, fields["scenarios"]) if fields["scenarios"] else (None,):
                if scenario in missing:
                    chosen[scenario].setdefault(fields["identity"], planned)
                    if len(chosen[scenario]) == _ROWS:
                        missing.discard(scenario)
    return {scenario: list(examples.values()) for scenario, examples in chosen.items()}


def _text(
    version: str,
    plan: Plan,
    agreement: Mapping[str, float],
    allowed: Mapping[str, int],
    pictures: Mapping[Scenario | None, Path],
) -> str:
    tables = plan.counts.tables()
    parts = [
        f"---\n{_front_matter(tables, plan.counts.triplets)}---",
        f"# RefSel-HQ {version}",
        _INTRODUCTION,
        f"## Splits\n\n{_promise(allowed)}",
        _table("", {"triplets": tables[TRIPLETS]["all"], "identities": tables[IDENTITIES]["all"]}),
        "## Scenarios\n\nA triplet with several conflicts is counted in each of its scenarios.",
        _table("scenario", {_name(value): row for value, row in tables[SCENARIO].items()}),
        "### Conflicts",
        _table("conflict", tables[CONFLICT]),
        "## Review",
        *(_table(what, tables[what]) for what in (STATUS, ROUND, ANNOTATOR, MODEL)),
    ]
    if agreement:
        rows = "".join(f"\n| {what} | {value:.2f} |" for what, value in agreement.items())
        parts.append(f"### Agreement between annotators\n\n| | agreement |\n| --- | ---: |{rows}")
    parts += [
        _EXAMPLES,
        *(
            f"{_name(scenario) if scenario else 'no conflict'}\n\n"
            f"![{_name(scenario) if scenario else 'no conflict'}]({PICTURES}/{path.name})"
            for scenario, path in pictures.items()
        ),
        _USE,
        "## Sources, licence and consent",
        _table("source", tables[SOURCE]),
        _table("licence", tables[LICENCE]),
        "What the people in the pictures agreed to, as the sources state it:",
        _table("consent", tables[CONSENT]),
        "Every sample's `json` names its own source, licence and consent.",
        "People may ask to be removed: use the newest version.",
    ]
    return "\n\n".join(parts) + "\n"


def _promise(allowed: Mapping[str, int]) -> str:
    """What a reader may rely on: whatever was let through at the export is said here."""
    promises = {
        IDENTITY_LEAK: "An identity is in one split only",
        NEAR_DUPLICATE: "no picture is in two splits",
        MASK_OUTSIDE_REGION: "every M lies inside its face region",
    }
    if not allowed:
        return ", ".join(promises.values()) + "."
    broken = "; ".join(f"`{name}`, {count} cases" for name, count in allowed.items())
    return f"**Exported in spite of:** {broken}. Figures on these splits may mislead."


def _front_matter(tables: Mapping[str, Table], triplets: int) -> str:
    filled = [split for split, number in tables[TRIPLETS]["all"].items() if number]
    matter: dict[str, Any] = {
        "pretty_name": "RefSel-HQ",
        **_licence(list(tables[LICENCE])),
        "task_categories": ["image-segmentation", "image-to-image"],
        "tags": ["face-restoration", "reference-based-restoration", "webdataset"],
        "size_categories": [_size_category(triplets)],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": str(split), "path": f"{split}/*.tar"} for split in filled],
            }
        ],
    }
    return yaml.safe_dump(matter, sort_keys=False, allow_unicode=True)


def _licence(licences: list[str]) -> dict[str, str]:
    if len(licences) == 1 and _HUB_LICENCE.fullmatch(licences[0].lower()):
        return {"license": licences[0].lower()}
    return {"license": "other", "license_name": ", ".join(licences)}


def _size_category(number: int) -> str:
    if number < 1000:
        return "n<1K"
    for low, high, limit in (("1K", "10K", 10**4), ("10K", "100K", 10**5), ("100K", "1M", 10**6)):
        if number < limit:
            return f"{low}<n<{high}"
    return "1M<n<10M"


def _table(what: str, rows: Table) -> str:
    """A markdown table with a column a split and the sum."""
    head = f"| {what} | " + " | ".join(Split) + " | all |\n| --- |" + " ---: |" * (len(Split) + 1)
    lines = (
        f"\n| {_cell(value)} | "
        + " | ".join(str(row[split]) for split in Split)
        + f" | {sum(row.values())} |"
        for value, row in rows.items()
    )
    return head + "".join(lines)


def _name(scenario: str) -> str:
    return _NAMES.get(Scenario(scenario), scenario)


def _cell(text: str) -> str:
    """Text that cannot break out of its cell of a markdown table."""
    plain = " ".join(text.split()) or "(not stated)"
    return re.sub(r"([\\|<>\[\]`*_])", r"\\\1", plain)
