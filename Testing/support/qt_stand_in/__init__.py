"""Qt, CTK and qMRML as Slicer's Python sees them, over PySide6 and the real MRML scene. For tests only.

Slicer reaches Qt through PythonQt, where properties are attributes, signals are connected by their C++ signature, and
names that do not exist raise. This package gives PySide6 those manners, so that the module's own ``.py`` and ``.ui``
run unmodified. What it does not know it refuses; it never pretends.
"""
