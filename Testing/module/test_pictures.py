"""Pictures of the panel, kept to be looked at; the README's come from here."""

from PySide6 import QtGui

from Testing.module.test_segment import painted

__all__ = ["painted"]

SECTIONS = ("setupSection", "embedSection", "exploreSection", "matchSection", "segmentSection", "headsSection")


def show_only(panel, *names: str) -> None:
    for name in SECTIONS:
        getattr(panel.ui, name).collapsed = name not in names
    panel.breathe()


def colours(path) -> int:
    """Number of different colours in a picture: an empty one has few."""
    image = QtGui.QImage(str(path))
    return len({image.pixel(x, y) for x in range(0, image.width(), 3) for y in range(0, image.height(), 3)})


def test_every_section(panel, painted, add_ct) -> None:
    panel.session.points.addPositive((-28.0, 6.0, 8.0))
    panel.session.points.addNegative((28.0, 0.0, 0.0))
    panel.ui.targetSelector.setCurrentNode(add_ct("Follow-up", seed=4))
    panel.finish()
    for name in reversed(SECTIONS):
        if name == "setupSection":
            panel.session.state.model = panel.session.models()[0]
        show_only(panel, name)
        assert colours(panel.grab(name.removesuffix("Section"))) > 20


def test_progress(panel, add_ct, slow_tiles) -> None:
    panel.ui.volumeSelector.setCurrentNode(add_ct())
    show_only(panel, "embedSection")
    panel.press(panel.ui.embedButton)
    panel.until(lambda: "left" in panel.ui.progressLabel.text)
    assert colours(panel.grab("progress")) > 20
