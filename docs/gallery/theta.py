"""
What theta means
================

.. currentmodule:: supervised_st
"""

import matplotlib.pyplot as plt

plt.plot([0, 1])
