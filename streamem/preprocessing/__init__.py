"""What is done to rows before EM, in one pass over data of any size: scikit-learn's names, attributes and results."""

from streamem.preprocessing.pca import PCA
from streamem.preprocessing.standard_scaler import StandardScaler

__all__ = ["PCA", "StandardScaler"]
