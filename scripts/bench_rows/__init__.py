"""The benchmark's rows, one module a topic; importing a module registers its rows."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
