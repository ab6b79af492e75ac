"""The rules of the theorem for moments, a file each: a rule registers itself when it is imported."""

import importlib
import pkgutil

for _module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")
