"""`python -m dataset_engine.cli`, as the engine calls itself."""

from dataset_engine.cli import main

main()
