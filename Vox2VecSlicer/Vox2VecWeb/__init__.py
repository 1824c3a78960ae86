"""The browser viewer: Slicer's own scene and renderers, served to a browser tab by trame-slicer.

The interaction itself is that of the desktop module: :mod:`Vox2VecSlicerLib`. Here are the page, its server, and what
lies between a browser and a scene: windows, mouse, uploads, downloads.
"""
