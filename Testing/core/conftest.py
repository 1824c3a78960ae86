"""Fixtures of this layer."""

from Testing.support.cli_fixtures import (  # noqa: F401
    folder,
    models,
    only_these_models,
    run,
)
