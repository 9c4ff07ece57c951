# SPDX-License-Identifier: GPL-2.0-or-later
"""SCST device handlers: what keeps the blocks of a device."""
