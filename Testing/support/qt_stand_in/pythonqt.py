"""PySide6 classes with the manners of PythonQt: properties are attributes, signals have signatures, no new names."""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from Testing.support.qt_stand_in import failures

loading: list[str] = []
"""Files that are being loaded by QUiLoader."""

CALLED_BY_CPP = {"sizeHint", "minimumSizeHint", "children", "parent", "model", "metaObject"}
"""Virtual functions: shadowing them by a property would break the C++ side."""

MODULES = (QtCore, QtGui, QtWidgets)


class PythonQtMeta(type(QtCore.QObject)):  # type: ignore[misc]
    """``isinstance(x, qt.QWidget)`` holds for every PySide6 widget.

    Every class carries ``connect`` itself: PySide6 looks past a base class for it and finds its own.
    """

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> type:
        body.setdefault("connect", SignalsBySignature.connect)
        body.setdefault("disconnect", SignalsBySignature.disconnect)
        return super().__new__(cls, name, bases, body)

    def __instancecheck__(cls, instance: object) -> bool:
        base = cls.__dict__.get("pyside_class")
        return isinstance(instance, base) if base is not None else super().__instancecheck__(instance)


class SignalsBySignature:
    """``connect`` and ``disconnect`` as PythonQt has them; mixed into every class made here."""

    mrml_signals: dict[str, str] = {}
    """Signatures with MRML types, which PySide6 cannot spell, and the names of the signals that stand for them."""

    def connect(self, signature: str, slot: Callable[..., Any]) -> bool:
        """Call ``slot`` on a signal. Surplus arguments are dropped; an unknown signature raises.

        :raises AttributeError: if the class has no such signal.
        :raises TypeError: if the slot cannot be called.
        """
        if not callable(slot):
            raise TypeError(f"{slot!r} cannot be called")
        receiver = failures.watched(slot, accepted_arguments(slot))
        self._slots().setdefault((signature, slot), []).append(receiver)
        self._signal(signature).connect(receiver)
        return True

    def disconnect(self, signature: str, slot: Callable[..., Any]) -> bool:
        """Undo a :meth:`connect`; an unknown pair raises."""
        receivers = self._slots().get((signature, slot))
        if not receivers:
            raise AttributeError(f"{type(self).__name__}: {slot!r} is not connected to {signature}")
        self._signal(signature).disconnect(receivers.pop())
        return True

    def _slots(self) -> dict[tuple[str, Any], list[Any]]:
        if "connected_slots" not in self.__dict__:
            self.__dict__["connected_slots"] = {}
        return self.__dict__["connected_slots"]

    def _signal(self, signature: str) -> Any:
        if signature in self.mrml_signals:
            return getattr(self, self.mrml_signals[signature])
        normalized = bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()
        if self.metaObject().indexOfSignal(normalized) < 0:  # type: ignore[attr-defined]
            raise AttributeError(f"{type(self).__name__} has no signal {signature}")
        return BySignature(self, signature)


class BySignature:
    """A signal of C++, found by its signature."""

    def __init__(self, sender: Any, signature: str) -> None:
        self.sender, self.signal = sender, QtCore.SIGNAL(signature)

    def connect(self, receiver: Callable[..., Any]) -> None:
        QtCore.QObject.connect(self.sender, self.signal, receiver)

    def disconnect(self, receiver: Callable[..., Any]) -> None:
        if not QtCore.QObject.disconnect(self.sender, self.signal, receiver):
            raise RuntimeError(f"{self.signal} could not be disconnected")


def accepted_arguments(slot: Callable[..., Any]) -> int | None:
    """How many positional arguments a slot takes; ``None`` for any number."""
    parameters = inspect.signature(slot).parameters.values()
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in positional for parameter in parameters)


def refusing_new_names(base: type) -> Callable[[Any, str, Any], None]:
    """PythonQt: attributes that the C++ class does not have cannot be set."""

    def set_known(self: Any, name: str, value: Any) -> None:
        if not (hasattr(type(self), name) or name.startswith("__")):
            if loading:
                return  # PySide6 makes the children of a .ui file attributes of its root; PythonQt does not
            raise AttributeError(f"{type(self).__name__} has no attribute {name}")
        base.__setattr__(self, name, value)

    return set_known


def property_of(base: type, meta: QtCore.QMetaProperty) -> property:
    """A Qt property as a Python attribute; read-only where Qt says so."""
    name = meta.name()

    def read(self: Any) -> Any:
        return QtCore.QObject.property(self, name)

    def write(self: Any, value: Any) -> None:
        if not QtCore.QObject.setProperty(self, name, value):
            raise TypeError(f"{base.__name__}.{name} cannot be set to {value!r}")

    return property(read, write if meta.isWritable() else None)


def properties_of(base: type) -> dict[str, property]:
    """Attributes for all properties of a class; where Qt has a static function of that name, that one wins."""
    meta = base.staticMetaObject  # type: ignore[attr-defined]
    names: dict[str, property] = {}
    for index in range(meta.propertyCount()):
        found = meta.property(index)
        static = inspect.isbuiltin(getattr(base, found.name(), None))
        if found.name() not in CALLED_BY_CPP and not static:
            names[found.name()] = property_of(base, found)
    names["name"] = property(QtCore.QObject.objectName, QtCore.QObject.setObjectName)
    return names


@cache
def like_pythonqt(base: type) -> type:
    """The class as PythonQt would show it. Classes that are not QObjects stay as they are."""
    if not issubclass(base, QtCore.QObject):
        return base
    body = {
        **properties_of(base),
        "pyside_class": base,
        "__setattr__": refusing_new_names(base),
        "mrml_signals": {},
        "_slots": SignalsBySignature._slots,
        "_signal": SignalsBySignature._signal,
        "className": lambda self: base.__name__,
    }
    return PythonQtMeta(base.__name__, (base,), body)


def find(name: str) -> Any:
    """A name of Qt, wherever PySide6 keeps it.

    :raises AttributeError: if no module of Qt has it.
    """
    for module in MODULES:
        if hasattr(module, name):
            found = getattr(module, name)
            return like_pythonqt(found) if isinstance(found, type) else found
    raise AttributeError(f"Qt has no {name}, or the stand-in does not know it")
