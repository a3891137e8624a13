"""kdet distils any object detector into a smaller one, and proves that it helped.

`import kdet` itself imports nothing heavy; each name is fetched when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdet import losses as losses
    from kdet.api import build as build
    from kdet.api import foundation as foundation
    from kdet.api import wrap as wrap
    from kdet.distill import Distiller as Distiller
    from kdet.distill import FrozenTeacher as FrozenTeacher
    from kdet.distill import TeacherConfig as TeacherConfig
    from kdet.distill import methods as methods
    from kdet.errors import InputError as InputError
    from kdet.errors import WorkError as WorkError

__version__ = "0.1.0"

_HOMES = {
    "Distiller": "kdet.distill",
    "FrozenTeacher": "kdet.distill",
    "InputError": "kdet.errors",
    "TeacherConfig": "kdet.distill",
    "WorkError": "kdet.errors",
    "build": "kdet.api",
    "foundation": "kdet.api",
    "wrap": "kdet.api",
}
_MODULES = {"losses": "kdet.losses", "methods": "kdet.distill.methods"}

__all__ = [
    "Distiller",
    "FrozenTeacher",
    "InputError",
    "TeacherConfig",
    "WorkError",
    "build",
    "foundation",
    "losses",
    "methods",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'kdet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
