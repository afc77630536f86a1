"""Every structure of the protocol, wherever it is declared."""

from dissectors import structs_files, structs_nodes, structs_session
from dissectors.fields import Struct
from dissectors.structs_nodes import IN_HEADER, OUT_HEADER

__all__ = ["IN_HEADER", "OUT_HEADER", "REPLY_HEADER_SIZE", "REQUEST_HEADER_SIZE", "STRUCTS"]

REQUEST_HEADER_SIZE = sum(field.size for field in IN_HEADER.fields)
REPLY_HEADER_SIZE = sum(field.size for field in OUT_HEADER.fields)  # of notifications too

_MODULES = (structs_nodes, structs_files, structs_session)
_ALL = (value for module in _MODULES for value in vars(module).values() if isinstance(value, Struct))

STRUCTS = tuple(dict.fromkeys(_ALL))
