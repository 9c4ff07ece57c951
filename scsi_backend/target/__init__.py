# SPDX-License-Identifier: GPL-2.0-or-later
"""Targets, sessions, I_T_L nexuses and LUN maps."""
