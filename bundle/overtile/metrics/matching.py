"""Which pairs of objects belong together when several compete."""

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import min_weight_full_bipartite_matching


def largest_matching(
    truth: npt.NDArray[np.integer], prediction: npt.NDArray[np.integer], iou: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Marks the candidate pairs of the largest one-to-one matching, of these the one with the most IoU.

    Only pairs that compete with another are assigned. So that every object has a partner and the
    sparse solver an answer, object ``i`` may take stand-in ``i`` of the other side, and the stand-ins
    of a pair may take each other. A match outweighs them by more than all IoU together can.

    Args:
        truth: the candidate pairs' ids in the true label image, (n,).
        prediction: their ids in the predicted one, (n,).
        iou: their intersection over union, in [0, 1], (n,).

    Examples:
        >>> largest_matching(np.array([1, 1, 2]), np.array([1, 2, 1]), np.array([0.4, 0.3, 0.2])).tolist()
        [False, True, True]
    """
    _, row, rivals_in_row = np.unique(truth, return_inverse=True, return_counts=True)
    _, column, rivals_in_column = np.unique(prediction, return_inverse=True, return_counts=True)
    chosen: npt.NDArray[np.bool_] = (rivals_in_row[row] == 1) & (rivals_in_column[column] == 1)
    contested = np.flatnonzero(~chosen)
    if not len(contested):
        return chosen
    true_ids, row = np.unique(truth[contested], return_inverse=True)
    predicted_ids, column = np.unique(prediction[contested], return_inverse=True)
    rows, columns = len(true_ids), len(predicted_ids)
    match_weight = 2 + iou[contested] / (2 * min(rows, columns))
    weight = np.concatenate([match_weight, np.ones(rows + columns + len(contested))])
    source = np.concatenate([row, np.arange(rows), rows + np.arange(columns), rows + column])
    target = np.concatenate([column, columns + np.arange(rows), np.arange(columns), columns + row])
    partner = min_weight_full_bipartite_matching(csr_matrix((weight, (source, target))), maximize=True)[1]
    chosen[contested] = partner[row] == column
    return chosen
