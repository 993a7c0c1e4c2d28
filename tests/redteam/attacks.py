"""All attacks, in the order of the table. A row here is all that is needed for one more."""

from typing import Final

from redteam import bodies, crowds, words
from redteam.attack import Attack

ATTACKS: Final[tuple[Attack, ...]] = (*bodies.ATTACKS, *crowds.ATTACKS, *words.ATTACKS)
