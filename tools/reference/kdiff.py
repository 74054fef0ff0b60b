# SPDX-License-Identifier: MIT
"""Import k_diffusion/sampling.py alone: its package pulls in training code we do not need."""
import importlib.util
import sys
import types


def load():
    if "k_diffusion.sampling" in sys.modules:
        return sys.modules["k_diffusion.sampling"]
    where = importlib.util.find_spec("k_diffusion").submodule_search_locations
    pkg = types.ModuleType("k_diffusion")
    pkg.__path__ = list(where)
    sys.modules["k_diffusion"] = pkg
    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["torchvision.transforms"].functional = \
        sys.modules["torchvision.transforms.functional"]
    return importlib.import_module("k_diffusion.sampling")
