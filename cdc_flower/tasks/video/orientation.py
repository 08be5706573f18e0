"""The way up of a picture: the display matrix that phones write, as players follow it."""

import numpy as np
from numpy.typing import NDArray

#: Of a matrix of nine numbers, those of a turn: x' = a x + c y and y' = b x + d y.
_A, _B, _C, _D = 0, 1, 3, 4
#: How far from a quarter turn a matrix may be, as a share: about one degree.
_ASKEW = 0.02


def shown(picture: NDArray[np.uint8], matrix: NDArray[np.int32] | None) -> NDArray[np.uint8]:
    """Turns and mirrors a square picture ``[size, size, channels]`` as its matrix says.

    Args:
        picture: As it was coded.
        matrix: ``[9]``, row by row, ``y`` downwards; None leaves the picture as it is.

    Raises:
        ValueError: If the matrix is no multiple of a quarter turn, mirrored or not.
    """
    if matrix is None:
        return picture
    numbers = [float(matrix[place]) for place in (_A, _B, _C, _D)]
    a, b, c, d = numbers
    straight, across = max(abs(a), abs(d)), max(abs(b), abs(c))
    if max(straight, across) == 0:
        return picture
    if min(straight, across) > _ASKEW * max(straight, across):
        raise ValueError(f"a turn by a multiple of 90 degrees is wanted, not {numbers}")
    turned = picture if straight > across else picture.swapaxes(0, 1)
    along_x, along_y = (a, d) if straight > across else (c, b)
    return turned[:: -1 if along_y < 0 else 1, :: -1 if along_x < 0 else 1]
