"""A slice view without a window: Slicer's own displayable managers draw off-screen, and pixels are asked by RAS."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtkmodules.util.numpy_support import vtk_to_numpy

from Vox2VecSlicerLib import Geometry

SIZE = 300
MANAGERS = (
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLColorLegendDisplayableManager",
)


class SliceView:
    """One slice view of a scene.

    :param orientation: ``Axial``, ``Sagittal`` or ``Coronal``.
    :param size: pixels on each side.
    """

    def __init__(self, name: str = "Red", orientation: str = "Axial", size: int = SIZE) -> None:
        application = slicer.app.applicationLogic()
        self._size = size
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)
        self.window.SetSize(size, size)
        renderer = self._renderer = vtk.vtkRenderer()
        renderer.GetActiveCamera().ParallelProjectionOn()
        self.window.AddRenderer(renderer)
        self._interactor = vtk.vtkRenderWindowInteractor()
        self._interactor.SetRenderWindow(self.window)
        self._interactor.Initialize()
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(application)
        application.GetSliceLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(slicer.mrmlScene)
        self.sliceNode = self.logic.AddSliceNode(name)
        self.sliceNode.SetOrientation(orientation)
        self.sliceNode.SetInteractionNode(slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLInteractionNode"))
        self.logic.ResizeSliceNode(size, size)
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._image = vtk.vtkActor2D()  # added before the managers' actors, or their fills blend with black
        self._image.SetMapper(self._mapper)
        self._image.GetProperty().SetDisplayLocationToBackground()
        renderer.AddViewProp(self._image)
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(application)
        for manager in MANAGERS:
            if not factory.IsDisplayableManagerRegistered(manager):
                factory.RegisterDisplayableManager(manager)
        self._group = slicer.vtkMRMLDisplayableManagerGroup()
        self._group.Initialize(factory, renderer)
        self._group.SetMRMLDisplayableNode(self.sliceNode)

    def showBackground(self, volumeNode: Any) -> None:
        """A volume behind everything, all of it in view."""
        self.logic.GetSliceCompositeNode().SetBackgroundVolumeID(volumeNode.GetID())
        self.logic.FitSliceToAll()

    def jump(self, world: Sequence[float]) -> None:
        """Show the slice through a point."""
        self.sliceNode.JumpSliceByOffsetting(*(float(x) for x in world))

    def render(self) -> NDArray[np.uint8]:
        """The picture: (rows, columns, 3), bottom row first."""
        self.logic.UpdatePipeline()
        connection = self.logic.GetImageDataConnection()
        self._mapper.SetInputConnection(connection)
        self._image.SetVisibility(connection is not None)
        self.window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.ReadFrontBufferOff()
        grab.Update()
        image = grab.GetOutput()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(self._size, self._size, -1)[..., :3].copy()

    def pixel(self, world: Sequence[float]) -> tuple[int, int]:
        """Row and column of a point."""
        toXY = np.linalg.inv(Geometry.toNumpy(self.sliceNode.GetXYToRAS()))
        x, y = (toXY @ (*world, 1.0))[:2]
        return round(y), round(x)

    def color(self, picture: NDArray[np.uint8], world: Sequence[float]) -> NDArray[np.float64]:
        """Colour at a point: median of the pixels around it."""
        row, column = self.pixel(world)
        near = picture[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        return np.asarray(np.median(near.reshape(-1, 3).astype(float), axis=0))

    def save(self, picture: NDArray[np.uint8], path: Path) -> None:
        """Keep the picture, to be looked at."""
        import matplotlib.image

        path.parent.mkdir(parents=True, exist_ok=True)
        matplotlib.image.imsave(path, picture[::-1])

    def close(self) -> None:
        """Let go of scene and window."""
        slicer.app.applicationLogic().GetSliceLogics().RemoveItem(self.logic)
        nodes = (self.sliceNode, self.logic.GetSliceCompositeNode())
        self._group.SetMRMLDisplayableNode(None)
        self.logic.SetMRMLScene(None)
        for node in nodes:  # singletons outlive the scene, but without what they refer to
            slicer.mrmlScene.RemoveNode(node)
        self.window.Finalize()
