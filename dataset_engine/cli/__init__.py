"""The `engine` command: parse, call one function, print.

This is the one place that may import every room. Commands import what they need when they run, so
that `engine --help` answers at once.
"""

from dataset_engine.cli import cluster, data, keeping, people, training
from dataset_engine.cli.app import app

__all__ = ["app", "cluster", "data", "keeping", "main", "people", "training"]


def main() -> None:
    """Entry point of the `engine` command."""
    app()
