"""Spatial transformers whose attention can be supervised, then set free."""

from importlib.metadata import version

from supervised_st import geometry as geometry
from supervised_st.sampling import affine_sample as affine_sample

__version__ = version("supervised-st")
