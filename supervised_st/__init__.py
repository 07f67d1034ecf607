"""Spatial transformers whose attention can be supervised, then set free."""

from importlib.metadata import version as _version

from supervised_st import geometry as geometry
from supervised_st import plot as plot
from supervised_st import targets as targets
from supervised_st.guidance import RegressiveGuidance as RegressiveGuidance
from supervised_st.monitor import DistortionMonitor as DistortionMonitor
from supervised_st.motion import MotionWindow as MotionWindow
from supervised_st.motion import MotionWindowTarget as MotionWindowTarget
from supervised_st.motion import WindowProfile as WindowProfile
from supervised_st.pasting import paste as paste
from supervised_st.pooling import TemporalCorrelationPooling as TemporalCorrelationPooling
from supervised_st.sampling import affine_sample as affine_sample
from supervised_st.schedules import Always as Always
from supervised_st.schedules import HardSwitch as HardSwitch
from supervised_st.schedules import LinearAnneal as LinearAnneal
from supervised_st.schedules import Plateau as Plateau
from supervised_st.transformer import Glimpse as Glimpse
from supervised_st.transformer import Resize as Resize
from supervised_st.transformer import SupervisedSpatialTransformer as SupervisedSpatialTransformer

__version__ = _version("supervised-st")
