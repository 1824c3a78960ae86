"""Texts for people: in their language inside Slicer, in English where there is no Slicer around the library.

from Vox2VecSlicerLib.Texts import tr as _
_("Embedding {name}").format(name=...)
"""

import sys


def tr(text: str) -> str:
    """Slicer's translation of a text, in the context that Slicer's tools give to the file that asks for it."""
    try:
        from slicer.i18n import getContext, translate
    except ImportError:  # the browser's viewer: slicer-core has no translations
        return text
    return str(translate(getContext(sys._getframe(1).f_code.co_filename), text))
