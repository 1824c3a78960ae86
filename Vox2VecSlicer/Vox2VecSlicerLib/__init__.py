"""Controllers over MRML: what the desktop module, the browser viewer and scripts do with Vox2Vec, in one place.

They know the scene and its nodes, never a window: no qt, no ctk, no layout manager. Start with
:class:`Vox2VecSlicerLib.Session.Session`.
"""
