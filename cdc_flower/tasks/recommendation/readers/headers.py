"""Names of columns: which of a file's are users, items, ratings, times and kinds of events."""

from collections.abc import Mapping, Sequence

from cdc_flower.core.errors import UserError
from cdc_flower.tasks.recommendation.readers.rows import is_number, shown
from cdc_flower.tasks.recommendation.readers.times import is_iso

#: Role -> names that published files give it, without case, spaces, ``_``, ``-``, ``.`` and what
#: follows a colon.
_WRITTEN = {
    "user": """
        user userid uid userno usr username userhash useridx usersha1 u reviewerid
        reviewer visitorid visitor customerid customer custid memberid member profileid
        playerid player steamid accountid account buyerid sessionid session authorid
        personid viewerid listenerid listener readerid deviceid device msno
    """,
    "item": """
        item itemid itemsid iid items i asin parentasin movieid movie filmid film songid
        song trackid track traid artistid artist artistname artid musicbrainzartistid
        bookid book isbn productid product goodsid sku skuid businessid business gmapid
        venueid venue locationid location poiid poi placeid recipeid gameid game appid
        videoid clipid newsid articleid article animeid anime adid beerid beerbeerid
        jokeid contentid
    """,
    "rating": """
        rating ratings score stars star overall rate bookrating ratingscore ratingvalue
        preference vote reviewoverall
    """,
    "time": """
        time timestamp times ts t datetime date unixreviewtime reviewtime unixtime
        unixtimestamp timestampms reviewtimestamp createdat createtime checkintime
        eventtime ratingtimestamp ratetime visitedat playedat utctime timesec
    """,
    "kind": """
        kind event behavior behaviour behaviortype action actiontype eventtype
    """,
}
NAMES = {role: frozenset(names.split()) for role, names in _WRITTEN.items()}
#: One of these says that a row is a header; a row of events may hold others, such as ``Time``, by
#: chance.
_TELLING = frozenset(
    name
    for names in NAMES.values()
    for name in names
    if name.endswith(("id", "timestamp")) or name == "user"
)
#: Pairs of names of one role: where a file has both, the first is meant.
_RATHER = (
    ("unixreviewtime", "reviewtime"),
    ("parentasin", "asin"),
    ("userid", "username"),
    ("reviewerid", "reviewername"),
    ("artistid", "artistname"),
    ("musicbrainzartistid", "artistname"),
    ("timestamp", "time"),
)


def plain_name(word: str) -> str:
    """Simplifies the name of a column: ``user_id:token`` and ``User-ID`` become ``userid``."""
    word = word.split(":")[0].lower().strip(" \"'#%")
    return "".join(letter for letter in word if letter not in "_- .")


def role_of(word: str) -> str:
    """Names the role of a column that is called so; "" for one that has none."""
    plain = plain_name(word)
    return next((role for role, names in NAMES.items() if plain in names), "")


def names_column(word: str, column: str) -> bool:
    """Tells whether a word is the name of a column, such as ``user_id`` or ``Timestamp:float``."""
    return role_of(word) == column


def _is_integer(text: str) -> bool:
    return text.isascii() and text.strip().removeprefix("-").isdecimal()


def is_header(
    words: Sequence[str], columns: Sequence[str] | None, second: Sequence[str] | None
) -> bool:
    """Tells whether the first row is a header rather than an event.

    It is if no word is a number and one is a telling name such as ``user_id``, or all are names. It
    also is if none of its words is a number and either a rating or time ought to be one, or all ids
    in the second row are integers. A malformed first row, such as ``1 2 4 yesterday``, has numbers
    in it and is not mistaken for a header.

    Args:
        words: The fields of the first row.
        columns: As configured; ``_`` is ignored. None: by names.
        second: The fields of the second row, if there is one.
    """
    if any(is_number(word.strip()) or is_iso(word) for word in words):
        return False
    if any(plain_name(word) in _TELLING for word in words):
        return True
    if columns is None or len(words) != len(columns):
        return _all_names(words)
    used = [
        (word.strip(), column) for word, column in zip(words, columns, strict=True) if column != "_"
    ]
    if _all_names([word for word, _ in used]):
        return True
    if any(not word for word, _ in used):
        return False
    numeric = [word for word, column in used if column in ("rating", "time")]
    if numeric:
        return all(any(character.isalpha() for character in word) for word in numeric)
    if second is None or len(second) != len(columns):
        return False
    return all(
        _is_integer(word) for word, column in zip(second, columns, strict=True) if column != "_"
    )


def _all_names(words: Sequence[str]) -> bool:
    """Tells whether all words are names of columns, one of them the user's."""
    roles = {role_of(word) for word in words}
    return "user" in roles and "" not in roles


def places_by_name(names: Sequence[str], source: str) -> dict[str, int]:
    """Finds the place of each role among the names of columns, or of the keys of an object.

    Args:
        names: Of all columns, in order.
        source: Of the file, for the error.

    Raises:
        UserError: If users or items are not named, or two columns have names of one role.
    """
    plain = [plain_name(name) for name in names]
    dropped = {after for first, after in _RATHER if first in plain and after in plain}
    found: dict[str, int] = {}
    for place, name in enumerate(plain):
        role = "" if name in dropped else role_of(names[place])
        if role and role in found:
            both = f"{names[found[role]]!r} and {names[place]!r}"
            raise UserError(
                f"{source}: two columns have names of a {role}, {both}; say which is meant: "
                f"'data.columns={{user: NAME, item: NAME, time: NAME}}'"
            )
        if role:
            found[role] = place
    missing = [role for role in ("user", "item") if role not in found]
    if missing:
        listed = ", ".join(map(str, names[:12])) + (", ..." if len(names) > 12 else "")
        raise UserError(
            f"{source}: no column is known to be the {' or the '.join(missing)}, got {listed}; "
            f"say which: 'data.columns={{user: NAME, item: NAME, time: NAME}}'"
        )
    return found


def places_by_map(names: Sequence[str], columns: Mapping[str, str], source: str) -> dict[str, int]:
    """Finds the places of columns that the configuration names.

    Args:
        names: Of all columns, in order.
        columns: Role -> name; the case counts only where two names differ in nothing else.
        source: Of the file, for the error.

    Raises:
        UserError: If a name is not there.
    """
    stripped = [name.strip() for name in names]
    plain = [plain_name(name) for name in names]
    found = {}
    for role, name in columns.items():
        if name in stripped:
            found[role] = stripped.index(name)
        elif plain.count(plain_name(name)) == 1:
            found[role] = plain.index(plain_name(name))
        else:
            listed = ", ".join(stripped[:12])
            raise UserError(
                f"{source}: data.columns names {name!r} for the {role}, and the columns are "
                f"{listed}"
            )
    return found


def check_agreement(names: Sequence[str], columns: Sequence[str], source: str, line: int) -> None:
    """Refuses a header whose names say something else than the configured columns.

    Args:
        names: Of the header, as many as columns.
        columns: As configured.
        source: Of the file, for the error.
        line: Of the header.

    Raises:
        UserError: If one disagrees.
    """
    for number, (name, column) in enumerate(zip(names, columns, strict=True), 1):
        role = role_of(name)
        if column != "_" and role and role != column:
            raise UserError(
                f"{source}:{line}: the header names column {number} {shown(name.strip())}, which "
                f"is the {role}, and data.columns says {column}: [{', '.join(columns)}]; write "
                "data.columns=null to read by the names"
            )
