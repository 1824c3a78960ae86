"""Fixtures of this layer."""

from Testing.support.slicer_fixtures import (  # noqa: F401
    expect_vtk_errors,
    scene,
    session,
    shared_cache,
    slicer_app,
    tiny_model,
)
