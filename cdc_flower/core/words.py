"""Words of messages that follow a number: ``1 user``, ``2 users``, ``1 of 2 users has``."""


def counted(count: int, noun: str, plural: str = "") -> str:
    """Says how many there are, as ``1 user`` or ``1,200 users``.

    Args:
        count: How many.
        noun: For one of them.
        plural: For several; "" is the noun with an s.
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def counted_of(count: int, total: int, noun: str, verb: tuple[str, str] = ("", "")) -> str:
    """Says how many of all there are, as ``1 of 2 users has``.

    Args:
        count: How many.
        total: Of how many.
        noun: For one of them; several are the noun with an s.
        verb: For one and for several; none by default.
    """
    return f"{count:,} of {counted(total, noun)} {verb[count != 1]}".rstrip()
