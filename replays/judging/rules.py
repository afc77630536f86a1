"""What must be the same in two answers, and what may differ: a table, with the reason of each line.

A field of a reply is found by its operation and name ("WRITE.size"), by its operation alone ("STATFS.*") or by its name
("attr.mode"); the first that fits counts. Every field of every reply has a rule: a test looks.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cache

from tracer.errors import TracerError

ALL_BITS = (1 << 64) - 1


class Of(Enum):
    """Which kind of file a rule is about."""

    ANY = 0
    DIRECTORY = 1
    OTHER = 2


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table."""

    name: str
    counts: bool  # what breaks it is a difference; else it only is with --strict
    reason: str
    fields: tuple[str, ...] = ()
    mask: int = ALL_BITS  # of integers
    of: Of = Of.ANY
    never: bool = False  # cannot be compared, strictly or not


_ATTRIBUTES = ("attr", "stat")


def _attributes(*names: str) -> tuple[str, ...]:
    return tuple(f"{prefix}.{name}" for prefix in _ATTRIBUTES for name in names)


FIELD_RULES = (
    Rule(
        "ids", False, "each server chooses its own numbers; they are mapped", ("nodeid", "fh", "backing_id"), never=True
    ),
    Rule(
        "cookies",
        False,
        "a place in a listing is the server's own number; mapped by name",
        ("off", "dirent.off"),
        never=True,
    ),
    Rule(
        "type",
        True,
        "another type of file makes the kernel give the node up",
        _attributes("mode"),
        0o170000,
    ),
    Rule("permissions", True, "who may use it", _attributes("mode"), 0o7777),
    Rule("size", True, "the kernel cuts reads off at this size", _attributes("size"), of=Of.OTHER),
    Rule(
        "directory-size",
        False,
        "each filesystem counts a directory's bytes its own way",
        _attributes("size"),
        of=Of.DIRECTORY,
    ),
    Rule("links", True, "programs look at the number of hard links", _attributes("nlink"), of=Of.OTHER),
    Rule(
        "directory-links", False, "some filesystems do not count subdirectories", _attributes("nlink"), of=Of.DIRECTORY
    ),
    Rule("owner", True, "permissions are checked by it", _attributes("uid", "gid")),
    Rule("device", True, "which device a node is", _attributes("rdev", "rdev_major", "rdev_minor")),
    Rule("attribute-flags", True, "SUBMOUNT makes the kernel mount what is below", ("attr.flags",)),
    Rule(
        "statx-mask",
        False,
        "which fields a server fills is its choice",
        ("stat.mask", "stat.attributes", "stat.attributes_mask", "flags"),
    ),
    Rule(
        "times",
        False,
        "the replay happens at another time",
        _attributes(
            *("atime", "mtime", "ctime", "atimensec", "mtimensec", "ctimensec"),
            *(f"{kind}time.{part}" for kind in "abcm" for part in ("tv_sec", "tv_nsec")),
        ),
    ),
    Rule("blocks", False, "how files lie on disk is the filesystem's business", _attributes("blocks", "blksize")),
    Rule("inode", False, "inode numbers are the backing filesystem's", (*_attributes("ino"), "ino", "dirent.ino")),
    Rule(
        "underlying-device",
        False,
        "the backing filesystem lies on another device",
        ("stat.dev_major", "stat.dev_minor"),
    ),
    Rule("generation", False, "it only tells reuses of one number apart", ("generation",)),
    Rule(
        "cache-times",
        False,
        "how long the kernel may cache changes what is asked, not what is answered",
        ("entry_valid", "attr_valid", "entry_valid_nsec", "attr_valid_nsec"),
    ),
    Rule("open-flags", False, "how the kernel may cache an open file", ("open_flags",)),
    Rule(
        "written", True, "the caller learns how much was stored", ("WRITE.size", "COPY_FILE_RANGE.size", "bytes_copied")
    ),
    Rule("data", True, "what a file holds", ("READ.data",)),
    Rule("target", True, "where a link points", ("target",)),
    Rule("attribute-value", True, "what an extended attribute holds", ("value",)),
    Rule("attribute-size", True, "the caller makes room by it", ("GETXATTR.size", "LISTXATTR.size")),
    Rule("attribute-names", True, "which extended attributes there are, in any order", ("LISTXATTR.names",)),
    Rule("filesystem", False, "room and limits are the backing filesystem's", ("STATFS.*",)),
    Rule("lock", True, "who is in the way of a lock", ("lk.start", "lk.end", "lk.type")),
    Rule("lock-pid", False, "processes have other numbers now", ("lk.pid",)),
    Rule("ioctl", True, "what ioctl(2) brings back", ("IOCTL.*",)),
    Rule("poll", True, "what the file is ready for", ("revents",)),
    Rule("offset", True, "where data or a hole begins", ("LSEEK.offset",)),
    Rule("block", False, "where a file lies on its device", ("BMAP.block",)),
    Rule(
        "agreement",
        False,
        "what a server accepts in INIT shows in what follows; the report tells both",
        ("INIT.*", "CUSE_INIT.*"),
    ),
    Rule("entry-type", True, "the kind of file that a listing says", ("type", "dirent.type")),
    Rule(
        "entry-name", False, "names of a listing are compared as a set, over all its portions", ("name", "dirent.name")
    ),
    Rule(
        "batching",
        False,
        "how many entries come at once is the server's choice",
        ("READDIR.entries", "READDIRPLUS.entries"),
    ),
)
MESSAGE_RULES = (
    Rule("error", True, "whether it worked, and why not"),
    Rule("names", True, "which names a directory holds"),
    Rule("unknown-entry-type", False, "DT_UNKNOWN is always allowed: who wants to know asks for attributes"),
    Rule("dots", False, '"." and ".." in a listing are the kernel\'s to show or not'),
    Rule("length", True, "how many bytes there were; what they were, the capture did not keep"),
    Rule("malformed", True, "the kernel refuses such a message, and its caller gets EIO"),
    Rule("unasked", True, "the kernel refuses an answer to nothing, or a second one"),
    Rule("no-answer", True, "the caller would wait for ever"),
    Rule("negative-entry", False, "ENOENT and an entry with nodeid 0 both say that there is no such name"),
    Rule("enosys", False, "the kernel takes ENOSYS of this operation for the same outcome"),
    Rule("interrupted", False, "whether an answer or the interrupt came first is chance"),
    Rule("race", False, "it ran beside a change of the same object in the recording: either answer is right"),
    Rule("rename-fallback", False, "one server has RENAME2, for the other the caller went on with RENAME"),
    Rule("splitting", False, "this server takes less at a time, so the request was split"),
    Rule("no-readdirplus", False, "this server lists names alone; those needed were looked up"),
    Rule("cut", False, "the recording kept a part of the answer: that part was compared"),
    Rule("zero-fill", False, "data that was not recorded was written as zeros: contents mean nothing"),
    Rule("learned", False, "the recording began when this was known already; it was looked up by its path"),
    Rule("unread", False, "the listing was not read to its end, so its names cannot be compared"),
)
RULES = {rule.name: rule for rule in (*FIELD_RULES, *MESSAGE_RULES)}


@cache
def rules_for(operation: str, field: str) -> tuple[Rule, ...]:
    """Return the rules for a field of the replies to `operation`; several look at different bits or kinds of file."""
    for pattern in (f"{operation}.{field}", f"{operation}.*", field):
        found = tuple(rule for rule in FIELD_RULES if pattern in rule.fields)
        if found:
            return found
    return ()


class RuleSet:
    """The rules as a user wants them."""

    def __init__(self, ignore: Iterable[str] = (), *, strict: bool = False) -> None:
        """Ignore some by name; TracerError for a name that there is not. `strict`: all count that can."""
        ignored = frozenset(ignore)
        for name in sorted(ignored - RULES.keys()):
            near = difflib.get_close_matches(name, RULES, 1)
            raise TracerError(f"there is no rule {name!r}", f"did you mean {near[0]}?" if near else ", ".join(RULES))
        self._counting = frozenset(
            rule.name
            for rule in RULES.values()
            if (rule.counts or (strict and not rule.never)) and rule.name not in ignored
        )

    def counts(self, name: str) -> bool:
        """Tell whether what breaks the rule is a difference."""
        return name in self._counting

    def counting(self, operation: str, field: str) -> tuple[Rule, ...]:
        """Return the rules by which a field is compared."""
        return tuple(rule for rule in rules_for(operation, field) if rule.name in self._counting)
