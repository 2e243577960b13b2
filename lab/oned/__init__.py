"""A stand-in for OpenNebula's oned: it holds documents and runs the installed drivers as oned does. Test equipment."""

from .building import Refused
from .calls import Call, Completed, Injection
from .cloud import Oned
from .core import Operation
from .farm import Farm, SshFarm, lab_farm
from .machine import VirtualMachine
from .records import Datastore, Image
from .settings import Settings
from .states import ImageState, LcmState, VmState

__all__ = [
    "Call", "Completed", "Datastore", "Farm", "Image", "ImageState", "Injection", "LcmState", "Oned", "Operation",
    "Refused", "Settings", "SshFarm", "VirtualMachine", "VmState", "lab_farm",
]
