"""What ``theta`` means: windows, pixel matrices, points, compositions, parameterizations and measures of distortion.

Convention:
    ``theta = [A | t]`` maps *output* to *input* coordinates, ``x_in = A x_out + t``. Both are ``(x, y)``, and the
    square ``[-1, 1] x [-1, 1]`` is the whole image: -1 and 1 are the outer **edges** of the outer pixels with
    ``align_corners=False``, and their **centers** with ``align_corners=True``. The input is called the image, the
    output the glimpse. Sizes are ``(height, width)`` in pixels, or one number for a square.

    A point in pixels is ``(x, y)``, and ``(0, 0)`` is the **center** of the top-left pixel, as in OpenCV. A window is
    ``(x0, y0, width, height)`` in pixels, where ``(x0, y0)`` is its top-left pixel: a window of a single pixel at the
    top left is ``(0, 0, 1, 1)``.

    ``theta`` is ``[... 2 3]``, floating point. All functions accept any number of leading batch axes. Results have the
    dtype of ``theta``, the wider one of two, but at least float32.

    All functions compute in float64. On MPS, which has none, they compute in float32, and results are off by up to
    2^-20, pixels by up to 2^-20 of the image's side.

Raises:
    TypeError: by every function, if an argument does not have the type or dtype that is described.
    ValueError: by every function, if an argument does not have the shape or range that is described.
"""

from supervised_st.geometry.components import Components as Components
from supervised_st.geometry.components import components_from_theta as components_from_theta
from supervised_st.geometry.components import theta_from_components as theta_from_components
from supervised_st.geometry.distortions import Distortion as Distortion
from supervised_st.geometry.distortions import distortion as distortion
from supervised_st.geometry.parameterizations import PARAMETERIZATIONS as PARAMETERIZATIONS
from supervised_st.geometry.parameterizations import parameters_from_theta as parameters_from_theta
from supervised_st.geometry.parameterizations import theta_from_parameters as theta_from_parameters
from supervised_st.geometry.pixels import change_align_corners as change_align_corners
from supervised_st.geometry.pixels import flow_in_glimpse as flow_in_glimpse
from supervised_st.geometry.pixels import matrix_to_theta as matrix_to_theta
from supervised_st.geometry.pixels import points_in_glimpse as points_in_glimpse
from supervised_st.geometry.pixels import points_in_image as points_in_image
from supervised_st.geometry.pixels import theta_to_matrix as theta_to_matrix
from supervised_st.geometry.pixels import window_in_glimpse as window_in_glimpse
from supervised_st.geometry.pixels import window_in_image as window_in_image
from supervised_st.geometry.transforms import at_scales as at_scales
from supervised_st.geometry.transforms import compose as compose
from supervised_st.geometry.transforms import corners as corners
from supervised_st.geometry.transforms import flip_theta as flip_theta
from supervised_st.geometry.transforms import invert as invert
from supervised_st.geometry.windows import theta_to_window as theta_to_window
from supervised_st.geometry.windows import window_iou as window_iou
from supervised_st.geometry.windows import window_to_theta as window_to_theta
