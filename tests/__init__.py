"""AutoFlow's tests."""

from slipcover import pytest_plugin

# By default, slipcover removes its probes from code that has run often. It looks for that code in the variables of all
# threads, and raises RuntimeError in any of them if another thread adds one in the meantime.
if _coverage := vars(pytest_plugin).get("_slipcover_instance"):  # the option does not reach the workers of xdist
    _coverage.d_miss_threshold = 2**31 - 1
