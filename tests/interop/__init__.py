# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests with foreign clients: programs that were not written here judge what is served."""
