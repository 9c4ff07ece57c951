# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of I/O engines, files and buffers."""
