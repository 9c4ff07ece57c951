# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of targets, sessions and nexuses."""
