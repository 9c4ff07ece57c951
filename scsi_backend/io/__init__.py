# SPDX-License-Identifier: GPL-2.0-or-later
"""I/O engines and buffers."""
