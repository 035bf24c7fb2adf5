"""The `engine` command: parse, call one function, print.

This is the one place that may import every room. Commands import what they need when they run, so
that `engine --help` answers at once.
"""

from dataset_engine.cli import (
    cluster,
    comparing,
    data,
    deploying,
    evaluating,
    keeping,
    people,
    quality,
    removal,
    restoring,
    training,
    transfer,
)
from dataset_engine.cli.app import app

__all__ = [
    "app",
    "cluster",
    "comparing",
    "data",
    "deploying",
    "evaluating",
    "keeping",
    "main",
    "people",
    "quality",
    "removal",
    "restoring",
    "training",
    "transfer",
]


def main() -> None:
    """Entry point of the `engine` command."""
    app()
