"""What Slicer's Python may call: Qt, CTK, qMRML and helpers of Slicer, written down from their documentation.

Sources: doc.qt.io (Qt 5.15 and 6), headers of commontk/CTK and Slicer/Slicer, Slicer's script repository. Only what the
module uses, and nothing from the stand-in: a call that works there and not in Slicer shall fail against this table.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Api:
    """One class: its base, properties (attributes in PythonQt), methods and slots, signals by signature."""

    base: str | None = None
    properties: frozenset[str] = field(default_factory=frozenset)
    methods: frozenset[str] = field(default_factory=frozenset)
    signals: frozenset[str] = field(default_factory=frozenset)
    constants: frozenset[str] = field(default_factory=frozenset)


def api(base: str | None, properties: str = "", methods: str = "", signals: str = "", constants: str = "") -> Api:
    """A class from space-separated names."""
    return Api(base, *(frozenset(words.split()) for words in (properties, methods, signals, constants)))


CLASSES: dict[str, Api] = {
    # Qt
    "QObject": api(None, "objectName name", "connect disconnect deleteLater blockSignals children parent"),
    "QWidget": api(
        "QObject",
        "enabled visible toolTip geometry maximumSize minimumSize styleSheet windowTitle",
        "show hide setEnabled setVisible layout setLayout grab resize",
    ),
    "QAbstractButton": api(
        "QWidget",
        "text checkable checked icon shortcut",
        "toggle click setChecked",
        "clicked() clicked(bool) toggled(bool)",
    ),
    "QPushButton": api("QAbstractButton"),
    "QToolButton": api("QAbstractButton"),
    "QCheckBox": api("QAbstractButton"),
    "QFrame": api("QWidget", "frameShape"),
    "QLabel": api("QFrame", "text wordWrap textInteractionFlags"),
    "QProgressBar": api("QWidget", "minimum maximum value format textVisible"),
    "QComboBox": api(
        "QWidget",
        "currentIndex currentText currentData count editable",
        "addItem clear findData findText itemData itemText setCurrentIndex",
        "currentIndexChanged(int) activated(int)",
    ),
    "QTableView": api(
        "QWidget",
        "editTriggers selectionBehavior selectionMode",
        "horizontalHeader verticalHeader resizeColumnsToContents",
    ),
    "QTableWidget": api(
        "QTableView", "rowCount columnCount", "setRowCount setItem item clearContents", "cellClicked(int,int)"
    ),
    "QTableWidgetItem": api(None),
    "QHeaderView": api("QWidget", "", "setStretchLastSection"),
    "QPlainTextEdit": api("QWidget", "readOnly plainText", "appendPlainText setPlainText clear"),
    "QSpacerItem": api(None),
    "QTimer": api("QObject", "interval active singleShot", "start stop setInterval setSingleShot", "timeout()"),
    "QShortcut": api("QObject", "key context enabled", "setContext setKey setEnabled", "activated()"),
    "QKeySequence": api(None),
    "QSettings": api("QObject", "", "value setValue contains remove"),
    "QFileDialog": api("QWidget", constants="getOpenFileName getSaveFileName getExistingDirectory"),
    "Qt": api(None, constants="WidgetWithChildrenShortcut Checked Unchecked"),
    # CTK
    "ctkCollapsibleButton": api("QAbstractButton", "collapsed", "setCollapsed", "contentsCollapsed(bool)"),
    "ctkSliderWidget": api(
        "QWidget",
        "decimals singleStep pageStep minimum maximum value prefix suffix tracking spinBoxVisible",
        "setValue reset",
        "valueChanged(double) valueIsChanging(double)",
    ),
    "ctkPathLineEdit": api(
        "QWidget",
        "label filters currentPath settingKey showBrowseButton showHistoryButton nameFilters",
        "addCurrentPathToHistory setCurrentPath",
        "currentPathChanged(QString) validInputChanged(bool)",
        "Dirs Files Readable Writable",
    ),
    # Slicer
    "qMRMLWidget": api("QWidget", "", "setMRMLScene mrmlScene", "mrmlSceneChanged(vtkMRMLScene*)"),
    "qMRMLNodeComboBox": api(
        "QWidget",
        "currentNodeID nodeTypes showHidden showChildNodeTypes hideChildNodeTypes baseName noneEnabled addEnabled"
        " removeEnabled editEnabled renameEnabled selectNodeUponCreation noneDisplay",
        "currentNode setCurrentNode setCurrentNodeID setMRMLScene nodeCount nodeFromIndex addNode",
        "currentNodeChanged(vtkMRMLNode*) currentNodeIDChanged(QString) nodeActivated(vtkMRMLNode*)",
    ),
    "qMRMLCheckableNodeComboBox": api(
        "qMRMLNodeComboBox", "", "checkedNodes noneChecked setCheckState", "checkedNodesChanged()"
    ),
    "qMRMLSegmentEditorWidget": api(
        "qMRMLWidget",
        "segmentationNodeSelectorVisible sourceVolumeNodeSelectorVisible autoShowSourceVolumeNode"
        " switchToSegmentationsButtonVisible unorderedEffectsVisible undoEnabled maximumNumberOfUndoStates",
        "setMRMLSegmentEditorNode mrmlSegmentEditorNode setSegmentationNode segmentationNode setSourceVolumeNode"
        " sourceVolumeNode setCurrentSegmentID currentSegmentID setActiveEffect setActiveEffectByName"
        " setupViewObservations removeViewObservations installKeyboardShortcuts uninstallKeyboardShortcuts"
        " updateWidgetFromMRML setEffectNameOrder setMaximumNumberOfUndoStates",
    ),
    "qSlicerMarkupsPlaceWidget": api(
        "QWidget",
        "buttonsVisible placeMultipleMarkups placeModeEnabled deleteAllControlPointsOptionVisible",
        "setMRMLScene setCurrentNode currentNode placeButton deleteButton setPlaceModeEnabled",
        "activeMarkupsPlaceModeChanged(bool)",
        "ShowPlaceMultipleMarkupsOption ForcePlaceSingleMarkup ForcePlaceMultipleMarkups",
    ),
}

RETURNS = {
    ("QTableView", "horizontalHeader"): "QHeaderView",
    ("qSlicerMarkupsPlaceWidget", "placeButton"): "QToolButton",
}
"""Classes of what some methods return."""

SLICER = {
    "util": {
        "childWidgetVariables",
        "confirmOkCancelDisplay",
        "getModuleLogic",
        "getNodesByClass",
        "loadUI",
        "pip_install",
        "VTKObservationMixin",
        "arrayFromVolume",
        "arrayFromVolumeModified",
        "addVolumeFromArray",
        "updateVolumeFromArray",
        "arrayFromSegmentBinaryLabelmap",
        "updateSegmentBinaryLabelmapFromArray",
        "arrayFromSegmentInternalBinaryLabelmap",
        "arrayFromVTKMatrix",
        "vtkMatrixFromArray",
        "setSliceViewerLayers",
        "RenderBlocker",
        "NodeModify",
    },
    "app": {"connect", "disconnect", "applicationLogic"},
    "packaging": {"pip_ensure", "load_requirements"},
    "mrmlScene": None,
    "modules": None,
}
"""Attributes of ``slicer`` that are no classes, and what of them is documented; ``None`` where the tests have the real
thing."""


def lookup(class_name: str, kind: str) -> set[str]:
    """Names of a kind (properties, methods, signals, constants) of a class and its bases.

    :raises LookupError: for a class that is not in the table.
    """
    found: set[str] = set()
    name: str | None = class_name
    while name is not None:
        if name not in CLASSES:
            raise LookupError(f"{name} is not in the table of what Slicer has")
        found |= getattr(CLASSES[name], kind)
        name = CLASSES[name].base
    return found
