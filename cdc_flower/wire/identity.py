"""Makes Flower messages, and is the one place that takes anything from inside Flower.

Flower's ``Message(...)`` asks the process who it is (``TaskIdentity``), which only Flower's own
runtime sets, and leaves the message id for Flower's transport to fill in. Outside that runtime both
are up to us.

Flower's message id is the hash of the message. Its grid goes over the messages twice: it writes the
id into each and then sends each. A batch makes its messages anew each time, so they must know their
ids themselves.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict, Unpack, cast

from flwr.app import Error, Message, Metadata, RecordDict
from flwr.app.message import make_message
from flwr.common.constant import SUPERLINK_NODE_ID, SType
from flwr.supercore.task_identity import TaskIdentity

#: The node id of the cloud in every Flower deployment.
CLOUD_NODE_ID: int = SUPERLINK_NODE_ID
#: Codes of errors in the place of replies, beside Flower's own: the data of an array are none, or
#: not what it says; and a node answers in the name of another.
UNREADABLE = 1001
NAMED_OTHER = 1002
#: How Flower marks an array that ``np.save`` has written.
NUMPY_STYPE: str = SType.NUMPY


@dataclass(frozen=True)
class Identity:
    """Identifies the cloud's end of a message.

    Attributes:
        run_id: Flower's number of the run.
        node_id: The node id of the cloud; Flower's own is 1.
        task_id: Flower's number of the server's task; None where a message carries none.
    """

    run_id: int = 1
    node_id: int = CLOUD_NODE_ID
    task_id: int | None = 1


def _known(name: str) -> int | None:
    """Returns what Flower has set, or None."""
    try:
        return int(getattr(TaskIdentity, name))
    except RuntimeError:  # Flower's way to say "not set"; another error means that it has changed
        return None


def ensure_identity(run_id: int = 1, node_id: int = CLOUD_NODE_ID, task_id: int = 1) -> None:
    """Lets ``Message(...)`` be made outside Flower's runtime.

    What Flower has already set stays as it is.

    Args:
        run_id: Flower's number of the run.
        node_id: The node id of the cloud.
        task_id: Flower's number of the server's task.
    """
    for name, value in (("run_id", run_id), ("node_id", node_id), ("task_id", task_id)):
        if _known(name) is None:
            setattr(TaskIdentity, name, value)


def current_identity() -> Identity:
    """Says who this process is, with 1 for what nobody has set. Sets nothing."""
    run_id, node_id, task_id = (_known(name) for name in ("run_id", "node_id", "task_id"))
    return Identity(
        run_id=1 if run_id is None else run_id,
        node_id=CLOUD_NODE_ID if node_id is None else node_id,
        task_id=1 if task_id is None else task_id,
    )


class MetadataParts(TypedDict):
    """Names the arguments of Flower's ``Metadata``, without ``message_id``."""

    run_id: int
    src_node_id: int
    dst_node_id: int
    reply_to_message_id: str
    group_id: str
    created_at: float
    ttl: float
    message_type: str
    src_task_id: int | None
    dst_task_id: int | None


class HashedMetadata(Metadata):
    """Gives Flower's hash of the message as its id, if no grid has named the message.

    The hash is computed when it is first asked for, and not where nobody asks. Two of them are
    equal if what they were given is, so an id that was not given does not count.

    Args:
        content: Of the message; None for one that carries an error.
        error: Of the message; None for one with content.
        **given: The arguments of Flower's ``Metadata``, without ``message_id``.
    """

    def __init__(
        self, content: RecordDict | None, error: Error | None, **given: Unpack[MetadataParts]
    ) -> None:
        super().__init__(message_id="", **given)
        # Not the message itself: a circle would keep its arrays until the garbage collector comes.
        self.__dict__["_hashed"] = {"content": content, "error": error, "given": given}

    @property
    def message_id(self) -> str:
        """Returns the id that a grid has given, or else the one that Flower's grid would give."""
        given = self.__dict__["_message_id"]
        if given:
            return given
        if "_hash" not in self.__dict__:
            self.__dict__["_hash"] = self._computed()
        return cast(str, self.__dict__["_hash"])

    def _computed(self) -> str:
        """Hashes the message as Flower does, with the metadata as they are now.

        The message id is no part of it.
        """
        values = {name: getattr(self, name) for name in self.__dict__["_hashed"]["given"]}
        hashed = self.__dict__["_hashed"]
        metadata = Metadata(message_id="", **values)
        message = make_message(metadata, content=hashed["content"], error=hashed["error"])
        return message.object_id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Metadata) and _given(self) == _given(other)

    __hash__ = None  # type: ignore[assignment]


def _given(metadata: Metadata) -> Mapping[str, object]:
    return {
        name: value for name, value in metadata.__dict__.items() if name not in ("_hashed", "_hash")
    }


def given_id(message: Message) -> str:
    """Returns the id that a grid has given to a message; empty before. Computes nothing."""
    return cast(str, message.metadata.__dict__["_message_id"])


@dataclass(frozen=True)
class Envelope:
    """Addresses one message between the cloud and a device.

    Attributes:
        cloud: The cloud's end: the source of an instruction, the destination of a reply.
        node_id: The device's end.
        message_type: Flower's type, such as ``"train"``.
        is_reply: Whether the device sends it.
        ttl_s: For how long the message is valid, in seconds.
        message_id: Empty until a grid has named it; the message then gives Flower's hash of itself.
        reply_to: The id of the instruction that a reply answers.
        group_id: Flower's label for a group of messages.
        created_at_s: Unix time; None is now.
    """

    cloud: Identity
    node_id: int
    message_type: str
    is_reply: bool
    ttl_s: float
    message_id: str = ""
    reply_to: str = ""
    group_id: str = ""
    created_at_s: float | None = None


def make_flower_message(
    envelope: Envelope, content: RecordDict | None, error: tuple[int, str] | None = None
) -> Message:
    """Makes an ordinary Flower message between the cloud and a device, with an id of our choice.

    Args:
        envelope: Its two ends, its type and its times.
        content: The records; None for a reply that carries an error.
        error: Code and reason; None for a message with content.

    Raises:
        ValueError: If Flower does not know the message type.
    """
    cloud = envelope.cloud
    node_id = envelope.node_id
    is_reply = envelope.is_reply
    created_at_s = envelope.created_at_s
    given: MetadataParts = {
        "run_id": cloud.run_id,
        "src_node_id": node_id if is_reply else cloud.node_id,
        "dst_node_id": cloud.node_id if is_reply else node_id,
        "reply_to_message_id": envelope.reply_to,
        "group_id": envelope.group_id,
        "created_at": time.time() if created_at_s is None else created_at_s,
        "ttl": envelope.ttl_s,
        "message_type": envelope.message_type,
        "src_task_id": None if is_reply else cloud.task_id,
        "dst_task_id": cloud.task_id if is_reply else None,
    }
    carried = Error(error[0], error[1] or None) if error is not None else None
    content = None if carried is not None else content
    metadata = (
        Metadata(message_id=envelope.message_id, **given)
        if envelope.message_id
        else HashedMetadata(content, carried, **given)
    )
    return make_message(metadata, content=content, error=carried)


def answer_from(asked: Message, reply: Message) -> Message:
    """Puts a reply under the node that was asked.

    The errors that Flower answers with on behalf of a node come from the cloud's node id, some of
    them with a message type and a group of their own. Content in the name of another node is an
    error of the node that was asked.
    """
    if reply.metadata.src_node_id == asked.metadata.dst_node_id:
        return reply
    if not reply.has_error() and not given_id(asked):
        return reply  # of a grid that names no messages, so nobody knows which one it answers
    if reply.has_error():
        error = reply.error.code, reply.error.reason or ""
    else:
        error = NAMED_OTHER, f"answers in the name of node {reply.metadata.src_node_id}"
    own = asked.metadata
    envelope = Envelope(
        cloud=Identity(own.run_id, own.src_node_id, own.src_task_id),
        node_id=own.dst_node_id,
        message_type=own.message_type,
        is_reply=True,
        message_id=given_id(reply),
        reply_to=given_id(asked),
        group_id=own.group_id,
        ttl_s=reply.metadata.ttl,
        created_at_s=reply.metadata.created_at,
    )
    return make_flower_message(envelope, None, error)
