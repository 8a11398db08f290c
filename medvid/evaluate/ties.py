"""Scores that differ by the rounding of float32 alone are one score.

A network that is shown the same input twice gives two answers that differ in the last digits, as
soon as the batches are of different size: the sums are made in another order. A network that sees
nothing (the control `position`, one that collapsed) would then have an AUC that tells which cases
lay in the last, smaller batch; in a manifest sorted by class it reads .7 where it is .5.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DIGITS = 5
"""Significant digits that are kept of a probability's distance to 0 or 1, whichever is nearer.

They are steps of 1e-5 to 1e-4 in the log-odds. Batches of 1 to 8 equal clips gave log-odds that
differ by up to 5e-7 at logits of 1.4 (six networks, float32, CPU), which grows with the logits:
1e-5 leaves room to logits of 20 and more. Of scores that spread by 1 in the log-odds about 3 pairs
in 100,000 lie within 1e-4 and become tied. Tables and thresholds of up to five digits stay as they
are.
"""

CLOSE_TO_0, CLOSE_TO_1 = 1e-300, 1e-11
"""Closer to 0 powers of ten leave the range of a float; closer to 1 float64 is coarser itself."""


def settle_probabilities(probabilities: Floats) -> Floats:
    """Returns probabilities rounded so that those that differ by noise alone are equal.

    Each is rounded by itself and not against its neighbours: what a case is called does not depend
    on the other cases of a table. The order is kept, 0 and 1 stay alone, and what was rounded once
    stays. Rounding the log-odds would do the same, but would move a probability of .3 off a
    threshold of .3.

    Args:
        probabilities: from 0 to 1, of any shape.
    """
    upper = probabilities > 0.5
    near = np.where(upper, 1 - probabilities, probabilities)
    kept = near < np.where(upper, CLOSE_TO_1, CLOSE_TO_0)
    exponent = np.floor(np.log10(np.where(kept, 1.0, near)))
    steps = 10.0 ** (DIGITS - 1 - exponent)
    settled: Floats = np.where(kept, probabilities, np.round(probabilities * steps) / steps)
    return settled
