# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the NBD bridge, one file for each of its modules and two for what they do together."""
