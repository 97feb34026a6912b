from unit.api.conftest import api, module_folder, operations, served
from unit.reconcile.conftest import rig

__all__ = ["api", "module_folder", "operations", "rig", "served"]
