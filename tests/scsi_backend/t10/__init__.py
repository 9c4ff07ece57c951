# SPDX-License-Identifier: GPL-2.0-or-later
"""Golden bytes of the T10 structures."""
