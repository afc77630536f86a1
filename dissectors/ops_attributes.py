"""Operations on attributes, plain and extended, and on the filesystem as a whole.

Source: include/uapi/linux/fuse.h and fs/fuse, 7.12 to 7.46.
"""

from dissectors import structs_nodes as nodes
from dissectors.fields import Role, When, body, data, name, strings
from dissectors.operation import Either, Enosys, Op

ATTRIBUTES = body(nodes.ATTR_OUT)
ATTRIBUTE_NAME = name("name", "name of the attribute", Role.ATTRIBUTE)

ATTRIBUTE_OPS = (
    Op(
        3,
        "GETATTR",
        0,
        body(nodes.GETATTR_IN),
        ATTRIBUTES,
        reply_summary="{attr.mode} {attr.size}B",
        doc="read a node's attributes",
    ),
    Op(
        4,
        "SETATTR",
        1,
        body(nodes.SETATTR_IN),
        ATTRIBUTES,
        mutates=True,
        summary="{valid}",
        reply_summary="{attr.mode} {attr.size}B",
        doc="change a node's attributes",
    ),
    Op(
        17,
        "STATFS",
        0,
        (),
        body(nodes.STATFS_OUT),
        reply_summary="{bfree} of {blocks} blocks free",
        doc="room and limits of the filesystem",
    ),
    Op(
        21,
        "SETXATTR",
        1,
        body(nodes.SETXATTR_IN, ATTRIBUTE_NAME, data("value", "its value", size_from="size")),
        sticky_enosys=True,
        enosys=Enosys.UNSUPPORTED,
        mutates=True,
        summary="{name} {size}B {flags}",
        doc="set an extended attribute",
    ),
    Op(
        22,
        "GETXATTR",
        1,
        body(nodes.GETXATTR_IN, ATTRIBUTE_NAME),
        Either(
            When("request.size"), body(nodes.GETXATTR_OUT), (data("value", "the attribute's value", room_from="size"),)
        ),
        sticky_enosys=True,
        enosys=Enosys.UNSUPPORTED,
        summary="{name} {size}B",
        reply_summary="{value|size}",
        doc="read an extended attribute",
    ),
    Op(
        23,
        "LISTXATTR",
        1,
        body(nodes.GETXATTR_IN),
        Either(
            When("request.size"),
            body(nodes.GETXATTR_OUT),
            (strings("names", "names of the attributes", room_from="size"),),
        ),
        sticky_enosys=True,
        enosys=Enosys.UNSUPPORTED,
        summary="{size}B",
        reply_summary="{names|size}",
        doc="list the extended attributes",
    ),
    Op(
        24,
        "REMOVEXATTR",
        1,
        (ATTRIBUTE_NAME,),
        sticky_enosys=True,
        enosys=Enosys.UNSUPPORTED,
        mutates=True,
        summary="{name}",
        doc="remove an extended attribute",
    ),
    Op(
        34,
        "ACCESS",
        3,
        body(nodes.ACCESS_IN),
        sticky_enosys=True,
        enosys=Enosys.SUCCESS,
        summary="{mask}",
        doc="check permissions",
    ),
    Op(
        52,
        "STATX",
        39,
        body(nodes.STATX_IN),
        body(nodes.STATX_OUT),
        sticky_enosys=True,
        enosys=Enosys.INSTEAD,
        summary="{sx_mask}",
        reply_summary="{stat.mode} {stat.size}B",
        doc="read a node's attributes, with btime",
    ),
)
