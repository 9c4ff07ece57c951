# SPDX-License-Identifier: GPL-2.0-or-later
"""T10 vocabulary: pure data and functions, no state and no I/O."""
